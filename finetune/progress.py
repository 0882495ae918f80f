"""Progress that a person can watch: a bar in a terminal, plain lines under nohup.

In: what is done of how much. Out: on standard error, so that standard output stays a program's.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

# Without a terminal a line every so many hundredths of the work.
_LINE_EVERY = 0.1


class Advance(Protocol):
    """Told how much is done, and what to say beside the bar."""

    def __call__(self, done: float, note: str = "") -> None: ...


@contextmanager
def progress(title: str, total: float) -> Iterator[Advance]:
    """A bar from 0 to `total` with a title."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(title, total)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total, note="")

        def advance(done: float, note: str = "") -> None:
            bar.update(task, completed=done, note=note)

        yield advance


def _lines(title: str, total: float) -> Advance:
    told = -1

    def advance(done: float, note: str = "") -> None:
        nonlocal told
        tenth = int(done / total / _LINE_EVERY) if total else 0
        if tenth > told:
            told = tenth
            print(f"{title}: {done:g} of {total:g} {note}".rstrip(), file=sys.stderr, flush=True)

    return advance
