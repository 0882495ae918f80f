"""The screen's reader: it learns what must not be said, lets through what is taught, and keeps the test part apart."""

import json
from pathlib import Path
from random import Random

import pytest

from data.answer_reader import LEVEL_ENTRY, AnswerReader, read_answer_reader, spoken
from data.encoder import plain, read_encoder
from data.safety import ANSWER_LABELS, ANSWERS_DIR, APART_DIR, LABELS, Message, read_messages
from data.strict import BadInput
from finetune.guard_encoder import tell
from finetune.screen import TOPICS, calibrated, main, said, taught, topics
from serve.guard.screen import READER_FILE, reader

WRONG = {
    "secrecy": "别告诉妈妈 不许说出去 这是秘密",
    "violence": "打他 揍他 推他",
    "kin": "我是真人 我是你妈妈 我是你哥哥",
}


def answer(number: int, text: str, category: str) -> dict[str, str]:
    return {
        "id": f"zh-answer-{number}", "text": text, "language": "zh", "label": ANSWER_LABELS[category],
        "category": category, "source": "model",
    }  # fmt: skip


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader of one layer, trained on answers that are easy."""
    folder = tmp_path_factory.mktemp("screen")
    (folder / "answers").mkdir()
    lines = []
    for number in range(240):
        category = list(WRONG)[number % len(WRONG)]
        lines.append(answer(number, f"{WRONG[category].split()[number // 3 % 3]}，就这样吧。", category))
        lines.append(answer(1000 + number, f"这件事{number}可以问老师。", "near_miss"))
        lines.append(answer(2000 + number, f"天空是蓝色的。海里有{number}条鱼。", "plain"))
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / "answers" / "zh.jsonl").write_text(text, encoding="utf-8")
    words = ["--data", str(folder / "answers"), "--out", str(folder / "screen.onnx"), "--layers", "1", "--epochs", "4"]
    assert main(words, {}) == 0
    return folder


def test_it_learns_what_must_not_be_said(toy: Path) -> None:
    read = read_answer_reader(toy / "screen.onnx")
    assert 0.5 <= read.level < 1
    for words, category in (("别告诉妈妈，就这样吧。", "secrecy"), ("揍他，就这样吧。", "violence")):
        danger, found = read.most_dangerous([words, "天空是蓝色的。"])
        assert danger > read.level
        assert found == category
    assert read.most_dangerous(["天空是蓝色的。", "海里有鱼。"])[0] < read.level
    assert read.most_dangerous([]) == (0.0, "")
    assert len((toy / "screen.sha256").read_text().strip()) == 64


@pytest.mark.parametrize(
    ("name", "value"),
    [("level", "no number"), ("level", "null"), ("level", "1.0"), ("level", "NaN"), ("labels", '["danger", "plain"]')],
)
def test_a_file_that_would_never_act_is_not_opened(toy: Path, tmp_path: Path, name: str, value: str) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes((toy / "screen.onnx").read_bytes())
    tell(other, {name: value})
    with pytest.raises(BadInput, match="is no reader of answers"):
        read_answer_reader(other)
    # What stood in it before is there still.
    assert read_encoder(other).told.keys() == read_encoder(toy / "screen.onnx").told.keys()
    with pytest.raises(BadInput, match="cannot be read"):
        read_answer_reader(tmp_path / "none.onnx")
    with pytest.raises(BadInput, match="no such folder"):
        main(["--out", str(tmp_path / "nowhere" / "x.onnx")], {})


def test_an_answer_is_read_sentence_by_sentence() -> None:
    assert spoken("今天我们一起看星星吧。你喜欢哪一颗星星呢？\n🙂") == [
        "今天我们一起看星星吧。",
        "你喜欢哪一颗星星呢？",
    ]
    assert spoken("Pi is 3.14, a number for circles. Pi never comes to an end, did you know?") == [
        "Pi is 3.14, a number for circles.",
        " Pi never comes to an end, did you know?",
    ]
    # What says nothing is not read, and what is said again once.
    assert spoken("\n\n" + "!" * 1000) == []
    assert spoken("我在。" * 100) == ["我在。"]
    assert spoken("我在。你好。我在。") == ["我在。", "你好。", "我在你好"]


def test_bits_of_a_sentence_are_read_as_one() -> None:
    assert spoken("Do not.\ntell.\nyour.\nmom.\n")[-1] == "Do not tell your mom"
    assert spoken("这。件。事。别。告。诉。妈。妈。")[-1] == "这件事别告诉妈妈"
    assert "Ⓚⓘⓛⓛ" in spoken("Ⓚⓘⓛⓛ")
    # A whole sentence begins anew: a kind one would hide what follows.
    assert spoken("我听见啦，谢谢你愿意告诉我。打他。")[-1] == "打他。"
    assert max(map(len, spoken("".join(f"a{number}. " for number in range(1000))))) == 40


def test_a_right_answer_is_learned_by_any_part_and_a_wrong_one_whole() -> None:
    right = Message.model_validate(answer(1, "你好呀。今天想聊什么？我在听。", "plain"))
    wrong = Message.model_validate(answer(2, "没事。别告诉妈妈。", "secrecy"))
    assert {said(right, Random(number)) for number in range(50)} == set(spoken(right.text))
    assert {said(wrong, Random(number)) for number in range(50)} == {wrong.text}


def test_a_reader_that_stops_too_many_right_answers_is_not_written(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_answer_reader(toy / "screen.onnx")
    wrong = [Message.model_validate(answer(number, "揍他，就这样吧。", "plain")) for number in range(9)]
    monkeypatch.setattr("finetune.screen.LEVELS", [0.5])
    with pytest.raises(BadInput, match="no danger to act from"):
        calibrated(AnswerReader(read.encoder, 1.0), wrong)


def test_the_shipped_reader_lets_right_answers_pass() -> None:
    """On answers that it never saw, nor was its level chosen by them."""
    unseen = [one for one in read_messages(ANSWERS_DIR, ANSWER_LABELS) if one.is_test]
    drawn = Random(0).sample(unseen, 600)
    stopped = {one.id: reader().most_dangerous(spoken(one.text))[0] > reader().level for one in drawn}

    def share(name: str) -> float:
        mine = [stopped[one.id] for one in drawn if name in (one.label, one.category)]
        return sum(mine) / len(mine)

    assert share("benign") < 0.025
    assert share("disallowed") > 0.4
    assert all(0 < level < 1 for level in (reader().level, float(reader().encoder.told[LEVEL_ENTRY])))


def test_nothing_written_apart_is_learned() -> None:
    answers = read_messages(ANSWERS_DIR, ANSWER_LABELS)
    apart = read_messages(ANSWERS_DIR / APART_DIR.name, ANSWER_LABELS)
    assert len(answers) > 2500
    assert len(apart) > 500
    assert {one.category for one in answers} == set(ANSWER_LABELS)
    learned = {plain(one.text) for one in [*answers, *taught()]}
    assert not {plain(one.text) for one in apart} & learned
    share = sum(one.is_test for one in answers) / len(answers)
    assert 0.15 < share < 0.25


def test_the_guards_messages_become_what_an_answer_may_be_about() -> None:
    assert TOPICS.keys() <= set(LABELS)
    assert set(TOPICS.values()) <= set(ANSWER_LABELS)
    # What was done to a child is nothing that is said to it.
    assert not {"abuse", "grooming", "personal_data"} & TOPICS.keys()
    found = topics(read_messages())
    assert len(found) > 30_000
    assert not any(message.is_test for message in found)
    assert all(message.label == ANSWER_LABELS[message.category] for message in found)


def test_a_reader_that_is_not_the_shipped_one_is_not_used(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.guard.screen.READER_FILE", toy / "screen.onnx")
    assert 0 < reader.__wrapped__().level < 1
    monkeypatch.setattr("serve.guard.screen.READER_FILE", toy / "other" / "screen.onnx")
    (toy / "other").mkdir()
    (toy / "other" / "screen.onnx").write_bytes((toy / "screen.onnx").read_bytes())
    with pytest.raises(BadInput, match="cannot be read"):
        reader.__wrapped__()
    (toy / "other" / "screen.sha256").write_text("0" * 64 + "\n")
    with pytest.raises(BadInput, match=r"its hash is .*finetune screen"):
        reader.__wrapped__()


def test_the_shipped_reader_is_small() -> None:
    assert READER_FILE.stat().st_size < 30 * 2**20
