"""Personal data is taken out of a message before the model or anything else sees it; the child is answered all the same.

In: a message as it was typed. Out: the message with `〔电话号码〕` or `[phone number]` in the place of what it gave away,
and the kinds that were found. The patterns stand in `private.yaml`.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from data.strict import BadInput, Strict, read_yaml
from serve.guard.rules import Language
from serve.guard.screen import language_of

RULES_FILE = Path(__file__).parent / "private.yaml"


class _Kind(Strict):
    kind: str
    words: dict[Language, str]
    patterns: list[str]


@dataclass(frozen=True)
class _Compiled:
    kind: str
    words: dict[Language, str]
    expressions: tuple[re.Pattern[str], ...]


def mask(text: str) -> tuple[str, list[str]]:
    """`text` without personal data, and the kinds that it held, in the order of the file."""
    language = language_of(text)
    found: list[str] = []
    for kind in read_kinds():
        for expression in kind.expressions:
            text, times = expression.subn(lambda match: _replaced(match, kind.words[language]), text)  # noqa: B023
            if times and kind.kind not in found:
                found.append(kind.kind)
    return text, found


@cache
def read_kinds(path: Path = RULES_FILE) -> tuple[_Compiled, ...]:
    """The compiled patterns. Raises `BadInput` on an unknown key or a pattern that is none."""
    raw = read_yaml(path)
    if not isinstance(raw, list):
        raise BadInput(f"{path}: expected a list of kinds of personal data.")
    kinds = []
    for number, one in enumerate(raw, start=1):
        kind = _Kind.parse(one, f"{path} entry {number}")
        try:
            kinds.append(_Compiled(kind.kind, kind.words, tuple(re.compile(source) for source in kind.patterns)))
        except re.error as error:
            raise BadInput(f"{path}: a pattern of {kind.kind} does not compile: {error}.") from None
    return tuple(kinds)


def _replaced(match: re.Match[str], words: str) -> str:
    """The whole match with its named group, or all of it, replaced."""
    spans = [match.span(name) for name in match.re.groupindex if match.group(name) is not None]
    start, end = spans[0] if spans else match.span()
    return match.string[match.start() : start] + words + match.string[end : match.end()]
