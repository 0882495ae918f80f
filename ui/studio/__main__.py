"""Serve the studio, for adults. In: a host, a port, the environment of `ui/studio/settings.py`, and MINDPAL_HOSTS, the
names of a proxy in front. Out: a page.

Run: `python -m ui.studio [--host 127.0.0.1] [--port 8502] [--worker]`. With --worker the jobs are done on this machine:
`python -m finetune worker` runs beside the page and ends with it; where the page is killed, the job at work goes on to its
end, and the next page's worker takes up what waits. `--new-password` sets the password anew, for whoever
may run commands on this machine. Everything else stands in `ui/studio/.streamlit/config.toml`.
"""

import argparse
import getpass
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from data.strict import BadInput
from ui.serving import ROOT, address, check_port, names_from, serve

APP = ROOT / "ui" / "studio" / "app.py"
# The worker lets its job save a checkpoint before it ends.
PARTING_S = 120
# The exit code for what a person has to mend: beginning again at once would not help.
MENDABLE = 2
AGAIN_S, MENDED_S = 2, 10


def main() -> None:
    """Check the port, then be Streamlit. Exit code 2 when it cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m ui.studio", description="Serve MindPal's studio for adults.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8502, help="the port to listen on (default: 8502)")
    parser.add_argument("--worker", action="store_true", help="do the jobs here, too: `python -m finetune worker`")
    parser.add_argument("--new-password", action="store_true", help="ask for a new password, set it, and end")
    asked = parser.parse_args()
    try:
        if asked.new_password:
            _new_password()
            return
        check_port(asked.host, asked.port)
        with _worker() if asked.worker else _nobody():
            _serve(asked.host, asked.port)
    except BadInput as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def _serve(host: str, port: int) -> None:
    from ui.studio.gate import CODE
    from ui.studio.password import PasswordFile
    from ui.studio.settings import settings_from

    url = address(host, port)
    if not PasswordFile(settings_from(os.environ).secret).is_set():
        # Whoever sees this line may set the first password, and nobody else who reaches the port.
        os.environ[CODE] = secrets.token_urlsafe(16)
        url += f"/?code={os.environ[CODE]}"
    print(f"灵伴工坊: {url}", file=sys.stderr, flush=True)
    serve(APP, host, port, names_from(os.environ))


@contextmanager
def _worker() -> Iterator[None]:
    """The worker in a process of its own: begun again when it is killed, told to end when the page does."""
    from data.queue import is_worker_alive
    from ui.studio.settings import settings_from

    settings = settings_from(os.environ)
    places = ["--runs", str(settings.runs), "--models", str(settings.models), "--data-dir", str(settings.data)]
    # Killed, the page can tell it nothing: the worker sees for itself that nobody would look after it any more.
    words = [*places, "--parent", str(os.getpid())]
    ending = threading.Event()

    def look_after() -> None:
        while not ending.is_set():
            # A group of its own: Ctrl-C in a terminal reaches the page, and the page tells the worker.
            process = subprocess.Popen(
                [sys.executable, "-m", "finetune", "worker", *words], cwd=ROOT, start_new_session=True
            )
            while process.poll() is None and not ending.wait(0.5):
                pass
            if process.poll() is None:
                _end(process)
            elif process.returncode != MENDABLE:
                ending.wait(AGAIN_S)
            else:
                # It has said why. As a rule another one is at work, that of a page which was killed: when it ends, ours is
                # needed.
                ending.wait(MENDED_S)
                while is_worker_alive(settings.runs) and not ending.wait(AGAIN_S):
                    pass

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    thread = threading.Thread(target=look_after, name="worker")
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(PARTING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _nobody() -> Iterator[None]:
    yield


def _new_password() -> None:
    from ui.studio.password import PasswordFile
    from ui.studio.settings import settings_from

    secret = PasswordFile(settings_from(os.environ).secret)
    typed = getpass.getpass("New password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    secret.change(typed)
    print("The password is set.")


if __name__ == "__main__":
    main()
