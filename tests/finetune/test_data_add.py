"""A file becomes a set only when all of it can be learned from; a bad one changes nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.conversations import INDEX_FILE, conversations, datasets_in
from finetune.dataset.add import add
from tests.commands import finetune
from tests.finetune.small_runs import make_data

SAID = [{"from": "human", "value": "为什么天空是蓝色的？"}, {"from": "gpt", "value": "空气把蓝色的光撒得到处都是。"}]
RECORDS: dict[str, dict[str, Any]] = {
    "sharegpt": {"conversations": SAID, "system": "你是灵伴。"},
    "openai": {"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "你好呀！"}]},
    "alpaca": {"instruction": "你好", "input": "", "output": "你好呀！", "history": [["早", "早上好！"]]},
}


@pytest.mark.parametrize("formatting", RECORDS)
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_a_good_file_is_registered_as_what_it_is(tmp_path: Path, formatting: str, suffix: str) -> None:
    data = make_data(tmp_path / "data")
    file = tmp_path / f"mine.{suffix}"
    text = json.dumps(RECORDS[formatting], ensure_ascii=False)
    file.write_text(f"[{text}]" if suffix == "json" else f"{text}\n")
    done = finetune(tmp_path / "told", "data", "add", str(file), "--data-dir", str(data))
    assert done.code == 0, done.err
    assert datasets_in(data) == ["small", "mine"]
    (found,) = conversations("mine", data)[0]
    assert len(found.turns) == (4 if formatting == "alpaca" else 2)
    assert found.system == ("你是灵伴。" if formatting == "sharegpt" else None)
    done = finetune(tmp_path / "told", "data", "remove", "mine", "--data-dir", str(data))
    assert done.code == 0, done.err
    assert datasets_in(data) == ["small"]
    assert sorted(path.name for path in data.iterdir()) == [INDEX_FILE, "small.json"]


def test_a_column_that_only_a_later_record_has_is_learned_from(tmp_path: Path) -> None:
    data, file = make_data(tmp_path / "data"), tmp_path / "mine.json"
    without = {"instruction": "你叫什么？", "input": "", "output": "我叫灵伴，是人工智能。"}
    file.write_text(json.dumps([without, RECORDS["alpaca"]]))
    assert add(file, "mine", data, None, {}) == 2
    assert [len(found.turns) for found in conversations("mine", data)[0]] == [2, 4]


@pytest.mark.parametrize(
    ("content", "words", "told"),
    [
        ([RECORDS["sharegpt"], {"conversations": SAID[:1]}], ["--name", "mine"], "record 1"),
        ([{"text": "a novel"}], ["--name", "mine"], "none of the keys"),
        ([RECORDS["sharegpt"]], ["--name", "small"], "registered already"),
        ([RECORDS["sharegpt"]], ["--name", "../up"], "a set's name is letters"),
        ([RECORDS["sharegpt"]], ["--name=-mine"], "a letter or a digit first"),
        ([], ["--name", "mine"], "mine.json: holds no record."),
    ],
)
def test_a_bad_file_changes_nothing(tmp_path: Path, content: list[Any], words: list[str], told: str) -> None:
    data = make_data(tmp_path / "data")
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(content, ensure_ascii=False))
    done = finetune(tmp_path / "told", "data", "add", str(file), "--data-dir", str(data), *words)
    assert done.code == 2
    assert told in done.err.splitlines()[-1]
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before


def test_a_folder_of_ones_own_begins_with_the_projects_sets(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps([RECORDS["sharegpt"]]))
    done = finetune(tmp_path / "told", "data", "add", str(tmp_path / "mine.json"), "--data-dir", str(tmp_path / "sets"))
    assert done.code == 0, done.err
    assert datasets_in(tmp_path / "sets") == ["child_chat", "child_chat_en", "mine"]
    done = finetune(tmp_path / "told", "data", "stats", "mine", "--data-dir", str(tmp_path / "sets"), "--json")
    told = json.loads(done.out)
    assert told["conversations"] == sum(split["conversations"] for split in told["splits"]) == 1
