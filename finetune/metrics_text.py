"""How near answers are to their references: BLEU-4, ROUGE-1/2/L and chrF, in percent.

In: answers and references in Chinese or English. Out: `TextScores`, means over the answers.

BLEU-4 and ROUGE are those that LLaMA-Factory's `predict` reports (v0.9.5, train/sft/metric.py), figure by figure:
BLEU-4 of each answer on its characters, smoothed by NIST's rule (method 3 of Chen and Cherry,
https://aclanthology.org/W14-3346); ROUGE's F on jieba's words, each different n-gram counted once, ROUGE-L sentence by
sentence (rouge-chinese). We differ in this: BLEU is sacrebleu's, which leaves blanks out and gives 0 to an answer of
fewer than four characters; and chrF (https://aclanthology.org/W15-3049, sacrebleu's chrF2 of the whole split) is ours.
"""

import logging
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from statistics import fmean

from data.strict import Strict

Cut = Callable[[str], str]


class TextScores(Strict):
    """Each 0 to 100, the higher the nearer."""

    bleu_4: float
    rouge_1: float
    rouge_2: float
    rouge_l: float
    chrf: float


def text_scores(answers: Sequence[str], references: Sequence[str]) -> TextScores:
    """Compare each answer with its reference. Raises ValueError where there are none, or not as many of both."""
    import sacrebleu

    if not answers or len(answers) != len(references):
        raise ValueError(f"{len(answers)} answers, {len(references)} references")
    pairs = list(zip(answers, references, strict=True))
    rouge = _rouge(pairs, _words())
    return TextScores(
        bleu_4=fmean(_bleu(answer, reference) for answer, reference in pairs),
        rouge_1=rouge["rouge-1"],
        rouge_2=rouge["rouge-2"],
        rouge_l=rouge["rouge-l"],
        chrf=sacrebleu.corpus_chrf(answers, [references]).score,
    )


def _bleu(answer: str, reference: str) -> float:
    import sacrebleu

    # Characters with blanks between are words that need no tokenizer.
    spaced = [" ".join("".join(text.split())) for text in (answer, reference)]
    # A corpus of one: sentence_bleu does the same, and warns at each call.
    return sacrebleu.corpus_bleu([spaced[0]], [[spaced[1]]], smooth_method="exp", tokenize="none").score


def _rouge(pairs: Sequence[tuple[str, str]], cut: Cut) -> dict[str, float]:
    from rouge_chinese import Rouge

    rouge, found = Rouge(), []
    for answer, reference in pairs:
        words = cut(answer), cut(reference)
        # An answer without a word has nothing of its reference.
        scores = rouge.get_scores(*words)[0] if all(words) else None
        found.append({name: scores[name]["f"] if scores else 0.0 for name in Rouge.DEFAULT_METRICS})
    return {name: 100 * fmean(score[name] for score in found) for name in Rouge.DEFAULT_METRICS}


@cache
def _words() -> Cut:
    """What cuts a text into jieba's words, blanks between; a second to make."""
    import jieba

    jieba.setLogLevel(logging.WARNING)
    tokenizer = jieba.Tokenizer()
    # Its cache has one name for everybody in /tmp; ours is nobody else's, and gone afterwards.
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.tmp_dir = folder
        tokenizer.initialize()

    def cut(text: str) -> str:
        return " ".join(" ".join(tokenizer.cut(text)).split())

    return cut
