"""The policy: what any client gets is the model as it was taught, and nothing else of the server.

In: any request. Out: one of five doors, or 404; a chat request rebuilt from an allow-list, judged by the guard, and
its answer screened sentence by sentence. A pure ASGI class that vLLM puts before its own application:

    --middleware serve.policy.Policy     # reads MINDPAL_MODEL_FOLDER and what `python -m serve --help` lists

Every error has OpenAI's form. Where the policy itself fails, the answer ends: words that were not read through never
leave. The log has one line an answer and never holds a word of it.
"""

import asyncio
import json
import logging
import os
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import REGISTRY, CollectorRegistry, Counter

from data.protocol import CONTRACT_HEADER, DROPPED_HEADER, MODEL_NAME, PINNED_HEADER
from serve.answer import Answer, first
from serve.guard.guard import read_guard
from serve.guard.remote import Down, Remote
from serve.guard.screen import harm_in
from serve.guard.verdict import Answers, Verdict, read_answers
from serve.keys import Keys, read_keys
from serve.launch import GRACE_S, answers_from, grace_from, is_loopback, limits_from, remote_from
from serve.limits import Desk, Lane, Limits, TooMany
from serve.openapi import document
from serve.reply import Application, Message, Receive, Reply, Scope, Send
from serve.request import BODY_LIMIT, Asked, Fitted, ModelFolder, Refused, fitted, in_header, rebuild, too_long
from serve.stop import Stop

log = logging.getLogger("mindpal")

CHAT = ("POST", "/v1/chat/completions")
MODELS = ("GET", "/v1/models")
HEALTH = ("GET", "/health")
METRICS = ("GET", "/metrics")
OPENAPI = ("GET", "/openapi.json")
DOORS = (CHAT, MODELS, HEALTH, METRICS, OPENAPI)
# Characters that are judged together. More may take the guard seconds, in clauses of two letters a minute: they wait for one
# another, so that nothing shorter has to wait for them, and a key has one of them in that line. So a long message waits for
# no more than one of each other key.
_LONG = 500
# For what is shorter; one key has half of them at most.
_SHORT_THREADS = 8
# Bytes that take a while to be taken apart, however little of them is judged.
_LONG_BODY = 16 * 1024
# Seconds that a body may take to come.
_BODY_S = 30.0
# Whose requests they are where the server, on loopback, asks for no key.
_NO_KEY = "local"


@dataclass(frozen=True)
class Settings:
    """What the policy needs from outside."""

    folder: Path
    keys: Keys | None
    limits: Limits = field(default_factory=Limits)
    remote: Remote | None = None
    # Where the guard's actions are counted; None: in a registry of one's own, which nobody reads.
    registry: CollectorRegistry | None = None
    # Seconds that answers may still take when the server is told to end.
    grace_s: int = GRACE_S
    # What the guard says.
    answers: Answers = field(default_factory=read_answers)

    @classmethod
    def from_environment(cls) -> "Settings":
        keys_file = os.environ.get("MINDPAL_API_KEYS_FILE", "")
        return cls(
            Path(os.environ["MINDPAL_MODEL_FOLDER"]),
            read_keys(Path(keys_file)) if keys_file else None,
            limits_from(os.environ),
            remote_from(os.environ),
            # vLLM's own, so that /metrics tells both.
            REGISTRY,
            grace_from(os.environ),
            answers_from(os.environ),
        )


class Policy:
    """The middleware. vLLM makes it with the application alone; then the settings come from the environment."""

    def __init__(self, app: Application, settings: Settings | None = None):
        if settings is None:
            settings = Settings.from_environment()
            _log_to_stderr()
        self._app = app
        self._keys = settings.keys
        self._model = ModelFolder(settings.folder)
        self._answers = settings.answers
        self._guard = read_guard()
        self._remote = settings.remote
        self._desk = Desk(settings.limits)
        self._short, self._long = Lane(_SHORT_THREADS, _SHORT_THREADS // 2), Lane(1, 1)
        self._started = int(time.time())
        self._grace_s = settings.grace_s
        registry = settings.registry or CollectorRegistry()
        self._acted = Counter(
            "mindpal_guard_actions", "What the guard did", ["action", "category", "layer"], registry=registry
        )
        self._asked_remote = Counter(
            "mindpal_guard_model", "What became of asking the guard model", ["outcome"], registry=registry
        )
        self._unread = Counter("mindpal_guard_failed", "Questions that the guard could not read", registry=registry)
        self._turned_away = Counter("mindpal_limited", "Requests over a key's limit", registry=registry)
        # Compiled now, so that a mistake in a rules file stops the start and the first child does not wait.
        self._guard.layers("")
        harm_in("", [""])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._request(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        stop: Stop | None = None

        async def told(message: Message) -> None:
            nonlocal stop
            if message["type"] == "lifespan.startup.complete" and "app" in scope:
                # What stood before it would hear every word, and could answer in its place.
                if scope["app"].user_middleware[0].cls is not type(self):
                    raise RuntimeError("other middleware stands before the policy")
                state = scope["app"].state
                stop = Stop(state.server, state.engine_client, self._grace_s)
            elif message["type"] == "lifespan.shutdown.complete" and stop and stop.engine_died:
                # vLLM ends with 0 when its engine was killed, and a supervisor would take that for a wish.
                log.error("the engine died")
                os._exit(1)
            await send(message)

        await self._app(scope, receive, told)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = Reply(send, [(CONTRACT_HEADER.encode(), self._model.fingerprint.encode())])
        try:
            await self._open(scope, receive, reply)
            return
        except Refused as error:
            refused = error
        except asyncio.CancelledError:
            # The server ends and the grace is over.
            reply.headers.append((b"retry-after", b"60"))
            refused = Refused(503, "The server is being stopped; try again when it is back.")
        except Exception as error:  # noqa: BLE001 - whatever it was
            # Its type alone: what goes on from here is logged with its words, and those may be a child's.
            log.error("the policy failed: %s", type(error).__name__)
            refused = Refused(503, "The server could not read this request; please try again.")
        # A stream that breaks off tells its client; others get a sentence.
        if not reply.started:
            await reply.error(refused.status, refused.message, refused.param)

    async def _open(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        """What is behind the door. Raises `Refused`."""
        if not self._keys and not _names_loopback(scope):
            raise Refused(
                403,
                "Without keys the server is asked as localhost, 127.0.0.1 or [::1] only; set MINDPAL_API_KEYS_FILE.",
            )
        door = (scope["method"], scope["path"])
        if door not in DOORS:
            raise Refused(404, "There is no such door; ask POST /v1/chat/completions.")
        name = self._keys.name_of(_header(scope, b"authorization")) if self._keys else _NO_KEY
        if door != HEALTH and not name:
            raise Refused(401, "A valid key is needed: send the header `Authorization: Bearer KEY`.")
        # Behind a proxy on this machine everybody comes from loopback: where there are keys, one is needed here, too.
        if door == METRICS and not self._keys and not _from_loopback(scope):
            raise Refused(403, "Without keys the metrics are told on this machine only.")
        if door == CHAT:
            # Any website may have a browser send other types to this machine, without asking the server first (CORS).
            if _header(scope, b"content-type").partition(";")[0].strip().lower() != "application/json":
                raise Refused(415, "The body has to be JSON: send it with the header `Content-Type: application/json`.")
            await self._let_in(name or _NO_KEY, scope, receive, reply)
        elif door == MODELS:
            await reply.json(200, self._models())
        elif door == OPENAPI:
            await reply.json(200, document(self._model.contract.sampling.max_tokens))
        else:
            await self._app(_inner_scope(scope, door, b""), receive, reply.passed_on)

    def _models(self) -> dict[str, Any]:
        # Told from here: the engine's own list names the model's folder on this machine.
        model = {
            "id": MODEL_NAME,
            "object": "model",
            "created": self._started,
            "owned_by": MODEL_NAME,
            "max_model_len": self._model.contract.window,
        }
        return {"object": "list", "data": [model]}

    async def _let_in(self, name: str, scope: Scope, receive: Receive, reply: Reply) -> None:
        try:
            self._desk.enter(name)
        except TooMany as many:
            self._turned_away.inc()
            reply.headers.append((b"retry-after", str(many.seconds).encode()))
            raise Refused(429, f"Too many requests: {many}; try again in {many.seconds} s.") from None
        try:
            await self._chat(name, scope, receive, reply)
        finally:
            self._desk.leave(name)

    async def _chat(self, name: str, scope: Scope, receive: Receive, reply: Reply) -> None:
        begun = time.monotonic()
        raw = await _body(scope, receive)
        if raw is None:
            return
        try:
            if len(raw) > _LONG_BODY:
                asked = await self._short.run(name, rebuild, raw, self._model)
            else:
                asked = rebuild(raw, self._model)
            answer = Answer(asked, reply, self._model, self._answers.stopped)
            lane = self._long if asked.judged > _LONG else self._short
            # In a thread: the encoder reads for milliseconds, and other children's answers go on meanwhile.
            leaving = asyncio.ensure_future(_until_gone(receive, answer))
            try:
                found = await lane.run(name, self._judged, name, asked, answer)
            finally:
                leaving.cancel()
            pinned = (found if isinstance(found, Fitted) else asked).pinned
            reply.headers.append((PINNED_HEADER.encode(), in_header(pinned).encode()))
        except Refused:
            raise
        except Exception as error:  # noqa: BLE001 - fails closed, whatever it was
            # Not judged is not harmless: the model is not asked.
            raise self._guard_failed(error) from None
        if isinstance(found, Verdict):
            await answer.instead(self._answers.to(found), found)
        elif found and not answer.over:
            if found.dropped:
                reply.headers.append((DROPPED_HEADER.encode(), str(found.dropped).encode()))
            if found.masked:
                answer.masked()
            async with self._desk.seat(name):
                await self._ask(name, scope, receive, asked, found, answer)
        if answer.told:
            self._acted.labels(**answer.told).inc()
        log.info(
            "reply tokens=%d ms=%d contract=%s action=%s",
            answer.tokens,
            (time.monotonic() - begun) * 1000,
            self._model.fingerprint[:8],
            answer.action,
        )

    def _guard_failed(self, error: Exception) -> Refused:
        """What is told then. Any words would be taken for a verdict, so there are none: the question can be asked again."""
        log.error("the guard failed: %s", type(error).__name__)
        self._unread.inc()
        return Refused(503, "The guard could not read this; please try again in a moment.")

    def _judged(self, name: str, asked: Asked, answer: Answer) -> Verdict | Fitted | None:
        """The guard's verdict, or else what the engine is asked; None where the client left before its turn came.

        Judged first: a child in danger is heard by the rules however long its message is, and whatever else is in it.
        """
        if answer.over:
            return None
        answered, forged = partial(self._guard.answered, name), partial(self._guard.forged, name)
        judge = self._guard.judge_too_long if too_long(asked, self._model) else self._guard.judge
        return judge(asked.child, name) or fitted(asked, self._model, self._answers, answered, forged)

    async def _ask(self, name: str, scope: Scope, receive: Receive, asked: Asked, fits: Fitted, answer: Answer) -> None:
        body = json.dumps(fits.body).encode()
        given = False

        async def to_engine() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            # After the body nothing but the client's leaving can come. An answer that the screen ended looks to the
            # engine like one whose client left: it stops computing.
            await first(_until_gone(receive, answer), answer.ended.wait())
            return {"type": "http.disconnect"}

        judged = asyncio.ensure_future(self._judge_remotely(name, asked, fits, answer)) if self._remote else None
        answer.wait_for(judged)
        try:
            await self._app(_inner_scope(scope, CHAT, body), to_engine, answer.from_engine)
        except Exception as error:  # noqa: BLE001 - fails closed, whatever it was
            log.error("the engine failed: %s", type(error).__name__)
        finally:
            if judged:
                judged.cancel()
        await answer.close()

    async def _judge_remotely(self, name: str, asked: Asked, fits: Fitted, answer: Answer) -> None:
        """Ask the guard model beside the engine; a verdict of danger takes the answer's place."""
        if not self._remote:
            return
        try:
            verdict = await self._remote.judge(fits.child)
            self._asked_remote.labels(outcome=verdict.category if verdict else "safe").inc()
            if verdict:
                self._guard.heard(name, asked.child)
                if not answer.over:
                    await answer.instead(self._answers.to(verdict), verdict)
        except Down as down:
            # The first two layers have judged already.
            self._asked_remote.labels(outcome=down.outcome).inc()
            log.warning("the guard model gave no verdict: %s", down)
        except Exception as error:  # noqa: BLE001 - fails closed, whatever it was
            # Else the model's words would leave in the place of the fixed ones.
            refused = self._guard_failed(error)
            await answer.close(refused.status, refused.message)


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body, or None where the client left before its end. Raises `Refused` above the limit."""
    too_large = Refused(413, f"The body is larger than {BODY_LIMIT // 1024} KiB; send fewer or shorter messages.")
    length = _header(scope, b"content-length")
    if length.isdecimal() and len(length) < 20 and int(length) > BODY_LIMIT:
        raise too_large
    # Grows in place: a body may come byte by byte.
    body = bytearray()
    try:
        # It holds a place of its key's, and a server that is asked to end waits for it.
        async with asyncio.timeout(_BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > BODY_LIMIT:
                    raise too_large
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise Refused(408, f"The body did not come whole within {_BODY_S:.0f} s; please send it again.") from None


async def _until_gone(receive: Receive, answer: Answer) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    await answer.gone()


def _inner_scope(scope: Scope, door: tuple[str, str], body: bytes) -> Scope:
    """The engine's view of a request: the door, the rebuilt body's length, and nothing else that a client sent."""
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    # From 2.4 on Starlette does not listen for a disconnect, by which the engine is told to stop.
    asgi = {**scope.get("asgi", {}), "spec_version": "2.3"}
    path = door[1]
    return {**scope, "asgi": asgi, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}


def _header(scope: Scope, name: bytes) -> str:
    for key, value in scope["headers"]:
        if key.lower() == name:
            return str(value.decode("latin-1"))
    return ""


def _names_loopback(scope: Scope) -> bool:
    """Whether the client calls the server by a name of loopback.

    A website may let its own name lead to this machine (DNS rebinding), and its pages would read what is said here as if it
    were theirs. Every browser tells by which name it asks; what tells none is no browser.
    """
    host = _header(scope, b"host")
    try:
        return not host or is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _from_loopback(scope: Scope) -> bool:
    client = scope.get("client")
    return client is not None and is_loopback(client[0])


def _log_to_stderr() -> None:
    # vLLM sets up its own logger only.
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
