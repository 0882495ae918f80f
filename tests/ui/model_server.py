"""A small real HTTP server in the shape of OpenAI's chat API, for the page's tests.

In: a question; words in it choose what happens. Out: a reply in pieces, slowly. It remembers requests and hang-ups.
Run: `with ModelServer() as server: server.url`. The same port can be left and taken again, as a waking server does.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.ui.serving import Serving, respond

CONTRACT = "3f9a12c4" + "0" * 56
SKY = "天空是蓝色的，因为**阳光**穿过空气时，蓝光被散射得最多。公式：$I \\propto 1/\\lambda^4$"
HEARD = "大象有多重？"
CRISIS = "谢谢你告诉我。我听到你现在很难受。"
# What a page must make no link and no picture of, however it is written.
HOSTILE = (
    "![x](http://evil.example/a.png)",
    "![x](//evil.example/a.png)",
    "[x](javascript:alert(1))",
    "[![x](http://evil.example/a.png)](http://evil.example)",
    "![a\nb](http://evil.example/a.png)",
    "[a][b]\n\n[b]: http://evil.example",
    "[b]\n\n> [b]: //evil.example",
    "- [b]: /relative\n- [b]",
    "1. [b]: /relative\n\n[b]",
    "<https://evil.example>",
    "<a@evil.example>",
    "<irc://evil.example> <tel:110>",
    "https://evil.example www.evil.example a@evil.example",
    "![x][b]\n\n[b]:\nhttp://evil.example/a.png",
    "你可以看https://evil.example/x，或者看http://evil.example，看www.evil.example",
    "_https://evil.example_ _www.evil.example_ （http://evil.example） HTTPS://evil.example",
    r"https\://evil.example/a https:\/\/evil.example www\.evil.example a\@evil.example",
    "https&#58;//evil.example https&#x3a;//evil.example https&colon;//evil.example http&#115;://evil.example",
    "www&#46;evil.example &#119;ww.evil.example www&period;evil.example a&#64;evil.example a&commat;evil.example",
    "https://[x](y)evil.example www[](y).evil.example",
)
NOTHING = b'{"id":"1","object":"chat.completion.chunk","created":1,"model":"mindpal","choices":[]}'


class ModelServer(Serving):
    """Answers `POST /v1/chat/completions`, `GET /v1/models`, and `/v1/audio/transcriptions` as a speech server would, until left.

    A plain reply comes in pieces of so many `signs`. With `together`, none goes on beyond its first piece, and no recording
    is heard, before that event is set. `ours`: whether it says which contract it keeps, as MindPal's server does and no other; `at_once`: whether what
    the guard did stands beside the first words.
    """

    def __init__(
        self,
        port: int = 0,
        pause_s: float = 0.01,
        together: threading.Event | None = None,
        *,
        signs: int = 1,
        ours: bool = True,
        at_once: bool = False,
    ) -> None:
        super().__init__(self._answer, port)
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.requests: list[dict[str, Any]] = []
        self.recordings: list[bytes] = []
        self.hung_up = threading.Event()
        self.busy, self.busiest = 0, 0  # replies on their way now, and most at one time
        self._counting = threading.Lock()
        self._pause_s, self._together = pause_s, together
        self._plain = [SKY[start : start + signs] for start in range(0, len(SKY), signs)]
        self._headers = {"x-mindpal-contract": CONTRACT} if ours else {}
        self._at_once = at_once

    def _answer(self, request: BaseHTTPRequestHandler, raw: bytes) -> None:
        if request.path == "/v1/models":
            respond(request, 200, b'{"object":"list","data":[]}', headers=self._headers)
            return
        if request.path == "/v1/audio/transcriptions":
            self.recordings.append(raw)
            if self._together is not None:
                self._together.wait(60)
            respond(request, 200, json.dumps({"text": HEARD}).encode())
            return
        body = json.loads(raw)
        self.requests.append(body)
        asked = body["messages"][-1]["content"]
        if status := re.fullmatch(r"\[(\d{3})\]", asked):
            respond(request, int(status[1]), headers=self._headers)
            return
        request.send_response(200)
        request.send_header("content-type", "text/event-stream")
        for name, value in self._headers.items():
            request.send_header(name, value)
        request.end_headers()
        with self._counting:
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
        try:
            for number, event in enumerate(_events(asked, self._plain, self._pause_s, at_once=self._at_once)):
                if number == 1:
                    self._wait(request)
                _send(request, event)
        except OSError:
            self.hung_up.set()
        finally:
            with self._counting:
                self.busy -= 1

    def _wait(self, request: BaseHTTPRequestHandler) -> None:
        while self._together is not None and not self._together.wait(1):
            _send(request, NOTHING)


def _send(request: BaseHTTPRequestHandler, event: bytes) -> None:
    request.wfile.write(b"data: " + event + b"\n\n")
    request.wfile.flush()


def _events(asked: str, plain: list[str], pause_s: float, *, at_once: bool) -> Iterator[bytes]:
    if asked == "[empty]":
        yield _chunk({}, "stop")
        yield b"[DONE]"
        return
    if asked == "[silent]":
        for _ in range(20):  # bytes on the wire, more than a heartbeat apart, and not a word
            time.sleep(0.6)
            yield NOTHING
        return
    told = None
    pieces, pause = plain, pause_s
    if "不想活" in asked:
        pieces, told = [CRISIS], {"action": "crisis", "category": "self_harm", "layer": "rules"}
    elif "电话" in asked:
        told = {"action": "masked", "category": "personal_data", "layer": "rules"}
    elif "很怪" in asked:
        pieces, told = ["我们聊点别的吧。"], {"action": "stopped", "category": "violence", "layer": "rules"}
    elif "链接" in asked:
        pieces = ["\n\n".join(HOSTILE), "\n\n完了。"]
    elif "很长" in asked:
        pieces, pause = [f"第{number}句。" for number in range(400)], 0.1
    for piece in pieces:
        yield _chunk({"content": piece}, None, told if at_once else None)
        time.sleep(pause)
    if asked == "[broken]":
        return
    yield _chunk({}, "stop", told)
    yield b"[DONE]"


def _chunk(delta: dict[str, str], finish: str | None, told: dict[str, str] | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    made: dict[str, Any] = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "mindpal"}
    return json.dumps(made | {"choices": [choice]} | ({"mindpal": told} if told else {})).encode()
