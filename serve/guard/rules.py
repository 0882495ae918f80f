"""Rules that need no model: a list of patterns in a YAML file, and the forms of a text that they are matched against.

In: a rules file (`crisis.yaml`, `declined.yaml`, `output.yaml`) and a text. Out: the first rule that matches, or None.

A pattern is a regular expression. In a Chinese rule it sees the text without any blank or sign between the
characters; in an English or pinyin rule it sees words, and a blank in the pattern stands for any blank or none (not
beside `\\w+`), so that `kill my self`, `k.i.l.l m.y s.e.l.f` and `killmyself` are one pattern. A {part} stands
for one of the words that the file's `parts` name. What a pattern repeats without end must be read in one way only: with
`(总是?|是)*` twenty of 总是 are a million ways, and forty are never done; `(总|是)*` says the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from data.forms import NOTHING, Forms, Typed
from data.strict import BadInput, Strict, read_yaml
from serve.guard.literals import Clause, clauses, may_match

Language = Literal["zh", "en"]
# A part of a pattern, by its name. A count such as {2,6} has no letter.
_PART = re.compile(r"\{([a-z_]+)\}")


class Rule(Strict):
    """What a text may be about, and the patterns that tell."""

    category: str
    # `pinyin` is Chinese written in Latin letters: matched as words, answered in Chinese.
    language: Literal["zh", "en", "pinyin"]
    patterns: list[str]


class RulesFile(Strict):
    """A rules file."""

    parts: dict[str, str] = Field(default_factory=dict)
    rules: list[Rule]


@dataclass(frozen=True)
class Pattern:
    """One compiled pattern with what it tells."""

    category: str
    language: Language
    squashed: bool
    expression: re.Pattern[str]
    # What a text without cannot match: see `literals.py`.
    needed: tuple[Clause, ...]

    def found_after(self, seen: Forms, start: Forms) -> bool:
        """Whether it matches and the match ends behind `start`, a beginning of `seen`."""
        text, offset = (seen.squashed, start.squashed) if self.squashed else (seen.words, start.words)
        if not may_match(self.needed, text):
            return False
        return any(match.end() > len(offset) for match in self.expression.finditer(text))


@dataclass(frozen=True)
class Rules:
    """The compiled rules of a file, in its order."""

    patterns: tuple[Pattern, ...]

    def first(self, seen: Forms, start: Forms = NOTHING) -> Pattern | None:
        """The first pattern that is found behind `start`, a beginning of `seen`."""
        return next((pattern for pattern in self.patterns if pattern.found_after(seen, start)), None)

    def first_disguised(self, typed: Typed) -> Pattern | None:
        """The first pattern that is found in `typed` with the letters that digits and signs stand for."""
        return self.first(typed.undisguised) if typed.undisguised else None


def _as_words(source: str) -> str:
    # Beside `\w+` the blank stays: where it may be missing, one long word can be parted in countless ways, and a
    # message of 256 KiB would hold the server for minutes. For the same reason such a word has an end.
    parts = re.split(r"( \\w\+|\\w\+ )", source)
    loose = [
        part.replace(r"\w+", r"\w{1,20}") if number % 2 else part.replace(" ", " ?")
        for number, part in enumerate(parts)
    ]
    return rf"\b(?:{''.join(loose)})\b"


@cache
def read_rules(path: Path) -> Rules:
    """The compiled patterns of a rules file. Raises `BadInput` on an unknown key or part, or a pattern that is none."""
    patterns = []
    file = RulesFile.parse(read_yaml(path), str(path))
    parts = whole_parts(file.parts, path)
    sources = [*file.parts.values(), *(written for rule in file.rules for written in rule.patterns)]
    if unused := set(parts).difference(*(_PART.findall(source) for source in sources)):
        raise BadInput(f"{path}: no pattern names {{{sorted(unused)[0]}}}; remove that part.")
    for rule in file.rules:
        for written in rule.patterns:
            source = put_in(written, parts, path)
            squashed = rule.language == "zh"
            try:
                expression = re.compile(source if squashed else _as_words(source))
            except re.error as error:
                raise BadInput(
                    f"{path}: the pattern {written!r} of {rule.category} does not compile: {error}."
                ) from None
            language: Language = "en" if rule.language == "en" else "zh"
            patterns.append(Pattern(rule.category, language, squashed, expression, clauses(expression.pattern)))
    return Rules(tuple(patterns))


def whole_parts(sources: Mapping[str, str], path: Path) -> dict[str, str]:
    """A file's parts with those named above them put in. Raises `BadInput` on one that is not there."""
    parts: dict[str, str] = {}
    for name, source in sources.items():
        parts[name] = put_in(source, parts, path)
    return parts


def put_in(source: str, parts: Mapping[str, str], path: Path) -> str:
    """The pattern with each {part} as a group. Raises `BadInput` on one that is not there."""
    if unknown := [name for name in _PART.findall(source) if name not in parts]:
        raise BadInput(f"{path}: {{{unknown[0]}}} is no part named above it, in {source!r}.")
    return _PART.sub(lambda match: f"(?:{parts[match[1]]})", source)


def language_of(text: str) -> Language:
    """`zh` where the text holds a Chinese character, else `en`."""
    return "zh" if re.search(r"[\u3400-\u9fff]", text) else "en"
