"""Serve the child's page. In: a host, a port, and the environment of `ui/companion/app.py`. Out: a page.

Run: `python -m ui [--host 127.0.0.1] [--port 8501]`. Everything else stands in `ui/companion/.streamlit/config.toml`.
"""

import argparse
import os
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
APP = ROOT / "ui" / "companion" / "app.py"


def main() -> None:
    """Check the port, then become Streamlit. Exit code 2 when the port cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m ui", description="Serve MindPal's page for a child.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8501, help="the port to listen on (default: 8501)")
    asked = parser.parse_args()
    trouble = port_trouble(asked.host, asked.port)
    if trouble:
        print(trouble, file=sys.stderr)
        raise SystemExit(2)
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH")) if part)
    command = [sys.executable, "-m", "streamlit", "run", str(APP)]
    command += [f"--server.address={asked.host}", f"--server.port={asked.port}"]
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path})


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


if __name__ == "__main__":
    main()
