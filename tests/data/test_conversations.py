"""data/conversations.py: every format of LLaMA-Factory is read, and nothing is dropped in silence."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.conversations import (
    DATA_DIR,
    Conversation,
    Problem,
    conversations,
    datasets_in,
    find_dataset,
    is_validation,
    read_calls,
    read_dataset,
    split,
)
from data.strict import BadInput
from tests.pace import growth

SHAREGPT = {"file_name": "a.json", "formatting": "sharegpt"}
CALL = '{"name": "weather", "arguments": {"city": "北京"}}'


def turns(*texts: str, **more: str) -> list[dict[str, str]]:
    return [{"from": "gpt" if place % 2 else "human", "value": text, **more} for place, text in enumerate(texts)]


def register(folder: Path, entry: dict[str, Any], content: object, *, name: str = "a") -> None:
    (folder / "dataset_info.json").write_text(json.dumps({name: entry}))
    if isinstance(content, bytes):
        (folder / entry["file_name"]).write_bytes(content)
    else:
        (folder / entry["file_name"]).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def read(folder: Path, entry: dict[str, Any], content: object) -> list[Conversation | Problem]:
    register(folder, entry, content)
    return list(read_dataset("a", folder))


def one(folder: Path, entry: dict[str, Any], record: object) -> Conversation:
    found = read(folder, entry, [record])[0]
    assert isinstance(found, Conversation), found
    return found


def problem(folder: Path, entry: dict[str, Any], record: object) -> str:
    found = read(folder, entry, [record])
    assert len(found) == 1
    assert isinstance(found[0], Problem)
    return str(found[0])


def said(conversation: Conversation) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in conversation.turns]


def test_the_shipped_sets_are_read_whole() -> None:
    assert {"child_chat", "child_chat_en"} <= set(datasets_in(DATA_DIR))
    zh, _ = conversations("child_chat")
    en, _ = conversations("child_chat_en")
    assert len(zh) >= 850
    assert len(en) >= 150
    assert len(zh) + len(en) >= 1000


def test_sharegpt_with_its_own_columns_and_tags(tmp_path: Path) -> None:
    entry = {
        **SHAREGPT,
        "columns": {"messages": "talk", "system": "sys"},
        "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "child", "assistant_tag": "friend"},
    }
    record = {
        "talk": [{"who": "child", "what": "q"}, {"who": "friend", "what": "a"}],
        "sys": "s",
        "id": 7,
        "age": "4-6",
    }
    found = one(tmp_path, entry, record)
    assert said(found) == [("user", "q"), ("assistant", "a")]
    assert (found.system, found.id, found.columns) == ("s", "7", {"id": 7, "age": "4-6"})


def test_sharegpt_with_tools(tmp_path: Path) -> None:
    entry = {**SHAREGPT, "columns": {"messages": "conversations", "tools": "tools"}}
    record = {
        "conversations": [
            {"from": "human", "value": "q"}, {"from": "function_call", "value": CALL},
            {"from": "observation", "value": "20"}, {"from": "gpt", "value": "a"},
        ],
        "tools": json.dumps([{"name": "weather"}]),
    }  # fmt: skip
    found = one(tmp_path, entry, record)
    assert [turn.role for turn in found.turns] == ["user", "call", "tool", "assistant"]
    assert json.loads(found.tools) == [{"name": "weather"}]


def test_a_leading_system_turn_is_the_system_message(tmp_path: Path) -> None:
    entry = {**SHAREGPT, "columns": {"messages": "conversations", "system": "system"}}
    found = one(
        tmp_path, entry, {"conversations": [{"from": "system", "value": "own"}, *turns("q", "a")], "system": "s"}
    )
    assert found.system == "own"
    assert found.remarks
    assert len(found.turns) == 2


def test_openai_messages(tmp_path: Path) -> None:
    entry = {"file_name": "a.json", "formatting": "openai"}
    call = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "x"}'}}
    messages = [
        {"role": "system", "content": "s"}, {"role": "user", "content": "q"},
        {"role": "assistant", "content": None, "tool_calls": [call, call]},
        {"role": "tool", "content": "20"}, {"role": "tool", "content": "21"},
        {"role": "assistant", "content": "a"},
    ]  # fmt: skip
    found = one(tmp_path, entry, {"messages": messages})
    assert one(tmp_path, {**entry, "tags": None, "columns": None}, {"messages": messages}) == found
    assert found.system == "s"
    assert [turn.role for turn in found.turns] == ["user", "call", "tool", "assistant"]
    assert "20" in found.turns[2].text
    assert "21" in found.turns[2].text


def test_alpaca_with_history(tmp_path: Path) -> None:
    entry = {"file_name": "a.json", "columns": {"history": "history", "system": "system"}}
    record = {"instruction": "i", "input": "x", "output": "o", "history": [["q", "a"]], "system": "s", "id": "r"}
    found = one(tmp_path, entry, record)
    assert said(found) == [("user", "q"), ("assistant", "a"), ("user", "i\nx"), ("assistant", "o")]
    assert (found.system, found.columns) == ("s", {"id": "r"})


def test_half_a_character_in_a_system_column_is_told(tmp_path: Path) -> None:
    entry = {**SHAREGPT, "columns": {"messages": "conversations", "system": "system"}}
    for system, told in (
        ("half \ud800", "holds half a character (a lone surrogate); write it whole."),
        (7, "is a number"),
    ):
        register(tmp_path, entry, json.dumps([{"conversations": turns("q", "a"), "system": system}]).encode())
        (found,) = read_dataset("a", tmp_path)
        assert f'a.json record 0: its "system" {told}' in str(found)


def test_jsonl_goes_on_behind_a_bad_line(tmp_path: Path) -> None:
    good = json.dumps({"conversations": turns("q", "a")}).encode()
    found = read(
        tmp_path, {**SHAREGPT, "file_name": "a.jsonl"}, good + b'\n{"conv\n\n' + b'{"a": "\xff"}\n' + good + b"\n"
    )
    assert [type(record) for record in found] == [Conversation, Problem, Problem, Conversation]
    assert "a.jsonl record 1: line 2 is not valid JSON" in str(found[1])
    assert "a.jsonl record 2: line 4 is not UTF-8 at its byte 7" in str(found[2])
    assert isinstance(found[3], Conversation)
    assert found[3].row == 3


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"conversations": turns("q")}, 'a.json record 0, turn 0: ends with a "human" turn; add its answer or remove it.'),
        ({"conversations": turns("q", "a", "r")}, 'a.json record 0, turn 2: ends with a "human" turn'),
        ({"conversations": []}, "a.json record 0: has no turns"),
        ({"conversations": [*turns("q"), *turns("r", "a")]}, 'turn 1: two "human" turns in a row; merge them or add a "gpt" turn.'),
        ({"conversations": [{"from": "gpt", "value": "a"}]}, 'turn 0: the first turn is a "gpt" turn'),
        ({"conversations": [{"from": "humam", "value": "q"}]}, 'no role; did you mean "human"?'),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "observation", "value": "x"}]}, 'turn 1: a "observation" turn'),
        ({"conversations": turns("q", " \n")}, 'turn 1: its "value" is empty'),
        ({"conversations": [{"from": "human"}]}, 'turn 0: its "value" is missing or null'),
        ({"conversations": turns("q", "half \ud800")}, "turn 1: its \"value\" holds half a character"),
        ({"conversations": "q"}, 'its column "conversations" is a text'),
        ({}, 'its column "conversations" is missing or null'),
        ("q", "a.json record 0: is a text; a record is an object"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": "{"}]}, "turn 1: its function call is not valid JSON"),
    ],
)  # fmt: skip
def test_a_bad_record_is_told_with_its_place(tmp_path: Path, record: object, told: str) -> None:
    register(tmp_path, SHAREGPT, json.dumps([record]).encode())
    (found,) = read_dataset("a", tmp_path)
    assert told in str(found)


def test_a_bad_alpaca_record_is_told_with_its_place(tmp_path: Path) -> None:
    entry = {"file_name": "a.json", "columns": {"history": "history"}}
    assert 'turn 1: its column "output" is empty' in problem(tmp_path, entry, {"instruction": "i", "output": ""})
    for pair, told in (
        (["q"], "turn 0"),
        (["q", ""], 'turn 1: its column "history" is empty; write what is said.'),
        ([" ", "a"], 'turn 0: its column "history" is empty'),
        (["q", None], 'turn 1: its "history" is missing or null; a text was expected.'),
    ):
        assert told in problem(tmp_path, entry, {"instruction": "i", "output": "o", "history": [pair]})


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda whole: whole[:-20], "a.json record 1: not valid JSON at line"),
        (lambda whole: whole[:-1], 'a.json record 2: expected "," or "]"'),
        (lambda whole: whole + b"]", "a.json record 2: something stands behind the list's end"),
        (lambda whole: whole[:-30] + b"\xff" + whole[-30:], "a.json record 1: not UTF-8 at byte"),
    ],
)
def test_a_damaged_file_gives_what_is_before_the_damage(tmp_path: Path, damage: Any, told: str) -> None:
    whole = json.dumps([{"conversations": turns("q", "a" * 40)}] * 2).encode()
    found = read(tmp_path, SHAREGPT, damage(whole))
    assert isinstance(found[0], Conversation)
    assert told in str(found[-1])
    with pytest.raises(BadInput, match="data check a"):
        conversations("a", tmp_path)


def test_bad_records_are_left_out_only_where_told_and_counted(tmp_path: Path) -> None:
    register(tmp_path, SHAREGPT, [{"conversations": turns("q", "a")}, {"conversations": turns("q")}])
    with pytest.raises(BadInput, match="record 1, turn 0"):
        conversations("a", tmp_path)
    good, left_out = conversations("a", tmp_path, skip_bad=True)
    assert (len(good), left_out) == (1, 1)


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(BadInput, match='no data set "child_caht"; did you mean "child_chat"'):
        find_dataset("child_caht")


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"hf_hub_url": "a/b"}, "download it"),
        ({"file_name": "a.json", "ranking": True, "columns": {"chosen": "chosen"}}, "only conversations in text"),
        ({"file_name": "a.json", "columns": {"mesages": "x"}}, 'did you mean "messages"'),
        ({"file_name": "a.json", "formatting": "sharegtp"}, '"formatting"'),
        ({"file_name": "a.json", "formatting": "openai", "tags": "role"}, "\"tags\" is 'role'"),
    ],
)
def test_an_entry_that_cannot_be_read_is_told(tmp_path: Path, entry: dict[str, Any], told: str) -> None:
    (tmp_path / "dataset_info.json").write_text(json.dumps({"a": entry}))
    with pytest.raises(BadInput, match=told):
        find_dataset("a", tmp_path)


def test_a_missing_file_or_index_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no dataset_info\.json"):
        find_dataset("a", tmp_path)
    (tmp_path / "dataset_info.json").write_text(json.dumps({"a": SHAREGPT}))
    with pytest.raises(BadInput, match="no such file"):
        list(read_dataset("a", tmp_path))


def test_num_samples_takes_the_first(tmp_path: Path) -> None:
    records = [{"conversations": turns("q", "a")}] * 5
    for number in (2, 5):
        assert len(read(tmp_path, {**SHAREGPT, "num_samples": number}, records)) == number
    # LLaMA-Factory would take some twice.
    with pytest.raises(BadInput, match=r'"a" has num_samples 6 and its file 5 records; lower it\.'):
        read(tmp_path, {**SHAREGPT, "num_samples": 6}, records)


def test_a_record_never_changes_sides_when_others_are_added() -> None:
    found, _ = conversations("child_chat")
    training, held_out = split(found, 0.1)
    assert len(training) + len(held_out) == len(found)
    assert 0.07 < len(held_out) / len(found) < 0.13
    fewer = found[::3]
    assert split(fewer, 0.1)[1] == [one for one in held_out if one in fewer]


def test_the_same_question_is_on_one_side(tmp_path: Path) -> None:
    found = read(
        tmp_path, SHAREGPT, [{"conversations": turns(text, "a")} for text in ("Why, sky?", "why sky", "WHY  SKY!")]
    )
    sides = {is_validation(one, share / 10) for share in (5,) for one in found if isinstance(one, Conversation)}
    assert len(sides) == 1


@pytest.mark.parametrize("text", ["<tool_call>", "<think>", "<think>x</think><tool_call>"])
def test_no_record_takes_long_to_read(text: str) -> None:
    def read(text: str) -> None:
        read_calls(f"<tool_call>{CALL}</tool_call>{text}")

    # Of calls that nothing closes each was followed to the end.
    assert growth(read, text * 600) < 3


def test_words_behind_the_last_call_stay_words() -> None:
    words, calls = read_calls(f"First.\n<tool_call>{CALL}</tool_call>\nThen.<tool_call>")
    assert words == "First.\n\nThen.<tool_call>"
    assert [call.name for call in calls] == ["weather"]
