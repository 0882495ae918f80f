"""The screen on the way out: an answer leaves sentence by sentence, and only what was read through leaves.

In: pieces of an answer, as the engine makes them. Out: whole sentences that may be shown, or what the answer has to end
for. Two layers read each: the patterns of `output.yaml`, with the end of what stands before it, and the small reader of
`python -m finetune screen`, which knows what a sentence means.

    python -m serve screen "text"     # each layer's verdict
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from data.answer_reader import MEND, SENTENCE_END, AnswerReader, Spoken, read_answer_reader, spoken
from data.forms import Typed, forms
from serve.guard.files import check_hash
from serve.guard.rules import read_rules

RULES_FILE = Path(__file__).parent / "output.yaml"
READER_FILE = Path(__file__).parent / "screen.onnx"
_THOUGHT, _THOUGHT_END = "<think>", "</think>"
# How many letters of what has left the patterns read again with the next sentence, whatever stands between them: a
# statement may lie across several.
_OVERLAP = 120


@dataclass(frozen=True)
class Harm:
    """What is wrong with an answer, and which layer says so."""

    category: str
    layer: Literal["rules", "classifier"] = "rules"


class Stopped(Exception):
    """The answer must not go on: `harm` says why."""

    def __init__(self, harm: Harm):
        super().__init__(harm.category)
        self.harm = harm


class Screen:
    """One answer on its way out: `take` a piece, then `read` while a sentence `is_whole`; at the end, `read` the rest.

    `read` gives what may be shown, and raises `Stopped`. It takes milliseconds; `feed` is for who can wait.
    """

    def __init__(self, control_tokens: Sequence[str]):
        self._control_tokens = [token for token in control_tokens if token not in (_THOUGHT, _THOUGHT_END)]
        self._held = ""
        self._left = ""
        self._spoken = Spoken()
        # An opened thought and all behind it, until it is closed.
        self._hidden = ""

    def feed(self, piece: str) -> Iterator[str]:
        """Take the next piece; give the sentences that it completes, each as soon as it was read."""
        self.take(piece)
        while self.is_whole:
            yield self.read()

    @property
    def is_whole(self) -> bool:
        """Whether a sentence is held to its end."""
        return SENTENCE_END.search(self._held) is not None

    def take(self, piece: str) -> None:
        """Take the next piece."""
        # The words before an open thought come first, so that removing it never joins two tags' halves unseen.
        text = f"{self._held}{self._hidden}{piece}"
        text = re.sub(f"{_THOUGHT}.*?{_THOUGHT_END}", "", text, flags=re.DOTALL).replace(_THOUGHT_END, "")
        self._held, opening, rest = text.partition(_THOUGHT)
        self._hidden = opening + rest

    def read(self) -> str:
        """The next sentence, or the rest where none is whole. A thought that was never closed is not part of the answer."""
        found = SENTENCE_END.search(self._held)
        end = found.end() if found else len(self._held)
        sentence, self._held = self._held[:end], self._held[end:]
        together = self._left + sentence
        if any(token in together for token in (*self._control_tokens, _THOUGHT, _THOUGHT_END)):
            raise Stopped(Harm("control"))
        if harm := harm_in(together, self._spoken.next(sentence)):
            raise Stopped(harm)
        self._left = _end_of(together)
        return sentence


@cache
def reader() -> AnswerReader:
    """The shipped reader of answers. Raises `BadInput` where the file is not the one that was written."""
    check_hash(READER_FILE, MEND)
    return read_answer_reader(READER_FILE)


def harm_in(text: str, said: Sequence[str]) -> Harm | None:
    """What is wrong with what was said to a child: in `text` by the patterns, else in what was `said`, as it is `spoken`."""
    if rule := _rule_for(text):
        return Harm(rule)
    danger, category = reader().most_dangerous(said)
    return Harm(category, "classifier") if danger > reader().level else None


def layers(answer: str) -> list[str]:
    """In words: what each layer sees in one answer."""
    danger, category = reader().most_dangerous(spoken(answer))
    return [
        f"rules       {_rule_for(answer) or 'nothing'}",
        f"classifier  {category or 'nothing'} danger={danger:.3f} "
        f"({'acts' if danger > reader().level else 'passes'}, from {reader().level:.3f})",
    ]


def _rule_for(text: str) -> str | None:
    rules, typed = read_rules(RULES_FILE), Typed(text)
    found = rules.first(typed.forms) or rules.first_disguised(typed)
    return found.category if found else None


def _end_of(text: str) -> str:
    """The end of `text` with `_OVERLAP` letters in it, or somewhat more."""
    length = _OVERLAP
    while length < len(text) and len(forms(text[-length:]).squashed) < _OVERLAP:
        length *= 2
    return text[-length:]
