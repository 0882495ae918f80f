"""`data check`: each rule finds its fault with file, record and turn, and finds none in what we ship."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data.contract import read_contract
from data.conversations import DATA_DIR
from data.strict import BadInput
from finetune.dataset.check import Checker, Finding, Tally, check, main
from finetune.dataset.house import HOUSE_FILE, read_house
from finetune.dataset.lengths import Ruler, find_ruler
from finetune.dataset.near import NearDuplicates
from finetune.dataset.personal import personal_data
from finetune.tokenizer import train_tokenizer

BYTES = Ruler("bytes", None)
ENTRY = {"file_name": "a.json", "formatting": "sharegpt", "columns": {"messages": "conversations", "system": "system"}}
ANSWERS = (
    "蜗牛背着小房子慢慢爬，雨后的墙角最容易见到它，你在哪里遇到的？",
    "把放大镜借来看看它的触角，轻轻碰一下就会缩回去。",
    "画一张图记下今天的路线吧，明天再比一比它走了多远。",
    "泥土里的水汽让它舒服，太阳出来以后它会躲到叶子下面。",
)


def record(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A conversation in which nothing is wrong."""
    questions = ("我看见一只蜗牛", "它有眼睛吗") if number == 0 else ("下过雨真好玩", "它怕太阳吗")
    answers = ANSWERS[2 * number : 2 * number + 2]
    turns = [
        {"from": who, "value": text}
        for question, answer in zip(questions, answers, strict=True)
        for who, text in (("human", question), ("gpt", answer))
    ]
    columns = {"id": f"r{number}", "topic": "nature", "age": "7-9", "language": "zh", "system": read_contract().persona}
    return {**columns, "conversations": turns, **changes}


def with_answer(text: str, **changes: Any) -> dict[str, Any]:
    made = record(**changes)
    made["conversations"][3]["value"] = text
    return made


def found_in(
    folder: Path, records: list[Any], *, entry: dict[str, Any] = ENTRY, window: int = 2048, ruler: Ruler = BYTES
) -> list[Finding]:
    (folder / "dataset_info.json").write_text(json.dumps({"a": entry}))
    (folder / entry["file_name"]).write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    told = check(["a"], folder, Checker(read_contract(), window, ruler))
    return [one for one in told if isinstance(one, Finding) and one.rule != "coverage"]


def test_what_we_ship_has_no_error_and_few_warnings() -> None:
    told = list(check([], DATA_DIR, Checker(read_contract(), 2048, BYTES)))
    tallies = {one.file: one for one in told if isinstance(one, Tally)}
    errors = [str(one) for one in told if isinstance(one, Finding) and one.level == "error"]
    assert errors == []
    assert tallies["child_chat.json"].readable >= 850
    assert tallies["child_chat_en.json"].readable >= 150
    assert tallies["safety/zh.jsonl"].readable >= 1800
    assert sum(one.warnings for one in tallies.values()) <= 20


def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path) -> None:
    assert found_in(tmp_path, [record(0), record(1)]) == []


@pytest.mark.parametrize(
    ("changed", "rule", "turn"),
    [
        (with_answer("打电话给我吧，号码是 138 1234 5679，什么时候都可以，随时等你。"), "personal_data", 3),
        (with_answer("你真是太聪明了，去看看墙角还有没有别的小蜗牛。"), "words", 3),
        (with_answer("这是我们的小秘密，谁也不要说，好不好呀小朋友？"), "words", 3),
        (with_answer("你家住在哪里呀？说给灵伴听听，好给你寄一只蜗牛。"), "words", 3),
        (with_answer("好。"), "answer_length", 3),
        (with_answer("它有触角吗？有壳吗？有脚吗？你数一数看有多少个。"), "questions", 3),
        (with_answer("It has two long feelers with tiny eyes at their ends."), "language", 3),
        (with_answer(ANSWERS[0]), "duplicate", 3),
        (with_answer("这些乱码\ufffd\ufffd是怎么来的，谁也不知道，重新写一遍吧。"), "signs", 3),
        (record(age="13-15"), "age", None),
        (record(language="fr"), "language", None),
        (record(topic=" "), "topic", None),
        (record(conversations=record()["conversations"][:2]), "exchanges", None),
        (record(system="你是一只猫。"), "persona", None),
    ],
)  # fmt: skip
def test_a_fault_is_found_where_it_is(tmp_path: Path, changed: dict[str, Any], rule: str, turn: int | None) -> None:
    others = [record(1)]
    if rule == "duplicate":
        changed["conversations"][1]["value"] = ANSWERS[1]
        others = [record(0), record(1)]
        changed["id"] = "r9"
    found = [one for one in found_in(tmp_path, [*others, changed]) if one.rule == rule]
    assert [(one.file, one.row, one.turn) for one in found][-1] == ("a.json", len(others), turn)


def test_a_thought_alone_is_an_error_and_one_before_words_a_warning(tmp_path: Path) -> None:
    thought = "<think>想一想</think>"
    found = found_in(tmp_path, [with_answer(thought), with_answer(f"{thought}{ANSWERS[2]}", number=1)])
    assert [(one.level, one.row, one.turn) for one in found if one.rule == "thought"] == [
        ("error", 0, 3),
        ("warning", 1, 3),
    ]


def test_the_same_id_is_named_with_its_other_place(tmp_path: Path) -> None:
    (found,) = found_in(tmp_path, [record(0), record(1, id="r0")])
    assert str(found) == 'error: a.json record 1: its id "r0" is also that of a.json record 0; give it its own. [id]'


def test_a_missing_column_is_an_error_in_our_sets_and_one_warning_in_others(tmp_path: Path) -> None:
    without = {key: value for key, value in record(1).items() if key != "age"}
    assert [(one.level, one.row, one.sentence) for one in found_in(tmp_path, [record(0), without])] == [
        ("error", 1, 'has no "age"; add it, as the others have it.')
    ]
    bare = [{"conversations": record(number)["conversations"]} for number in (0, 1)]
    (found,) = found_in(tmp_path, bare)
    assert (found.level, found.rule, found.row) == ("warning", "columns", None)


def test_answers_with_words_swapped_are_near_duplicates(tmp_path: Path) -> None:
    swapped = with_answer(ANSWERS[2].replace("明天", "后天").replace("一张", "两张"))
    (found,) = found_in(tmp_path, [record(1), swapped])
    assert (found.rule, found.row, found.turn) == ("near_duplicate", 1, 3)
    assert "a.json record 0, turn 1" in found.sentence


def test_a_sentence_belongs_to_one_answer(tmp_path: Path) -> None:
    repeated = with_answer(
        "我们一起来想想别的办法怎么样。" + ANSWERS[3].split("，")[0] + "，" + ANSWERS[3].split("，")[1]
    )
    (found,) = found_in(tmp_path, [record(1), repeated])
    assert (found.rule, found.turn) in {("sentence", 3), ("near_duplicate", 3)}


def test_the_same_first_question_is_an_error_a_like_one_a_warning(tmp_path: Path) -> None:
    same, like = record(0), record(1)
    same["conversations"][0]["value"] = like["conversations"][0]["value"] + "！"
    (found,) = found_in(tmp_path, [like, same])
    assert (found.level, found.rule, found.turn) == ("error", "first_question", 0)
    same["conversations"][0]["value"] = like["conversations"][0]["value"] + "呀"
    (found,) = found_in(tmp_path, [like, same])
    assert (found.level, found.rule, found.turn) == ("warning", "first_question", 0)


def test_lengths_are_counted_with_the_tokenizer_as_training_counts_them(tmp_path: Path) -> None:
    train_tokenizer(ANSWERS * 3, vocab_size=400).save_pretrained(tmp_path / "tokenizer")
    ruler = find_ruler(tmp_path / "tokenizer", read_contract(), {})
    one, two = (sum(pair) for pair in ruler.exchanges(_conversation(tmp_path, record(0))))
    assert found_in(tmp_path, [record(0)], window=one + two, ruler=ruler) == []
    (found,) = found_in(tmp_path, [record(0)], window=one + two - 1, ruler=ruler)
    assert (found.level, found.rule, found.turn) == ("warning", "length", 2)
    (found,) = found_in(tmp_path, [record(0)], window=one - 1, ruler=ruler)
    assert (found.level, found.rule, found.turn) == ("error", "length", 0)


def test_bytes_never_count_less_than_a_tokenizer(tmp_path: Path) -> None:
    train_tokenizer(ANSWERS, vocab_size=300).save_pretrained(tmp_path / "tokenizer")
    ruler = find_ruler(tmp_path / "tokenizer", read_contract(), {})
    for number in (0, 1):
        conversation = _conversation(tmp_path, record(number))
        for exact, most in zip(ruler.exchanges(conversation), BYTES.exchanges(conversation), strict=True):
            assert sum(exact) <= sum(most)


def test_a_turn_of_100000_characters_is_named(tmp_path: Path) -> None:
    huge = record(0)
    huge["conversations"][0]["value"] = "问" * 100_000
    (found_first,) = (one for one in found_in(tmp_path, [huge]) if one.rule == "length")
    assert (found_first.level, found_first.row, found_first.turn) == ("error", 0, 0)
    assert "100000 characters" in found_first.sentence


def test_a_llamafactory_set_is_checked_as_it_is(tmp_path: Path) -> None:
    entry = {"file_name": "a.json", "columns": {"prompt": "q", "query": "x", "response": "a"}}
    found = found_in(tmp_path, [{"q": "Name a colour.", "x": "", "a": "Blue."}, {"q": "", "a": "Red."}], entry=entry)
    assert [(one.level, one.rule, one.row) for one in found] == [("error", "record", 1), ("warning", "columns", None)]


def test_a_thousand_copies_are_found_in_a_second(tmp_path: Path) -> None:
    found = found_in(tmp_path, [record(0, id=f"c{number}") for number in range(1000)])
    assert sum(one.rule == "duplicate" for one in found) == 2 * 999


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("打 13912345078 找我", "a mobile number"), ("+86 139 1234 5078", "a mobile number"), ("１３９１２３４５０７８", "a mobile number"),
        ("座机 021-62345789", "a telephone number"), ("call (212) 736-5001", "a telephone number"),
        ("write to xiao.ming@qq.com", "an e-mail address"), ("11010519491231002X", "an identity number"),
        ("卡号 6222 0212 3456 7894", ""), ("card 4539 1488 0343 6467", "a bank card's number"),
        ("我的QQ号是 87654329", "the name of an account"), ("微信：lily_2015x", "the name of an account"),
        ("住在和平路88号3栋502室", "an address"), ("12 Oak Street, Apt 4", "an address"),
    ],
)  # fmt: skip
def test_personal_data_is_found(text: str, kind: str) -> None:
    assert personal_data(text) == ([kind] if kind else [])


@pytest.mark.parametrize(
    "text",
    [
        "打 12355、12356、110、120 或 96110", "手机号 13800000000", "call 212-555-0142", "a@example.com", "微信号是abc12345",
        "圆周率 3.14159265358979", "我家住在幸福路12号", "2024-11-25 下了雨", "光每秒走299792458米", "1234567890", "100 000 000 年前",
        "It is 150,000,000 km away", "从1加到100是5050", "12 Oak trees",
    ],
)  # fmt: skip
def test_what_can_belong_to_nobody_passes(text: str) -> None:
    assert personal_data(text) == []


def test_near_duplicates_are_judged_by_the_texts_themselves() -> None:
    near = NearDuplicates(0.5)
    near.remember("the quick brown fox jumps over the lazy dog", "a")
    assert near.find("The quick brown fox jumps over the lazy cat!") is not None
    assert near.find("a wholly different sentence about snails and rain") is None
    same = near.find("THE QUICK, brown fox: jumps over the lazy dog")
    assert same is not None
    assert (same.place, same.similarity) == ("a", 1.0)


def test_the_house_refuses_a_pattern_that_is_none(tmp_path: Path) -> None:
    text = HOUSE_FILE.read_text(encoding="utf-8").replace("told: flatters\n    zh: '", "told: flatters\n    zh: '(")
    (tmp_path / "house.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match='"flatters" has a pattern that is none'):
        read_house(tmp_path / "house.yaml")


def test_json_for_programs_and_the_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found_in(tmp_path, [record(0)])
    words = ["a", "--data-dir", str(tmp_path), "--json"]
    assert main(words, {}) == 0
    assert json.loads(capsys.readouterr().out)["errors"] == 0
    found_in(tmp_path, [record(0), {"conversations": []}])
    assert main(words, {}) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["sets"][0]["records"] == 2
    assert told["findings"][0] == {
        "level": "error", "rule": "record", "file": "a.json", "row": 1, "turn": None,
        "sentence": "has no turns; a conversation is at least one question and its answer.",
    }  # fmt: skip


def test_of_a_foreign_index_the_sets_elsewhere_are_told_and_the_others_checked(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text(json.dumps({"far": {"hf_hub_url": "a/b"}, "a": ENTRY}))
    (tmp_path / "a.json").write_text(json.dumps([record(0)], ensure_ascii=False))
    told = list(check([], tmp_path, Checker(read_contract(), 2048, BYTES)))
    assert next(one.rule for one in told if isinstance(one, Finding)) == "not_checked"
    assert [one.readable for one in told if isinstance(one, Tally)] == [1]
    with pytest.raises(BadInput, match="download it"):
        list(check(["far"], tmp_path, Checker(read_contract(), 2048, BYTES)))


def test_the_command_line_tells_a_misspelt_set(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "finetune", "data", "check", "child_caht"],
        cwd=DATA_DIR.parent, capture_output=True, text=True, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 2
    assert 'did you mean "child_chat"?' in done.stderr
    assert done.stderr.count("\n") == 1


def _conversation(folder: Path, made: dict[str, Any]) -> Any:
    from data.conversations import Dataset, read_record

    return read_record(made, 0, "a.json", Dataset.parse(ENTRY, "a"))


def message(**changes: str) -> dict[str, str]:
    plain = {
        "id": "m0",
        "text": "为什么天会黑",
        "language": "zh",
        "label": "benign",
        "category": "plain",
        "source": "child",
    }
    return {**plain, **changes}


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        (message(id="m1", text="为什么天会黑"), "duplicate"),
        (message(text="别的话"), "id"),
        (message(id="m1", text="别的话", category="planes"), "category"),
        (message(id="m1", text="别的话", category="abuse"), "label"),
        (message(id="m1", text="别的话", source="adult"), "source"),
        (message(id="m1", text="这一句明明是中文呀", language="en"), "language"),
        (message(id="m1", text="打13912345078"), "personal_data"),
        (message(id="m1", text="长" * 401), "length"),
        ({"id": "m1", "text": "x"}, "record"),
        (message(id="m1", text="为什么天会黑呀为什么呀天会黑呀我想知道", extra="x"), "record"),
    ],
)  # fmt: skip
def test_a_fault_in_the_guards_messages_is_found(tmp_path: Path, changed: dict[str, str], rule: str) -> None:
    (tmp_path / "safety").mkdir()
    lines = [message(), changed]
    (tmp_path / "safety" / "zh.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "dataset_info.json").write_text("{}")
    told = [
        one for one in check(["safety"], tmp_path, Checker(read_contract(), 2048, BYTES)) if isinstance(one, Finding)
    ]
    assert [(one.rule, one.file, one.row) for one in told] == [(rule, "safety/zh.jsonl", 1)]


def test_the_test_split_is_a_fifth_of_every_label() -> None:
    from data.safety import in_test_split
    from finetune.dataset.safety import Message, files_in, read_messages

    found = [one for path in files_in(DATA_DIR) for one in read_messages(path)]
    messages = [one for one in found if isinstance(one, Message)]
    assert len(messages) == len(found) >= 3000
    for label in {one.label for one in messages}:
        sides = [in_test_split(one.id) for one in messages if one.label == label]
        assert 0.15 < sum(sides) / len(sides) < 0.25
