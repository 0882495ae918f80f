"""data/README.md: its figures are those of the data, its good answers stand there, its bad ones do not."""

import re
from collections import Counter

import pytest

from data.conversations import DATA_DIR, conversations, split
from data.safety import HELD_OUT, in_test_split
from finetune.dataset.house import forbidden, read_house
from finetune.dataset.safety import Message, read_messages
from finetune.recipe import read_recipe

TEXT = (DATA_DIR / "README.md").read_text(encoding="utf-8")


def row(name: str) -> list[int]:
    """The numbers behind the table's cell that begins with `name`."""
    (found,) = (line for line in TEXT.splitlines() if line.startswith(f"| `{name}`"))
    return [int(cell) for cell in found.split("|")[2:-1]]


@pytest.mark.parametrize("name", ["child_chat", "child_chat_en"])
def test_the_figures_of_a_set_are_right(name: str) -> None:
    found, _ = conversations(name)
    ages = Counter(one.columns["age"] for one in found)
    held_out = split(found, read_recipe("mindpal").val_size)[1]
    exchanges = sum(len(one.turns) // 2 for one in found)
    topics = {one.columns["topic"] for one in found}
    assert row(name) == [len(found), exchanges, len(topics), ages["4-6"], ages["7-9"], ages["10-12"], len(held_out)]
    for topic in topics:
        assert re.search(rf"\b{topic}\b", TEXT), topic


HELD_OUT_FILES = [f"{folder.name}/{language}" for folder in HELD_OUT for language in ("zh", "en")]


@pytest.mark.parametrize("name", ["zh", "en", *HELD_OUT_FILES])
def test_the_figures_of_the_guards_messages_are_right(name: str) -> None:
    found = [one for one in read_messages(DATA_DIR / "safety" / f"{name}.jsonl") if isinstance(one, Message)]
    labels = Counter(one.label for one in found)
    near = sum(one.category == "near_miss" for one in found)
    numbers = [labels[label] for label in ("crisis", "disallowed", "personal_data", "benign")]
    kept = sum(name in HELD_OUT_FILES or in_test_split(one.id) for one in found)
    assert row(f"safety/{name}.jsonl") == [len(found), *numbers, near, kept]


def test_the_three_pairs_stand_for_what_the_data_is() -> None:
    answers = {turn.text for one in conversations("child_chat")[0] for turn in one.turns}
    good, bad = (re.findall(rf"^- {kind}: (.+)$", TEXT, re.MULTILINE) for kind in ("Good", "Bad"))
    assert (len(good), len(bad)) == (3, 3)
    assert set(good) <= answers
    assert not set(bad) & answers
    told = [forbidden(answer, "zh", read_house()) for answer in bad]
    assert "flatters" in told[1]
    assert "promises secrecy" in told[2]
