"""What is declined every time, and no model decides: a child asks 灵伴 to be its mother, its brother, its girlfriend; it
asks for the address, number or password of somebody else; or it asks outright how to make a bomb, to kill, to steal.

In: what a child wrote. Out: a `Verdict`, or None. The patterns stand in `declined.yaml`, the answers in `answers.yaml`.
"""

from pathlib import Path

from data.forms import NOTHING, Forms, Typed
from serve.guard.rules import read_rules
from serve.guard.verdict import Verdict

RULES_FILE = Path(__file__).parent / "declined.yaml"


def declined(typed: Typed, start: Forms = NOTHING) -> Verdict | None:
    """The verdict on one message, or on several of which `start` was there before: a role, data of somebody else, or how
    harm is done."""
    rules = read_rules(RULES_FILE)
    found = rules.first(typed.forms, start) or rules.first_disguised(typed)
    return Verdict("redirect", found.category, "rules", found.language) if found else None
