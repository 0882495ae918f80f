"""The classifier's training: it learns, it forgets nothing in its file, and it never sees the test part."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from data.classifier import ENCODER_FILE, WINDOW, Parts, pieces, read_reader, width, windows
from data.conversations import DATA_DIR
from data.encoder import LONGEST, plain, read_encoder
from data.forms import Typed, legible
from data.safety import (
    ANSWER_LABELS,
    ANSWERS_DIR,
    APART_DIR,
    HELD_OUT,
    LABELS,
    PROBES_DIR,
    Message,
    everyday_talk,
    in_talk,
    read_messages,
)
from data.strict import BadInput
from finetune.guard import LABELS_IN_ORDER, NOT_EVERYDAY, everyday, main, read_parts, split, thresholds
from serve.guard.bench import why_questions
from serve.guard.guard import read_guard

SOURCES = ("child", "teen")
WORDS = {
    "self_harm": "我不想活 想死 划手腕 去死",
    "violence": "打死他 拿刀捅 炸学校 揍人",
    "substances": "买烟 喝酒 大麻 vape",
    "plain": "下雨了 画恐龙 讲故事 做作业 吃苹果 看星星 踢足球 种花 折纸飞机 数羊",
    "near_miss": "游戏里死了 杀死细菌 笑死了 打疫苗",
}


def write(folder: Path, count: int = 300) -> None:
    """Messages with a meaning so plain that any classifier finds it; one of each category at least."""
    rng = random.Random(0)
    lines = []
    for number in range(count):
        category = list(WORDS)[number % len(WORDS)] if number >= len(LABELS) else list(LABELS)[number]
        words = rng.choice(WORDS.get(category, category).split())
        lines.append({
            "id": f"zh-{number}", "text": f"{words} {number % 7}", "language": "zh", "label": LABELS[category],
            "category": category, "source": SOURCES[number % 2],
        })  # fmt: skip
    # Every category in every fold of the cross-validation.
    for repeat in range(8):
        lines += [{**line, "id": f"{line['id']}-{repeat}"} for line in lines[: len(LABELS)]]
    folder.mkdir()
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / "zh.jsonl").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with an encoder of one layer, trained on messages that are easy."""
    folder = tmp_path_factory.mktemp("guard")
    write(folder / "safety")
    assert train(folder, folder / "classifier.safetensors") == 0
    return folder


def train(folder: Path, out: Path) -> int:
    return main(["--data", str(folder / "safety"), "--out", str(out), "--layers", "1", "--epochs", "8"], {})


def test_it_learns_what_is_plain_and_writes_it_down(toy: Path) -> None:
    path = toy / "classifier.safetensors"
    guard, reader = read_guard(path), read_reader(path)
    # One layer and a few minutes' worth of words: what it was told, it knows.
    assert reader.read(Typed("想死 3")).category == "self_harm"
    assert reader.read(Typed("喝酒 2")).category == "substances"
    # Whole: of a number by itself, as a window has it, it knows nothing.
    assert reader.read_whole(Typed("杀死细菌 1")).danger < 0.5 < reader.read_whole(Typed("拿刀捅 1")).danger
    assert guard.judge(["画恐龙"]) is None
    assert path.stat().st_size < 4 * 2**20
    assert (toy / ENCODER_FILE).stat().st_size < 20 * 2**20


def test_a_changed_or_foreign_file_is_not_opened(toy: Path, tmp_path: Path) -> None:
    for file in toy.glob("*.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path, encoder = tmp_path / "classifier.safetensors", tmp_path / ENCODER_FILE
    assert read_guard(path)
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(BadInput, match="its hash is"):
        read_guard(path)
    path.write_bytes(raw)
    # An encoder that reads well and is another one: the thresholds are not its.
    encoder.write_bytes(encoder.read_bytes() + b"\x72\x00")
    with pytest.raises(BadInput, match="belongs to"):
        read_guard(path)
    encoder.write_bytes(b"no encoder")
    with pytest.raises(BadInput, match="cannot be read as an encoder"):
        read_guard(path)
    encoder.unlink()
    with pytest.raises(BadInput, match="cannot be read as an encoder"):
        read_guard(path)


def test_the_same_messages_give_the_same_files(toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "classifier.safetensors"
    train(toy, out)
    assert out.read_bytes() == (toy / out.name).read_bytes()
    assert (tmp_path / ENCODER_FILE).read_bytes() == (toy / ENCODER_FILE).read_bytes()


def test_the_encoder_says_what_it_was_trained_to_say(toy: Path) -> None:
    """Eight bits and ONNX are near the model in fp32, for a text of any length."""
    from finetune.guard_encoder import EncoderTrainer, from_pretrained, write_encoder

    messages = read_messages(toy / "safety")[:64]
    trainer = EncoderTrainer(from_pretrained(messages, layers=1), messages)
    trainer.fit(1)
    write_encoder(trainer, toy / "other.onnx")
    encoder = read_encoder(toy / "other.onnx")
    whole = trainer.logits(messages)
    eight = np.stack([encoder.logits(message.text) for message in messages])
    assert np.abs(whole - eight).max() < 0.2 * np.abs(whole).max()
    assert np.isfinite(encoder.logits("")).all()
    assert np.isfinite(encoder.logits("很" * 5000)).all()


def test_a_written_encoder_is_tuned_on(toy: Path, tmp_path: Path) -> None:
    """It begins as it was written, learns what it did not know, and keeps the rest."""
    from finetune.guard_encoder import EncoderTrainer, from_written

    messages = read_messages(toy / "safety")[:64]
    trainer = EncoderTrainer(from_written(toy / ENCODER_FILE), messages)
    encoder = read_encoder(toy / ENCODER_FILE)
    eight = np.stack([encoder.logits(message.text) for message in messages])
    # Weights of eight bits, read back, say the same; only what they are multiplied by is not rounded.
    assert np.abs(trainer.logits(messages) - eight).max() < 0.2 * np.abs(eight).max()
    harmless = [message for message in messages if message.category == "plain"]
    changed = {"label": "disallowed", "category": "violence"}
    dangerous = [message.model_copy(update=changed) for message in harmless]
    before = trainer.logits(harmless)[:, 0].mean()
    trainer.fit(40, dangerous)
    assert trainer.logits(harmless)[:, 0].mean() > before + 0.3
    words = ["--data", str(toy / "safety"), "--out", str(tmp_path / "classifier.safetensors")]
    assert main([*words, "--from", str(toy / ENCODER_FILE)], {}) == 0
    assert read_reader(tmp_path / "classifier.safetensors").read(Typed("想死 3")).category == "self_harm"


def test_an_encoder_of_other_labels_is_not_tuned_on(toy: Path) -> None:
    from finetune.guard_encoder import from_written

    with pytest.raises(BadInput, match=r"encoder\.onnx: was tuned for other labels"):
        from_written(toy / ENCODER_FILE, labels=3)
    with pytest.raises(BadInput, match="--layers: an encoder that is tuned on keeps its own"):
        main(["--from", str(toy / ENCODER_FILE), "--layers", "2"], {})


def test_what_children_say_every_day_is_learned_as_harmless() -> None:
    topics = {
        record["topic"]
        for name in ("child_chat.json", "child_chat_en.json")
        for record in json.loads((DATA_DIR / name).read_text(encoding="utf-8"))
    }
    assert all(any(topic.startswith(name) for topic in topics) for name in NOT_EVERYDAY)
    turns = everyday()
    assert len(turns) > 2000
    assert {turn.category for turn in turns} == {"plain"}
    assert not {turn.id for turn in turns} & {message.id for message in read_messages()}
    learned, kept = split(turns)
    assert len(learned) > 6 * len(kept) > 0
    # What make bench-guard asks is not among them.
    asked = {question for question in why_questions(read_messages()) if "？" in question or "?" in question}
    assert not asked & {turn.text for turn in turns}


def test_nothing_written_apart_is_trained_on() -> None:
    apart = read_messages(APART_DIR)
    assert len(apart) > 700
    assert {message.category for message in apart} == set(LABELS) - {"personal_data"}
    assert len(read_messages(PROBES_DIR)) > 1900
    apart = [message for folder in HELD_OUT for message in read_messages(folder)]
    assert len(apart) > 3200
    taught = [*read_messages(), *everyday()]
    assert not {message.id for message in apart} & {message.id for message in taught}
    assert not {plain(message.text) for message in apart} & {plain(message.text) for message in taught}


def test_the_screens_answers_are_labelled_and_some_written_apart() -> None:
    answers, apart = (read_messages(folder, ANSWER_LABELS) for folder in (ANSWERS_DIR, ANSWERS_DIR / APART_DIR.name))
    assert len(answers) > 6000
    assert {answer.category for answer in answers} == set(ANSWER_LABELS)
    assert 0.12 < sum(answer.is_test for answer in answers) / len(answers) < 0.25
    assert len(apart) > 500
    assert {answer.category for answer in apart} <= set(ANSWER_LABELS)
    assert not {plain(answer.text) for answer in apart} & {plain(answer.text) for answer in answers}


def test_disguises_look_alike_to_the_encoder() -> None:
    assert plain("ＫＩＬＬ\u200b  Me\n") == "kill me"
    assert plain("Café") == "cafe"
    assert plain("我想自殺") == "我想自杀"


def test_the_test_part_is_one_in_five_and_stays(capsys: pytest.CaptureFixture[str]) -> None:
    messages = read_messages()
    share = sum(message.is_test for message in messages) / len(messages)
    assert 0.17 < share < 0.23
    assert len(messages) >= 4991
    assert {message.category for message in messages} == set(LABELS)
    # Known for ever: a change of the rule would mix what was trained on with what is measured on.
    first = {message.id: message for message in messages}
    assert [first[f"zh-self-harm-{number:03d}"].is_test for number in range(1, 9)] == [
        True,
        False,
        True,
        False,
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 1: not valid JSON"),
        ('{"id": "a", "text": "x", "language": "zh", "label": "crisis", "category": "plain", "source": "s"}', "does not belong"),
        ('{"id": "a", "text": " ", "language": "zh", "label": "benign", "category": "plain", "source": "s"}', "is empty"),
        ('{"id": "a", "text": "x", "language": "zh", "label": "benign", "category": "plain"}', '"source" is missing'),
        ('{"id": "a", "text": "x", "language": "zh", "label": "benign", "category": "plain", "source": "s"}\n' * 2, "stands twice"),
    ],
)  # fmt: skip
def test_a_wrong_message_is_one_sentence(tmp_path: Path, line: str, sentence: str) -> None:
    (tmp_path / "zh.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(BadInput, match=sentence):
        read_messages(tmp_path)


def test_a_message_may_hold_what_ends_a_line_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "safety", count=1)
    file = tmp_path / "safety" / "zh.jsonl"
    text = json.loads(file.read_text(encoding="utf-8").partition("\n")[0])["text"]
    file.write_text(file.read_text(encoding="utf-8").replace(text, "\u2028\x85a"), encoding="utf-8")
    assert {message.text for message in read_messages(file.parent)} == {"\u2028\x85a"}


def test_no_messages_and_no_place_for_the_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no \.jsonl"):
        read_messages(tmp_path)
    with pytest.raises(BadInput, match="no such folder"):
        main(["--out", str(tmp_path / "nowhere" / "x.safetensors")], {})


def test_messages_of_which_some_are_missing_are_told_before_hours_of_training(tmp_path: Path) -> None:
    write(tmp_path / "safety")
    file = tmp_path / "safety" / "zh.jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    kept = {message.id for message in split(read_messages(file.parent))[1]}
    for left, told in (
        ([line for line in lines if line["category"] not in ("hate", "abuse")], "no message to learn abuse, hate from"),
        ([line for line in lines if line["label"] != "crisis" or line["id"] not in kept], "of crisis no message is among the one in 8"),
    ):  # fmt: skip
        file.write_text("".join(json.dumps(line) + "\n" for line in left), encoding="utf-8")
        with pytest.raises(BadInput, match=rf"safety: {told}"):
            train(tmp_path, tmp_path / "classifier.safetensors")


def test_a_classifier_that_would_never_act_takes_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Trainer:
        """An encoder that learns nothing."""

        def __init__(self, *_: object) -> None: ...

        def fit(self, epochs: int) -> None: ...

    monkeypatch.setattr("finetune.guard_encoder.from_pretrained", lambda *_: None)
    monkeypatch.setattr("finetune.guard_encoder.EncoderTrainer", Trainer)
    monkeypatch.setattr("finetune.guard_encoder.write_encoder", lambda _, path: path.write_bytes(b"encoder"))
    monkeypatch.setattr("finetune.guard._read_back", lambda _, kept: np.zeros((len(kept), len(LABELS_IN_ORDER))))
    # What would have to be caught is caught by none.
    monkeypatch.setattr("finetune.guard.LEVELS", np.array([1.0]))
    write(tmp_path / "safety")
    out = tmp_path / "classifier.safetensors"
    out.write_bytes(b"before")
    with pytest.raises(BadInput, match=r"classifier\.safetensors: stays as it is: no pair of dangers"):
        train(tmp_path, out)
    assert out.read_bytes() == b"before"
    assert {path.name for path in tmp_path.iterdir()} == {"safety", out.name}


def test_the_parts_of_a_text_meet_across_spellings() -> None:
    parts = read_parts()
    for one, other in (
        ("我想死", "wo xiang si"), ("我想死", "woxiangsi"), ("我想自杀", "I want to kill myself"),
        ("porn", "p0rn"), ("ＶＡＰＥ", "vape"), ("自殺", "自杀"),
    ):  # fmt: skip
        shared = {part for part in set(parts.of(Typed(one))) & set(parts.of(Typed(other))) if part != "p|"}
        assert shared, (one, other)
    assert parts.is_pinyin(Typed("wo bu xiang huo le"))
    assert not parts.is_pinyin(Typed("I want to go home"))
    assert "e🔪" in parts.of(Typed("🔪"))


def test_a_long_text_is_read_in_pieces() -> None:
    text = "今天天气很好。" * 100 + "我想去死。" + "然后我们去公园玩。" * 100
    assert "".join(pieces(text)) == text
    assert max(map(len, pieces(text))) <= 170
    assert pieces("短") == ["短"]


def test_a_message_is_put_among_short_plain_ones() -> None:
    talk = everyday_talk(read_messages())
    assert talk.keys() == {"zh", "en"}
    assert all(0 < len(text) <= 80 for texts in talk.values() for text in texts)
    message = Message(id="a", text="他打我！", language="zh", label="crisis", category="abuse", source="child")
    told = [in_talk(message, ["吃饭了。", "下雨了。"], random.Random(number)) for number in range(50)]
    assert all("他打我" in text for text in told)
    # With commas between, or without any mark.
    assert {"，" in text for text in told} == {True, False}
    assert not any("！" in text for text in told)
    assert told == [in_talk(message, ["吃饭了。", "下雨了。"], random.Random(number)) for number in range(50)]


def test_a_wide_text_is_read_clause_by_clause() -> None:
    assert windows("我们今天去公园玩，后来他打我") == [
        "我们今天去公园玩，",
        "后来他打我",
        "我们今天去公园玩，后来他打我",
    ]
    # What is short is read with what follows; a mark or a blank ends a clause.
    assert windows("嗯，他打我 好疼") == ["嗯，他打我 好疼", "他打我 好疼"]
    # A lone number or sign at the end is no window, and a text of nothing else is one.
    assert windows("后来我们回家了，3") == ["后来我们回家了，", "后来我们回家了，3"]
    assert windows("3") == ["3"]
    # No marks: steps between words, three of them at a time, up to the end.
    assert windows("then we went home and my brother took my ball again and " * 2)[:2] == [
        "then we went home and my brother took my ball ",
        "and my brother took my ball again and then we ",
    ]
    spoken = "今天上学的时候同桌又把我的橡皮拿走了" * 9
    found = windows(spoken)
    assert [spoken.index(window) for window in found[:3]] == [0, 6, 12]
    assert {len(window) for window in found[:-2]} == {18}
    assert all(spoken.endswith(window) for window in found[-2:])
    assert max(map(width, windows("x" * 5000 + "我" * 5000 + "🎈 " * 300))) <= WINDOW


def test_no_piece_is_longer_than_the_encoder_reads() -> None:
    encoder = read_guard()._classifier.encoder
    for text in ("\ufdfa", "\u3316", "한", "é", "ж", "鑫", "🎈", "Ⅷ", "⑽", "ab c", "x1"):
        for piece in pieces(legible(text * 400)):
            assert len(encoder.tokenizer.encode(plain(piece)).ids) <= LONGEST, text


def test_thresholds_keep_near_misses(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    messages = [
        Message(id=str(n), text="x", language="zh", label=LABELS[c], category=c, source="s")  # type: ignore[arg-type]
        for n, c in enumerate(["near_miss"] * 200 + ["self_harm"] * 100 + ["violence"] * 100)
    ]
    logits = rng.normal(size=(400, len(LABELS_IN_ORDER))).astype(np.float32)
    logits[200:, 0] += 3
    chosen, value = thresholds(messages, logits)
    # Of 100 and of 100: the lesser.
    assert 0.5 < value <= 1
    from data.classifier import dangers

    danger, category = dangers(logits, LABELS_IN_ORDER)
    crisis = np.array([LABELS[LABELS_IN_ORDER[1 + number]] == "crisis" for number in category])
    acted = np.where(crisis, danger > chosen["crisis"], danger > chosen["disallowed"])
    assert acted[:200].mean() <= 0.03
    assert acted[200:].mean() > acted[:200].mean()


def test_parts_need_no_concepts() -> None:
    assert "c死" in Parts({}, {}).of(Typed("死"))
