"""A response of the policy's: JSON, OpenAI's errors, or the engine's messages with our headers.

In: ASGI's `send`. Out: what it is called with.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Reply:
    """The one way in which the policy sends a response."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]):
        self._send = send
        self.headers = headers
        self.started = False

    async def start(self, status: int, content_type: bytes) -> None:
        """Status and headers; `part` goes on."""
        self.started = True
        headers = [(b"content-type", content_type), (b"cache-control", b"no-store"), *self.headers]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def part(self, body: bytes, *, more: bool) -> None:
        """A piece of the body, the last one unless there is `more`."""
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def json(self, status: int, content: dict[str, Any]) -> None:
        """A whole response."""
        body = json.dumps(content, ensure_ascii=False).encode()
        self.headers.append((b"content-length", str(len(body)).encode()))
        await self.start(status, b"application/json")
        await self.part(body, more=False)

    async def error(self, status: int, message: str, param: str | None = None) -> None:
        """A whole response that says what is wrong, of the request's field `param` where it is one's fault."""
        if status == 401:
            self.headers.append((b"www-authenticate", b"Bearer"))
        await self.json(status, {"error": openai_error(status, message, param)})

    async def passed_on(self, message: Message) -> None:
        """A message of the engine's own, with our headers."""
        if message["type"] == "http.response.start":
            self.started = True
            message = {**message, "headers": [*message.get("headers", []), *self.headers]}
        await self._send(message)


def openai_error(status: int, message: str, param: str | None) -> dict[str, Any]:
    """What stands under `error`: OpenAI's type and code for an HTTP status, and one sentence for a person."""
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status)
    kind = kind or ("server_error" if status >= 500 else "invalid_request_error")
    codes = {401: "invalid_api_key", 404: "not_found", 413: "request_too_large", 429: "rate_limit_exceeded"}
    return {"message": message, "type": kind, "param": param, "code": codes.get(status)}
