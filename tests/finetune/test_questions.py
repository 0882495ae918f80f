"""Files of questions: lines, ShareGPT with answers or without, and one sentence for what is neither."""

import json
from pathlib import Path

import pytest

from data.strict import BadInput
from finetune.questions import asked, read_questions


def test_a_question_a_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("\ufeff你好\n\n  为什么天空是蓝色的？ \n")
    assert read_questions(path) == [asked("你好"), asked("为什么天空是蓝色的？")]


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_sharegpt_up_to_the_last_question(tmp_path: Path, suffix: str) -> None:
    hello = {"from": "human", "value": "你好"}
    reply = {"from": "gpt", "value": "你好呀！"}
    more = {"from": "human", "value": "再见"}
    records = [
        {"conversations": [hello]},
        {"conversations": [hello, reply]},
        {"system": "别的", "conversations": [{"from": "system", "value": "别的"}, hello, reply, more]},
    ]
    path = tmp_path / f"mine.{suffix}"
    lines = [json.dumps(record) for record in records]
    path.write_text("[" + ",".join(lines) + "]" if suffix == "json" else "\n".join(lines))
    longer = [*asked("你好"), {"role": "assistant", "content": "你好呀！"}, *asked("再见")]
    assert read_questions(path) == [asked("你好"), asked("你好"), longer]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", b"\n \n", "holds no question"),
        ("a.txt", b"\xff\xfe", "not UTF-8 at byte 0"),
        ("a.json", b"[]", "holds no question"),
        ("a.json", b'{"conversations": []}', "expected a list"),
        ("a.json", b'[{"conversations": [{"from": "gpt", "value": "x"}]}]', "record 0, turn 0"),
        ("a.json", b'[{"conversations": []}]', "has no turns"),
        ("a.jsonl", b'{"conversations"', "line 1 is not valid JSON"),
        (
            "a.json",
            b'[{"conversations": [{"from": "human", "value": "x"}, {"from": "function_call", "value": '
            b'"{\\"name\\": \\"f\\", \\"arguments\\": {}}"}]}]',
            "",
        ),
    ],
)
def test_what_is_none_is_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    if not sentence:
        # The call itself is taken off; what is asked before it are words.
        assert read_questions(path) == [asked("x")]
        return
    with pytest.raises(BadInput, match=sentence) as told:
        read_questions(path)
    assert "\n" not in str(told.value)
    with pytest.raises(BadInput, match="cannot be read"):
        read_questions(tmp_path / "missing.txt")
