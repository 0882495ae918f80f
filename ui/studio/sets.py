"""The data sets as a page shows them: counted, searched, and coloured by what carries loss.

In: data/conversations.py. Out: `Counted`, found conversations, spans. Nothing is written: a set enters by
`python -m finetune data add`, which checks it first.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from data.contract import Contract
from data.conversations import (
    INDEX_FILE,
    Conversation,
    Problem,
    Turn,
    find_dataset,
    is_validation,
    read_dataset,
)
from data.strict import BadInput
from data.template import END, NO_THOUGHT, split_thought
from ui.studio.jobs import time_of

NO_TOPIC = "—"


@dataclass(frozen=True)
class Read:
    """A set as it was read: what can be learned from, and what cannot."""

    conversations: tuple[Conversation, ...]
    problems: tuple[Problem, ...]


@dataclass
class Counted:
    """What is in a set. Lengths are in characters: tokens need a tokenizer, and `data stats` counts them."""

    conversations: int = 0
    validation: int = 0
    exchanges: int = 0
    lengths: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    topics: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass(frozen=True)
class Span:
    """A piece of what the model reads, and whether it learns to say it."""

    words: str
    learned: bool


def read_set(name: str, data_dir: Path) -> Read:
    """Every record of a set. Raises `BadInput` where it is not there."""
    good: list[Conversation] = []
    bad: list[Problem] = []
    for record in read_dataset(name, data_dir):
        if isinstance(record, Conversation):
            good.append(record)
        else:
            bad.append(record)
    return Read(tuple(good), tuple(bad))


def stamp(name: str, data_dir: Path) -> tuple[int, ...]:
    """What changes when a set's file does, or how it is registered: a page reads it again only then."""
    file, index = data_dir / find_dataset(name, data_dir).file_name, data_dir / INDEX_FILE
    return tuple(
        part for path in (file, index) if path.is_file() for part in (path.stat().st_mtime_ns, path.stat().st_size)
    )


def sets_since(names: Iterable[str], data_dir: Path) -> str:
    """When these sets, or how they are registered, were last changed, as a status tells times.

    What was told of them before that was of others.
    """
    files = [INDEX_FILE]
    for name in names:
        # What cannot be learned from is told by whoever reads it.
        with suppress(BadInput):
            files.append(find_dataset(name, data_dir).file_name)
    return max((time_of(path) for name in files if (path := data_dir / name).is_file()), default="")


def counted(conversations: Sequence[Conversation], share: float) -> Counted:
    """The counts, with `share` of the conversations held out for validation."""
    found = Counted(conversations=len(conversations))
    for one in conversations:
        found.validation += is_validation(one, share)
        found.exchanges += len(one.turns) // 2
        found.lengths.append(sum(len(turn.text) for turn in one.turns))
        found.answers += [len(turn.text) for turn in one.turns if turn.role == "assistant"]
        found.topics[topic_of(one), str(one.columns.get("age", NO_TOPIC))] += 1
    return found


def topic_of(conversation: Conversation) -> str:
    """Its topic, or a dash."""
    return str(conversation.columns.get("topic") or NO_TOPIC)


def search(conversations: Sequence[Conversation], words: str) -> list[Conversation]:
    """Those in which every word stands, in whatever turn or id; all where nothing is looked for."""
    wanted = words.lower().split()
    return [
        one
        for one in conversations
        if all(
            word in one.id.lower() or any(word in turn.text.lower() for turn in one.turns) or word == topic_of(one)
            for word in wanted
        )
    ]


def spans(turn: Turn, contract: Contract) -> list[Span]:
    """A turn as it is learned: a question gives no loss; an answer and the sign that ends it do.

    With thinking off the empty thought stands on the prompt's side; with thinking on the thought is learned.
    """
    if turn.role in ("user", "tool"):
        return [Span(turn.text, learned=False)]
    thought, words = split_thought(turn.text)
    if not contract.thinking:
        return [Span(NO_THOUGHT, learned=False), Span(words + END, learned=True)]
    return [Span(f"<think>\n{thought}\n</think>\n\n{words}{END}", learned=True)]
