"""What the guard decides about a child's words, and what is said then.

In: `answers.yaml`. Out: `Verdict`, and the fixed answer to one.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from data.strict import Strict, read_yaml
from serve.guard.rules import Language

ANSWERS_FILE = Path(__file__).parent / "answers.yaml"
# A statement may be spread over this many messages of the child, and over more where they hold fewer characters than this.
MESSAGES_JUDGED = 3
CHARACTERS_JUDGED = 16


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
def read_answers() -> Answers:
    """The fixed answers."""
    return Answers.parse(read_yaml(ANSWERS_FILE), str(ANSWERS_FILE))


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


def longest_judged(messages: Sequence[str]) -> int:
    """Characters of the longest of what is read as one in a conversation: the last message, and each before it as the last one
    that it was."""
    return max(sum(map(len, judged_together(messages[:number]))) for number in range(1, len(messages) + 1))
