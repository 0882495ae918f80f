"""Numbers as a page tells them: a smoothed curve, sizes, times, what the disk and the memory have left.

In: metrics of a run, folders. Out: numbers and short words.
"""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Curve:
    """One measured value of a run over its steps."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


def curve(lines: Iterable[Mapping[str, Any]], name: str) -> Curve:
    """The lines that hold a value, step by step."""
    found = [(int(line["step"]), float(line[name])) for line in lines if line.get(name) is not None]
    return Curve(tuple(step for step, _ in found), tuple(value for _, value in found))


def smoothed(values: Sequence[float], weight: float = 0.6) -> list[float]:
    """An exponential mean that starts without bias, as TensorBoard draws it: m <- w m + (1 - w) x, over 1 - w^n."""
    found: list[float] = []
    mean = 0.0
    for number, value in enumerate(values, start=1):
        mean = weight * mean + (1 - weight) * value
        found.append(mean / (1 - weight**number))
    return found


def last(lines: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The newest value of a measure."""
    return next((float(line[name]) for line in reversed(lines) if line.get(name) is not None), None)


def size(number: float) -> str:
    """Bytes in words: 1.2 GB."""
    for unit, at_least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= at_least:
            return f"{number / at_least:.1f} {unit}"
    return f"{number:.0f} B"


def duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 4:05."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def count(number: float) -> str:
    """A large count in words: 1.2 M."""
    for unit, at_least in (("B", 1e9), ("M", 1e6), ("k", 1e4)):
        if number >= at_least:
            return f"{number / (1e3 if unit == 'k' else at_least):.1f} {unit}"
    return f"{number:,.0f}"


def free_disk(folder: Path) -> int:
    """Bytes free where a folder lies, or will."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def free_memory(proc: Path = Path("/proc/meminfo")) -> int:
    """Bytes of memory that this machine could still give; all of it where that is not told."""
    if proc.is_file():
        rows = dict(line.split(":", 1) for line in proc.read_text().splitlines())
        return int(rows["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
