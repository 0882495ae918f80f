"""The guard's messages: `safety/*.jsonl`, one labelled message of a child or a teenager a line, and in `safety/answers`
what a model may say.

In: a folder with `safety/`. Out: `Message`s, and what is wrong with them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from data.conversations import Problem, records
from data.safety import ANSWER_LABELS, ANSWERS_DIR, APART_DIR, HELD_OUT, LABELS
from data.strict import suggestion
from finetune.dataset.house import HAN
from finetune.dataset.near import NearDuplicates
from finetune.dataset.personal import personal_data

FOLDER = "safety"
# Who writes: four ages, codes and pinyin, and a mixture of languages.
SOURCES = ("little", "child", "tween", "teen", "code", "mixed")
# Who answers.
MODEL = "model"
COLUMNS = ("id", "text", "language", "label", "category", "source")
# The id of a message with the same words and the opposite meaning.
TWIN = "twin"
# A message is typed: a line or two, or a whole order with its conditions.
LONGEST = 400
# Short texts: at this share of common shingles two differ in a word or a sign.
_ALIKE = 0.8


@dataclass(frozen=True)
class Message:
    """One labelled message."""

    file: str
    row: int
    id: str
    text: str
    language: str
    label: str
    category: str
    source: str
    twin: str = ""


def files_in(data_dir: Path) -> list[Path]:
    """The files of the guard's messages in a data folder."""
    held_out = (folder.name for folder in HELD_OUT)
    inside = ("", *held_out, ANSWERS_DIR.name, f"{ANSWERS_DIR.name}/{APART_DIR.name}")
    return [path for name in inside for path in sorted((data_dir / FOLDER / name).glob("*.jsonl"))]


def name_of(path: Path) -> str:
    """As findings name a file: `safety/zh.jsonl`, `safety/apart/zh.jsonl`."""
    return "/".join(path.parts[len(path.parts) - 1 - path.parts[::-1].index(FOLDER) :])


def read_messages(path: Path) -> Iterator[Message | Problem]:
    """Every line of a file. Raises `BadInput` where the file is not there."""
    name = name_of(path)
    for row, record in enumerate(records(path)):
        yield replace(record, file=name) if isinstance(record, Problem) else _message(record, row, name)


def _message(record: Any, row: int, file: str) -> Message | Problem:
    if not isinstance(record, dict):
        return Problem(file, row, None, f"is no object; a message has {', '.join(COLUMNS)}.")
    for column in COLUMNS:
        if not isinstance(record.get(column), str) or not record[column].strip():
            return Problem(
                file, row, None, f'its "{column}" is missing or no text; a message has {", ".join(COLUMNS)}.'
            )
    for column in record:
        if column not in (*COLUMNS, TWIN):
            return Problem(file, row, None, f'unknown column "{column}"{suggestion(column, list(COLUMNS)) or "."}')
    return Message(file, row, **record)


@dataclass
class Checker:
    """Looks at messages one after another; each is compared with all before, whatever its file."""

    _ids: dict[str, str] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)
    _near: NearDuplicates = field(default_factory=lambda: NearDuplicates(_ALIKE))

    def look(self, message: Message) -> Iterator[tuple[Literal["error", "warning"], str, str]]:
        """Level, rule and sentence of what is wrong with a message; afterwards it is remembered."""
        where = f"{message.file} record {message.row}"
        if message.id in self._ids:
            yield "error", "id", f'its id "{message.id}" is also that of {self._ids[message.id]}; give it its own.'
        is_answer = ANSWERS_DIR.name in message.file.split("/")
        labels, sources = (ANSWER_LABELS, (MODEL,)) if is_answer else (LABELS, SOURCES)
        if message.category not in labels:
            near = suggestion(message.category, list(labels)) or f"; known are {', '.join(labels)}."
            yield "error", "category", f'no category "{message.category}"{near}'
        elif message.label != labels[message.category]:
            told = f'its label is "{message.label}", but "{message.category}" is "{labels[message.category]}".'
            yield "error", "label", told
        if message.source not in sources:
            yield "error", "source", f'no source "{message.source}"; known are {", ".join(sources)}.'
        if message.language not in ("zh", "en"):
            yield "error", "language", f'its language is "{message.language}"; known are zh and en.'
        # Chinese may be typed in Latin letters or digits; English has no Chinese sentence in it.
        elif (
            message.language == "en" and message.source not in ("mixed", "code") and len(HAN.findall(message.text)) > 4
        ):
            yield "error", "language", 'its language is "en", its text is Chinese.'
        if len(message.text) > LONGEST:
            yield "error", "length", f"has {len(message.text)} characters; a message has at most {LONGEST}."
        for kind in personal_data(message.text):
            # A message that gives an address away has to look like it; all addresses here are invented.
            if not (message.category == "personal_data" and kind == "an address"):
                yield "error", "personal_data", f"holds what looks like {kind}; write one that cannot exist."
        yield from self._repeats(message)
        self._ids.setdefault(message.id, where)
        self._texts.setdefault(_folded(message.text), where)
        self._near.remember(message.text, where)

    def _repeats(self, message: Message) -> Iterator[tuple[Literal["error", "warning"], str, str]]:
        if _folded(message.text) in self._texts:
            yield "error", "duplicate", f"its text is also that of {self._texts[_folded(message.text)]}; remove one."
            return
        near = self._near.find(message.text)
        # Written otherwise it is another message: letters apart are what the classifier has to see through.
        if near and near.similarity < 1 and message.source != "code":
            told = f"its text shares {near.similarity:.0%} with {near.place}; write another."
            yield "warning", "near_duplicate", told


def _folded(text: str) -> str:
    return " ".join(text.lower().split())
