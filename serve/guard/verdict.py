"""What the guard decides about a child's words, and what is said then.

In: `answers.yaml`, and an operator's file over it. Out: `Verdict`, and the fixed answer to one.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from math import inf
from pathlib import Path
from typing import Literal

import yaml
from pydantic import ConfigDict

from data.strict import Strict, read_yaml, replaced
from serve.guard.rules import Language, language_of

ANSWERS_FILE = Path(__file__).parent / "answers.yaml"
# A statement may be spread over this many messages of the child, and over more where they hold fewer characters than this.
MESSAGES_JUDGED = 3
CHARACTERS_JUDGED = 16
_CHINESE, _LATIN = re.compile(r"[\u3400-\u9fff]"), re.compile(r"[A-Za-z']+")


@dataclass(frozen=True)
class Verdict:
    """What the guard decided; `told` is what a client may know of it."""

    action: Literal["crisis", "redirect"]
    category: str
    layer: Literal["rules", "classifier", "model"]
    language: Language

    def told(self) -> dict[str, str]:
        return {key: value for key, value in asdict(self).items() if key != "language"}


class Answers(Strict):
    """`answers.yaml`: the fixed answer per category and language, and the sentence that ends a stopped answer."""

    # As a client sends it back: without the blanks around it.
    model_config = ConfigDict(str_strip_whitespace=True)

    crisis: dict[str, dict[Language, str]]
    redirect: dict[str, dict[Language, str]]
    stopped: dict[Language, str]

    def hold(self, words: str) -> bool:
        """Whether `words` are said instead of asking the model."""
        kinds = (*self.crisis.values(), *self.redirect.values())
        return any(words in by_language.values() for by_language in kinds)

    def to(self, verdict: Verdict) -> str:
        """What is said instead of asking the model."""
        return (self.crisis if verdict.action == "crisis" else self.redirect)[verdict.category][verdict.language]


@cache
def read_answers(own: Path | None = None) -> Answers:
    """The fixed answers; what an operator's `own` file names takes the place of ours. Raises `BadInput`."""
    if not own:
        return Answers.parse(read_yaml(ANSWERS_FILE), str(ANSWERS_FILE))
    return Answers.parse(replaced(read_answers().model_dump(), read_yaml(own), str(own)), str(own))


def numbers() -> str:
    """The answers of each category in which one names a telephone number: YAML in the form of an operator's own file."""
    found = {
        action: {category: said for category, said in answers.items() if re.search(r"\d{3}", str(said))}
        for action, answers in read_answers().model_dump().items()
        if action != "stopped"
    }
    return yaml.safe_dump(
        {action: answers for action, answers in found.items() if answers},
        allow_unicode=True,
        sort_keys=False,
        width=inf,
    )


def judged_together(messages: Sequence[str]) -> Sequence[str]:
    """Of a child's messages the last ones, which are read as one."""
    count, characters = 0, 0
    for message in reversed(messages):
        if count >= MESSAGES_JUDGED and characters >= CHARACTERS_JUDGED:
            break
        count += 1
        # An empty one counts, too: there is an end to them.
        characters += max(1, len(message))
    return messages[len(messages) - count :]


def answered_in(messages: Sequence[str]) -> Language:
    """The language in which the last of a child's messages is answered.

    `i wanna die` says little of it: behind messages that were mostly Chinese, a character counting as a word, the child is
    answered in Chinese.
    """
    *before, last = judged_together(messages)
    earlier = "\n".join(before)
    return "zh" if len(_CHINESE.findall(earlier)) > len(_LATIN.findall(earlier)) else language_of(last)


def longest_judged(messages: Sequence[str]) -> int:
    """Characters of the longest of what is read as one in a conversation: the last message, and each before it as the last one
    that it was."""
    # No more messages than characters are read as one: a client may send thousands, and others wait meanwhile.
    ends = range(1, len(messages) + 1)
    return max(sum(map(len, judged_together(messages[max(0, end - CHARACTERS_JUDGED) : end]))) for end in ends)
