"""Rules that need no model: a list of patterns in a YAML file, and the forms of a text that they are matched against.

In: a rules file (`crisis.yaml`, `output.yaml`) and a text. Out: the first rule that matches, or None.

A pattern is a regular expression. In a Chinese rule it sees the text without any blank or sign between the
characters; in an English or pinyin rule it sees words, and a blank in the pattern stands for any blank or none (not
beside `\\w+`), so that `kill my self`, `k.i.l.l m.y s.e.l.f` and `killmyself` are one pattern.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from data.strict import BadInput, Strict, read_yaml

Language = Literal["zh", "en"]

# Only characters that stand in a rule: a whole table is a library, and every other character matches as it is.
_TRADITIONAL = "殺傷歲愛媽爺們個沒嗎這裡裏親脫褲壞說話讓給還樓藥條輕離開結過學從師氣後為應該時間對動體麼無義遺書繩頸劃燒煩絕鬥強姦罵門電號碼訴誰許會錢"
_SIMPLIFIED = "杀伤岁爱妈爷们个没吗这里里亲脱裤坏说话让给还楼药条轻离开结过学从师气后为应该时间对动体么无义遗书绳颈划烧烦绝斗强奸骂门电号码诉谁许会钱"
# Spellings that go round a filter and are read as one word.
_HOMOPHONES = {
    "自鲨": "自杀",
    "紫砂": "自杀",
    "自沙": "自杀",
    "自sha": "自杀",
    "自s": "自杀",
    "轻身": "轻生",
    "亖": "死",
}
_SPREAD = re.compile(r"\b(?:[a-z] ){3,}[a-z]\b")


class Rule(Strict):
    """What a text may be about, and the patterns that tell."""

    category: str
    # `pinyin` is Chinese written in Latin letters: matched as words, answered in Chinese.
    language: Literal["zh", "en", "pinyin"]
    patterns: list[str]


class RulesFile(Strict):
    """A rules file."""

    rules: list[Rule]


@dataclass(frozen=True)
class Forms:
    """A text as the patterns see it: without anything between its characters, and as words."""

    squashed: str
    words: str

    def __add__(self, later: "Forms") -> "Forms":
        return Forms(self.squashed + later.squashed, f"{self.words} {later.words}".strip())


@dataclass(frozen=True)
class Pattern:
    """One compiled pattern with what it tells."""

    category: str
    language: Language
    squashed: bool
    expression: re.Pattern[str]

    def found_after(self, forms: Forms, start: Forms) -> bool:
        """Whether it matches and the match ends behind `start`, a beginning of `forms`."""
        text, offset = (forms.squashed, start.squashed) if self.squashed else (forms.words, start.words)
        return any(match.end() > len(offset) for match in self.expression.finditer(text))


def forms(text: str) -> Forms:
    """`text` in compatibility form, simplified characters, lower case and without invisible characters."""
    text = unicodedata.normalize("NFKC", text).lower().translate(str.maketrans(_TRADITIONAL, _SIMPLIFIED))
    # Cf: zero-width and direction marks; Mn: accents, so that `bù xiǎng huó` is read as it sounds.
    text = "".join(
        sign
        for sign in unicodedata.normalize("NFD", text)
        if unicodedata.category(sign) not in ("Cf", "Mn", "Cc") or sign in "\n\t"
    )
    words = re.sub(r"['’`]", "", text)
    words = " ".join(re.sub(r"[^\w]+|_", " ", words).split())
    words = _SPREAD.sub(lambda run: run.group().replace(" ", ""), words)
    squashed = re.sub(r"[^\w]+|_", "", text)
    for spelling, word in _HOMOPHONES.items():
        squashed = squashed.replace(spelling, word)
    return Forms(squashed, words)


NOTHING = Forms("", "")


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
def read_rules(path: Path) -> tuple[Pattern, ...]:
    """The compiled patterns of a rules file. Raises `BadInput` on an unknown key or a pattern that is none."""
    patterns = []
    for rule in RulesFile.parse(read_yaml(path), str(path)).rules:
        for source in rule.patterns:
            squashed = rule.language == "zh"
            try:
                expression = re.compile(source if squashed else _as_words(source))
            except re.error as error:
                raise BadInput(
                    f"{path}: the pattern {source!r} of {rule.category} does not compile: {error}."
                ) from None
            patterns.append(Pattern(rule.category, "en" if rule.language == "en" else "zh", squashed, expression))
    return tuple(patterns)
