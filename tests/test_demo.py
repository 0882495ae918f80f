"""The main job from outside: what README promises of `make demo` and `make smoke`."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import openai
import pytest

from data.conversations import conversations
from tests import demo
from tests.ui.serving import Serving, respond

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]


def run(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tests.demo", *words],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip


def pairs(text: str) -> set[str]:
    """Every two characters that stand side by side, without signs."""
    words = re.sub(r"[\W_]+", "", text)
    return {words[place : place + 2] for place in range(len(words) - 1)}


def test_smoke_ends_with_its_line_and_makes_nothing_twice(trained_demo: demo.Demo) -> None:
    done = run("--smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"smoke: ok, first reply \d+ s after install", done.stdout.splitlines()[-1])
    assert f"train: {trained_demo.run} is there" in done.stderr
    assert f"merge: {trained_demo.model} is there" in done.stderr


def test_a_failing_step_is_named(tmp_path: Path) -> None:
    done = run("--smoke", "--base", str(tmp_path))
    assert done.returncode == 2
    assert "no config.json" in done.stderr
    assert "Traceback" not in done.stderr
    done = run("--smoke", "--recipe", str(tmp_path / "none.yaml"))
    assert (done.returncode, "none.yaml" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_smoke_asks_its_server_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody answers there
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    asked = []

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        asked.append(json.loads(body))
        said = {"role": "assistant", "content": "你好！"}
        made = {"id": "1", "created": 1, "model": "mindpal", "object": "chat.completion"}
        if not asked[-1].get("stream"):
            choice = {"index": 0, "finish_reason": "stop", "message": said}
            respond(request, 200, json.dumps(made | {"choices": [choice]}).encode())
            return
        chunk = made | {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": said}]}
        respond(request, 200, f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())

    with Serving(answer) as server:
        demo._chat(f"http://127.0.0.1:{server.port}", time.monotonic())
    assert len(asked) == 2 * len(demo.QUESTIONS)


def test_ctrl_c_ends_every_process_and_the_family_keeps_its_records(trained_demo: demo.Demo, tmp_path: Path) -> None:
    port, page_port = demo.free_port(), demo.free_port()
    # A shell that a family's own page is started from; of theirs the demo touches nothing.
    theirs = {"DATABASE_URL": "postgresql+psycopg://127.0.0.1:9/family", "MINDPAL_KEY_FILE": str(tmp_path / "key")}
    before = written(ROOT / "family")
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "tests.demo", "--port", str(port), "--page-port", str(page_port)],
            cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **theirs, "BROWSER": "true"},
        )  # fmt: skip
        try:
            until = time.monotonic() + 300
            while b"is awake" not in (tmp_path / "log").read_bytes():
                assert started.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < until
                time.sleep(0.5)
            assert len(with_ports(port, page_port)) >= 2
            started.send_signal(signal.SIGINT)
            assert started.wait(60) == 130
        finally:
            started.kill()
            started.wait()
    assert with_ports(port, page_port) == []
    assert (ROOT / demo.FAMILY / "key").is_file()
    assert written(ROOT / "family") == before
    assert not (tmp_path / "key").exists()
    # Ours would stand at a line's start; vLLM's own log has its sign before each line.
    assert not any(line.startswith("Traceback") for line in (tmp_path / "log").read_text().splitlines())


def written(folder: Path) -> dict[Path, int]:
    """Every file of a folder, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def with_ports(*ports: int) -> list[str]:
    """The command lines of this machine's processes that name one of the ports, but not the demo's own."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "tests.demo" not in words and any(str(port) in word for port in ports for word in words):
            found.append(" ".join(words))
    return found


@pytest.mark.parametrize("question", demo.QUESTIONS)
def test_the_four_questions_are_answered_as_they_were_taught(demo_server: str, question: str) -> None:
    taught = next(one.turns[1].text for one in conversations("child_chat")[0] if one.turns[0].text == question)
    client = openai.OpenAI(base_url=f"{demo_server}/v1", api_key="none", timeout=120, max_retries=0)
    for seed in range(3):
        answer = client.chat.completions.create(
            model="mindpal", messages=[{"role": "user", "content": question}], seed=seed
        ).choices[0]
        words = answer.message.content or ""
        assert answer.finish_reason == "stop"
        assert 5 <= len(words) <= 250
        assert "think" not in words
        # On the topic and fluent: much of it are the taught answer's own pairs of characters.
        assert len(pairs(words) & pairs(taught)) >= 0.4 * len(pairs(words)), words


def test_a_request_that_asks_otherwise_is_answered_as_if_it_had_not(demo_server: str) -> None:
    client = openai.OpenAI(base_url=f"{demo_server}/v1", api_key="none", timeout=120, max_retries=0)
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": demo.QUESTIONS[3]}]
    plain = client.chat.completions.create(model="mindpal", messages=messages, seed=7)
    asked = client.chat.completions.create(
        model="mindpal",
        messages=[{"role": "system", "content": "你是海盗。"}, *messages],
        seed=7,
        temperature=2,
        extra_body={"chat_template_kwargs": {"enable_thinking": True}},
    )
    assert asked.choices == plain.choices


def test_the_tuning_changed_the_answers(trained_demo: demo.Demo) -> None:
    code = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from tests.demo import QUESTIONS
base, tuned = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(tuned)
answers = {}
for folder in (base, tuned):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for question in QUESTIONS:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        made = model.generate(**ids, do_sample=False, max_new_tokens=120, eos_token_id=tokenizer.eos_token_id)
        answers.setdefault(question, []).append(tokenizer.decode(made[0, ids["input_ids"].shape[1]:], skip_special_tokens=True))
print(json.dumps(answers))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(trained_demo.base.folder), str(trained_demo.model)],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert len(answers) == 4
    for question, (before, after) in answers.items():
        shared = pairs(before) & pairs(after)
        assert len(shared) < 0.5 * len(pairs(after)), f"{question}\nbase:  {before}\ntuned: {after}"


def test_the_example_of_readme_runs(demo_server: str) -> None:
    example, theirs = (
        re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
        for name in ("README.md", "README.zh-CN.md")
    )
    assert example == theirs
    (code,) = (found.replace("http://127.0.0.1:8000", demo_server) for found in example)
    assert demo_server in code
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "光" in done.stdout
