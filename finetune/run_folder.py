"""A run folder while its run goes on: its lock, its log, and a status that says how it ended.

In: `runs/<id>/`. Out: `.lock`, `train.log` and `status.json` in it; what a person can mend is one `BadInput`.
"""

import fcntl
import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from data.runs import CHECKPOINTS, LOG_FILE, is_disk_full, read_status, tells_of_full_disk, write_status
from data.strict import BadInput
from finetune.checkpoints import newest_good, remove_unfinished
from finetune.report_loss import draw_loss

LOCK_FILE = ".lock"
LOWER = "lower max_length or per_device_train_batch_size, or set gradient_checkpointing=true, and start a new run."
_NO_MEMORY = ("OutOfMemoryError", "can't allocate memory", "MemoryError", "bad_alloc")

log = logging.getLogger(__name__)


class Stopped(Exception):
    """The run ended because somebody wanted it to. `signal` is the signal's number."""

    def __init__(self, signal: int):
        super().__init__("stopped")
        self.signal = signal


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Two processes must not write into one run. The system lets go of the lock however a process ends."""
    with (run / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(f"{run}: another process is training in it; wait for it, or stop it.") from None
        yield


def is_trained_in(run: Path) -> bool:
    """Whether some process holds the run's lock."""
    try:
        with (run / LOCK_FILE).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A full disk: the line stands on standard error, and the run ends with a sentence of its own."""


class _Screen(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Above the bar, which takes the place of `sys.stderr` while it is drawn. A terminal that is gone ends nothing."""
        with suppress(OSError):
            print(self.format(record), file=sys.stderr, flush=True)


@contextmanager
def logged(run: Path) -> Iterator[None]:
    """Our lines to standard error and train.log; other packages' warnings to train.log alone."""
    ours, root = logging.getLogger("finetune"), logging.getLogger()
    file, screen = _LogFile(run / LOG_FILE, encoding="utf-8"), _Screen()
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = ours.level
    ours.setLevel(logging.INFO)
    # What ends the run is said by whoever called it.
    screen.addFilter(lambda record: record.levelno < logging.ERROR)
    ours.addHandler(screen)
    root.addHandler(file)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(file)
        ours.removeHandler(screen)
        ours.setLevel(level)
        file.close()


@contextmanager
def told_at_the_end(run: Path, *, is_told: bool) -> Iterator[None]:
    """However a run ends, its status says so, and what a person can mend is one sentence.

    `is_told`: the worker will write the status.
    """
    try:
        yield
    except (KeyboardInterrupt, Stopped):
        _end(run, "stopped", "stopped by a person; --resume goes on", is_told=is_told)
        raise
    except BadInput as error:
        _end(run, "failed", str(error), is_told=is_told)
        raise
    except BaseException as error:
        sentence = _mendable(run, error)
        _end(run, "failed", sentence or str(error) or type(error).__name__, is_told=is_told)
        if sentence:
            raise BadInput(sentence) from None
        log.exception("the program failed")
        raise


def _end(run: Path, state: Literal["stopped", "failed"], message: str, *, is_told: bool) -> None:
    # An unfinished checkpoint is of no use, and on a full disk the status needs its room.
    remove_unfinished(run / CHECKPOINTS)
    with suppress(OSError):
        if not is_told:
            before = read_status(run)
            write_status(run, before.model_copy(update={"state": state, "message": message, "pid": None}))
        draw_loss(run)
    log.error("%s", message)


def tells_of_no_memory(text: str) -> bool:
    """Whether a program's words are those of too little memory."""
    return any(words in text for words in _NO_MEMORY)


def _mendable(run: Path, error: BaseException) -> str | None:
    """The sentence for a full disk or too little memory; None for what is a fault of the program's."""
    told = f"{type(error).__name__} {error}"
    if is_disk_full(error) or tells_of_full_disk(told):
        checkpoint, _ = newest_good(run / CHECKPOINTS)
        good = f"{checkpoint.name} is whole" if checkpoint else "no checkpoint was written yet"
        return f"{run}: the disk is full ({free(run)} free); make room and go on with --resume: {good}."
    if tells_of_no_memory(told):
        return f"{run}: out of memory; {LOWER}"
    return None


def free(run: Path) -> str:
    """How much room the disk of a run has."""
    return f"{shutil.disk_usage(run).free / 1e6:,.0f} MB"
