"""A message as the masks of `private.py` read it: what is spelled to go round a filter, or in words, stands plain.

In: a message as it was typed. Out: its `View`, in which full-width signs and circled digits are plain, traditional and
Cantonese characters are those of the patterns, numbers in words (幺三八, `one three eight`, `double five`, `yao san ba`)
are digits, and single characters spread by blanks or dots, or by pictures, are joined; and for each character of it,
where it stands in the message.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from data.forms import SIMPLIFY

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
_BETWEEN = re.compile(r"[ .·\-_]+")
# Zero-width signs, what makes a digit an emoji, and arrows (家→9弄→5号).
_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufe0f\u20e3\ufeff→]")
# Pictures between digits or letters (138🐱0000🐱0000); one that is a sign of sums (➕ ➖ ➗ ✖) or 🆚 parts them.
_PICTURE = re.compile(
    "(?<=[0-9a-z])[ ]?[\u2600-\u2715\u2717-\u2794\u2798-\u27bf\U0001f300-\U0001faff]{1,3}[ ]?(?=[0-9a-z])",
    re.IGNORECASE | re.ASCII,
)

# Traditional characters of surnames, streets, schools and plates that no other rule has, and what is said in Cantonese.
_TRADITIONAL = (
    "陳張劉楊趙黃吳孫羅鄭謝韓馮鄧蘇呂盧鐘鍾譚陸賈韋鄒閻龍賀龔萬嚴賴莊簡鄺魯齊喬項連蘆聶湯溫麥駱閔龐顏藍遊塗諸歐遲區縣鄉鎮嶺衚廈層棟戶業職務廠場銀診療駕絡訊喺係嘅咗俾畀佢哋唔妳隻幾曆陰誕節輪導灣廣滬粵遼閩貴"
    "雲陝瓊贛緯鑰際補習屬藝獅蔣盤範員與啟華儀鄔竇藺嚮饒鮑龎寬鋪錶讀叢榮衛費飾紡織輛産產庫屆爲煉鋼礦餅飲檔慶濱濟橫勞託維繫階"
)
_SIMPLIFIED = (
    "陈张刘杨赵黄吴孙罗郑谢韩冯邓苏吕卢钟钟谭陆贾韦邹阎龙贺龚万严赖庄简邝鲁齐乔项连芦聂汤温麦骆闵庞颜蓝游涂诸欧迟区县乡镇岭胡厦层栋户业职务厂场银诊疗驾络讯在是的了给给他们不你只几历阴诞节轮导湾广沪粤辽闽贵"
    "云陕琼赣纬钥际补习属艺狮蒋盘范员与启华仪邬窦蔺向饶鲍庞宽铺表读丛荣卫费饰纺织辆产产库届为炼钢矿饼饮档庆滨济横劳托维系阶"
)
_SIMPLIFY = {**SIMPLIFY, **str.maketrans(_TRADITIONAL, _SIMPLIFIED)}

# Digits with an o or l among them (2o15), and the words before a datum in letters that digits stand for (h0use numb3r).
_LOOKS = re.compile(r"(?<![a-z0-9])(?=[ol]{0,9}[0-9])[0-9ol]{2,12}(?![a-z0-9])", re.IGNORECASE | re.ASCII)
_LEET = re.compile(r"(?<![\w@.#])(?=[a-z]{0,9}[013457$])[a-z013457$]{3,10}(?![\w@#])", re.IGNORECASE | re.ASCII)
_DIGITS = str.maketrans("oOlL", "0011")
_PLAIN = str.maketrans("013457$", "oieasts")
_PLAIN_WORDS = frozenset(
    [
        "address",
        "avenue",
        "birthday",
        "born",
        "call",
        "class",
        "close",
        "code",
        "drive",
        "email",
        "flat",
        "grade",
        "home",
        "house",
        "lane",
        "live",
        "lives",
        "mobile",
        "name",
        "number",
        "password",
        "phone",
        "road",
        "roblox",
        "room",
        "school",
        "street",
        "text",
    ]
)

# Letters that are one of ASCII in another case, and signs that look like one, and have no compatibility form.
_CASES = {"ı": "i", "İ": "I", "’": "'", "‘": "'"} | {
    chr(first + place): chr(ord("A") + place) for first in (0x1F150, 0x1F170) for place in range(26)
}

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
    seen = View("".join(map(_plain, text)), range(len(text)), range(1, len(text) + 1))
    seen = seen.rewritten(_INVISIBLE, lambda match: [])
    seen = seen.rewritten(_PICTURE, lambda match: [])
    seen = seen.rewritten(_SPREAD, _joined)
    seen = seen.rewritten(_LOOKS, _looks).rewritten(_LEET, _undisguised)
    return seen.rewritten(_RUN, _digits)


# More than children type. A client could fill a cache without bounds with every sign of Unicode.
@lru_cache(maxsize=2**14)
def _plain(sign: str) -> str:
    """Its compatibility form, if that is one sign: else places would move."""
    form = unicodedata.normalize("NFKC", sign)
    return _CASES.get(form, form).translate(_SIMPLIFY) if len(form) == 1 else sign


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
    if match.group().lower().translate(_PLAIN) not in _PLAIN_WORDS:
        return _as_it_is(match)
    return [(sign.translate(_PLAIN), start, end) for sign, start, end in _as_it_is(match)]


def _digit(element: re.Match[str]) -> str:
    if sign := element.group("sign"):
        return _CHINESE.get(sign, sign)
    word = element.group("word").lower()
    return _PINYIN.get(word) or next(digit for form, digit in _ENGLISH.items() if re.fullmatch(form, word))


def _as_it_is(match: re.Match[str]) -> list[Piece]:
    return [(sign, place, place + 1) for place, sign in enumerate(match.group(), start=match.start())]
