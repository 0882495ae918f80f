"""The queue of jobs: what the studio asks for in a run folder, and what the worker that takes it up tells there.

request.json     a verb of `python -m finetune` and its words; written once, by whoever asks
want.json        run, pause or stop: what a person wants of the job now; written by the studio, removed by the worker
                 when it has done so
status.json      how it goes (see data/runs.py); "queued" by whoever asks, after that by the worker and its job alone
job.log          what the job told, whole

A job of the verb train trains in its own folder: its words hold `--run runs/<id>`. Every other job leaves only these
files in its folder. Beside the folders lies `.worker`, the lock of the worker, touched while it lives; in it stands the
process of its newest job.
"""

import re
import secrets
import shlex
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from data.runs import LOG_FILE, STATUS_FILE, Status, dump, now, read_status, write_status, write_whole
from data.strict import BadInput, Strict, read_json

REQUEST_FILE = "request.json"
WANT_FILE = "want.json"
JOB_LOG = "job.log"
WORKER_FILE = ".worker"
# In the environment of the worker's jobs: a run leaves it to the worker to tell how it ended, which also knows what was
# asked of it. Two words, one after another, would be taken for two ends.
BY_WORKER = "MINDPAL_BY_WORKER"
# The worker touches its file each second; so long after the last touch it is taken for dead.
WORKER_PATIENCE_S = 10.0

# What may be asked for: nothing that asks questions in a terminal, nothing that never ends.
Verb = Literal[
    "data",
    "download",
    "train",
    "keep",
    "chat",
    "compare",
    "evaluate",
    "report",
    "merge",
    "promote",
    "archive",
    "push",
    "import-llamafactory",
]
Want = Literal["run", "pause", "stop"]


class Request(Strict):
    """One job: the words after `python -m finetune VERB`. `note` is a person's own, `created` is UTC, ISO 8601."""

    verb: Verb
    words: tuple[str, ...] = ()
    note: str = ""
    created: str = ""

    @property
    def command(self) -> str:
        """The shell line that does the same in a terminal."""
        return shlex.join(["python", "-m", "finetune", self.verb, *self.words])


class Wanted(Strict):
    """What a person wants of a job, and since when."""

    want: Want
    since: str = ""


@dataclass(frozen=True)
class Job:
    """A folder of the queue or its history. Where a file in it cannot be read, `wrong` is the sentence that says so."""

    run: Path
    request: Request | None
    status: Status | None
    wrong: str = ""

    @property
    def created(self) -> str:
        """When it was asked for; for a run started in a terminal, when its status was last written."""
        return self.request.created if self.request else self.status.updated if self.status else ""


def new_run(runs: Path, name: str) -> Path:
    """Make the folder `runs/DATE-TIME-NAME-XXXX`: sorted by time, never one that is there, safe in any shell."""
    safe = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:40] or "run"
    run = runs / f"{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}-{safe}-{secrets.token_hex(2)}"
    run.mkdir(parents=True)
    return run


def write_request(run: Path, request: Request) -> None:
    """Put a job into the queue. The status comes last: the worker takes no folder up before it is there.

    Where it never comes the worker writes it, some seconds later.
    """
    stamped = request if request.created else request.model_copy(update={"created": now()})
    write_whole(run / REQUEST_FILE, dump(stamped.model_dump()))
    try:
        write_status(run, Status(state="queued", message="waits for the worker"))
    except OSError:
        # A full disk: whoever asks is told, and asks again.
        (run / REQUEST_FILE).unlink()
        raise


def read_request(run: Path) -> Request:
    """What is asked for. Raises `BadInput`."""
    return Request.parse(read_json(run / REQUEST_FILE), str(run / REQUEST_FILE))


def write_note(run: Path, note: str) -> None:
    """Replace a person's note on a job. Raises `BadInput`."""
    request = read_request(run).model_copy(update={"note": note})
    write_whole(run / REQUEST_FILE, dump(request.model_dump()))


def write_want(run: Path, want: Want) -> None:
    """Say what is wanted of a job: pause or stop while it waits or runs, run to go on."""
    write_whole(run / WANT_FILE, dump(Wanted(want=want, since=now()).model_dump()))


def read_want(run: Path) -> Want:
    """What is wanted of a job; where nobody said anything, that it runs. Raises `BadInput`."""
    if not (run / WANT_FILE).is_file():
        return "run"
    return Wanted.parse(read_json(run / WANT_FILE), str(run / WANT_FILE)).want


def take_want(run: Path) -> Want | None:
    """The same for the worker that does what is wanted: the file is gone afterwards. None where nothing is said.

    A damaged file says nothing.
    """
    taken = run / f".{WANT_FILE}"
    try:
        # Moved before it is read: what a person says after this moment is another file.
        (run / WANT_FILE).replace(taken)
    except FileNotFoundError:
        return None
    try:
        return Wanted.parse(read_json(taken), str(taken)).want
    except BadInput:
        return None
    finally:
        taken.unlink(missing_ok=True)


def jobs(runs: Path) -> list[Job]:
    """Every run folder, the oldest first. A folder that is being made is not one yet; a damaged one is told."""
    found = [
        path
        for path in (runs.iterdir() if runs.is_dir() else ())
        if not path.name.startswith(".") and ((path / REQUEST_FILE).is_file() or (path / STATUS_FILE).is_file())
    ]
    return sorted((read_job(path) for path in found), key=lambda job: (job.created, job.run.name))


def read_job(run: Path) -> Job:
    """A run folder as it stands."""
    request, status, wrong = None, None, []
    try:
        request = read_request(run) if (run / REQUEST_FILE).is_file() else None
    except BadInput as error:
        wrong.append(str(error))
    try:
        # Between the two files of a new request there is a moment.
        status = read_status(run) if (run / STATUS_FILE).is_file() else None
    except BadInput as error:
        wrong.append(str(error))
    return Job(run, request, status, " ".join(wrong))


def disk_used(run: Path) -> int:
    """Bytes of all files in a run folder; a file that goes meanwhile counts nothing."""
    total = 0
    for path in run.rglob("*"):
        try:
            total += 0 if path.is_symlink() or not path.is_file() else path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def log_of(run: Path) -> Path:
    """The file with what a job told: all of it where a worker ran it, else the trainer's own lines."""
    return run / JOB_LOG if (run / JOB_LOG).is_file() else run / LOG_FILE


def is_heard(job: Job) -> bool:
    """Whether the worker hears what is wanted of a job that waits or runs: one that goes on in a terminal is not its own."""
    if job.request is None or job.status is None or job.status.state != "running":
        return job.request is not None
    try:
        return (job.run.parent / WORKER_FILE).read_text() == str(job.status.pid)
    except FileNotFoundError:
        return False


def is_worker_alive(runs: Path) -> bool:
    """Whether a worker looks after this runs folder now."""
    try:
        touched = (runs / WORKER_FILE).stat().st_mtime
    except FileNotFoundError:
        return False
    return time.time() - touched < WORKER_PATIENCE_S
