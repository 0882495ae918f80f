"""Serve the child's page, send alerts, and delete what is too old. In: a host, a port, and the environment of
`ui/companion/app.py`. Out: a page.

Run: `python -m ui [--host 127.0.0.1] [--port 8501]`; `python -m ui --new-pin` sets the parents' PIN anew, for whoever
may run commands on this machine. Everything else stands in `ui/companion/.streamlit/config.toml`.
"""

import argparse
import getpass
import logging
import os
import socket
import sys
import threading
from pathlib import Path

from data.strict import BadInput

ROOT = Path(__file__).parent.parent
APP = ROOT / "ui" / "companion" / "app.py"


def main() -> None:
    """Open the records, check the port, then be Streamlit. Exit code 2 when one of them cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m ui", description="Serve MindPal's page for a child.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8501, help="the port to listen on (default: 8501)")
    parser.add_argument("--new-pin", action="store_true", help="ask for a new parents' PIN, set it, and end")
    asked = parser.parse_args()
    try:
        if asked.new_pin:
            _new_pin()
            return
        trouble = port_trouble(asked.host, asked.port)
        if trouble:
            raise BadInput(trouble)
        _serve(asked.host, asked.port)
    except BadInput as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def port_trouble(host: str, port: int) -> str | None:
    """One sentence when nobody can listen there, or None."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except (OSError, OverflowError) as error:
        return f"{host}:{port} cannot be listened on ({error}); choose another port with --port."
    return None


def _serve(host: str, port: int) -> None:
    # Streamlit takes a second to import: a mistake in the records is told before that.
    from ui import chores
    from ui.client import settings_from
    from ui.store import Store, url_for

    settings = settings_from(os.environ)
    store = Store(url_for(settings.family, settings.database_url), settings.key_file)
    _log_to_stderr()
    # In this process, so that the two live and die together; a daemon, so that Ctrl-C waits for no webhook.
    threading.Thread(target=chores.run, args=(store,), name="chores", daemon=True).start()

    from streamlit.web import cli

    _stay_at_home()
    print(f"灵伴: http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}", file=sys.stderr, flush=True)
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    cli.main(["run", str(APP), f"--server.address={host}", f"--server.port={port}"], prog_name="streamlit")


def _stay_at_home() -> None:
    """Streamlit asks the internet for this machine's address when it checks where a request comes from. Ours does not."""
    from streamlit import net_util

    net_util.get_external_ip = lambda: None


def _log_to_stderr() -> None:
    """Our own lines only: what the libraries tell is for their makers."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
    log = logging.getLogger("mindpal")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def _new_pin() -> None:
    from ui import pin
    from ui.client import settings_from
    from ui.store import Store, url_for

    settings = settings_from(os.environ)
    store = Store(url_for(settings.family, settings.database_url), settings.key_file)
    typed = getpass.getpass("New PIN (4 to 8 digits): ") if sys.stdin.isatty() else sys.stdin.readline().strip()
    if not pin.is_fit(typed):
        raise BadInput("A PIN has four to eight digits and is not as simple as 1111 or 1234; nothing was changed.")
    pin.change(store, typed)
    store.close()
    print("The PIN is set.")


if __name__ == "__main__":
    main()
