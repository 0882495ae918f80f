"""The figures are LLaMA-Factory's: those that its formula gives when it is written down once more, and worked by hand."""

import math
from collections import Counter
from collections.abc import Sequence

import pytest

from finetune.metrics_text import text_scores

ANSWER = "天空是蓝色的，因为阳光里有很多颜色。"
REFERENCE = "天空看起来是蓝色的，是因为阳光里藏着所有的颜色。"


def grams(text: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(text[start : start + n]) for start in range(len(text) - n + 1)]


def bleu(answer: str, reference: str) -> float:
    """nltk's sentence_bleu with method3: a missing precision becomes 1 / (2^k n), k counting the missing ones."""
    logs, missing = [], 0
    for n in range(1, 5):
        found, known = Counter(grams(answer, n)), Counter(grams(reference, n))
        hits, all_of_them = sum((found & known).values()), len(grams(answer, n))
        if not hits:
            missing += 1
            logs.append(math.log(1 / (2**missing * all_of_them)))
        else:
            logs.append(math.log(hits / all_of_them))
    brevity = 1 if len(answer) > len(reference) else math.exp(1 - len(reference) / len(answer))
    return 100 * brevity * math.exp(sum(logs) / 4)


@pytest.mark.parametrize("answer", [ANSWER, "蓝天真美啊", REFERENCE, "因为海是蓝的"])
def test_bleu_is_llamafactorys(answer: str) -> None:
    assert text_scores([answer], [REFERENCE]).bleu_4 == pytest.approx(bleu(answer, REFERENCE))


def test_rouge_counts_jiebas_words() -> None:
    scores = text_scores(["我喜欢蓝色的天空"], ["我喜欢天空"])
    # 我 喜欢 蓝色 的 天空 against 我 喜欢 天空: three of five, three of three; of pairs one of four, one of two.
    assert scores.rouge_1 == pytest.approx(100 * 2 * 0.6 / 1.6, abs=1e-4)
    assert scores.rouge_2 == pytest.approx(100 * 2 * 0.125 / 0.75, abs=1e-4)
    assert scores.rouge_l == pytest.approx(100 * 2 * 0.6 / 1.6, abs=1e-4)


def test_the_same_is_all_and_nothing_is_none() -> None:
    same = text_scores([REFERENCE, "The sky is blue."], [REFERENCE, "The sky is blue."])
    assert all(value == pytest.approx(100, abs=1e-4) for value in same.model_dump().values())
    nothing = text_scores(["", " \n", "abc"], [REFERENCE] * 3)
    assert all(value == 0 for value in nothing.model_dump().values())


def test_english_is_compared_by_words() -> None:
    scores = text_scores(["The sky is red"], ["The sky is blue"])
    assert scores.rouge_1 == pytest.approx(75, abs=1e-4)
    assert scores.chrf > 50


def test_every_answer_counts_as_much() -> None:
    one, other = text_scores([ANSWER], [REFERENCE]), text_scores(["好"], [REFERENCE])
    both = text_scores([ANSWER, "好"], [REFERENCE, REFERENCE])
    for name in ("bleu_4", "rouge_1", "rouge_2", "rouge_l"):
        assert getattr(both, name) == pytest.approx((getattr(one, name) + getattr(other, name)) / 2)


def test_a_very_long_answer_is_no_trouble() -> None:
    assert text_scores(["天空蓝色颜色阳光" * 90], [REFERENCE * 8]).rouge_l >= 0


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 answers"):
        text_scores([], [])
    with pytest.raises(ValueError, match="1 answers, 2 references"):
        text_scores(["好"], ["好", "好"])
