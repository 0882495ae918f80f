"""A hub on this machine: takes what is uploaded to it with the right token, and hands out files. Real HTTP, no network."""

import base64
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.commands import Done
from tests.demo import ROOT

TOKEN = "hf_right"
COMMIT = "c" * 40
# So many pieces does a file come in.
_PIECES = 40


def online(*words: str, **environment: str) -> Done:
    """A command that may ask a hub: the tests' own process, from which others are forked, is told that it is offline."""
    done = subprocess.run(
        [sys.executable, "-m", "finetune", *words],
        cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "0", **environment}, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


class Hub(ThreadingHTTPServer):
    """`uploaded` are the files that came in, `served` those of the one model that can be fetched.

    A file of weights takes `slowly_s` seconds to be handed out. While it `resets`, the connection breaks in the middle of one,
    or of an upload. `host` is the address of this machine where it listens.
    """

    def __init__(self, served: Path | None = None, *, slowly_s: float = 0, host: str = "127.0.0.1"):
        super().__init__((host, 0), _Handler)
        self.served, self.uploaded, self.slowly_s = served, dict[str, bytes](), slowly_s
        self.resets = False
        self.asked: list[tuple[str, str]] = []
        # From which byte on weights were handed out.
        self.begun: list[int] = []
        self.url = f"http://{host}:{self.server_port}"


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._note()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "Invalid credentials"}, 401)
        elif self.path == "/api/repos/create":
            asked = json.loads(content)
            self._answer({"url": f"{self.server.url}/{asked['organization']}/{asked['name']}"})
        elif self.path == "/api/validate-yaml":
            # The card's head.
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(content)["files"]
            told = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]
            self._answer({"files": told})
        elif "/commit/" in self.path and self.server.resets:
            self._reset()
        elif "/commit/" in self.path:
            for line in content.decode().splitlines():
                one = json.loads(line)
                if one["key"] == "file":
                    self.server.uploaded[one["value"]["path"]] = base64.b64decode(one["value"]["content"])
            self._answer(
                {"success": True, "commitOid": COMMIT, "commitUrl": f"{self.server.url}/family/mindpal/commit/{COMMIT}"}
            )
        else:
            self._answer({}, 404)

    def do_GET(self) -> None:
        self._note()
        served = self.server.served
        if served is None:
            self._answer({"id": "o/m", "sha": COMMIT, "siblings": []})
        elif self.path.startswith("/api/"):
            siblings = [{"rfilename": path.name} for path in sorted(served.iterdir())]
            tree = [
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40}
                for path in sorted(served.iterdir())
            ]
            self._answer(tree if "/tree/" in self.path else {"id": "o/m", "sha": COMMIT, "siblings": siblings})
        else:
            content = (served / self.path.rpartition("/")[2]).read_bytes()
            headers = {"ETag": f'"{len(content):040x}"', "X-Repo-Commit": COMMIT}
            # A file that came in part before.
            begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            if self.command == "GET" and self.path.endswith(".safetensors"):
                self.server.begun.append(begin)
            if begin:
                headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
            self._send(content[begin:], 206 if begin else 200, headers)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def log_message(self, *_: object) -> None:
        """Quietly."""

    def _note(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization") or ""))

    def _answer(self, told: Any, code: int = 200) -> None:
        self._send(json.dumps(told).encode(), code, {"Content-Type": "application/json"})

    def _send(self, content: bytes, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        piece = max(1, len(content) // _PIECES)
        for start in range(0, len(content), piece):
            if self.path.endswith(".safetensors"):
                time.sleep(self.server.slowly_s / _PIECES)
                if self.server.resets and 2 * start > len(content):
                    self._reset()
                    return
            try:
                self.wfile.write(content[start : start + piece])
            except OSError:
                # Whoever asked is gone.
                return

    def _reset(self) -> None:
        # What is closed without waiting for what was not sent yet is reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
