"""A run folder, `runs/<id>/`: what was asked, how it goes, what came out. Written by finetune, followed by the studio.

request.json     what to do (data/queue.py)        recipe.yaml      the recipe, with every value
status.json      how it goes                       run.json         versions and hashes of what went in
metrics.jsonl    one line per logged step          events.out.…     the same for TensorBoard
train.log        what was told                     loss.png         the curve
checkpoints/     to go on from                     adapter/         what came out (model/ where all was trained)
compare/         its answers, before and after     report.html      everything on one page
"""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from data.contract import SEAL_FILE, Seal, sha256
from data.strict import BadInput, Strict, read_json

STATUS_FILE = "status.json"
METRICS_FILE = "metrics.jsonl"
RECIPE_FILE = "recipe.yaml"
RUN_FILE = "run.json"
LOG_FILE = "train.log"
LOSS_FILE = "loss.png"
ADAPTER = "adapter"
MODEL = "model"
CHECKPOINTS = "checkpoints"
# How the system, safetensors and torch say that there is no room; the last three are of a file not written to its end.
_FULL_DISK = (
    "No space left", "File too large", "os error 28", "Disk quota", "PytorchStreamWriter", "iostream error", "unexpected pos",
)  # fmt: skip

# Paused: a person wants to go on later; stopped: a person wants no more of it. Either can go on from its checkpoint.
State = Literal["queued", "running", "paused", "stopped", "failed", "done"]


class Status(Strict):
    """How a run goes. `step` of `steps` optimizer steps are done; `message` is for a person."""

    state: State
    step: int = 0
    steps: int = 0
    message: str = ""
    pid: int | None = None
    # UTC, ISO 8601.
    updated: str = ""


class RunRecord(Strict):
    """What went into a run: enough to say whether another would give the same."""

    base: str
    # SHA-256 of the base's weight files and its tokenizer.json, by name.
    base_files: dict[str, str]
    contract: str
    dataset: list[str]
    # SHA-256 of each data file, by name.
    data_files: dict[str, str]
    conversations: int
    validation: int
    skipped: int
    # Exchanges at the end of conversations that did not fit into the window.
    left_out: int = 0
    # Of one epoch.
    tokens: int
    tokens_with_loss: int
    # Packed rows of one epoch, and optimizer steps of the run.
    rows: int = 0
    steps: int = 0
    device: str = ""
    processes: int = 1
    versions: dict[str, str]
    commit: str
    started: str


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that there is no room: on the disk, in a quota, or below a limit for one file."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def tells_of_full_disk(text: str) -> bool:
    """Whether what a program printed, or the words of an error, say that there was no room."""
    return any(sign in text for sign in _FULL_DISK)


def write_status(run: Path, status: Status) -> None:
    """Replace `status.json` whole: a reader sees the old one or the new one, never a half."""
    text = dump(status.model_copy(update={"updated": now()}).model_dump())
    try:
        write_whole(run / STATUS_FILE, text)
    except OSError as error:
        if not is_disk_full(error) or not (run / STATUS_FILE).is_file():
            raise
        # A full disk has no room for a second file, but the block of the first one is ours.
        with (run / STATUS_FILE).open("r+b", buffering=0) as file:
            file.truncate(max(1, file.write(text.encode())))


def read_status(run: Path) -> Status:
    """How a run goes. Raises `BadInput`."""
    return Status.parse(read_json(run / STATUS_FILE), str(run / STATUS_FILE))


def append_metrics(run: Path, metrics: dict[str, Any]) -> None:
    """Add one line to `metrics.jsonl`."""
    with (run / METRICS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(metrics, allow_nan=False) + "\n")


def cut_metrics(run: Path, step: int) -> None:
    """Forget the lines after `step`: a run that goes on from there writes them again."""
    kept = [json.dumps(line) + "\n" for line in read_metrics(run) if line["step"] <= step]
    write_whole(run / METRICS_FILE, "".join(kept))


def read_metrics(run: Path) -> Iterator[dict[str, Any]]:
    """The lines of `metrics.jsonl`; a last line that is still being written is not one yet."""
    if not (run / METRICS_FILE).is_file():
        return
    for line in (run / METRICS_FILE).read_text(encoding="utf-8").split("\n")[:-1]:
        yield json.loads(line)


def write_record(run: Path, record: RunRecord) -> None:
    """Write `run.json`."""
    write_whole(run / RUN_FILE, dump(record.model_dump()))


def read_record(run: Path) -> RunRecord:
    """What went into a run. Raises `BadInput`."""
    return RunRecord.parse(read_json(run / RUN_FILE), str(run / RUN_FILE))


def newest_finished(runs: Path) -> Path:
    """The run that ended last with an adapter. Raises `BadInput` where there is none."""
    done = []
    # A folder without a record is another job's than training.
    for record in runs.glob(f"*/{RUN_FILE}"):
        # A damaged status hides its own run alone.
        with suppress(BadInput):
            status = read_status(record.parent)
            if status.state == "done":
                done.append((status.updated, record.parent))
    if not done:
        raise BadInput(f"{runs}: no finished run; `make train` makes one.")
    return max(done)[1]


def is_older(folder: Path, run: Path) -> bool:
    """Whether a model folder holds something else than what the run has learned by now, as one that went on has.

    Raises `BadInput` where the folder's seal cannot be read.
    """
    provenance = Seal.parse(read_json(folder / SEAL_FILE), str(folder / SEAL_FILE)).provenance
    made = [name for name in (ADAPTER, MODEL) if (run / name).is_dir()]
    return bool(made) and not any(
        provenance.get(name) == {path.name: sha256(path) for path in (run / name).glob("*.safetensors")}
        for name in made
    )


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that it is never half there; text in UTF-8."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError:
        # A full disk: what there is of it would only take more room.
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)


def dump(content: object) -> str:
    """JSON as our files hold it."""
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def now() -> str:
    """The time, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
