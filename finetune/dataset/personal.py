"""Personal data in a text: what could belong to somebody.

In: a text. Out: the kinds of personal data that stand in it. What cannot belong to anybody passes: a number with four
zeros in a row, 12345678, a telephone number 555-01xx (kept for stories, https://www.nanpa.com), an address at
example.com (RFC 2606), a street called 某某. So a conversation can show what must not be given away.
"""

import re
import unicodedata
from collections.abc import Callable

_MADE_UP = re.compile(
    r"0000|11111111|12345678|abc123|某|555-?01\d\d$|@(?:[\w-]+\.)*(?:example\.(?:com|org|net|cn)|[\w-]+\.(?:example|test|invalid))$"
)
_SEPARATORS = re.compile(r"[\s-]+")
# Weights of the 17 digits of a Chinese identity number, and the last sign by the remainder (GB 11643-1999).
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_SIGNS = "10X98765432"


def _any(_: str) -> bool:
    return True


def _identity(number: str) -> bool:
    # A plausible birth date is enough: a number that was mistyped is still somebody's.
    year, month, day = int(number[6:10]), int(number[10:12]), int(number[12:14])
    remainder = sum(int(digit) * weight for digit, weight in zip(number[:17], _ID_WEIGHTS, strict=True)) % 11
    plausible = 1900 <= year <= 2100 and 1 <= month <= 12 and 1 <= day <= 31
    return plausible or number[17].upper() == _ID_SIGNS[remainder]


def _card(number: str) -> bool:
    # Luhn's check digit (ISO/IEC 7812-1).
    digits = [int(digit) for digit in reversed(number)]
    return sum(digits[0::2] + [digit * 2 - 9 * (digit > 4) for digit in digits[1::2]]) % 10 == 0


# Kind, pattern, and whether what it found (without blanks and hyphens) can be one.
_KINDS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("an e-mail address", re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"), _any),
    ("an identity number", re.compile(r"(?<![\dA-Za-z])[1-9]\d{16}[\dXx](?![\dA-Za-z])"), _identity),
    ("a bank card's number", re.compile(r"(?<!\d)\d{4}(?:[ -]?\d{4}){3}(?:[ -]?\d{1,3})?(?!\d)"), _card),
    ("a mobile number", re.compile(r"(?<!\d)(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?!\d)"), _any),
    ("a telephone number", re.compile(r"(?<!\d)0\d{2,3}[ -]\d{7,8}(?!\d)"), _any),
    ("a telephone number", re.compile(r"(?<!\d)(?:\+?1[ .-]?)?\(?[2-9]\d{2}\)?[ .-]\d{3}[ .-]\d{4}(?!\d)"), _any),
    ("a telephone number", re.compile(r"(?<![\d+])\+(?!86|1[ .-])\d{1,3}(?:[ .-]?\d{2,4}){3,4}(?!\d)"), _any),
    ("a social security number", re.compile(r"(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)"), _any),
    (
        "the name of an account",
        re.compile(r"(?:QQ|微信|wechat|weixin|vx)(?:号码?|账号|id)?\s*(?:[:：]|是|加)\s*(?:[a-z][\w-]{5,19}|\d{5,11})", re.IGNORECASE),
        _any,
    ),
    (
        "an address",
        re.compile(
            r"(?:路|街|大道|巷|弄|胡同|村|小区|花园)\s*\d+\s*号\S{0,8}?\d+\s*(?:栋|幢|号楼|座|单元|室|房)"
            r"|\d+\s*(?:栋|幢|号楼|座)\s*(?:\d+\s*单元\s*)?\d{3,4}\s*(?:室|房|号)?"
        ),
        _any,
    ),
    (
        "an address",
        re.compile(
            r"\b\d{1,5} (?:[A-Z][a-z]+ ){1,3}(?:Street|St\.?|Road|Rd\.?|Avenue|Ave\.?|Lane|Drive|Way|Close|Court)\b"
            r"[^.!?\n]{0,30}?\b(?:(?:Apartment|Apt\.?|Flat|Unit)\s*#?\d+|[A-Z]{2} \d{5}|[A-Z]{1,2}\d[\dA-Z]? ?\d[A-Z]{2})\b"
        ),
        _any,
    ),
)  # fmt: skip


def personal_data(text: str) -> list[str]:
    """The kinds of personal data in `text`, each named once."""
    text = unicodedata.normalize("NFKC", text)
    kinds = []
    for kind, pattern, can_be in _KINDS:
        for match in pattern.finditer(text):
            found = _SEPARATORS.sub("", match[0]) if match[0][-1].isalnum() else match[0]
            around = text[max(0, match.start() - 8) : match.end()]
            made_up = _MADE_UP.search(found) or _MADE_UP.search(match[0]) or "某" in around
            if not made_up and can_be(found) and kind not in kinds:
                kinds.append(kind)
    return kinds
