"""`data synthesize` against a real server in the shape of OpenAI's API: a small teacher that can be slow or fail."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from data.contract import read_contract
from data.conversations import DATA_DIR
from data.strict import BadInput
from finetune.dataset.check import Checker, check
from finetune.dataset.lengths import Ruler
from finetune.dataset.synthesize import main

# Words that make answers unlike one another; what they say is of no matter here.
_HAN = "的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长知民样现分将外但身些与高意进把法此实回二理美点月明其种声全工己话儿者向情部正名定女问力机给等几很业最间新什打便位因重被走电四第门相次东政海口使教西再平真听世气信北少关并内加化由却代军产入先山五太水万市眼体别处总才场师书比住员九笑性通目华报立马命张活难神数件安表原车白应路期叫死常提感金何更反合放做系计或司利受光王果亲界及今京务制解各任至清物台象记边共风战干接它许八特觉望直服毛林题建南度统色字请交爱让认算论百吃义科怎元社术结六功指思非流每青管夫连远资队跟带花快条院变联言权往展该领传近留红治决周保达办运武半候七必城父强步完革深区即求品士转量空甚众技轻程告江语英基派满式李息写呢识极令黄德收脸钱党倒未持取设始版双历越史商千片容研像找友孩站广改议形委早房音火际则首单据导影失拿网香似斯专石若兵弟谁校读志飞观争究包组造落视济喜离虽坏兴"


def conversation(number: int) -> list[dict[str, str]]:
    """Turns that pass every rule, unlike those of any other number."""
    import random

    chosen = random.Random(number)
    texts = ["".join(chosen.sample(_HAN, 24)) for _ in range(4)]
    return [{"from": "gpt" if place % 2 else "human", "value": text} for place, text in enumerate(texts)]


class Teacher(ThreadingHTTPServer):
    """Answers each candidate by its number: `statuses` go wrong first, `replies` are said instead of a good one."""

    daemon_threads = True

    def __init__(
        self, *, delay: float = 0.0, statuses: dict[int, list[int]] | None = None, replies: dict[int, str] | None = None
    ):
        super().__init__(("127.0.0.1", 0), Handler)
        self.delay, self.statuses, self.replies = delay, statuses or {}, replies or {}
        self.asked: list[int] = []
        self.keys: set[str] = set()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Teacher

    def do_POST(self) -> None:
        teacher = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = re.search(r"Number (\d+)", body["messages"][0]["content"])
        assert found
        assert self.path == "/v1/chat/completions"
        number = int(found[1])
        with teacher.lock:
            teacher.asked.append(number)
            teacher.keys.add(self.headers["Authorization"])
            teacher.at_once += 1
            teacher.most_at_once = max(teacher.most_at_once, teacher.at_once)
            status = teacher.statuses.get(number, []).pop(0) if teacher.statuses.get(number) else 200
        time.sleep(teacher.delay)
        with teacher.lock:
            teacher.at_once -= 1
        reply = teacher.replies.get(number, json.dumps(conversation(number), ensure_ascii=False))
        message = {"role": "assistant", "content": reply}
        answer: dict[str, Any] = {
            "id": "x", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        }  # fmt: skip
        content = json.dumps(answer if status == 200 else {"error": {"message": "not now"}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the standard library's
        pass


@contextmanager
def serving(teacher: Teacher) -> Iterator[Teacher]:
    thread = threading.Thread(target=teacher.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield teacher
    finally:
        teacher.shutdown()
        thread.join()
        teacher.server_close()


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """A data folder with one conversation, the hundredth."""
    folder = tmp_path / "known"
    folder.mkdir()
    record = {"id": "k", "topic": "joy", "age": "7-9", "language": "zh", "conversations": conversation(100)}
    (folder / "dataset_info.json").write_text(json.dumps({"a": {"file_name": "a.json", "formatting": "sharegpt"}}))
    (folder / "a.json").write_text(json.dumps([record], ensure_ascii=False), encoding="utf-8")
    return folder


def words(teacher: Teacher, known: Path, out: Path, count: int, *more: str) -> list[str]:
    return [
        "--teacher", teacher.address, "--model", "m", "--count", str(count), "--data-dir", str(known), "--out", str(out),
        "--topics", "joy,fear_of_dark", *more,
    ]  # fmt: skip


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_passes_is_kept_as_a_set_of_its_own(known: Path, tmp_path: Path) -> None:
    with serving(Teacher(delay=0.05)) as teacher:
        assert main(words(teacher, known, tmp_path / "out", 8, "--concurrency", "4"), {"OPENAI_API_KEY": "secret"}) == 0
        assert teacher.keys == {"Bearer secret"}
        assert 2 <= teacher.most_at_once <= 4
        assert sorted(teacher.asked) == list(range(8))
    kept = lines(tmp_path / "out" / "grown.jsonl")
    assert {(one["topic"], one["age"]) for one in kept} >= {("joy", "4-6"), ("fear_of_dark", "4-6"), ("joy", "7-9")}
    assert {one["system"] for one in kept} == {read_contract().persona}
    told = check(["grown"], tmp_path / "out", Checker(read_contract(), 2048, Ruler("bytes", None)))
    assert [str(one) for one in told if getattr(one, "rule", "coverage") != "coverage"][:-1] == []


def test_what_does_not_pass_is_kept_apart_with_the_reason(known: Path, tmp_path: Path) -> None:
    swears = conversation(3)
    swears[1]["value"] += "，你真是太聪明了"
    replies = {
        0: "I would rather not.",
        1: json.dumps(conversation(1)[:1]),
        2: json.dumps(conversation(100), ensure_ascii=False),
        3: "<think>\nhm [{]\n</think>\n\n```json\n" + json.dumps(swears, ensure_ascii=False) + "\n```",
        4: '[{"from": "human", "value": "a"}, {"from"}]',
        5: '[{"from": "human", "value": "\\ud800"}, {"from": "gpt", "value": "x"}]',
    }
    with serving(Teacher(replies=replies)) as teacher:
        assert main(words(teacher, known, tmp_path / "out", 2), {}) == 0
    rejected = {line["number"]: line for line in lines(tmp_path / "out" / "rejected.jsonl")}
    assert sorted(rejected) == [0, 1, 2, 3, 4, 5]
    assert rejected[0]["reasons"] == ["the reply holds no JSON list of turns"]
    assert "ends with" in rejected[1]["reasons"][0]
    assert {"[duplicate]", "[first_question]"} <= {reason.split(" ")[-1] for reason in rejected[2]["reasons"]}
    assert rejected[3]["reasons"] == ["turn 1: an answer that flatters; write it anew. [words]"]
    assert "not valid JSON" in rejected[4]["reasons"][0]
    assert "half a character" in rejected[5]["reasons"][0]
    assert rejected[0]["reply"] == replies[0]
    assert {line["number"] for line in lines(tmp_path / "out" / "grown.jsonl")} == {6, 7}


def test_a_candidate_is_compared_with_those_kept_before(known: Path, tmp_path: Path) -> None:
    same = json.dumps(conversation(0), ensure_ascii=False)
    with serving(Teacher(replies={1: same, 2: same})) as teacher:
        assert main(words(teacher, known, tmp_path / "out", 1, "--concurrency", "1"), {}) == 0
        # In another run too.
        assert main(words(teacher, known, tmp_path / "out", 2, "--concurrency", "1"), {}) == 0
        assert teacher.asked == [0, 1, 2, 3]
    assert [line["number"] for line in lines(tmp_path / "out" / "grown.jsonl")] == [0, 3]


def test_a_teacher_that_is_busy_or_stumbles_is_asked_again(known: Path, tmp_path: Path) -> None:
    with serving(Teacher(statuses={0: [429, 429], 1: [500]})) as teacher:
        assert main(words(teacher, known, tmp_path / "out", 2), {}) == 0
        assert (teacher.asked.count(0), teacher.asked.count(1)) == (3, 2)


def test_a_teacher_that_refuses_is_told_and_nothing_is_lost(known: Path, tmp_path: Path) -> None:
    with serving(Teacher(statuses={1: [401]})) as teacher:
        with pytest.raises(BadInput, match="answered 401; check OPENAI_API_KEY"):
            main(words(teacher, known, tmp_path / "out", 3, "--concurrency", "1"), {})
        assert len(lines(tmp_path / "out" / "grown.jsonl")) == 1
        assert main(words(teacher, known, tmp_path / "out", 3, "--concurrency", "1"), {}) == 0
        assert teacher.asked == [0, 1, 1, 2]


def test_a_teacher_that_never_passes_ends_it_with_1(
    known: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Teacher(replies=dict.fromkeys(range(50), "no"))) as teacher:
        assert main(words(teacher, known, tmp_path / "out", 1), {}) == 1
        assert len(teacher.asked) == 10
    assert "better teacher" in capsys.readouterr().out


def test_a_run_that_was_killed_goes_on(known: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(Teacher(delay=0.15)) as teacher:
        command = [
            sys.executable,
            "-m",
            "finetune",
            "data",
            "synthesize",
            *words(teacher, known, out, 30, "--concurrency", "2"),
        ]
        running = subprocess.Popen(command, cwd=DATA_DIR.parent, env=dict(os.environ), stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while time.monotonic() < until and not (
            (out / "grown.jsonl").is_file() and len((out / "grown.jsonl").read_bytes().splitlines()) >= 4
        ):
            time.sleep(0.02)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        before = lines(out / "grown.jsonl")
        assert 4 <= len(before) < 30
        # As if the kill had come in the middle of a line.
        with (out / "grown.jsonl").open("a", encoding="utf-8") as file:
            file.write('{"id": "half')
        teacher.delay = 0
        assert main(words(teacher, known, out, 30, "--concurrency", "2"), {}) == 0
        kept = lines(out / "grown.jsonl")
        assert kept[: len(before)] == before
        assert sorted(line["number"] for line in kept) == list(range(30))
        # Asked twice is only what was under way when the kill came.
        assert len(teacher.asked) <= 30 + 2


def test_another_plan_in_the_same_folder_is_refused(known: Path, tmp_path: Path) -> None:
    with serving(Teacher()) as teacher:
        assert main(words(teacher, known, tmp_path / "out", 1), {}) == 0
        with pytest.raises(BadInput, match="other topics"):
            main(words(teacher, known, tmp_path / "out", 1, "--seed", "1"), {})
        with pytest.raises(BadInput, match="holds data sets already"):
            main(words(teacher, known, known, 1), {})


def test_an_address_that_is_no_teacher_is_told(known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.dataset.synthesize._RETRIES", 0)
    teacher = Teacher()
    teacher.server_close()
    with pytest.raises(BadInput, match="cannot be reached"):
        main(words(teacher, known, tmp_path / "out", 1), {})
