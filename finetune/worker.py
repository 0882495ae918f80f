"""Take queued jobs out of the runs folder, one at a time, the oldest first.

In: `runs/<id>/request.json` and `want.json` (data/queue.py). Out: `status.json`, kept true, and `job.log`, for each job.

    python -m finetune worker                       # for runs/, until Ctrl-C or SIGTERM
    python -m finetune worker --until-empty         # ends when nothing is queued any more

A job is `python -m finetune VERB WORDS…` in a process of its own. Pausing it is one SIGINT, the worker's or a
person's: a run ends after its step with a checkpoint. A worker that is asked to end pauses its job and queues it again; one
that is killed takes its job with it, and the next worker goes on from the checkpoint. A run that was started in a terminal
is not its own: of one that was killed there it says so.
"""

import argparse
import fcntl
import logging
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Literal

from data.conversations import DATA_DIR, INDEX_FILE
from data.queue import (
    BY_WORKER,
    JOB_LOG,
    REQUEST_FILE,
    WANT_FILE,
    WORKER_FILE,
    Job,
    Request,
    jobs,
    read_job,
    read_want,
    take_want,
)
from data.runs import (
    ADAPTER,
    MODEL,
    RUN_FILE,
    State,
    Status,
    read_status,
    tells_of_full_disk,
    write_status,
)
from data.strict import BadInput
from finetune.allowed import Places, check_request
from finetune.dataset.folder import make_data_folder
from finetune.run_folder import LOWER, free, is_trained_in, tells_of_no_memory

POLL_S = 0.2
# How often it is looked what is wanted of the other jobs while one is at work.
HEAR_S = 1.0
# So old is a request whose status will not come any more: whoever asked ended between the two.
REQUEST_PATIENCE_S = 5.0
# A worker that was just killed holds its lock until its job is gone, too.
LOCK_PATIENCE_S = 5.0
# How much of the end of what a job told is remembered, for the sentence on how it ended.
_TAIL = 8000
# Reads a process group and kills it when there is no more to read: when its job has ended, or the worker, in whatever way.
# A job may begin processes of its own, as vLLM's engine is, which would keep the GPU.
_END_GROUP = 'read -r group && { read -r end; kill -s KILL -- "-$group"; }'
# What finetune/progress.py prints where there is no terminal; a title may have a colon of its own.
_PROGRESS = re.compile(r"(?P<title>[a-z: ]+): (?P<done>[\d.e+]+) of (?P<total>[\d.e+]+)(?P<note>.*)")

# What a job can be asked while it runs; "wait" is the worker's own, which ends.
Asked = Literal["run", "pause", "stop", "wait"]

log = logging.getLogger(__name__)


@dataclass
class Stop:
    """Whether the worker is asked to end. The second signal ends it at once, and its job with it."""

    asked: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@dataclass
class Told:
    """What a job tells, as it comes: all of it into its log, the end of it remembered."""

    path: Path
    tail: str = ""
    # What found no room on the disk yet.
    _held: bytes = b""

    def add(self, found: bytes) -> None:
        """A piece of output. A full disk loses nothing as long as the worker lives."""
        self.tail = (self.tail + found.decode("utf-8", "replace"))[-_TAIL:]
        self._held += found
        if not self._held:
            return
        try:
            with self.path.open("ab", buffering=0) as file:
                while self._held:
                    self._held = self._held[file.write(self._held) :]
        except OSError as error:
            log.debug("%s: %s", self.path, error.strerror)

    def last(self) -> str:
        """The last line; of one that was written over, what it said last."""
        found = [line.strip().rpartition("\r")[2] for line in self.tail.splitlines() if line.strip()]
        return found[-1] if found else ""


@dataclass
class Worker:
    """Looks after one runs folder. `environment` is what its jobs get."""

    places: Places
    environment: Mapping[str, str]
    stop: Stop
    # The open lock: jobs, and what ends them, inherit it, so that it is free only when they are gone, too.
    lock: IO[str]
    # The process that started it, and for which it works; None where it works for itself.
    parent: int | None = None
    command: Sequence[str] = field(default=(sys.executable, "-m", "finetune"))

    def work(self, *, until_empty: bool) -> None:
        """Until asked to end, nothing is queued any more, or its parent is gone: a job at work comes to its end first."""
        while not self.stop.asked:
            self._touch()
            if self.parent is not None and os.getppid() != self.parent:
                log.info("process %d, for which it worked, is gone", self.parent)
                return
            waiting = self._next()
            if waiting:
                try:
                    self._do(*waiting)
                except BadInput as error:
                    # Somebody removed the folder, or its status, under it.
                    log.warning("%s", error)
            elif until_empty:
                return
            else:
                time.sleep(POLL_S)

    def _next(self) -> tuple[Path, Request] | None:
        """The oldest job that waits, after what is wanted of the others is done."""
        waiting: list[tuple[Path, Request]] = []
        for found in jobs(self.places.runs):
            job = self._not_lost(found)
            if job.request is None and job.status and job.status.state == "queued" and job.wrong:
                self._tell(job.run, "failed", job.wrong)
            if job.request is None or job.status is None or job.status.state == "running":
                continue
            self._obey(job.run, job.request, job.status.state)
            # A person may train in it in a terminal.
            status = read_job(job.run).status
            if status and status.state == "queued" and not is_trained_in(job.run):
                waiting.append((job.run, job.request))
        return waiting[0] if waiting else None

    def _not_lost(self, job: Job) -> Job:
        """The job as it stands. One that says that it runs while its process is gone waits again; where nobody asked for it
        here, whoever began it in a terminal is told how to go on."""
        if job.request and job.status is None and not job.wrong and _age(job.run / REQUEST_FILE) > REQUEST_PATIENCE_S:
            # A full disk: later.
            with suppress(OSError):
                self._tell(job.run, "queued", "waits for the worker")
            return read_job(job.run)
        # While the worker looks for the next job none of its own is at work, and a run elsewhere holds its lock.
        if job.status is None or job.status.state != "running" or is_trained_in(job.run):
            return job
        # Read after the lock: a run tells how it ended before it lets go of that.
        now = read_job(job.run)
        if now.status is None or now.status.state != "running":
            return now
        if now.request:
            log.info("%s: its process ended in the middle of it; queued again", job.run.name)
            self._tell(job.run, "queued", "waits: the worker before ended in the middle of it")
        elif now.wrong:
            self._tell(job.run, "failed", now.wrong)
        else:
            self._tell(job.run, "failed", "its process is gone; the command that began it goes on with --resume.")
        return read_job(job.run)

    def _obey(self, run: Path, request: Request, state: State) -> None:
        """What a person wants of a job that does not run."""
        want = take_want(run)
        if want == "run" and state in ("paused", "stopped", "failed"):
            self._tell(run, "queued", "waits for the worker")
        elif want == "pause" and state == "queued":
            self._tell(run, "paused", "paused by a person")
        elif want == "stop" and state in ("queued", "paused", "failed"):
            self._stopped(run, request)

    def _hear_others(self, at_work: Path) -> None:
        """What is wanted of the jobs that do not run while one does, as far as it is done in a moment."""
        for said in self.places.runs.glob(f"*/{WANT_FILE}"):
            job = read_job(said.parent)
            if job.run == at_work or job.request is None or job.status is None or job.status.state == "running":
                continue
            with suppress(BadInput):
                if read_want(job.run) == "stop" and (job.run / RUN_FILE).is_file():
                    # To keep what it learned takes a process of its own; until then it only waits no more.
                    later = "stops as soon as the job at work has ended"
                    if job.status.state in ("queued", "paused", "failed") and job.status.message != later:
                        self._tell(job.run, "paused", later)
                    continue
            self._obey(job.run, job.request, job.status.state)

    def _do(self, run: Path, request: Request) -> None:
        """Run a job to whatever end it comes to."""
        try:
            check_request(run, request, self.places)
        except BadInput as error:
            self._tell(run, "failed", str(error))
            return
        words = request.words
        trains = request.verb == "train" and "--plan" not in words
        if trains and (run / RUN_FILE).is_file() and "--resume" not in words:
            words = (*words, "--resume")
        log.info("%s: python -m finetune %s", run.name, request.verb)
        code, told, asked = self._run(run, request.verb, words, trains=trains)
        state, message = _ended(run, request, code, told, asked, trains=trains)
        if state == "stopped":
            self._stopped(run, request)
        else:
            self._tell(run, state, message)
        log.info("%s: %s", run.name, state)

    def _run(self, run: Path, verb: str, words: Sequence[str], *, trains: bool) -> tuple[int, Told, Asked | None]:
        """The exit code (negative: a signal), what was told, and what had been asked of the job meanwhile.

        A run tells its own steps in its status, so the worker leaves that alone while it `trains`.
        """
        told = Told(run / JOB_LOG)
        told.add(f"$ {Request.model_validate({'verb': verb, 'words': words}).command}\n".encode())
        told.tail = ""
        asked: Asked | None = None
        with (
            subprocess.Popen(
                ["sh", "-c", _END_GROUP],
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
                pass_fds=(self.lock.fileno(),),
            ) as end,
            subprocess.Popen(
                [*self.command, verb, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # Each line as it comes.
                env={**self.environment, "PYTHONUNBUFFERED": "1", BY_WORKER: "1"},
                # Ctrl-C in the worker's terminal is the worker's. The job leads a group, with all that it begins.
                start_new_session=True,
                pass_fds=(self.lock.fileno(),),
            ) as process,
        ):
            print(process.pid, file=end.stdin, flush=True)
            # A full disk: what is wanted of it is told in a terminal then.
            with suppress(OSError):
                Path(self.lock.name).write_text(str(process.pid))
            before = read_status(run)
            self._write(run, before.model_copy(update={"state": "running", "pid": process.pid, "message": "begins"}))
            heard = time.monotonic()
            for piece in _output(process):
                self._touch()
                if time.monotonic() - heard > HEAR_S:
                    self._hear_others(run)
                    heard = time.monotonic()
                told.add(piece)
                if piece and not trains:
                    self._tell_progress(run, told.last())
                # To keep what was learned takes a moment, and is the end of a run itself.
                wanted = self._wanted(run, asked) if verb != "keep" else None
                if wanted and asked is None:
                    process.send_signal(signal.SIGINT)
                asked = wanted or asked
        told.add(b"")
        return process.returncode, told, asked

    def _wanted(self, run: Path, asked: Asked | None) -> Asked | None:
        """What is asked of the running job. What a person says last holds, as long as the job has not ended."""
        want = take_want(run)
        if want == "run":
            # There is nothing to change in a job that runs; one that is ending already waits anew afterwards.
            return "run" if asked else None
        return want or ("wait" if self.stop.asked and asked is None else None)

    def _stopped(self, run: Path, request: Request) -> None:
        """A run that is to end for good: what it learned so far becomes its adapter."""
        message = "stopped by a person"
        if request.verb == "train" and (run / RUN_FILE).is_file():
            code, told, _ = self._run(run, "keep", (str(run),), trains=True)
            made = ADAPTER if (run / ADAPTER).is_dir() else MODEL
            message += f"; what it learned so far is in {made}/" if code == 0 else f"; {told.last()}"
        self._tell(run, "stopped", message)

    def _tell_progress(self, run: Path, line: str) -> None:
        found = _PROGRESS.fullmatch(line)
        if found:
            done, total = float(found["done"]), float(found["total"])
            status = read_status(run).model_copy(
                update={"step": round(done), "steps": round(total), "message": found["title"] + found["note"]}
            )
            self._write(run, status)

    def _tell(self, run: Path, state: State, message: str) -> None:
        before = read_job(run).status or Status(state=state)
        self._write(run, before.model_copy(update={"state": state, "message": message, "pid": None}))

    def _write(self, run: Path, status: Status) -> None:
        try:
            write_status(run, status)
        except FileNotFoundError:
            log.warning("%s: was removed meanwhile", run.name)

    def _touch(self) -> None:
        os.utime(self.lock.fileno())


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune worker`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune worker", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the folder of run folders (default: runs)")
    parser.add_argument("--models", type=Path, default=Path("models"), help="where model folders are made")
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="where data sets are registered")
    parser.add_argument("--until-empty", action="store_true", help="end when nothing is queued any more")
    parser.add_argument(
        "--parent",
        type=int,
        metavar="PID",
        help="end when this process, which started it, is gone and the job at work done",
    )
    given = parser.parse_args(words)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO, stream=sys.stderr)
    places = Places(given.runs, given.models, given.data_dir)
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if not (places.data / INDEX_FILE).is_file():
        make_data_folder(places.data)
    with _alone(places.runs, stop) as lock:
        log.info("looks after %s", places.runs)
        Worker(places, environment, stop, lock, given.parent).work(until_empty=given.until_empty)
    return 0


@contextmanager
def _alone(runs: Path, stop: Stop) -> Iterator[IO[str]]:
    """The lock of the folder's one worker. The system lets go of it however worker and job end."""
    runs.mkdir(parents=True, exist_ok=True)
    with (runs / WORKER_FILE).open("a") as file:
        began = time.monotonic()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop.asked or time.monotonic() - began > LOCK_PATIENCE_S:
                    raise BadInput(
                        f"{runs}: another worker looks after it; end that one, or name another folder with --runs."
                    ) from None
                time.sleep(0.1)
        yield file


def _age(path: Path) -> float:
    """Seconds since a file was written; one that is gone is new."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _output(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Pieces of a job's output as they come; an empty one where none came for a while; ends when the job has."""
    if process.stdout is None:
        raise ValueError("no pipe")
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            # Before reading: what it told until then is in the pipe.
            ended = process.poll() is not None
            ready = selector.select(0 if ended else POLL_S)
            piece = os.read(pipe, 65536) if ready else b""
            yield piece
            if ended and not piece:
                return
            if ready and not piece:
                # It closed its output and still runs.
                time.sleep(POLL_S)


def _ended(
    run: Path, request: Request, code: int, told: Told, asked: Asked | None, *, trains: bool
) -> tuple[State, str]:
    """The state that a job ended in, and the sentence for it."""
    last = told.last()
    if code == 0:
        # What was answered stands in the log, and a run has a word of its own.
        return "done", "trained" if trains else "" if _answers(request, last) or request.verb == "chat" else last
    interrupted = code in (-signal.SIGINT, 128 + signal.SIGINT) or "KeyboardInterrupt" in last
    # Whoever interrupts a run from a terminal pauses it, as the button does.
    if interrupted and (asked or trains):
        ends: dict[Asked, tuple[State, str]] = {
            "run": ("queued", "waits for the worker"),
            "wait": ("queued", "waits: the worker ended"),
            "pause": ("paused", "paused by a person"),
            "stop": ("stopped", ""),
        }
        return ends[asked or "pause"]
    if code == 2 and last:
        return "failed", last
    return "failed", _sentence(run, request, code, told, trains=trains)


def _answers(request: Request, last: str) -> bool:
    """Whether the last line is an answer for a program and no sentence. Of a long one only the end is remembered."""
    return last.startswith("{") or "--json" in request.words


def _sentence(run: Path, request: Request, code: int, told: Told, *, trains: bool) -> str:
    """Why a job failed that said nothing for a person itself."""
    last = told.last()
    lower = f" {LOWER}" if trains else " close what else runs on this machine, and try again."
    if tells_of_full_disk(told.tail):
        return f"{run}: the disk is full ({free(run)} free); make room and go on."
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return f"{run}: out of memory: the system killed it;{lower}"
    if tells_of_no_memory(told.tail):
        return f"{run}: out of memory;{lower}"
    if code == 1 and request.verb == "data" and "Traceback" not in told.tail:
        return "errors were found; the log lists them." if _answers(request, last) else last
    if code < 0:
        return f"{run}: ended by {signal.Signals(-code).name}; {JOB_LOG} in it has the rest."
    return f"{run}: the program failed ({last or f'exit code {code}'}); {JOB_LOG} in it has the rest."
