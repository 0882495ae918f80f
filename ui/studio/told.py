"""What a command told, as the page shows it: its own English words, or another language's for them.

In: the table `told` of a language (`ui/locales/studio_zh.yaml`). Out: the sentence; one that the table does not know, as it
was told.
"""

import html
import re
from collections.abc import Mapping
from functools import cache, lru_cache

from ui.studio.words import Words

_BLANK = re.compile(r"\{(\w+)\}")
_TAG = re.compile(r"(<[^>]*>)")
# Where a page holds no sentences of a command.
_APART = re.compile(r"<(style|code|pre|div(?= class=.words))\b")
# On a line of a page's text; dots stand between phrases.
_PHRASE = re.compile(r"[^\s·](?:[^\n·]*[^\s·])?")
# What is longer is no sentence, and would be looked at for long.
_LONGEST = 2000


def in_words(words: Words, text: str) -> str:
    """A sentence that a command told, for a reader of these words."""
    return _told(_table(tuple(words.told.items())), text) if words.told and len(text) <= _LONGEST else text


def table_in_words(words: Words, text: str) -> str:
    """The same for a page of Markdown with tables: heading by heading, sentence by sentence, cell by cell."""
    return "\n".join(_line_in_words(words, line) for line in text.splitlines())


def _line_in_words(words: Words, line: str) -> str:
    if line.startswith("| "):
        return f"| {' | '.join(in_words(words, cell) for cell in line[2:-2].split(' | '))} |"
    signs, space, said = line.partition(" ") if line.startswith("#") else ("", "", line)
    return f"{signs}{space}{in_words(words, said)}"


def page_in_words(words: Words, page: str) -> str:
    """The same for a page of HTML, as finetune/page.py writes it: all but code, and what somebody said or answered."""
    if not words.told:
        return page
    # Texts and tags take turns.
    parts = _TAG.split(page)
    closes = ""
    for place, part in enumerate(parts):
        if closes:
            closes = "" if part == closes else closes
        elif found := _APART.match(part):
            closes = f"</{found[1]}>"
        elif place % 2 == 0:
            parts[place] = _PHRASE.sub(lambda phrase: _phrase_in_words(words, phrase[0]), part)
    return "".join(parts).replace('<html lang="en">', '<html lang="zh-Hans">', 1)


def _phrase_in_words(words: Words, phrase: str) -> str:
    said = html.unescape(phrase)
    told = in_words(words, said)
    return phrase if told == said else html.escape(told)


def pieces(pattern: str) -> list[str]:
    """The parts of a pattern that do not change."""
    return [piece for piece in _BLANK.split(pattern)[::2] if piece]


@cache
def _table(lines: tuple[tuple[str, str], ...]) -> "_Table":
    return _Table(dict(lines))


class _Table:
    """The patterns as expressions, in the table's order. Compared by identity, so that answers can be kept."""

    def __init__(self, lines: Mapping[str, str]):
        self.lines = [(re.compile(_expression(pattern), re.DOTALL), shown) for pattern, shown in lines.items()]


def _expression(pattern: str) -> str:
    parts = _BLANK.split(pattern)
    return "".join(f"(?P<{part}>.+?)" if place % 2 else re.escape(part) for place, part in enumerate(parts))


@lru_cache(maxsize=20_000)
def _told(table: _Table, text: str) -> str:
    # Within another sentence its last sign is missing.
    bare = text.removesuffix(".")
    for expression, shown in table.lines:
        if found := expression.fullmatch(bare):
            filled = _filled(table, shown, found.groupdict())
            return filled if bare == text else f"{filled}。"
    return text


def _filled(table: _Table, shown: str, values: Mapping[str, str]) -> str:
    return _BLANK.sub(lambda blank: _told(table, values[blank[1]]), shown)
