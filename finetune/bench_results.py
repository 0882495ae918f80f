"""What `make bench-train` measured: one JSON file, and the lines that tests/results/README.md tells.

In: what both sides did. Out: a `Bench`, written to and read from a file.
"""

from pathlib import Path

from data.runs import dump, write_whole
from data.strict import BadInput, Strict, read_json

FORMAT = 1


class Side(Strict):
    """One side. None is what a record no longer tells."""

    tokens_per_second: float | None = None
    tokens_per_cpu_second: float | None = None
    peak_mib: float | None = None


class Compared(Strict):
    """Ours against the other, on one model. The ratios are ours to the other's."""

    other: str
    by_the_clock: float
    by_cpu_seconds: float
    peak_memory: float
    ours: Side
    theirs: Side
    # Of one batch, by our step and by TRL's.
    loss: float | None
    loss_trl: float | None

    def told(self, model: str) -> str:
        """The line that the command prints."""
        return (
            f"{model} ours / {self.other}: {self.by_the_clock:.2f}x by the clock, {self.by_cpu_seconds:.2f}x by "
            f"CPU-seconds, peak memory {self.peak_memory:.2f}x"
        )


class Bench(Strict):
    """The results file."""

    format: int = FORMAT
    date: str
    machine: str
    device: str
    threads: int
    versions: dict[str, str]
    commit: str
    # What is special about this record.
    note: str = ""
    models: dict[str, Compared]

    def lines(self) -> list[str]:
        """A line for each model, and the last one for all."""
        ratios = [f"{model} {found.by_the_clock:.2f}x" for model, found in self.models.items()]
        return [*(found.told(model) for model, found in self.models.items()), f"bench-train: {' '.join(ratios)}"]


def write_bench(path: Path, found: Bench) -> None:
    """Write the file, and the folder where it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, dump(found.model_dump()))


def read_bench(path: Path) -> Bench:
    """The results in a file. Raises `BadInput`."""
    found = Bench.parse(read_json(path), str(path))
    if found.format != FORMAT:
        raise BadInput(f"{path}: format {found.format}, but this version reads {FORMAT}; measure again.")
    return found
