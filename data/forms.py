"""A text as the guard sees it: what is typed to go round a filter reads as what it means.

In: any text. Out: its `Forms`, or a `Typed` that makes them once for all who ask. The rules, and the classifier's file
format, are defined on them.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property

# Only characters that stand in a rule: a whole table is a library, and every other character matches as it is.
_TRADITIONAL = "殺傷歲愛媽爺們個沒嗎這裡裏親脫褲壞說話讓給還樓藥條輕離開結過學從師氣後為應該時間對動體麼無義遺書繩頸劃燒煩絕鬥強姦罵門電號碼訴誰許會錢"
_SIMPLIFIED = "杀伤岁爱妈爷们个没吗这里里亲脱裤坏说话让给还楼药条轻离开结过学从师气后为应该时间对动体么无义遗书绳颈划烧烦绝斗强奸骂门电号码诉谁许会钱"
_SIMPLIFY = str.maketrans(_TRADITIONAL, _SIMPLIFIED)
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
# Letters that a digit or sign stands for among letters: k1ll, pr0n, @ss.
_LEET = str.maketrans("013457@$!", "oieastasi")
_DISGUISED = re.compile(
    r"(?<![a-z0-9@$!])(?:[a-z0-9@$!]{0,20}[a-z][0-9@$!]{1,4}[a-z]|[0-9@$]{1,4}[a-z]{2})[a-z0-9@$!]{0,20}"
)
# ASCII, Chinese characters and their punctuation: in most messages there is nothing else to look at one by one.
_ALL_VISIBLE = re.compile(r"[\n\t\x20-\x7e\u2014\u2018-\u201d\u2026\u3001-\u3011\u4e00-\u9fff]*")
_SPREAD = re.compile(r"\b(?:[a-z] ){3,}[a-z]\b")


@dataclass(frozen=True)
class Forms:
    """A text as the patterns see it: without anything between its characters, and as words."""

    squashed: str
    words: str

    def __add__(self, later: "Forms") -> "Forms":
        return Forms(self.squashed + later.squashed, f"{self.words} {later.words}".strip())


@dataclass(frozen=True)
class Typed:
    """A text as it was typed, with what is made of it: when it is first asked for, and once."""

    text: str

    @cached_property
    def forms(self) -> Forms:
        """As the patterns see it."""
        return forms(self.text)

    @cached_property
    def undisguised(self) -> Forms | None:
        """The same with the letters that digits and signs stand for; None where there is no such word."""
        plain = undisguised(self.text)
        return forms(plain) if plain else None


def forms(text: str) -> Forms:
    """`text` in compatibility form, simplified characters, lower case and without invisible characters."""
    text = unicodedata.normalize("NFKC", text).lower().translate(_SIMPLIFY)
    text = visible(text)
    words = re.sub(r"['’`]", "", text)
    words = " ".join(re.sub(r"[^\w]+|_", " ", words).split())
    words = _SPREAD.sub(lambda run: run.group().replace(" ", ""), words)
    squashed = re.sub(r"[^\w]+|_", "", text)
    for spelling, word in _HOMOPHONES.items():
        squashed = squashed.replace(spelling, word)
    return Forms(squashed, words)


def undisguised(text: str) -> str:
    """`text` with the letters that digits and signs stand for; empty where there is no such word."""
    raw = unicodedata.normalize("NFKC", text).lower()
    plain, count = _DISGUISED.subn(lambda word: word.group().translate(_LEET), raw)
    return plain if count else ""


def visible(text: str) -> str:
    """`text` without what cannot be seen, and without accents, so that `bù xiǎng huó` is read as it sounds."""
    if _ALL_VISIBLE.fullmatch(text):
        return text
    # Cf: zero-width and direction marks; Mn: accents.
    return "".join(
        sign
        for sign in unicodedata.normalize("NFD", text)
        if unicodedata.category(sign) not in ("Cf", "Mn", "Cc") or sign in "\n\t"
    )


NOTHING = Forms("", "")
