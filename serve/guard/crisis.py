"""The crisis layer: a child tells that it is in danger. No model decides this.

In: what a child wrote. Out: a `Verdict`, or None. The patterns stand in `crisis.yaml`.
"""

from collections.abc import Sequence
from pathlib import Path

from data.forms import NOTHING, Typed
from serve.guard.rules import read_rules
from serve.guard.verdict import Verdict

RULES_FILE = Path(__file__).parent / "crisis.yaml"
# "嗯", "是真的", "yes really": so short an answer right after a crisis still belongs to it.
CONTINUATION = 10


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
