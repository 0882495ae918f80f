"""A message as the masks of `private.py` read it: what is spelled to go round a filter, or in words, stands plain.

In: a message as it was typed. Out: its `View`, in which full-width signs, circled digits and letters that only look like
Latin ones are plain, traditional characters are simplified and Cantonese ones those of the patterns, numbers in words (幺三八,
`one three eight`, `double five`, `yao san ba`) are digits, single characters spread by blanks, dots or pictures are joined, and a
number over several lines stands in one; and for each character of it, where it stands in the message.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from data.forms import LEET, plain_letters, visible

_CHINESE = dict(zip("零〇一二两三四五六七八九幺洞拐壹贰叁肆伍陆柒捌玖", "001223456789107123456789", strict=True))
_PINYIN = dict(
    zip(
        ["ling", "dong", "yi", "yao", "er", "liang", "san", "si", "wu", "liu", "qi", "guai", "ba", "jiu"],
        "00112234567789",
        strict=True,
    )
)
# `z3ro 0ne f1ve` are words, too. The longer first, for sixty begins with six.
_ENGLISH = {
    "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14", "fifteen": "15", "sixteen": "16",
    "seventeen": "17", "eighteen": "18", "nineteen": "19", "twenty": "20", "thirty": "30", "forty": "40", "fifty": "50",
    "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90",
    "z[e3]r[o0]": "0", "[o0]ne": "1", "tw[o0]": "2", "thr[e3][e3]": "3", "f[o0]ur": "4", "f[i1]ve": "5", "s[i1]x": "6",
    "s[e3]v[e3]n": "7", "[e3][i1]ght": "8", "n[i1]ne": "9", "oh": "0", "o": "0", "nought": "0",
}  # fmt: skip
_TIMES = {"double": 2, "triple": 3, "tripple": 3, "treble": 3, **{sign: int(digit) for sign, digit in _CHINESE.items()}}
_SIGN = f"[0-9{''.join(_CHINESE)}]"
_HAN = rf"(?:[一二两三四五六]个)?(?:{_SIGN}|yao|ling)"
_LATIN = rf"(?:(?:double|tripp?le|treble) )?(?:{'|'.join(_ENGLISH)}|{'|'.join(_PINYIN)}|[0-9])"
# Four digits or more, with commas and `then` between them; the 三 of 张三13800000000 is none.
_RUN = re.compile(
    rf"(?=[0-9{''.join(_CHINESE)}yl])(?!\D[0-9]{{6}}){_HAN}(?:(?:[再又 ,.·、-]|然后|接着|最后){{0,3}}{_HAN}){{3,30}}"
    rf"|(?<![a-z0-9])(?=[0-9a-z]){_LATIN}(?:(?:[ ,.-]{{1,3}}|(?: then)? )?{_LATIN}){{3,30}}(?![a-z])",
    # ASCII: else i is also ı and İ, which the tables above do not know.
    re.IGNORECASE | re.ASCII,
)
_ELEMENT = re.compile(
    rf"(?:(?P<times>[一二两三四五六](?=个)|double|tripp?le|treble)[个 ])?"
    rf"(?:(?P<word>{'|'.join(_ENGLISH)}|{'|'.join(_PINYIN)})|(?P<sign>{_SIGN}))",
    re.IGNORECASE | re.ASCII,
)
_SPREAD = re.compile(
    r"(?<![\u4e00-\u9fff])[\u4e00-\u9fff](?:[ .·\-_]{1,2}[\u4e00-\u9fff0-9](?![a-z0-9\u4e00-\u9fff])){3,80}"
)
# A number that goes on in the next line, in threes or more: shorter ones are rather a sum's or a list's.
_LINE_END = re.compile(rf"(?<={_SIGN}{{3}}) {{0,2}}\n {{0,2}}(?={_SIGN}{{3}})")
_BETWEEN = re.compile(r"[ .·\-_]+")
# What makes a digit an emoji, and arrows (家→9弄→5号).
_PASSED_OVER = "\u20e3→"
# Pictures between digits or letters (138🐱0000🐱0000); one that is a sign of sums (➕ ➖ ➗ ✖) or 🆚 parts them.
_PICTURE = re.compile(
    "(?<=[0-9a-z])[ ]?[\u2600-\u2715\u2717-\u2794\u2798-\u27bf\U0001f300-\U0001faff]{1,3}[ ]?(?=[0-9a-z])",
    re.IGNORECASE | re.ASCII,
)

# What is said in Cantonese, and an apostrophe that is typed as a quotation mark.
_SAID = str.maketrans("喺係嘅咗俾畀佢哋唔’‘", "在是的了给给他们不''")

# Digits with an o or l among them (2o15), and the words before a datum in letters that digits stand for (h0use numb3r).
_LOOKS = re.compile(r"(?<![a-z0-9])(?=[ol]{0,9}[0-9])[0-9ol]{2,12}(?![a-z0-9])", re.IGNORECASE | re.ASCII)
_DISGUISED = re.compile(r"(?<![\w@.#])(?=[a-z]{0,9}[013457$])[a-z013457$]{3,10}(?![\w@#])", re.IGNORECASE | re.ASCII)
_DIGITS = str.maketrans("oOlL", "0011")
_PLAIN_WORDS = {
    "address", "avenue", "birthday", "born", "call", "class", "close", "code", "drive",
    "email", "flat", "grade", "home", "house", "lane", "live", "lives", "mobile", "name",
    "number", "password", "phone", "road", "roblox", "room", "school", "street", "text",
}  # fmt: skip

# Characters, and the start and the end of what they stand for.
Piece = tuple[str, int, int]


@dataclass(frozen=True)
class View:
    """What is read; its character `i` stands for `starts[i]:ends[i]` of what was typed."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where `text[start:end]` stands in what was typed; it must not be empty."""
        return self.starts[start], self.ends[end - 1]

    def rewritten(self, pattern: re.Pattern[str], rewrite: Callable[[re.Match[str]], list[Piece]]) -> "View":
        """Every match of `pattern` as the pieces that `rewrite` gives: characters, and where they stood in `text`."""
        text, starts, ends, at = [], list[int](), list[int](), 0
        for match in pattern.finditer(self.text):
            pieces = [(piece, *self.span(start, end)) for piece, start, end in rewrite(match)]
            text += [self.text[at : match.start()], *(piece for piece, _, _ in pieces)]
            starts += [*self.starts[at : match.start()], *(start for piece, start, _ in pieces for _ in piece)]
            ends += [*self.ends[at : match.start()], *(end for piece, _, end in pieces for _ in piece)]
            at = match.end()
        if at == 0:
            return self
        return View("".join([*text, self.text[at:]]), [*starts, *self.starts[at:]], [*ends, *self.ends[at:]])


def view(text: str) -> View:
    """`text` as the masks read it."""
    signs = [_plain(sign) for sign in text]
    places = [place for place, sign in enumerate(signs) if sign]
    seen = View(plain_letters("".join(signs)), places, [place + 1 for place in places])
    seen = seen.rewritten(_LINE_END, lambda match: [(" ", match.start(), match.end())])
    seen = seen.rewritten(_PICTURE, lambda match: [])
    seen = seen.rewritten(_SPREAD, _joined)
    seen = seen.rewritten(_LOOKS, _looks).rewritten(_DISGUISED, _undisguised)
    return seen.rewritten(_RUN, _digits)


# More than children type. A client could fill a cache without bounds with every sign of Unicode.
@lru_cache(maxsize=2**14)
def _plain(sign: str) -> str:
    """What is `visible` of its compatibility form, if that is one sign or none: else places would move."""
    if sign in _PASSED_OVER:
        return ""
    form = visible(unicodedata.normalize("NFKC", sign.translate(_SAID)))
    return form if len(form) < 2 else sign


def _joined(match: re.Match[str]) -> list[Piece]:
    return [piece for piece in _as_it_is(match) if not _BETWEEN.match(piece[0])]


def _digits(match: re.Match[str]) -> list[Piece]:
    """The digits that a run of words stands for, with the blanks and dots between them."""
    as_it_is = _as_it_is(match)
    if re.fullmatch("[0-9 .-]+", match.group()):
        return as_it_is
    pieces, at = list[Piece](), 0
    for element in _ELEMENT.finditer(match.group()):
        pieces += [piece for piece in as_it_is[at : element.start()] if piece[0] in " .-"]
        digits = _digit(element) * _TIMES[(element.group("times") or "一").lower()]
        pieces.append((digits, match.start() + element.start(), match.start() + element.end()))
        at = element.end()
    return pieces


def _looks(match: re.Match[str]) -> list[Piece]:
    """Most of it being digits, the rest as what it looks like: an o as 0, an l as 1."""
    if 2 * sum(sign.isdigit() for sign in match.group()) < len(match.group()):
        return _as_it_is(match)
    return [(sign.translate(_DIGITS), start, end) for sign, start, end in _as_it_is(match)]


def _undisguised(match: re.Match[str]) -> list[Piece]:
    """A word before a datum in its letters; another, such as a password, as it is."""
    if match.group().lower().translate(LEET) not in _PLAIN_WORDS:
        return _as_it_is(match)
    return [(sign.translate(LEET), start, end) for sign, start, end in _as_it_is(match)]


def _digit(element: re.Match[str]) -> str:
    if sign := element.group("sign"):
        return _CHINESE.get(sign, sign)
    word = element.group("word").lower()
    return _PINYIN.get(word) or next(digit for form, digit in _ENGLISH.items() if re.fullmatch(form, word))


def _as_it_is(match: re.Match[str]) -> list[Piece]:
    return [(sign, place, place + 1) for place, sign in enumerate(match.group(), start=match.start())]
