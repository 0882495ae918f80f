"""Make text safe to draw where markdown is read: nothing loads from or leads elsewhere.

In: text from the model, of which words, lists, code and formulas stay (`safe`), or from a person, which is shown as it
was written (`plain`). Out: markdown without images, links or addresses that a browser would turn into links. Raw HTML is
left to Streamlit, which shows it as text.
"""

import re

_GAP = "\u200b"  # a space without width: it stops an address from becoming a link and does not change how it reads
# Neither looks for its end through all that is behind it: a reply of brackets alone would take its length squared.
_IMAGE = re.compile(r"!\[([^\[\]\n]*)\]\([^)\n]{0,1000}\)")
_SIGN = re.compile(r"([!-/:-@\[-`{-~])")  # what markdown could read, and what it lets a backslash take that from
_LINK = re.compile(r"\[([^\[\]\n]*)\]\([^)\n]{0,1000}\)")
# Signs are read after escapes and entities: `https\:` and `https&#58;` are addresses, too.
_ENTITY = re.compile(r"&(?=#?[0-9A-Za-z]{1,31};)")
_IN_ANGLES = re.compile(r"<(?=[A-Za-z][A-Za-z0-9+.-]{1,31}:)")
# Wherever they stand: an address may begin right behind a Chinese character or a `_`.
_ADDRESS = re.compile(r"(?i)(https?|ftp|mailto|xmpp|tel)(?=\\?:)|www(?=\\?\.)|@")


def safe(markdown: str) -> str:
    """The text with every link and picture reduced to its words."""
    text = _LINK.sub(r"\1", _IMAGE.sub(r"\1", markdown))
    for after in "([:":  # what nesting or line breaks hid from the above, and definitions: `[name]: address`
        text = text.replace(f"]{after}", f"]{_GAP}{after}")
    for start in (_ENTITY, _IN_ANGLES):
        text = start.sub(rf"\g<0>{_GAP}", text)
    return _unlinked(text)


def plain(text: str) -> str:
    """The text with every sign escaped: a name or a title is no markdown."""
    return _SIGN.sub(r"\\\1", _unlinked(text))


def _unlinked(text: str) -> str:
    return _ADDRESS.sub(rf"\g<0>{_GAP}", text)
