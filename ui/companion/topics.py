"""The topics that a guardian has blocked, in what is said. In: text. Out: a topic that it names; pieces that end with a word.

In English a topic is a whole word, or several: "war" is in "a war", in "wars" and in "聊war吧", but not in "warm". A longer one
stops its other forms, too: "kill" is in "killing".
"""

import re
import string
from collections.abc import Iterable, Iterator

BENDS = 4  # letters; a shorter word with an ending is often another one
_LATIN = string.ascii_letters + string.digits


def named(topics: str, text: str) -> str | None:
    """The first of the topics, one a line, that the text names, or None."""
    plain = text.casefold()
    return next(
        (topic for topic in topics.splitlines() if topic and re.search(_pattern(topic.casefold()), plain)), None
    )


def whole_words(pieces: Iterable[str]) -> Iterator[str]:
    """The same text in pieces that cut no Latin word: before it is whole, nobody can tell whether it names a topic."""
    held = ""
    for piece in pieces:
        held += piece
        whole = held.rstrip(_LATIN)
        yield whole
        held = held[len(whole) :]
    if held:
        yield held


def _pattern(topic: str) -> str:
    begins = "(?<![a-z0-9])" if topic[0] in _LATIN else ""
    if topic[-1] not in _LATIN:
        return begins + re.escape(topic)
    stem, ends = topic, "(?:s|(?<=[hosxz])es)?"
    if topic.endswith("y"):
        stem, ends = topic[:-1], "(?:ys?|ies)"
    elif len(topic) >= BENDS:
        stem = topic.removesuffix("e")
        ends = "(?:e[sd]?|ers?|ing)" if topic.endswith("e") else "(?:s|(?<=[hosxz])es|ed|ers?|ing)?"
    return f"{begins}{re.escape(stem)}{ends}(?![a-z0-9])"
