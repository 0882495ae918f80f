"""A text as the guard sees it: what is typed to go round a filter reads as what it means.

In: any text. Out: its `Forms`, or a `Typed` that makes them once for all who ask. The rules, and the classifier's file
format, are defined on them.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property

from data.traditional import SIMPLIFIED

# Letters that look like Latin ones: small capitals, those with a stroke, and white ones in a black shape.
_AS_LATIN = {
    **dict(
        zip(
            "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢɑɡıȷøđðłħŧƀɨʉØĐŁĦŦ",
            "abcdefghijklmnopqrstuvwyzagijoddlhtbiuODLHT",
            strict=True,
        )
    ),
    **{chr(start + number): chr(65 + number) for start in (0x1F150, 0x1F170) for number in range(26)},
}
_PLAIN = str.maketrans({**_AS_LATIN, **SIMPLIFIED})
# Cyrillic and Greek ones, capitals as they look; a word that is really Russian or Greek stays as it is.
_FOREIGN = str.maketrans(
    "АВЕЅІЈКМНОРСТУХԌԚԜҺӀавеѕіјкмнорстухԁԛԝһӏґпгΑΒΕΖΗΙΚΜΝΟΡΤΥΧαβγεηικμνορστυχωϲϳ",
    "ABESIJKMHOPCTYXGQWHLabesijkmhopctyxdqwhlrnrABEZHIKMNOPTYXabyenikuvopstuxwcj",
)
_FOREIGN_SIGN = re.compile(r"[\u0370-\u03ff\u0400-\u052f]")
# Letters up to where the signs of Chinese begin.
_WORD = re.compile(r"(?:(?![\u2e80-\U0010ffff])\w)+")
# Spellings that go round a filter and are read as one word.
_HOMOPHONES = {
    "自鲨": "自杀",
    "紫砂": "自杀",
    "自沙": "自杀",
    "自sha": "自杀",
    "自s": "自杀",
    "轻身": "轻生",
    "亖": "死",
    # 甚麼, as Hong Kong writes it.
    "甚么": "什么",
}
# Letters that a digit or sign stands for among letters: k1ll, pr0n, @ss.
LEET = str.maketrans("013457@$!", "oieastasi")
_DISGUISED = re.compile(
    r"(?<![a-z0-9@$!])(?:[a-z0-9@$!]{0,20}[a-z][0-9@$!]{1,4}[a-z]|[0-9@$]{1,4}[a-z]{2})[a-z0-9@$!]{0,20}"
)
# Fillers of Korean, which are letters that nobody sees.
_FILLERS = "\u115f\u1160\u3164\uffa0"
# ASCII, Chinese characters and their punctuation: in most messages there is nothing else to look at one by one.
_ALL_VISIBLE = re.compile(r"[\n\t\x20-\x7e\u2014\u2018-\u201d\u2026\u3001-\u3011\u4e00-\u9fff]*")
_SPREAD = re.compile(r"\b(?:[a-z] ){3,}[a-z]\b")
# A word in bits: `ki ll my se lf`.
_BITS = re.compile(r"\b(?:[a-z]{1,2} ){2,}[a-z]{1,2}\b")
_SHORT_WORDS = (
    " a i u r n k ab ah ai am an as at ay be by da do eh er ex go ha he hi hm if im in is it la ma me mr ms mu mx my na"
    " no of oh ok on or ow ox pa pe pi re sh so ta ti to tv uh um up us ur vs we wo ye yo "
)


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
    def legible(self) -> str:
        """As it is read: see `legible`."""
        return legible(self.text)

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
    """`text`, as it is `legible`, as the patterns see it."""
    text = legible(text)
    words = re.sub(r"['’`]", "", text)
    words = " ".join(re.sub(r"[^\w]+|_", " ", words).split())
    words = _SPREAD.sub(lambda run: run.group().replace(" ", ""), words)
    squashed = re.sub(r"[^\w]+|_", "", text)
    for spelling, word in _HOMOPHONES.items():
        squashed = squashed.replace(spelling, word)
    return Forms(squashed, words)


def undisguised(text: str) -> str:
    """`text` with the letters that digits and signs stand for, and its words in one bit; empty where nothing was so."""
    raw = legible(text)
    plain = _BITS.sub(_joined, _DISGUISED.sub(lambda word: word.group().translate(LEET), raw))
    return plain if plain != raw else ""


def legible(text: str) -> str:
    """`text` in compatibility form and lower case, as far as it is `visible`, in `plain_letters`: `bù xiǎng huó` is read as
    it sounds, `kіll` with a Cyrillic letter as it looks, 殺 as 杀."""
    # Two Arabic phrases in a character each, of 18 and 8 letters: with them a line would be pages long.
    text = unicodedata.normalize("NFKC", text.replace("\ufdfa", " ").replace("\ufdfb", " "))
    return plain_letters(text if _ALL_VISIBLE.fullmatch(text) else visible(text)).lower()


def visible(text: str) -> str:
    """`text` without accents and without what cannot be seen."""
    # Cf: zero-width and direction marks; Mn: accents.
    return "".join(
        sign
        for sign in unicodedata.normalize("NFD", text)
        if sign in "\n\t" or (unicodedata.category(sign) not in ("Cf", "Mn", "Cc") and sign not in _FILLERS)
    )


def plain_letters(text: str) -> str:
    """`text`, as far as it is `visible`, in Latin letters where it looks so, and in simplified characters: sign for sign."""
    text = text.translate(_PLAIN)
    return _WORD.sub(_as_it_looks, text) if _FOREIGN_SIGN.search(text) else text


def _as_it_looks(word: re.Match[str]) -> str:
    """A word in Latin letters, if all of it looks so."""
    latin = word[0].translate(_FOREIGN)
    return latin if latin.isascii() else word[0]


def _joined(run: re.Match[str]) -> str:
    """The bits from the first that is no word of its own to the last, in one."""
    bits = run[0].split()
    odd = [number for number, bit in enumerate(bits) if f" {bit} " not in _SHORT_WORDS]
    if len(odd) < 2:
        return run[0]
    return " ".join([*bits[: odd[0]], "".join(bits[odd[0] : odd[-1] + 1]), *bits[odd[-1] + 1 :]])


NOTHING = Forms("", "")
