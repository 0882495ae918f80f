"""The screen on the way out: an answer leaves sentence by sentence, and only what was read through leaves.

In: pieces of an answer, as the engine makes them. Out: whole sentences that may be shown, or the category for which
the answer has to end. The patterns stand in `output.yaml`.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.forms import forms, undisguised
from serve.guard.rules import Language, read_rules

RULES_FILE = Path(__file__).parent / "output.yaml"
# A full stop ends a sentence only before a blank: 3.14 and www.example.org have none.
_SENTENCE_END = re.compile(r"[。！？!?\n…]|\.(?=\s)")
_THOUGHT, _THOUGHT_END = "<think>", "</think>"
# How many letters of what has left are read again with the next sentence, whatever stands between them: a statement may
# lie across two.
_OVERLAP = 120


class Stopped(Exception):
    """The answer must not go on. `category` says why."""

    def __init__(self, category: str):
        super().__init__(category)
        self.category = category


class Screen:
    """One answer on its way out. `feed` and `finish` give what may be shown now, and raise `Stopped`."""

    def __init__(self, control_tokens: Sequence[str]):
        self._control_tokens = [token for token in control_tokens if token not in (_THOUGHT, _THOUGHT_END)]
        self._held = ""
        self._left = ""
        # An opened thought and all behind it, until it is closed.
        self._hidden = ""

    def feed(self, piece: str) -> Iterator[str]:
        """Take the next piece; give the sentences that it completes, each as soon as it was read."""
        self._take(piece)
        while end := _SENTENCE_END.search(self._held):
            sentence, self._held = self._held[: end.end()], self._held[end.end() :]
            yield self._read(sentence)

    def finish(self) -> str:
        """Give the rest. A thought that was never closed is not part of the answer."""
        rest, self._held = self._held, ""
        return self._read(rest)

    def _take(self, piece: str) -> None:
        # The words before an open thought come first, so that removing it never joins two tags' halves unseen.
        text = f"{self._held}{self._hidden}{piece}"
        text = re.sub(f"{_THOUGHT}.*?{_THOUGHT_END}", "", text, flags=re.DOTALL).replace(_THOUGHT_END, "")
        self._held, opening, rest = text.partition(_THOUGHT)
        self._hidden = opening + rest

    def _read(self, sentence: str) -> str:
        together = self._left + sentence
        if any(token in together for token in (*self._control_tokens, _THOUGHT, _THOUGHT_END)):
            raise Stopped("control")
        if category := harm_in(together):
            raise Stopped(category)
        self._left = _end_of(together)
        return sentence


def harm_in(text: str) -> str | None:
    """The category of the first pattern of `output.yaml` that is found in what was said to a child."""
    rules = read_rules(RULES_FILE)
    found = rules.first(forms(text))
    if not found and (plain := undisguised(text)):
        found = rules.first(forms(plain))
    return found.category if found else None


def _end_of(text: str) -> str:
    """The end of `text` with `_OVERLAP` letters in it, or somewhat more."""
    length = _OVERLAP
    while length < len(text) and len(forms(text[-length:]).squashed) < _OVERLAP:
        length *= 2
    return text[-length:]


def language_of(text: str) -> Language:
    """`zh` where the text holds a Chinese character, else `en`."""
    return "zh" if re.search(r"[\u3400-\u9fff]", text) else "en"
