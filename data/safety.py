"""The labelled messages that the guard is trained and measured on: `data/safety/{zh,en}.jsonl`, one message a line.

In: the folder. Out: checked `Message`s, and which of them are kept apart for the test. What lies in `apart/` was written
by hands that never saw the rest, and so was what lies in `probes/`, in the manner of public safety sets, and in `short/`, of one
to four words; nothing is ever trained on them. `answers/` holds what a model may say, for the screen.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Literal

from data.conversations import DATA_DIR
from data.strict import BadInput, Strict

SAFETY_DIR = DATA_DIR / "safety"
APART_DIR = SAFETY_DIR / "apart"
PROBES_DIR = SAFETY_DIR / "probes"
SHORT_DIR = SAFETY_DIR / "short"
HELD_OUT = (APART_DIR, PROBES_DIR, SHORT_DIR)
ANSWERS_DIR = SAFETY_DIR / "answers"
CONCEPTS_FILE = SAFETY_DIR / "concepts.yaml"
CRISIS = ("self_harm", "abuse", "grooming")
DISALLOWED = ("violence", "crime", "sexual", "substances", "hate", "profanity", "jailbreak", "roles", "dependence")
LABELS = {
    **dict.fromkeys(CRISIS, "crisis"),
    **dict.fromkeys(DISALLOWED, "disallowed"),
    "personal_data": "personal_data",
    **dict.fromkeys(("plain", "near_miss"), "benign"),
}

# What is wrong with an answer, or that nothing is: `near_miss` looks like something else and is right.
ANSWER_LABELS = {
    **dict.fromkeys(
        (
            "self_harm", "violence", "sexual", "substances", "crime", "insult", "secrecy", "personal_data", "kin", "medicine",
            "jailbreak",
        ),
        "disallowed",
    ),
    **dict.fromkeys(("plain", "near_miss"), "benign"),
}  # fmt: skip

# Characters: a longer text is no part of a telling.
_LONGEST_TOLD = 80

_MARKS = re.compile(r"[,，;；、:：。!！?？.…\n~～]+ ?")
_END = re.compile(r"[。!！?？.…~～\s]+$")


class Message(Strict):
    """What a child may type or a model say, and what the guard should see in it. `source` is the age or the way of writing."""

    id: str
    text: str
    language: Literal["zh", "en"]
    label: Literal["crisis", "disallowed", "personal_data", "benign"]
    category: str
    source: str
    # The id of a message with much the same words and the opposite meaning, where one was written.
    twin: str = ""

    @property
    def is_test(self) -> bool:
        """Whether it is kept apart for the test."""
        return in_test_split(self.id)


def in_test_split(message_id: str) -> bool:
    """Whether a message is kept apart for the test: one in five, by the hash of its id, the same whatever is added."""
    return int(hashlib.sha256(message_id.encode()).hexdigest()[:8], 16) % 5 == 0


def everyday_talk(messages: Iterable[Message]) -> dict[str, list[str]]:
    """By language, the plain messages among which `in_talk` puts others: short ones."""
    plain = [message for message in messages if message.category == "plain" and len(message.text) <= _LONGEST_TOLD]
    return {name: [message.text for message in plain if message.language == name] for name in ("zh", "en")}


def in_talk(message: Message, talk: Sequence[str], random: Random) -> str:
    """A message's text among others of its language, as a child tells of its day: with commas between or, as often,
    without any mark."""
    before, behind = random.choice(((1, 0), (0, 1), (1, 1), (2, 1), (1, 2)))
    told = [*random.choices(talk, k=before), message.text, *random.choices(talk, k=behind)]
    comma, nothing = ("，", "") if message.language == "zh" else (", ", " ")
    if random.random() < 0.5:
        return comma.join(_END.sub("", text) for text in told)
    return nothing.join(_MARKS.sub(nothing, text).strip() for text in told)


def read_messages(folder: Path = SAFETY_DIR, labels: Mapping[str, str] = LABELS) -> list[Message]:
    """Every message of the folder's `.jsonl` files; `labels` has the label of each category that there may be.

    Raises `BadInput` with the file and line that has to be mended.
    """
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise BadInput(f"{folder}: holds no .jsonl file of labelled messages.")
    messages: list[Message] = []
    seen: set[str] = set()
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").removesuffix("\n").split("\n"), 1):
            where = f"{file.name} line {number}"
            try:
                message = Message.parse(json.loads(line), where)
            except json.JSONDecodeError:
                raise BadInput(f"{where}: not valid JSON; each line is one object.") from None
            if labels.get(message.category) != message.label:
                raise BadInput(f'{where}: category "{message.category}" does not belong to label "{message.label}".')
            if not message.text.strip():
                raise BadInput(f"{where}: the text is empty; remove the line.")
            if message.id in seen:
                raise BadInput(f'{where}: the id "{message.id}" stands twice; give each message its own.')
            seen.add(message.id)
            messages.append(message)
    for message in messages:
        if message.twin and message.twin not in seen:
            raise BadInput(f'{message.id}: its twin "{message.twin}" is not there; remove "twin" or add the message.')
    return messages
