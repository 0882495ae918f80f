"""Ask the same questions before and after tuning, and set the answers side by side.

In: a run, a model folder or a base; questions. Out: `report.html`, `report.md` and `report.jsonl` in one folder.

    python -m finetune compare                                 # the newest finished run: base, adapter, merged
    python -m finetune compare models/current --questions mine.txt
    python -m finetune compare runs/try --no-thinking --greedy

Asked are the tutorial's four questions and those of each file, with thinking on and off, at the contract's sampling and
one seed for all. A run is asked as its base, with its adapter, and merged where models/<run's id> holds what it learned; a
model folder brings the run that it was made from, unless that went on. For adults who judge a model: there is no guard here.
"""

import argparse
import json
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path
from statistics import mean
from typing import Literal, TypeVar

from data.contract import SEAL_FILE, Sampling, open_sealed
from data.runs import RUN_FILE, is_older, newest_finished, write_whole
from data.strict import BadInput, Strict
from finetune.answers import ENGINES, EngineName, respondent, under
from finetune.page import facts, page, table, words
from finetune.progress import Advance, progress
from finetune.questions import TUTORIAL, asked, read_questions
from finetune.subject import Subject, find_subject

COMPARED = "compare"
LINES_FILE, PAGE_FILE, TEXT_FILE = "report.jsonl", "report.html", "report.md"

SUMMARY = ("model", "thinking", "ended by themselves", "tokens an answer")

Model = Literal["base", "adapter", "tuned", "merged"]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Column:
    """One of those that are asked. `adapted=False` leaves the subject's adapter out."""

    model: Model
    subject: Subject
    adapted: bool = True

    @property
    def name(self) -> str:
        """What was loaded."""
        return self.subject.name if self.adapted else self.subject.base.name


class Compared(Strict):
    """A line of `report.jsonl`: one answer, and everything that decided it."""

    model: Model
    # What was loaded, as it was named.
    name: str
    thinking: bool
    conversation: list[dict[str, str]]
    text: str
    thought: str
    # It ended by itself.
    finished: bool
    tokens: int
    contract: str
    sampling: Sampling
    seed: int


def main(arguments: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune compare`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", help="a run, a model folder or a base (default: the newest finished run)")
    parser.add_argument("--merged", help="the model folder to set beside a run (default: models/<run's id>)")
    parser.add_argument("--base", help="where a run's base lies now, if it moved since")
    parser.add_argument(
        "--questions", type=Path, action="append", default=[], metavar="FILE",
        help="more questions: one a line, or a ShareGPT file; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--thinking", action=argparse.BooleanOptionalAction, help="only with thinking, or only without (default: both)"
    )
    parser.add_argument(
        "--greedy", action="store_true", help="always the likeliest token, and not the contract's sampling"
    )
    parser.add_argument("--seed", type=int, default=42, help="the same seed gives the same answers (default: 42)")
    parser.add_argument("--engine", choices=ENGINES, help="default: vllm on a GPU, transformers on a CPU")
    parser.add_argument("--out", type=Path, help="the folder to write (default: compare/ in the run's folder)")
    given = parser.parse_args(arguments)
    questions = [asked(question) for question in TUTORIAL]
    for path in given.questions:
        questions += read_questions(path)
    what = given.what or str(newest_finished(Path("runs")))
    columns = find_columns(what, given.merged, base_name=given.base, home=environment.get("HF_HUB_CACHE"))
    modes = [False, True] if given.thinking is None else [given.thinking]
    found = compare(columns, questions, modes, greedy=given.greedy, seed=given.seed, engine=given.engine)
    for path in write(found, given.out or _usual_folder(columns)):
        print(path)
    return 0


def find_columns(
    what: str, merged: str | None = None, *, base_name: str | None = None, home: str | None = None
) -> list[Column]:
    """Who is asked: base, adapter and merged, as far as they are there. Raises `BadInput`."""
    if (Path(what) / SEAL_FILE).is_file():
        merged_alone = find_subject(what)
        run = _run_of(Path(what))
        # The adapter of a run that went on is another than the one that was merged.
        if run and not is_older(Path(what), run):
            return find_columns(str(run), what, base_name=base_name, home=home)
        before = find_subject(base_name or merged_alone.contract.base_model, home=home)
        return [Column("base", before), Column("merged", merged_alone)]
    subject = find_subject(what, base_name=base_name, home=home)
    if not (Path(what) / RUN_FILE).is_file():
        return [Column("base", subject)]
    # With an adapter both are one loaded model.
    columns = (
        [Column("base", subject, adapted=False), Column("adapter", subject)]
        if subject.adapter
        else [Column("base", subject.without_adapter()), Column("tuned", subject)]
    )
    usual = Path("models") / Path(what).resolve().name
    if not merged and (usual / SEAL_FILE).is_file():
        if is_older(usual, Path(what)):
            print(f"{usual}: was merged before {what} went on, and is left out; merge again.", file=sys.stderr)
        else:
            merged = str(usual)
    if not merged:
        return columns
    if not (Path(merged) / SEAL_FILE).is_file():
        raise BadInput(f"{merged}: no {SEAL_FILE}: --merged names a model folder, as `make merge` makes them.")
    return [*columns, Column("merged", find_subject(merged))]


def compare(
    columns: Sequence[Column],
    questions: Sequence[list[dict[str, str]]],
    modes: Sequence[bool],
    *,
    greedy: bool = False,
    seed: int = 42,
    engine: EngineName | None = None,
) -> list[Compared]:
    """Every answer, by column, by mode, by question. All columns are asked under the last one's contract."""
    contract = columns[-1].subject.contract
    found: list[Compared] = []
    with progress("asking", len(columns) * len(modes) * len(questions)) as advance:
        for subject, group in groupby(columns, key=lambda column: column.subject):
            with respondent(subject, engine) as model:
                for column, thinking in product(group, modes):
                    asked_under = under(contract, thinking=thinking, greedy=greedy)
                    answers = model.answers(
                        questions, asked_under, seed=seed, adapted=column.adapted, advance=after(len(found), advance)
                    )
                    found += [
                        Compared(
                            model=column.model, name=column.name, thinking=thinking, conversation=question,
                            text=answer.text, thought=answer.thought, finished=answer.finished, tokens=answer.tokens,
                            contract=contract.fingerprint, sampling=asked_under.sampling, seed=seed,
                        )
                        for question, answer in zip(questions, answers, strict=True)
                    ]  # fmt: skip
    return found


def write(found: Sequence[Compared], folder: Path) -> list[Path]:
    """The three files, the page first."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        PAGE_FILE: page("Before and after", f"{_head(found)}\n{exchanges(found)}"),
        TEXT_FILE: _markdown(found),
        LINES_FILE: "".join(json.dumps(line.model_dump(), ensure_ascii=False) + "\n" for line in found),
    }
    for name, text in files.items():
        write_whole(folder / name, text)
    return [folder / name for name in files]


def read_compared(path: Path) -> list[Compared]:
    """The lines of a `report.jsonl`. Raises `BadInput`."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"), 1):
        try:
            found.append(Compared.parse(json.loads(line), f"{path}: line {number}"))
        except ValueError as error:
            raise BadInput(f"{path}: line {number} is not valid JSON: {error}; compare again.") from None
    return found


def summary(found: Sequence[Compared]) -> list[list[str]]:
    """A row for each model and mode under `SUMMARY`, in the order in which they were asked."""
    return [
        [
            model,
            _on_or_off(thinking),
            f"{sum(line.finished for line in lines)} of {len(lines)}",
            f"{mean(line.tokens for line in lines):.0f}",
        ]
        for (model, thinking), lines in _grouped(found, lambda line: (line.model, line.thinking)).items()
    ]


def exchanges(found: Sequence[Compared]) -> str:
    """HTML: each question, and below it the answers side by side."""
    parts = []
    for said, lines in _grouped(found, lambda line: json.dumps(line.conversation, ensure_ascii=False)).items():
        turns = "".join(words(turn["content"], turn["role"]) for turn in json.loads(said))
        parts.append(f'<section class="exchange">\n<div class="said">{turns}</div>')
        for thinking, answers in _grouped(lines, lambda line: line.thinking).items():
            # Adapter and merged say the same as a rule: it is read once.
            cards = "\n".join(
                _card(list(same)) for _, same in groupby(answers, key=lambda line: (line.text, line.thought))
            )
            parts.append(f'<p class="mode">thinking {_on_or_off(thinking)}</p>\n<div class="answers">\n{cards}\n</div>')
        parts.append("</section>")
    return "\n".join(parts)


def after(already: int, advance: Advance) -> Advance:
    """Progress of a part, told as progress of the whole of which `already` were done before."""

    def told(done: float, note: str = "") -> None:
        advance(already + done, note)

    return told


def _head(found: Sequence[Compared]) -> str:
    return (
        "<header>\n<h1>Before and after</h1>\n"
        '<p class="quiet">The same questions, the same contract, the same seed. No guard stands before these answers.</p>\n'
        f"{facts(_settings(found))}\n{table(SUMMARY, summary(found))}\n</header>"
    )


def _settings(found: Sequence[Compared]) -> list[tuple[str, str]]:
    first = found[0]
    sampling = first.sampling
    drawn = f"{sampling.temperature:g} / {sampling.top_p:g} / {sampling.top_k}" if sampling.temperature else "greedy"
    names = [(model, lines[0].name) for model, lines in _grouped(found, lambda line: line.model).items()]
    return [
        *names,
        ("contract", first.contract[:8]),
        ("temperature / top_p / top_k", drawn),
        ("longest answer", f"{sampling.max_tokens} tokens"),
        ("seed", str(first.seed)),
    ]


def _card(same: Sequence[Compared]) -> str:
    """One answer, of all the models that gave it."""
    answer = same[-1]
    thought = (
        f"<details><summary>what it thought</summary>{words(answer.thought)}</details>\n" if answer.thought else ""
    )
    text = words(answer.text) if answer.text.strip() else '<p class="nothing">No words.</p>'
    cut = ' · <span class="cut">cut off</span>' if not answer.finished else ""
    return (
        f'<article class="answer {answer.model}"><h3>{" · ".join(line.model for line in same)}</h3>\n'
        f"{thought}{text}\n<footer>{answer.tokens} tokens{cut}</footer></article>"
    )


def _markdown(found: Sequence[Compared]) -> str:
    lines = ["# Before and after", ""]
    lines += [f"- {name}: {value}" for name, value in _settings(found)]
    lines += ["", f"| {' | '.join(SUMMARY)} |", f"|{'---|' * len(SUMMARY)}"]
    lines += [f"| {' | '.join(row)} |" for row in summary(found)]
    for said, answers in _grouped(found, lambda line: json.dumps(line.conversation, ensure_ascii=False)).items():
        *before, question = json.loads(said)
        lines += ["", f"## {' '.join(question['content'].split())}"]
        for turn in before:
            lines += ["", _quoted(f"{turn['role']}: {turn['content']}")]
        for answer in answers:
            ended = "" if answer.finished else ", cut off"
            lines += [
                "",
                f"**{answer.model}**, thinking {_on_or_off(answer.thinking)} ({answer.tokens} tokens{ended})",
                "",
            ]
            if answer.thought:
                lines += [_quoted(f"*{answer.thought}*"), ">"]
            lines += [_quoted(answer.text or "(no words)")]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def _grouped(lines: Iterable[Compared], key: Callable[[Compared], Key]) -> dict[Key, list[Compared]]:
    """The lines by key, the keys in the order in which they first came."""
    found: dict[Key, list[Compared]] = {}
    for line in lines:
        found.setdefault(key(line), []).append(line)
    return found


def _on_or_off(thinking: bool) -> str:
    return "on" if thinking else "off"


def _run_of(folder: Path) -> Path | None:
    """The run that a model folder was made from, where it is still here."""
    run = Path("runs") / str(open_sealed(folder).provenance.get("run", ""))
    return run if (run / RUN_FILE).is_file() else None


def _usual_folder(columns: Sequence[Column]) -> Path:
    """In the run's folder, where `report` looks for it; in artifacts/ where there is no run."""
    for column in columns:
        if (Path(column.subject.name) / RUN_FILE).is_file():
            return Path(column.subject.name) / COMPARED
    return Path("artifacts") / COMPARED / Path(columns[-1].subject.name).name
