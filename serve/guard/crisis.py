"""The crisis layer: a child tells that it is in danger. No model decides this.

In: what a child wrote. Out: a `Verdict`, or None. The patterns stand in `crisis.yaml`, the answers in `answers.yaml`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from data.forms import NOTHING, Typed
from data.strict import Strict, read_yaml
from serve.guard.rules import Language, read_rules

RULES_FILE = Path(__file__).parent / "crisis.yaml"
ANSWERS_FILE = Path(__file__).parent / "answers.yaml"
# A statement may be spread over this many messages of the child, and over more where they hold fewer characters than this.
MESSAGES_JUDGED = 3
CHARACTERS_JUDGED = 16
# "嗯", "是真的", "yes really": so short an answer right after a crisis still belongs to it.
CONTINUATION = 10


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


def judge(*messages: str) -> Verdict | None:
    """The verdict on the last of `messages`: as `judge_conversation`, for who has them as text."""
    return judge_conversation([Typed(message) for message in judged_together(messages)])


def judge_conversation(messages: Sequence[Typed]) -> Verdict | None:
    """The verdict on the last of a child's `messages`, read together with the ones before it.

    A statement that was completed before the last message was answered then; it counts again only where the last
    message is too short to be about anything else.
    """
    if not messages:
        return None
    rules = read_rules(RULES_FILE)
    *earlier, last = [message.forms for message in messages]
    before = sum(earlier, NOTHING)
    found = rules.first(last) or (rules.first(before + last, before) if earlier else None)
    found = found or rules.first_disguised(messages[-1])
    if not found and earlier and len(last.squashed) <= CONTINUATION:
        # What the message before this one completed.
        found = rules.first(before, sum(earlier[:-1], NOTHING))
    return Verdict("crisis", found.category, "rules", found.language) if found else None
