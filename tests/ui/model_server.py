"""A small real HTTP server in the shape of OpenAI's chat API, for the page's tests.

In: a question; words in it choose what happens. Out: a reply in pieces, slowly. It remembers requests and hang-ups.
Run: `with ModelServer() as server: server.url`. The same port can be left and taken again, as a waking server does.
"""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

CONTRACT = "3f9a12c4" + "0" * 56
SKY = "天空是蓝色的，因为**阳光**穿过空气时，蓝光被散射得最多。公式：$I \\propto 1/\\lambda^4$"
HEARD = "大象有多重？"
CRISIS = "谢谢你告诉我。我听到你现在很难受。"


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # five, the default, are too few when many browsers ask at once


class ModelServer:
    """Answers `POST /v1/chat/completions`, and `/v1/audio/transcriptions` as a speech server would, until left."""

    def __init__(self, port: int = 0, pause_s: float = 0.01) -> None:
        self.requests: list[dict[str, Any]] = []
        self.recordings: list[bytes] = []
        self.hung_up = threading.Event()
        self.busy, self.busiest = 0, 0  # replies on their way now, and most at one time
        counting = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Keep quiet."""

            def _json(self, answer: dict[str, str]) -> None:
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                raw = self.rfile.read(length)
                if self.path == "/v1/audio/transcriptions":
                    server.recordings.append(raw)
                    self._json({"text": HEARD})
                    return
                body = json.loads(raw)
                server.requests.append(body)
                asked = body["messages"][-1]["content"]
                if status := {"[400]": 400, "[503]": 503}.get(asked):
                    self.send_response(status)
                    self.send_header("content-length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("x-mindpal-contract", CONTRACT)
                self.end_headers()
                with counting:
                    server.busy += 1
                    server.busiest = max(server.busiest, server.busy)
                try:
                    for event in _events(asked, pause_s):
                        self.wfile.write(b"data: " + event + b"\n\n")
                        self.wfile.flush()
                except OSError:
                    server.hung_up.set()
                finally:
                    with counting:
                        server.busy -= 1

        self._http = _Server(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self.port: int = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()


def _events(asked: str, pause_s: float) -> Iterator[bytes]:
    if asked == "[silent]":
        for _ in range(20):  # bytes on the wire, more than a heartbeat apart, and not a word
            time.sleep(0.6)
            yield b'{"id":"1","object":"chat.completion.chunk","created":1,"model":"mindpal","choices":[]}'
        return
    told = None
    pieces, pause = list(SKY), pause_s
    if "不想活" in asked:
        pieces, told = [CRISIS], {"action": "crisis", "category": "self_harm", "layer": "rules"}
    elif "很怪" in asked:
        pieces, told = ["我们聊点别的吧。"], {"action": "stopped", "category": "violence", "layer": "rules"}
    elif "很长" in asked:
        pieces, pause = [f"第{number}句。" for number in range(400)], 0.1
    for piece in pieces:
        yield _chunk({"content": piece}, None)
        time.sleep(pause)
    if asked == "[broken]":
        return
    yield _chunk({}, "stop", told)
    yield b"[DONE]"


def _chunk(delta: dict[str, str], finish: str | None, told: dict[str, str] | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    made: dict[str, Any] = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "mindpal"}
    return json.dumps(made | {"choices": [choice]} | ({"mindpal": told} if told else {})).encode()
