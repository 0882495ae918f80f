"""The real policy in the real uvicorn, with signals left to it as vLLM leaves them, before an engine that speaks slowly.

python -m tests.serve.slow_server MODEL_FOLDER PORT GRACE_S PIECES
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvicorn

from serve.policy import Policy, Settings, _log_to_stderr

# Between two pieces of an answer.
PIECE_S = 0.2
PIECE = "今天很好。"


class Application:
    """In vLLM's place: an engine that speaks, and what vLLM tells of itself."""

    def __init__(self, pieces: int) -> None:
        self.state = SimpleNamespace(engine_client=SimpleNamespace(errored=False), server=None)
        self.user_middleware = [SimpleNamespace(cls=Policy)]
        self._pieces = pieces

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            scope["app"] = self
            for moment in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{moment}.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(self._pieces):
            await asyncio.sleep(PIECE_S)
            finish = "stop" if number + 1 == self._pieces else None
            choice = {"index": 0, "delta": {"content": PIECE}, "finish_reason": finish}
            event = json.dumps({"id": "x", "created": 1, "choices": [choice]})
            await send({"type": "http.response.body", "body": f"data: {event}\n\n".encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})


class Server(uvicorn.Server):
    """uvicorn that installs no handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(folder: str, port: str, grace_s: str, pieces: str) -> None:
    """Serve until a signal ends it."""
    application = Application(int(pieces))
    policy = Policy(application, Settings(Path(folder), None, grace_s=int(grace_s)))
    server = Server(uvicorn.Config(policy, port=int(port), log_level="warning"))
    application.state.server = server
    _log_to_stderr()
    asyncio.run(server.serve())


if __name__ == "__main__":
    main(*sys.argv[1:])
