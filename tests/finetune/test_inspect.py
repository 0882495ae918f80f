"""`python -m finetune data inspect`: what it shows and writes is what training gets."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data.strict import BadInput
from finetune.inspect import main

GOLDEN = Path(__file__).parent / "golden"
PLACES = ["--data-dir", str(GOLDEN), "--tokenizer", str(GOLDEN / "tokenizer")]


@pytest.mark.parametrize("thinking", ["on", "off"])
def test_jsonl_holds_llama_factorys_ids(tmp_path: Path, thinking: str) -> None:
    out = tmp_path / "out.jsonl"
    # One record is a thought alone, of which nothing would be learned with thinking off: told, and left out.
    refused = thinking == "off"
    assert main(["sharegpt", *PLACES, "--thinking", thinking, "--jsonl", str(out)], {}) == (2 if refused else 0)
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    lines = [json.loads(line) for line in (GOLDEN / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
    expected = {
        line["row"]: line for line in lines if line["dataset"] == "sharegpt" and line["thinking"] == (thinking == "on")
    }
    assert len(found) == len(expected) - refused > 30
    for line in found:
        assert list(line) == ["row", "id", "input_ids", "labels"]
        theirs = expected[line["row"]]
        assert [line[key] for key in ("input_ids", "labels")] == [theirs[key] for key in ("input_ids", "labels")]


def test_a_bad_record_is_told_and_costs_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dataset_info.json").write_text('{"set": {"file_name": "set.json"}}')
    records = [
        {"id": "a", "instruction": "hi", "output": "hello"},
        {"instruction": "hi", "output": None},
        {"instruction": "long " * 50, "output": "answer"},
        {"instruction": "bye", "output": "bye"},
    ]
    (tmp_path / "set.json").write_text(json.dumps(records))
    words = ["set", "--data-dir", str(tmp_path), "--tokenizer", str(GOLDEN / "tokenizer"), "--max-length", "40"]
    assert main([*words, "--jsonl", "-"], {}) == 2
    out, told = capsys.readouterr()
    assert [(line["row"], line["id"]) for line in map(json.loads, out.splitlines())] == [(0, "a"), (3, "set.json#3")]
    assert "set.json record 1, turn 1" in told
    assert "set.json record 2: its first exchange takes" in told


def test_in_the_terminal_every_word_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sharegpt", *PLACES, "--thinking", "off", "--rows", "2"], {}) == 0
    out, told = capsys.readouterr()
    assert "sharegpt.json record 1" in out
    assert "为什么天空是蓝色的？<|im_end|>⏎" in out
    assert "98 tokens, 29 with loss" in out
    assert "record 2" not in out
    assert "the first 2 records" in told


def test_mistakes_are_one_sentence() -> None:
    with pytest.raises(BadInput, match=r'no data set "sharegtp"; did you mean "sharegpt"\?'):
        main(["sharegtp", *PLACES], {})
    with pytest.raises(BadInput, match="nowhere: no such folder; --tokenizer names one"):
        main(["sharegpt", "--tokenizer", "nowhere"], {})


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    tool = [sys.executable, "-m", "finetune", "data", "inspect"]
    command = [*tool, "child_chat", "--tokenizer", str(GOLDEN / "tokenizer"), "--jsonl", "-"]
    # Read one line and hang up, as `| head -1` does; the rest is more than a pipe holds.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline())["row"] == 0
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_for_a_page_every_token_has_its_words_and_its_loss(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sharegpt", *PLACES, "--thinking", "off", "--rows", "2", "--json"], {}) == 0
    first, second = json.loads(capsys.readouterr().out)["conversations"]
    assert (first["row"], second["row"]) == (0, 1)
    text = "".join(token["text"] for token in second["tokens"])
    learned = "".join(token["text"] for token in second["tokens"] if token["loss"])
    assert learned.endswith("<|im_end|>\n")
    assert "为什么天空是蓝色的？" in text
    assert "为什么天空是蓝色的？" not in learned
