"""What our own sets have to be: ages, lengths, and words that no answer to a child may hold.

In: `house.yaml`, a conversation. Out: for each turn what is wrong with it.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

from data.conversations import Conversation
from data.strict import BadInput, Strict, read_yaml
from finetune.dataset.near import normal

HOUSE_FILE = Path(__file__).parent / "house.yaml"

Language = Literal["zh", "en"]

HAN = re.compile(r"[㐀-䶿一-鿿]")
WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)?")
# A full stop ends a sentence before a blank: 3.14 is one number.
_SENTENCE_END = re.compile(r"[。！？!?；;…\n]|\.(?=\s|$)")
# Below so many characters and words a text has no language: "OK", "1+1=2".
_ENOUGH = 4


class Words(Strict):
    """What an answer must not do, and the patterns that tell."""

    told: str
    zh: str
    en: str


class House(Strict):
    """`house.yaml`."""

    ages: list[str]
    languages: list[Language]
    exchanges: tuple[int, int]
    answer_length: dict[Language, tuple[int, int]]
    questions: int
    conversations_a_topic: int
    own_sentence: dict[Language, int]
    words: list[Words]


@cache
def read_house(path: Path = HOUSE_FILE) -> House:
    """The rules. Raises `BadInput` on an unknown key or a pattern that is none."""
    house = House.parse(read_yaml(path), str(path))
    for words in house.words:
        for pattern in (words.zh, words.en):
            try:
                re.compile(pattern)
            except re.error as error:
                raise BadInput(f'{path}: "{words.told}" has a pattern that is none: {error}.') from None
    return house


def language_of(text: str) -> Language | None:
    """zh or en by the script of most words (a Chinese character counts as one); None where there is too little."""
    han, words = len(HAN.findall(text)), len(WORD.findall(text))
    if han + words < _ENOUGH:
        return None
    return "zh" if han >= words else "en"


def length_of(answer: str, language: Language) -> int:
    """Characters of a Chinese answer, words of an English one."""
    return len(answer) if language == "zh" else len(answer.split())


def forbidden(answer: str, language: Language, house: House) -> list[str]:
    """What the answer does that none may do, as in `promises secrecy`."""
    lower = answer.lower().replace("’", "'")
    return [words.told for words in house.words if re.search(words.zh if language == "zh" else words.en, lower)]


def sentences(answer: str, language: Language, house: House) -> list[str]:
    """The sentences long enough to belong to one answer alone, without blanks and signs."""
    found = (normal(part) for part in _SENTENCE_END.split(answer))
    return [sentence for sentence in found if len(sentence) >= house.own_sentence[language]]


def craft(conversation: Conversation, language: Language, house: House) -> Iterator[tuple[int | None, str, str]]:
    """Turn, rule and sentence of each length and number that is not the house's."""
    exchanges = len(conversation.turns) // 2
    low, high = house.exchanges
    if not low <= exchanges <= high:
        yield None, "exchanges", f"has {exchanges} exchanges; ours have {low} to {high}."
    low, high = house.answer_length[language]
    unit = "characters" if language == "zh" else "words"
    for place, turn in enumerate(conversation.turns):
        if turn.role != "assistant":
            continue
        length = length_of(turn.text, language)
        if not low <= length <= high:
            yield place, "answer_length", f"the answer has {length} {unit}; ours have {low} to {high}."
        asked = sum(turn.text.count(sign) for sign in "?？")
        if asked > house.questions:
            yield place, "questions", f"the answer asks {asked} questions; {house.questions} are enough."
