"""Our command lines and pages as processes of their own that start at once.

Importing torch and the trainers, or Streamlit, takes longer than most tests. A server process imports them one time and forks
a child for each; a child is a real process: it can be killed, and its exit code and output are its own.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.forkserver import ForkServer
from pathlib import Path
from typing import Any, TextIO
from unittest.mock import patch

CONTEXT: Any = multiprocessing.get_context("forkserver")
ROOT = Path(__file__).resolve().parents[1]


def _importing(*modules: str) -> ForkServer:
    server = ForkServer()
    server.set_forkserver_preload(list(modules))
    return server


# It runs no operation of torch: threads of its own would not live on in a child.
TRAINER = _importing(
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "finetune.train",
    "finetune.watch",
    "finetune.merge",
    "matplotlib.figure",
    "finetune.step.trainer",
)
# Without the trainer's: after a broken line Streamlit looks into every module that there is.
PAGES = _importing(
    "streamlit.web.cli",
    "streamlit.web.bootstrap",
    "streamlit.delta_generator",
    "streamlit.emojis",
    "PIL.Image",
    "ui.chores",
    "ui.studio.jobs",
)


def fork(target: Callable[..., None], *given: Any, server: ForkServer = TRAINER) -> Any:
    """A started child of `server` that calls `target`; what is given must be picklable, or a queue of `CONTEXT`."""
    process = CONTEXT.Process(target=target, args=given)
    with (
        # Streamlit's test of a page leaves its script behind as the main module, which a child would run anew.
        patch.dict(sys.modules, __main__=sys.modules[__name__]),
        patch("multiprocessing.forkserver.connect_to_new_process", server.connect_to_new_process),
    ):
        process.start()
    return process


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


class Command:
    """`python -m finetune WORDS` in a child, its output in files of `folder`."""

    def __init__(
        self,
        folder: Path,
        *words: str,
        environment: Mapping[str, str] | None = None,
        limit: int = 0,
        stdin: str = "",
        terminal: str = "",
    ):
        """`limit`: the largest file that the command may write, in bytes; 0 for any. `terminal`: where its errors go."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stdin").write_text(stdin)
        (folder / "stderr").touch()
        self._in, self._out, self._err = folder / "stdin", folder / "stdout", folder / "stderr"
        err = terminal or str(self._err)
        self.process = fork(_run, words, str(self._in), str(self._out), err, dict(environment or {}), limit)

    def wait(self, seconds: float = 240) -> Done:
        """Until the command ends by itself."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            raise TimeoutError(f"still running after {seconds} s: {self._err.read_text()}")
        return Done(self.process.exitcode, self._out.read_text(), self._err.read_text())

    def wait_for(self, seen: Callable[[], bool], seconds: float = 240) -> None:
        """Until something is seen; it must still run then."""
        began = time.monotonic()
        while not seen():
            if not self.process.is_alive() or time.monotonic() - began > seconds:
                raise AssertionError(f"not seen: {self._err.read_text()}")
            time.sleep(0.005)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.process.pid, number)


def finetune(folder: Path, *words: str, **given: Any) -> Done:
    """Run a command to its end."""
    return Command(folder, *words, **given).wait()


def serve(program: Sequence[str], environment: Mapping[str, str], log: Path) -> Any:
    """`python -m PROGRAM` in a started child, with this environment and no other; what it tells is added to `log`."""
    return fork(_serve, tuple(program), dict(environment), str(log), server=PAGES)


def _serve(program: tuple[str, ...], environment: dict[str, str], log: str) -> None:
    sys.stdout, sys.stderr = (_told_in(log, number, os.O_APPEND) for number in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(ROOT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = list(program)
    runpy.run_module(program[0], run_name="__main__", alter_sys=True)


def _run(words: tuple[str, ...], given: str, out: str, err: str, environment: dict[str, str], limit: int) -> None:
    import resource

    import torch

    from finetune.__main__ import main

    os.dup2(os.open(given, os.O_RDONLY), 0)
    sys.stdin = os.fdopen(0, "r", encoding="utf-8", closefd=False)
    sys.stdout, sys.stderr = _told_in(out, 1, os.O_TRUNC), _told_in(err, 2, os.O_TRUNC)
    os.environ.update(environment)
    # Models this small gain nothing from a second thread, and two threads wait for one another on a busy machine.
    torch.set_num_threads(1)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["finetune", *words]
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def _told_in(path: str, number: int, how: int) -> TextIO:
    """This process's output of that number goes into a file, line by line."""
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | how), number)
    return os.fdopen(number, "w", buffering=1, closefd=False)
