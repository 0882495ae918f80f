"""Personal data is taken out of a message before the model or anything else sees it; the child is answered all the same.

In: a message as it was typed, and those around it. Out: the message with `〔电话号码〕` or `[phone number]` in the place of
what it gave away, and the kinds that were found. The patterns stand in `private.yaml`, and read the message as `view.py`
shows it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path

from pydantic import Field

from data.strict import BadInput, Strict, read_yaml
from serve.guard.rules import Language, language_of, put_in, whole_parts
from serve.guard.verdict import answered_in
from serve.guard.view import View, view

RULES_FILE = Path(__file__).parent / "private.yaml"
# What is given away in parts (我的电话是138, then 1234, then 5678) goes on in short messages, from the end of one before them.
_SHORT, _END, _AROUND = 32, 64, 3
# Bare numbers of several messages may be a game's or a sum's: they are one where somebody speaks of such a number.
_SPOKEN_OF = re.compile(
    r"电话|手机|号|打给|拨|联系|证|卡|\b(?:number|phone|mobile|cell|call|text|tel|card|id\b)", re.IGNORECASE
)


class _Rule(Strict):
    kind: str
    needs: str = ""
    unless: str = ""
    patterns: list[str] = Field(default_factory=list)
    together: list[str] = Field(default_factory=list)


class _File(Strict):
    words: dict[str, dict[Language, str]]
    parts: dict[str, str | list[str]]
    rules: list[_Rule]


@dataclass(frozen=True)
class _Compiled:
    kind: str
    needs: re.Pattern[str]
    unless: re.Pattern[str] | None
    patterns: tuple[re.Pattern[str], ...]
    together: tuple[re.Pattern[str], ...]

    def is_about(self, text: str) -> bool:
        return bool(self.needs.search(text)) and not (self.unless and self.unless.search(text))


@dataclass(frozen=True)
class Kinds:
    """The compiled file: what stands in the place of each kind, and the rules."""

    words: dict[str, dict[Language, str]]
    rules: tuple[_Compiled, ...]


@dataclass(frozen=True)
class _Find:
    """A datum, and where it stands in what was typed."""

    kind: str
    start: int
    end: int


def mask(text: str, before: Sequence[str] = (), after: Sequence[str] = ()) -> tuple[str, list[str]]:
    """`text` without personal data, and the kinds that it held, in the order of the file.

    `before` and `after` are the same child's messages around it: of what goes over several, each loses its part.
    """
    before, after = before[-_AROUND:], after[:_AROUND]
    words = read_kinds().words
    # Of one word, or of digits, what the child said before tells the language.
    language = language_of(text) if " " in text.strip() else answered_in([*before, text])
    finds = _apart([*_finds(view(text)), *_beyond(text, before, after)])
    pieces, at = [], 0
    for find in finds:
        pieces += [text[at : find.start], words[find.kind][language]]
        at = find.end
    return "".join([*pieces, text[at:]]), [kind for kind in words if any(find.kind == kind for find in finds)]


@cache
def read_kinds(path: Path = RULES_FILE) -> Kinds:
    """The compiled rules. Raises `BadInput` on an unknown key, kind or part, or a pattern that is none."""
    file = _File.parse(read_yaml(path), str(path))
    if unknown := {rule.kind for rule in file.rules} - set(file.words):
        raise BadInput(f"{path}: {min(unknown)} has no words to stand in its place; add it to `words`.")
    parts = whole_parts(
        {name: source if isinstance(source, str) else "|".join(source) for name, source in file.parts.items()}, path
    )
    rules = tuple(
        _Compiled(
            rule.kind,
            _compiled(rule.needs, parts, path),
            _compiled(rule.unless, parts, path) if rule.unless else None,
            tuple(_compiled(source, parts, path) for source in rule.patterns),
            tuple(_compiled(source, parts, path) for source in rule.together),
        )
        for rule in file.rules
    )
    return Kinds(file.words, rules)


def _finds(seen: View) -> list[_Find]:
    """What stands alone, and of the rest what has company of another kind."""
    *rules, last = read_kinds().rules
    rules = [rule for rule in rules if rule.is_about(seen.text)]
    finds = [find for rule in rules for find in _matches(rule.kind, rule.patterns, seen)]
    together: list[_Find] = []
    taken = {place for find in finds for place in range(find.start, find.end)}
    for rule in (*rules, last):
        # The last, the names, would have no company.
        if rule is last and not finds and not together:
            break
        for find in _matches(rule.kind, rule.together, seen):
            # The same words may look like two kinds, and tell only once.
            if taken.isdisjoint(range(find.start, find.end)):
                together.append(find)
                taken.update(range(find.start, find.end))
    company = {find.kind for find in (*finds, *together)}
    return [*finds, *(find for find in together if company - {find.kind})]


def _beyond(text: str, before: Sequence[str], after: Sequence[str]) -> Iterator[_Find]:
    """What of a message is part of a datum that goes on, in a short one, from the one before it."""
    end = text[-_END:]
    start_of_end = len(text) - len(end)
    going_on = sum(1 for _ in takewhile(_is_short, (text, *reversed(before))))
    ahead = "\n".join(before[max(0, len(before) - going_on) :])[-_END:]
    behind = list(takewhile(_is_short, after))
    if not ahead and not behind:
        return
    together = "\n".join([ahead, end, *behind])
    seen, start = view(together), len(ahead) + 1
    own = (start, start + len(end))
    # Most talk has no number in it, and to look for one costs less than all the patterns.
    if not re.search(r"\d", seen.text):
        return
    bare = set() if _SPOKEN_OF.search(together) else {"phone", "id"}
    rules = [rule for rule in read_kinds().rules if rule.kind not in bare and rule.is_about(seen.text)]
    for find in (find for rule in rules for find in _matches(rule.kind, rule.patterns, seen, own)):
        begin, stop = max(find.start, own[0]) - start, min(find.end, own[1]) - start
        if begin < stop:
            yield _Find(find.kind, start_of_end + begin, start_of_end + stop)


def _is_short(text: str) -> bool:
    return len(text) <= _SHORT


def _matches(
    kind: str, patterns: Sequence[re.Pattern[str]], seen: View, beyond: tuple[int, int] | None = None
) -> Iterator[_Find]:
    """What the patterns find; `beyond` a part of what was typed only what does not lie within it."""
    for pattern in patterns:
        for match in pattern.finditer(seen.text):
            if beyond:
                if not match[0]:
                    continue
                begin, stop = seen.span(*match.span())
                if beyond[0] <= begin and stop <= beyond[1]:
                    continue
            names = [name for name in pattern.groupindex if match[name]]
            for start, end in [match.span(name) for name in names] or [match.span()]:
                if start < end:
                    yield _Find(kind, *seen.span(start, end))


def _apart(finds: Sequence[_Find]) -> list[_Find]:
    """Finds in their order, those that overlap as one, of the kind of the longest."""
    apart: list[_Find] = []
    for find in sorted(finds, key=lambda find: (find.start, -find.end)):
        if apart and find.start < apart[-1].end:
            last = apart[-1]
            longer = max(last, find, key=lambda one: one.end - one.start)
            apart[-1] = _Find(longer.kind, last.start, max(last.end, find.end))
        else:
            apart.append(find)
    return apart


def _compiled(source: str, parts: Mapping[str, str], path: Path) -> re.Pattern[str]:
    try:
        return re.compile(put_in(source, parts, path), re.IGNORECASE | re.ASCII)
    except re.error as error:
        raise BadInput(f"{path}: the pattern {source!r} does not compile: {error}.") from None
