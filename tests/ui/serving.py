"""A small real HTTP server on a port of this machine. In: what to do with a request. Out: a port, until it is left.

Run: `with Serving(answer) as served: served.port`, where `answer(request, body)` writes the response; `with Webhook() as
hook: hook.got` is one that alerts are sent to.
"""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # five, the default, are too few when many browsers ask at once


class Serving:
    """Answers every GET and POST, each in a thread of its own. The same port can be left and taken again."""

    def __init__(self, answer: Answer, port: int = 0) -> None:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Keep quiet."""

            def do_GET(self) -> None:
                answer(self, b"")

            def do_POST(self) -> None:
                answer(self, self.rfile.read(int(self.headers["content-length"])))

        self._http = _Server(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self.port: int = self._http.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()


def respond(
    request: BaseHTTPRequestHandler, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> None:
    """A response of JSON, or of nothing."""
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("content-type", "application/json")
    request.send_header("content-length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


class Webhook(Serving):
    """Keeps what is posted; answers with `status`."""

    def __init__(self) -> None:
        super().__init__(self._keep)
        self.address = f"json://127.0.0.1:{self.port}/hook?rto=2&cto=2"
        self.got: list[dict[str, Any]] = []
        self.status = 200

    def _keep(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        if self.status == 200:
            self.got.append(json.loads(body))
        respond(request, self.status)
