"""What a button does: a job in the queue, which is a command that a terminal could run as well.

In: the runs folder. Out: jobs asked for, found again, and what they told. The worker does the work: data/queue.py.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from data.contract import SEAL_FILE
from data.queue import WANT_FILE, Job, Request, Verb, log_of, new_run, write_request
from data.runs import ADAPTER, MODEL, RUN_FILE, RunRecord, State, read_record, write_whole
from data.strict import BadInput

ALIVE: tuple[State, ...] = ("queued", "running")
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class Asked:
    """A command that can be queued. `name` becomes part of the folder's name."""

    verb: Verb
    words: tuple[str, ...]
    name: str
    note: str = ""

    @property
    def command(self) -> str:
        """The line for a terminal."""
        return Request(verb=self.verb, words=self.words).command


def queue(runs: Path, asked: Asked) -> Path:
    """Put a job into the queue; its folder."""
    run = new_run(runs, asked.name)
    write_request(run, Request(verb=asked.verb, words=asked.words, note=asked.note))
    return run


def queue_training(runs: Path, words: Sequence[str], name: str, note: str) -> Path:
    """Put a run into the queue: it trains in the job's own folder."""
    run = new_run(runs, name)
    write_request(run, Request(verb="train", words=(*words, "--run", str(run)), note=note))
    return run


def is_training(job: Job) -> bool:
    """Whether a folder holds a run, or will: a plan trains nothing."""
    if job.request is None:
        return (job.run / RUN_FILE).is_file()
    return job.request.verb == "train" and "--plan" not in job.request.words


def state_of(job: Job) -> State:
    """How a job stands; a damaged one has failed."""
    return "failed" if job.wrong or job.status is None else job.status.state


def titled(job: Job) -> str:
    """A job's folder by name, and a person's note on it."""
    note = job.request.note if job.request else ""
    return f"{job.run.name} · {note}" if note else job.run.name


def is_moving(job: Job) -> bool:
    """Whether its state will change by itself: it waits or runs, or the worker has not heard yet what is wanted."""
    return state_of(job) in ALIVE or (job.request is not None and (job.run / WANT_FILE).is_file())


def is_left_open(job: Job) -> bool:
    """Whether a run has begun and ended before its end, and nobody has said that it is to end for good."""
    return state_of(job) in ("paused", "failed") and (job.run / RUN_FILE).is_file()


def latest(jobs: Iterable[Job], verb: Verb, words: Sequence[str], since: str = "") -> Job | None:
    """The newest job of exactly this command: a page that is opened again finds it by that.

    One that ended before `since` counts no more: what it made is of other weights, or sets, than those that are there now.
    """
    wanted = (verb, tuple(words))
    found = [job for job in jobs if job.request and (job.request.verb, job.request.words) == wanted]
    return found[-1] if found and (state_of(found[-1]) in ALIVE or _ended(found[-1]) >= since) else None


def is_started(jobs: Iterable[Job], words: Sequence[str]) -> bool:
    """Whether a run of exactly these words, its folder aside, waits or is under way."""
    return any(
        job.request.verb == "train" and job.request.words == (*words, "--run", str(job.run))
        for job in jobs
        if job.request and state_of(job) in ALIVE
    )


def weights_since(folder: Path) -> str:
    """When the weights of a run or a model folder were made, as a status tells times; empty for a base.

    What is older was made of others: the run went on, or the folder was merged anew.
    """
    return max(_made(folder / name) for name in (ADAPTER, MODEL, SEAL_FILE))


def time_of(path: Path) -> str:
    """When a file or a folder was written, as a status tells times (UTC, to the millisecond)."""
    return _told(path.stat().st_mtime)


def time_of_link(path: Path) -> str:
    """When a link was made, whatever it leads to; of what is no link nothing."""
    return _told(path.lstat().st_mtime) if path.is_symlink() else ""


def _told(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def tail(path: Path, lines: int) -> str:
    """The last lines of a log; of a line that was written over (a progress bar) what it said last."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    found = [line.rstrip().rpartition("\r")[2] for line in text.splitlines() if line.strip()]
    return "\n".join(found[-lines:])


def answer_of(run: Path) -> dict[str, Any] | None:
    """The JSON object that a job told, on a line of its own; the last one where there are several."""
    path = log_of(run)
    if not path.is_file():
        return None
    for line in reversed(path.read_text(encoding="utf-8", errors="replace").split("\n")):
        if line.startswith("{"):
            try:
                found = json.loads(line)
            except json.JSONDecodeError:
                continue
            return found if isinstance(found, dict) else None
    return None


def keep_upload(folder: Path, name: str, content: bytes) -> Path:
    """Write what came through the page where the worker can read it.

    By its content: the same file lies there once, and another one never takes its place. Of its name only letters,
    digits and the ending are kept.
    """
    stem, dot, ending = name.rpartition(".")
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", stem if dot else name).strip("-")[:40] or "file"
    suffix = re.sub(r"[^A-Za-z0-9]+", "", ending)[:8].lower() if dot else "txt"
    path = folder / f"{hashlib.sha256(content).hexdigest()[:12]}-{safe}.{suffix}"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    return path


def by_hand(job: Job) -> dict[Literal["pause", "stop", "resume"], str]:
    """What a terminal would do with a run as it stands: pause it, stop it and keep what it learned, or go on."""
    if state_of(job) == "running" and job.status and job.status.pid:
        pause = f"kill -INT {job.status.pid}"
        # A run ends its step first, and nothing is kept of one that still trains.
        ended = f"while kill -0 {job.status.pid} 2>/dev/null; do sleep 1; done"
        return {"pause": pause, "stop": f"{pause}; {ended}; python -m finetune keep {shlex.quote(str(job.run))}"}
    found: dict[Literal["pause", "stop", "resume"], str] = {}
    # Of a run that was begun in a terminal nobody here knows the command.
    if job.request and state_of(job) in ("paused", "stopped", "failed"):
        found["resume"] = job.request.command + (" --resume" if (job.run / RUN_FILE).is_file() else "")
    if job.request and is_left_open(job):
        found["stop"] = f"python -m finetune keep {shlex.quote(str(job.run))}"
    return found


def delete(job: Job) -> None:
    """Remove a folder with all that is in it. Raises `BadInput` while the job waits or runs."""
    if not job.wrong and state_of(job) in ALIVE:
        raise BadInput(f"{job.run}: is {state_of(job)}; stop it before it is deleted.")
    try:
        shutil.rmtree(job.run)
    except OSError as error:
        raise BadInput(f"{job.run}: cannot be deleted: {error.strerror}.") from None


def record_of(job: Job) -> RunRecord | None:
    """What went into a run, once it has begun."""
    try:
        return read_record(job.run) if (job.run / RUN_FILE).is_file() else None
    except BadInput:
        return None


def has_result(job: Job) -> bool:
    """Whether a run has made something that can be merged or asked."""
    return is_training(job) and ((job.run / ADAPTER).is_dir() or (job.run / MODEL).is_dir())


def _ended(job: Job) -> str:
    return job.status.updated if job.status else ""


def _made(path: Path) -> str:
    try:
        return time_of(path)
    except OSError:
        # Not there, or no place that can be looked into.
        return ""
