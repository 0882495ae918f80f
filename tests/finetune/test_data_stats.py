"""`data stats`: the numbers are right, and the pictures need nothing beside them."""

import json
import re
from pathlib import Path

import pytest

from data.conversations import Conversation, Turn, conversations
from data.strict import BadInput
from finetune.dataset.counts import count, percentile
from finetune.dataset.lengths import Ruler
from finetune.dataset.picture import page
from finetune.dataset.stats import main

BYTES = Ruler("bytes", None)


def conversation(row: int, answers: int, **columns: str) -> Conversation:
    turns = [
        turn for number in range(answers) for turn in (Turn("user", f"q{row} {number}"), Turn("assistant", "一二三"))
    ]
    return Conversation("a.json", row, tuple(turns), columns=dict(columns))


def test_everything_is_counted_once() -> None:
    made = [
        conversation(0, 2, topic="b", age="10-12", language="zh"),
        conversation(1, 3, topic="a", age="4-6", language="zh"),
    ]
    counts = count(["a"], made, BYTES, 0.0, 0)
    assert counts.conversations == 2
    assert [(topic, dict(ages)) for topic, ages in counts.topics()] == [("a", {"4-6": 1}), ("b", {"10-12": 1})]
    assert counts.ages() == ["4-6", "10-12"]
    training = counts.splits[False]
    assert (training.exchanges, len(training.lengths), counts.splits[True].lengths) == (5, 2, [])
    # Three Chinese characters are nine bytes, the end of the turn eleven more.
    assert training.with_loss == 5 * (9 + len("<|im_end|>\n"))
    assert training.tokens == sum(training.lengths) > training.with_loss
    assert counts.percentiles()["an answer (zh), characters"] == [3] * 7
    assert counts.percentiles()["a conversation, exchanges"][-1] == 3


def test_the_sides_are_those_of_training() -> None:
    found, _ = conversations("child_chat_en")
    counts = count(["child_chat_en"], found, BYTES, 0.1, 0)
    assert len(counts.splits[False].lengths) + len(counts.splits[True].lengths) == len(found)
    assert 0 < len(counts.splits[True].lengths) < len(found) / 5


@pytest.mark.parametrize(("share", "value"), [(0, 1), (5, 1), (25, 1), (50, 2), (75, 3), (100, 4)])
def test_a_percentile_is_the_nearest_rank(share: int, value: int) -> None:
    assert percentile([4, 1, 3, 2], share) == value


def test_the_command_line_writes_a_table_a_picture_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["child_chat_en", "--out", str(tmp_path)], {"HF_HUB_CACHE": str(tmp_path)}) == 0
    told = capsys.readouterr().out
    assert "why_space" in told
    assert "validation" in told
    assert (tmp_path / "data.png").read_bytes().startswith(b"\x89PNG")
    html = (tmp_path / "data.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in html
    assert not re.search(r'(?:src|href)="(?!data:)', html)


def test_words_from_a_set_are_no_markup() -> None:
    counts = count(["<b>"], [conversation(0, 2, topic="<script>", age="7-9")], BYTES, 0.1, 0)
    assert "<script>" not in page(counts, b"")
    assert "&lt;script&gt;" in page(counts, b"")


def test_bad_records_stop_it_unless_they_are_to_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"file_name": "a.json", "formatting": "sharegpt"}
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    (tmp_path / "dataset_info.json").write_text(json.dumps({"a": entry}))
    (tmp_path / "a.json").write_text(json.dumps([{"conversations": turns}, {"conversations": turns[:1]}]))
    words = ["--data-dir", str(tmp_path), "--out", str(tmp_path / "out")]
    with pytest.raises(BadInput, match="record 1, turn 0"):
        main(words, {})
    assert main([*words, "--skip-bad"], {}) == 0
    assert "1 bad records left out" in capsys.readouterr().out
