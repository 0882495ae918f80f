"""What a text must hold for a regular expression to match in it: most rules are passed over without being tried.

In: the source of an expression. Out: its `Clause`s; in every match there is at least one literal of each clause.
"""

from collections.abc import Sequence

# The standard library's own parser: another reading of an expression than that of `re` might be a wrong one.
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

Clause = tuple[str, ...]
# More literals than these take longer to look for than the expression takes to fail.
_MOST = 60
_GROUPS = (_constants.SUBPATTERN, _constants.ATOMIC_GROUP)
_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT)


def clauses(source: str) -> tuple[Clause, ...]:
    """The clauses of `source`, those that fail most often first; none where nothing is sure."""
    found = {clause for clause in _of(list(_parser.parse(source))) if len(clause) <= _MOST}
    return tuple(sorted(found, key=_rank, reverse=True))


def may_match(needed: Sequence[Clause], text: str) -> bool:
    """Whether `text` has a literal of each clause."""
    for clause in needed:
        for literal in clause:
            if literal in text:
                break
        else:
            return False
    return True


def _rank(clause: Clause) -> tuple[float, Clause]:
    # The longer the literals and the fewer, the rarer.
    return sum(map(len, clause)) / len(clause) ** 2, clause


def _of(items: Sequence[tuple[Any, Any]]) -> list[Clause]:
    """The clauses of a sequence of parsed items."""
    found, run = list[Clause](), ""
    for kind, value in [*items, (None, None)]:
        if kind is _constants.LITERAL:
            run += chr(value)
            continue
        if run:
            found.append((run,))
            run = ""
        if kind in _GROUPS:
            found += _of(list(value[-1] if kind is _constants.SUBPATTERN else value))
        elif kind in _REPEATS and value[0] > 0:
            found += _of(list(value[2]))
        elif kind is _constants.BRANCH:
            best = [max(_of(list(branch)), key=_rank, default=None) for branch in value[1]]
            if None not in best:
                found.append(tuple(sorted({literal for clause in best if clause for literal in clause})))
        elif kind is _constants.IN and all(inner is _constants.LITERAL for inner, _ in value):
            found.append(tuple(sorted(chr(code) for _, code in value)))
    return found
