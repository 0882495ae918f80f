"""Progress that a person can watch: a bar in a terminal, plain lines under nohup.

In: what is done of how much. Out: on standard error, so that standard output stays a program's.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TextIO, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

# Without a terminal a line every so many hundredths of the work.
_LINE_EVERY = 0.1


class Advance(Protocol):
    """Told how much is done, and what to say beside the bar."""

    def __call__(self, done: float, note: str = "") -> None: ...


class _Lasting:
    """A terminal that may go away: what is drawn then is lost, and the work goes on."""

    def __init__(self, file: TextIO):
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> None:
        """As the file does it."""
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        """As the file does it."""
        with suppress(OSError):
            self._file.flush()


@contextmanager
def progress(title: str, total: float) -> Iterator[Advance]:
    """A bar from 0 to `total` with a title."""
    console = _console()
    if not console.is_terminal:
        yield _lines(title, total)
        return
    columns = (
        # A terminal of 80 columns holds it all.
        TextColumn("{task.description}"), BarColumn(bar_width=16), TaskProgressColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(compact=True), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total, note="")

        def advance(done: float, note: str = "") -> None:
            # What is newly said is seen, however soon the next word follows.
            bar.update(task, completed=done, note=note, refresh=note != bar.tasks[0].fields["note"])

        yield advance


def counted(title: str, items: Iterable[Item]) -> Iterator[Item]:
    """The items one by one, with their count beside a moving bar in a terminal, for work whose end is not known."""
    console = _console()
    if not console.is_terminal:
        yield from items
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"))
    # What is printed meanwhile is a program's and goes where it was sent.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        yield from bar.track(items, description=title)


def _console() -> Console:
    return Console(file=cast(TextIO, _Lasting(sys.stderr)))


def _lines(title: str, total: float) -> Advance:
    told = -1

    def advance(done: float, note: str = "") -> None:
        nonlocal told
        tenth = int(done / total / _LINE_EVERY) if total else 0
        if tenth > told:
            told = tenth
            print(f"{title}: {done:g} of {total:g} {note}".rstrip(), file=sys.stderr, flush=True)

    return advance
