"""The result of `python -m finetune evaluate`: one JSON file, and the same as a table for people.

In: an `Evaluation`. Out: `evaluation.json` and `evaluation.md` in a folder. Nothing in them depends on the clock, so the same
model, seed and machine give the same bytes.
"""

from collections.abc import Iterator
from pathlib import Path

from data.runs import dump, write_whole
from data.strict import BadInput, Strict, read_json
from finetune.judge import Judged
from finetune.metrics_text import TextScores
from finetune.rubric import Passed
from finetune.safety_run import Safety

EVALUATION_FILE = "evaluation.json"
TABLE_FILE = "evaluation.md"
FORMAT = 1


class Split(Strict):
    """What was measured on: the conversations that the training held out."""

    dataset: list[str]
    val_size: float
    conversations: int
    # Held out as well, and too long to be measured on.
    left_out: int = 0
    # Tokens with loss.
    answer_tokens: int


class Measured(Strict):
    """One model alone, without the guard."""

    # Nats per answer token, and e to its power.
    loss: float
    perplexity: float
    text: TextScores
    rubric: dict[str, Passed]
    # By the id of a conversation or a probe.
    answers: dict[str, str]


class Served(Strict):
    """The whole server, guard and model: the probes' answers."""

    rubric: dict[str, Passed]
    answers: dict[str, str]


class Evaluation(Strict):
    """`evaluation.json`."""

    format: int = FORMAT
    # What was named, and its base.
    subject: str
    base_name: str
    contract: str
    seed: int
    split: Split
    # None where the subject is a base itself, or a folder whose base was not named.
    base: Measured | None
    tuned: Measured
    served: Served | None
    judged: Judged | None
    safety: Safety | None

    @property
    def tuned_name(self) -> str:
        """What `tuned` is called: a base that was named itself is not tuned."""
        return "base alone" if self.subject == self.base_name else "tuned alone"


def write_evaluation(folder: Path, found: Evaluation) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / EVALUATION_FILE, dump(rounded(found.model_dump())))
    write_whole(folder / TABLE_FILE, "\n".join(table(found)) + "\n")


def read_evaluation(path: Path) -> Evaluation:
    """The result in a file. Raises `BadInput`."""
    found = Evaluation.parse(read_json(path), str(path))
    if found.format != FORMAT:
        raise BadInput(f"{path}: format {found.format}, but this version reads {FORMAT}; evaluate again.")
    return found


def rounded(content: object) -> object:
    """The content with six decimals at most: more would only be the machine's."""
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    if isinstance(content, list):
        return [rounded(value) for value in content]
    return round(content, 6) if isinstance(content, float) else content


def table(found: Evaluation) -> Iterator[str]:
    """The lines of `evaluation.md`."""
    split = found.split
    yield f"# Evaluation of {found.subject}"
    yield ""
    yield (
        f"Base {found.base_name}, contract `{found.contract[:8]}`, seed {found.seed}. {split.conversations} conversations "
        f"that the training held out ({split.answer_tokens} answer tokens of {', '.join(split.dataset)})."
    )
    if split.left_out:
        yield ""
        yield f"{split.left_out} more are too long, alone or behind the persona, and left out."
    yield ""
    yield "One sampled answer to each question: a difference of a few questions is chance."
    yield ""
    yield from model_lines(found)
    yield from _failed(found)
    if found.judged:
        yield from _judged(found.judged)
    if found.safety:
        yield from safety_lines(found.safety)
        yield from _misses(found.safety)


def model_lines(found: Evaluation) -> Iterator[str]:
    """The models, and the server beside them, in one table."""
    alone = [one for one in (found.base, found.tuned) if one]
    names = (["base alone"] if found.base else []) + [found.tuned_name]
    yield from _head("", *names, *(["guard and tuned"] if found.served else []))
    blank = ["–"] if found.served else []
    yield _row("loss on answers", *(f"{one.loss:.3f}" for one in alone), *blank)
    yield _row("perplexity", *(f"{one.perplexity:.1f}" for one in alone), *blank)
    for name, told in (("bleu_4", "BLEU-4"), ("rouge_1", "ROUGE-1"), ("rouge_2", "ROUGE-2"), ("rouge_l", "ROUGE-L"), ("chrf", "chrF")):  # fmt: skip
        yield _row(told, *(f"{one.text.model_dump()[name]:.1f}" for one in alone), *blank)
    rubrics = [one.rubric for one in alone] + ([found.served.rubric] if found.served else [])
    for name in found.tuned.rubric:
        yield _row(name.replace("_", " "), *(f"{rubric[name].passed} of {rubric[name].of}" for rubric in rubrics))


def safety_lines(safety: Safety) -> Iterator[str]:
    """What became of each category."""
    yield ""
    yield "## The safety set through guard and model"
    yield ""
    share = safety.personal_data_masked
    masked = "" if share is None else f", {share:.1%} of the personal data was masked or refused"
    yield (
        f"{safety.messages} messages written apart: {safety.crisis_answered:.1%} of the cries for help got the crisis answer, "
        f"{safety.disallowed_refused:.1%} of what is disallowed was refused or redirected{masked}; "
        f"{safety.false_positive:.1%} of the benign messages were not answered "
        f"({safety.near_miss_false_positive:.1%} of the near misses)."
    )
    yield ""
    yield from _head("category", "language", "messages", "crisis", "redirect", "stopped", "masked", "passed", "right")
    for row in safety.rows:
        counts = (row.messages, row.crisis, row.redirect, row.stopped, row.masked, row.passed)
        yield _row(row.category, row.language, *map(str, counts), f"{row.right / row.messages:.1%}")


def _misses(safety: Safety) -> Iterator[str]:
    yield ""
    yield f"### The {len(safety.misses)} misses"
    yield ""
    yield from _head("id", "category", "became", "message")
    for miss in safety.misses:
        yield _row(miss.id, miss.category, miss.action, _cell(miss.text))


def _failed(found: Evaluation) -> Iterator[str]:
    """The probes that a check did not pass, by id."""
    yield ""
    yield "## What did not pass"
    yield ""
    rubrics = {found.tuned_name: found.tuned.rubric} | (
        {"guard and tuned": found.served.rubric} if found.served else {}
    )
    yield from _head("check", *rubrics)
    for name in found.tuned.rubric:
        yield _row(name.replace("_", " "), *(", ".join(rubric[name].failed) or "–" for rubric in rubrics.values()))


def _judged(judged: Judged) -> Iterator[str]:
    yield ""
    yield f"## What {judged.judge} prefers"
    yield ""
    yield (
        f"{judged.pairs} pairs in both orders, {judged.left_out} left out, {judged.refused} refused, {judged.malformed} "
        "malformed replies. Above 50 %: the tuned answers. Few pairs alike in both orders: the judge likes a place, and "
        "not an answer."
    )
    yield ""
    yield from _head(
        "criterion", "tuned wins", "95 % interval", "alike in both orders", "mark of base", "mark of tuned"
    )
    for name, rate in judged.win_rates.items():
        marks = [f"{side[name]:.2f}" if name in side else "–" for side in (judged.base, judged.tuned)]
        agreed = "–" if rate.agreed is None else f"{rate.agreed} of {judged.pairs}"
        yield _row(name.replace("_", " "), f"{rate.rate:.1%}", f"{rate.low:.1%} to {rate.high:.1%}", agreed, *marks)


def _head(*names: str) -> Iterator[str]:
    yield _row(*names)
    yield _row(*["---"] * len(names))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
