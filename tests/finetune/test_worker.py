"""The worker: one job after the other, paused, stopped and killed without loss, and every failure told in a sentence."""

import ast
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from data.contract import sha256
from data.queue import (
    JOB_LOG,
    REQUEST_FILE,
    WANT_FILE,
    Request,
    Want,
    is_heard,
    is_worker_alive,
    new_run,
    read_job,
    write_request,
    write_want,
)
from data.runs import (
    ADAPTER,
    CHECKPOINTS,
    RUN_FILE,
    STATUS_FILE,
    State,
    Status,
    read_metrics,
    read_status,
    write_status,
)
from finetune.allowed import Places
from finetune.checkpoints import checkpoints_in
from finetune.progress import progress
from finetune.run_folder import locked
from finetune.worker import Stop, Told, Worker, _alone, _ended
from tests.commands import Command, finetune, fork
from tests.finetune.small_runs import curve, make_data, make_recipe
from tests.small_models import make_base, make_sealed

WEIGHTS = "adapter_model.safetensors"
# Each job imports torch anew, which takes a busy machine its time.
pytestmark = pytest.mark.timeout(900)
# The jobs are processes of their own; with one thread each their sums are the same.
ALONE = {"OMP_NUM_THREADS": "1"}


class Place:
    """A base, a data set, a recipe, and a runs folder with its worker."""

    def __init__(self, folder: Path, made: Path):
        self.folder, self.runs, self.models = folder, folder / "runs", folder / "models"
        self.base, self.data, self.recipe = made / "base", made / "data", made / "small.yaml"
        self.workers: list[Command] = []

    def ask(self, verb: str, *words: str, created: str = "") -> Path:
        run = new_run(self.runs, verb)
        if verb == "train":
            given = ("--base", str(self.base), "--data-dir", str(self.data), "--run", str(run))
            words = (str(self.recipe), *words, *given)
        write_request(run, Request.model_validate({"verb": verb, "words": words, "created": created}))
        return run

    def worker(self, *more: str, **given: Any) -> Command:
        words = ("worker", "--runs", str(self.runs), "--models", str(self.models), "--data-dir", str(self.data), *more)
        command = Command(self.folder / f"worker-{len(self.workers)}", *words, environment=ALONE, **given)
        self.workers.append(command)
        return command

    def work(self, **given: Any) -> None:
        done = self.worker("--until-empty", **given).wait()
        assert done.code == 0, done.err

    def until(self, run: Path, state: State) -> None:
        """How a run ended is told once, by the worker, which knows what was asked."""
        self.workers[-1].wait_for(lambda: read_status(run).state not in ("queued", "running"))
        assert read_status(run).state == state, read_status(run).message


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_base(folder / "base")
    make_data(folder / "data")
    # Steps enough to say something in the middle of.
    make_recipe(folder / "small.yaml", num_train_epochs=10)
    return folder


@pytest.fixture(scope="module")
def whole(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing disturbed, in a terminal."""
    run = made / "whole"
    words = ("train", str(made / "small.yaml"), "--base", str(made / "base"), "--data-dir", str(made / "data"))
    done = finetune(tmp_path_factory.mktemp("out"), *words, "--run", str(run))
    assert done.code == 0, done.err
    return run


@pytest.fixture
def place(tmp_path: Path, made: Path) -> Iterator[Place]:
    found = Place(tmp_path, made)
    yield found
    for worker in found.workers:
        if worker.process.is_alive():
            worker.send(signal.SIGKILL)
            worker.process.join()


def at_step(run: Path, step: int) -> Callable[[], bool]:
    return lambda: any(line["step"] >= step for line in read_metrics(run))


def is_there(process: int | None) -> bool:
    """Whether a process lives; what waits to be buried does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(seen: Callable[[], bool], seconds: float = 60) -> None:
    """Until something is seen."""
    began = time.monotonic()
    while not seen():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)


def titles() -> set[str]:
    """What the bars of our programs are called; those of an evaluation by whom it measures, too."""
    found = {f"{who}: {what}" for who in ("base", "tuned") for what in ("loss", "answers")}
    for path in (Path(__file__).parents[2] / "finetune").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "progress":
                title = node.args[0]
                found |= {str(title.value)} if isinstance(title, ast.Constant) else set()
    return found


@pytest.mark.parametrize("title", sorted(titles()))
def test_how_far_a_job_is_is_read_from_what_it_prints(
    title: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = new_run(tmp_path, "job")
    write_status(run, Status(state="running"))
    with progress(title, 47) as advance:
        advance(3, "a note")
    with (tmp_path / "lock").open("w") as lock:
        worker = Worker(Places(tmp_path), {}, Stop(), lock)
        worker._tell_progress(run, capsys.readouterr().err.strip())
        assert (read_status(run).step, read_status(run).steps) == (3, 47)
        assert read_status(run).message == f"{title} a note"
        # What a model answers is not.
        worker._tell_progress(run, json.dumps({"answer": f"{title}: 9 of 10"}))
    assert read_status(run).step == 3


@pytest.mark.parametrize(
    ("code", "end"), [(0, ("done", "")), (1, ("failed", "errors were found; the log lists them."))]
)
def test_many_findings_are_told_as_findings(code: int, end: tuple[str, str], tmp_path: Path) -> None:
    finding = {
        "level": "error",
        "rule": "persona",
        "file": "mine.json",
        "row": 7,
        "turn": 1,
        "sentence": "a sentence. " * 9,
    }
    told = Told(tmp_path / JOB_LOG)
    told.add(f"{json.dumps({'errors': 60, 'warnings': 0, 'findings': [finding] * 60})}\n".encode())
    request = Request(verb="data", words=("check", "mine", "--json"))
    assert _ended(tmp_path, request, code, told, None, trains=False) == end


def test_first_come_first_served_and_what_is_not_allowed_is_told(place: Place, tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_sealed(place.models / name)
    later = place.ask("promote", str(place.models / "one"), created="2026-01-02T00:00:00+00:00")
    first = place.ask("promote", str(place.models / "none"), created="2026-01-01T00:00:00+00:00")
    outside = place.ask("merge", "runs/x", "--out", str(tmp_path / "elsewhere"))
    paused = place.ask("data", "stats")
    write_want(paused, "pause")
    damaged = place.ask("chat")
    (damaged / REQUEST_FILE).write_text('{"verb": "chat", "wor')
    orphan = place.ask("promote", str(place.models / "two"), created="2026-01-03T00:00:00+00:00")
    write_status(orphan, Status(state="running", pid=1))
    place.work()
    assert read_status(first).state == "failed"
    assert "no sealed model folder" in read_status(first).message
    assert [read_status(run).state for run in (later, orphan)] == ["done", "done"]
    assert read_status(first).updated < read_status(later).updated < read_status(orphan).updated
    assert (later / JOB_LOG).read_text().startswith(f"$ python -m finetune promote {place.models / 'one'}\n")
    assert (place.models / "current").resolve().name == "two"
    assert read_status(later).message == (later / JOB_LOG).read_text().splitlines()[-1]
    assert "writes nowhere else" in read_status(outside).message
    assert "not valid JSON" in read_status(damaged).message
    assert read_status(paused).state == "paused"
    assert not (paused / WANT_FILE).exists()


def test_a_job_whose_process_is_gone_waits_again_or_is_told_while_the_worker_is_idle(place: Place) -> None:
    make_sealed(place.models / "one")
    worker = place.worker()
    worker.wait_for(lambda: is_worker_alive(place.runs))
    asked = place.ask("promote", str(place.models / "none"))
    place.until(asked, "failed")
    # A run that was begun in a terminal, with nobody's request: one is killed, and in one somebody trains.
    killed, trained = (new_run(place.runs, name) for name in ("killed", "trained"))
    with locked(trained):
        for run in (killed, trained):
            write_status(run, Status(state="running", pid=1, step=3, steps=9))
        lost = place.ask("promote", str(place.models / "one"))
        write_status(lost, Status(state="running", pid=1))
        place.until(killed, "failed")
        place.until(lost, "done")
        assert read_status(trained).state == "running"
    status = read_status(killed)
    assert status.message == "its process is gone; the command that began it goes on with --resume."
    assert (status.step, status.pid) == (3, None)
    place.until(trained, "failed")
    worker.send(signal.SIGTERM)
    assert worker.wait().code == 0


def test_a_second_worker_says_so(place: Place) -> None:
    worker = place.worker()
    worker.wait_for(lambda: is_worker_alive(place.runs))
    worker.wait_for(lambda: "looks after" in (place.folder / "worker-0" / "stderr").read_text())
    done = place.worker().wait()
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "another worker looks after it" in done.err
    worker.send(signal.SIGTERM)
    assert worker.wait().code == 0


def test_a_worker_whose_parent_is_gone_takes_up_nothing_more(place: Place) -> None:
    run = place.ask("data", "stats")
    # The parent of the tests' commands is another process.
    done = place.worker("--parent", str(os.getpid())).wait()
    assert done.code == 0, done.err
    assert "is gone" in done.err
    assert read_status(run).state == "queued"


def test_paused_then_killed_with_its_worker_it_ends_the_same(place: Place, whole: Path) -> None:
    run = place.ask("train")
    worker = place.worker()
    worker.wait_for(at_step(run, 3))
    write_want(run, "pause")
    place.until(run, "paused")
    assert read_status(run).step >= 3
    write_want(run, "run")
    worker.wait_for(at_step(run, 6))
    # As a terminal does it.
    os.kill(read_status(run).pid or 0, signal.SIGINT)
    place.until(run, "paused")
    assert read_status(run).message == "paused by a person"
    write_want(run, "run")
    worker.wait_for(at_step(run, 9))
    child = read_status(run).pid
    assert is_there(child)
    worker.send(signal.SIGKILL)
    worker.process.join()
    place.worker("--until-empty").wait_for(lambda: not is_there(child), 10)
    assert place.workers[-1].wait().code == 0
    assert read_status(run).state == "done"
    assert curve(run) == curve(whole)
    assert sha256(run / ADAPTER / WEIGHTS) == sha256(whole / ADAPTER / WEIGHTS)
    told = (run / JOB_LOG).read_text()
    assert told.count("$ python -m finetune train") == 4
    assert "going on from checkpoint-" in told


def work(runs: str, models: str, data: str, job: str) -> None:
    """A worker whose jobs are a shell's."""
    places, stop = Places(Path(runs), Path(models), Path(data)), Stop()
    with _alone(places.runs, stop) as lock:
        Worker(places, dict(os.environ), stop, lock, command=("sh", "-c", job)).work(until_empty=True)


@pytest.mark.parametrize("ends", ["job", "worker"])
def test_what_a_job_began_ends_with_it_and_with_a_killed_worker(place: Place, ends: str) -> None:
    run = place.ask("data", "stats")
    told = place.folder / "begun"
    job = f"sleep 600 & echo $! >{told}.new && mv {told}.new {told}; {'exit' if ends == 'job' else 'wait'}"
    worker = fork(work, str(place.runs), str(place.models), str(place.data), job)
    until(lambda: told.is_file() and read_status(run).state != "queued")
    begun = int(told.read_text())
    if ends == "worker":
        assert is_there(begun)
        worker.kill()
    worker.join(60)
    until(lambda: not is_there(begun))
    assert read_status(run).state == ("done" if ends == "job" else "running")


def test_what_is_wanted_of_other_jobs_is_heard_while_one_is_at_work(place: Place) -> None:
    end = place.folder / "end"
    at_work = place.ask("data", "stats", created="2026-01-01T00:00:00+00:00")
    paused, stopped, learned, broken = (place.ask("train", created="2026-01-02T00:00:00+00:00") for _ in range(4))
    failed = place.ask("data", "stats", created="2026-01-02T00:00:00+00:00")
    for run in (failed, broken):
        write_status(run, Status(state="failed"))
    for run in (learned, broken):
        (run / RUN_FILE).write_text("{}")
    job = f"until [ -e {end} ]; do sleep 0.1; done"
    worker = threading.Thread(target=work, args=(str(place.runs), str(place.models), str(place.data), job))
    worker.start()
    try:
        until(lambda: read_status(at_work).state == "running")
        assert is_heard(read_job(at_work))
        wanted: dict[Path, Want] = {paused: "pause", stopped: "stop", failed: "run", learned: "stop", broken: "stop"}
        for run, want in wanted.items():
            write_want(run, want)
        until(lambda: [read_status(run).state for run in (paused, stopped, failed)] == ["paused", "stopped", "queued"])
        # What it learned is kept when there is room for that.
        later = {"stops as soon as the job at work has ended"}
        until(lambda: {read_status(run).message for run in (learned, broken)} == later)
        write_want(paused, "run")
        until(lambda: read_status(paused).state == "queued")
        assert read_status(at_work).state == "running"
    finally:
        end.touch()
        worker.join(60)
    assert [read_status(run).state for run in (paused, failed)] == ["done", "done"]
    for run in (learned, broken):
        assert read_status(run).message.startswith("stopped by a person; what it learned so far is in")


def test_a_request_whose_status_never_came_is_taken_up(place: Place) -> None:
    old, new = place.ask("data", "stats"), place.ask("data", "stats")
    for run in (old, new):
        (run / STATUS_FILE).unlink()
    os.utime(old / REQUEST_FILE, (0, 0))
    work(str(place.runs), str(place.models), str(place.data), "exit 0")
    assert read_status(old).state == "done"
    assert not (new / STATUS_FILE).exists()


def test_a_worker_that_ends_leaves_its_job_to_the_next_and_a_stopped_run_is_kept(place: Place) -> None:
    run = place.ask("train")
    worker = place.worker()
    worker.wait_for(at_step(run, 3))
    worker.send(signal.SIGTERM)
    assert worker.wait().code == 0
    status = read_status(run)
    assert (status.state, status.pid) == ("queued", None)
    worker = place.worker()
    worker.wait_for(lambda: read_status(run).state == "running")
    worker.wait_for(at_step(run, status.step + 1))
    write_want(run, "stop")
    place.until(run, "stopped")
    assert "adapter/" in read_status(run).message
    newest = checkpoints_in(run / CHECKPOINTS)[0][1]
    assert sha256(run / ADAPTER / WEIGHTS) == sha256(newest / WEIGHTS)
    merged = place.ask("merge", str(run), "--out", str(place.models / "kept"))
    place.until(merged, "done")
    assert read_status(merged).steps == 1
    assert (place.models / "current" / "mindpal.json").is_file()


def test_what_goes_wrong_is_one_sentence(place: Place, made: Path, tmp_path: Path) -> None:
    cuda = place.ask("train", "method=qlora")
    records = json.loads((made / "data" / "small.json").read_text())
    records[4]["conversations"][1]["from"] = "gptt"
    bad = place.ask("train")
    request = json.loads((bad / REQUEST_FILE).read_text())
    request["words"][request["words"].index(str(place.data))] = str(make_data(tmp_path / "bad", records))
    (bad / REQUEST_FILE).write_text(json.dumps(request))
    killed = place.ask("train")
    worker = place.worker("--until-empty")
    worker.wait_for(at_step(killed, 3))
    os.kill(read_status(killed).pid or 0, signal.SIGKILL)
    assert worker.wait().code == 0
    told = {run: read_status(run) for run in (cuda, bad, killed)}
    assert {status.state for status in told.values()} == {"failed"}
    assert told[cuda].message.startswith("method=qlora: bitsandbytes' 4 bits need an NVIDIA GPU")
    assert told[bad].message.startswith("small.json record 4, turn 1: its \"from\" is 'gptt'")
    assert "out of memory" in told[killed].message
    assert "lower max_length" in told[killed].message


def test_a_full_disk_is_told_and_the_run_goes_on_with_room(place: Place, whole: Path) -> None:
    run = place.ask("train")
    # Files may grow to so much: metrics and logs do, the optimizer's state does not.
    largest = (checkpoints_in(whole / CHECKPOINTS)[0][1] / "optimizer.pt").stat().st_size
    place.work(limit=largest // 2)
    status = read_status(run)
    assert (status.state, status.pid) == ("failed", None)
    assert "the disk is full" in status.message
    write_want(run, "run")
    place.work()
    assert read_status(run).state == "done"
    assert sha256(run / ADAPTER / WEIGHTS) == sha256(whole / ADAPTER / WEIGHTS)
