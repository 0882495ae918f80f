"""Ask 灵伴 for a reply over HTTP: the only module of the page that speaks to the model.

In: the conversation so far. Out: pieces of text as they come, then an `Ending`; or `Asleep`, or `Refused`.
Run: `with Reply(settings, turns) as reply: for piece in reply: ...` — leaving the block closes the HTTP stream, and
a server that sees the stream close stops generating.

A child's words and voice do not leave the house. Both servers have to be in its network; they are asked directly, since
HTTP_PROXY and its like are for what leaves it, and where one of them sends elsewhere, nobody goes. The model's server has said
that it is MindPal's before it is told a word.
"""

import asyncio
import logging
from collections.abc import Awaitable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from ssl import SSLContext
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from data.address import check_inside
from data.protocol import CONTRACT_HEADER, GUARD_FIELD, MODEL_NAME
from data.strict import BadInput

STT_MODEL = "whisper-1"  # the name that servers of this API answer to; most ignore it
BEAT_S = 0.25  # how often a waiting page gets an empty piece, so that a press of Stop is noticed before the first word
CONNECT_S = 3.0
SILENCE_S = 120.0  # a server that says nothing for this long is treated as asleep; a CPU may read a long prompt slowly
REFUSALS = (400, 413, 422)  # what is wrong with the question itself; everything else may be right the next time

T = TypeVar("T")

log = logging.getLogger("mindpal")


class Asleep(Exception):
    """The server is down, waking up, busy or not ours: the same message may be sent again later."""


class Refused(Exception):
    """The server has read this question and will not answer it, however often it is sent."""


@dataclass(frozen=True)
class Settings:
    """Where the model answers, where the family's records and their key lie, and who turns speech into text."""

    api_url: str
    api_key: str
    family: Path
    database_url: str | None
    key_file: Path
    stt_url: str | None
    stt_key: str


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Read the settings; `BadInput` when the key file is named and cannot be read."""
    family = Path(environment.get("MINDPAL_FAMILY") or "family")
    return Settings(
        api_url=environment.get("MINDPAL_API_URL") or "http://127.0.0.1:8000/v1",
        api_key=_key(environment, "MINDPAL_API_KEY_FILE"),
        family=family,
        database_url=environment.get("DATABASE_URL") or None,
        key_file=Path(environment.get("MINDPAL_KEY_FILE") or family / "key"),
        stt_url=environment.get("STT_URL") or None,
        stt_key=_key(environment, "STT_KEY_FILE"),
    )


def check_addresses(settings: Settings) -> None:
    """Raise `BadInput` where a child's words or voice would leave this network: told at the start, before anybody asks."""
    check_inside("MINDPAL_API_URL", settings.api_url)
    if settings.stt_url:
        check_inside("STT_URL", settings.stt_url)


def _key(environment: Mapping[str, str], name: str) -> str:
    file = environment.get(name)
    try:
        key = Path(file).read_text(encoding="utf-8").strip() if file else ""
    except OSError as error:
        raise BadInput(f"{name}: {file} cannot be read: {error.strerror}.") from None
    return key or "none"  # the client library insists on a key; a server without keys ignores it


@dataclass(frozen=True)
class Turn:
    """One thing said, by the child or by 灵伴."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Ending:
    """What is known of a reply besides its text. `action` is None when the guard let everything pass."""

    finish_reason: str | None = None
    action: str | None = None
    category: str | None = None
    layer: str | None = None
    contract: str | None = None

    @property
    def guarded(self) -> bool:
        """Whether the guard spoke in the model's place. Of a question it may have masked something: that stops nothing."""
        return self.action not in (None, "masked")


@cache
def _authorities() -> SSLContext:
    """Who may certify a server: read once and not for each reply, which would take a twentieth of a second of it."""
    return httpx2.create_ssl_context(trust_env=False)


class Reply:
    """A reply on its way. Iterate for pieces (an empty piece is a heartbeat); `ending` is complete afterwards."""

    def __init__(self, settings: Settings, turns: list[Turn]) -> None:
        self.ending = Ending()
        self._settings = settings
        self._turns = turns
        self._loop = asyncio.new_event_loop()
        self._pieces = self._run()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def close(self) -> None:
        """Close the stream, and with it the server's work. Closing twice is harmless."""
        self._pieces.close()
        if not self._loop.is_closed():
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _run(self) -> Generator[str, None, None]:
        client = openai.AsyncOpenAI(
            base_url=self._settings.api_url,
            api_key=self._settings.api_key,
            max_retries=0,  # a repeated request would be a second reply
            timeout=openai.Timeout(SILENCE_S, connect=CONNECT_S),
            # No proxy of the environment, and no way that a server points to.
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False, follow_redirects=False, verify=_authorities()),
        )
        try:
            yield from self._beat(self._meet(client))
            yield from self._stream(client)
        except BadInput as error:
            log.warning("model: questions wait: %s", error)
            raise Asleep(str(error)) from None
        except openai.APITimeoutError:
            raise Asleep(f"{self._settings.api_url} did not answer in time.") from None
        except openai.APIStatusError as error:
            raise self._failure(error.status_code, error.response.headers) from None
        except openai.OpenAIError as error:
            raise Asleep(f"{self._settings.api_url} cannot be reached: {type(error).__name__}.") from None
        finally:
            self._loop.run_until_complete(client.close())

    def _failure(self, status: int, headers: Mapping[str, str]) -> Asleep | Refused:
        reason = f"{self._settings.api_url} answered {status}."
        if status in REFUSALS and CONTRACT_HEADER in headers:  # another server would refuse what no guard has read
            return Refused(reason)
        if status not in (408, 429) and status < 500:
            setting = "MINDPAL_API_KEY_FILE" if status in (401, 403) else "MINDPAL_API_URL"
            log.warning("model: questions wait: the server answered %d; see %s", status, setting)
        return Asleep(reason)

    async def _meet(self, client: openai.AsyncOpenAI) -> None:
        """Let the server say that it is ours. Raises `BadInput` where its name has come to lead out of this network."""
        await asyncio.to_thread(check_inside, "MINDPAL_API_URL", self._settings.api_url)
        try:
            told = (await client.models.with_raw_response.list()).headers
        except openai.APIStatusError as error:
            told = error.response.headers  # a wrong key, for one: what is asked next tells it
        if CONTRACT_HEADER not in told:
            raise self._stranger()

    def _stranger(self) -> Asleep:
        log.warning("model: questions wait: what answers is no MindPal server; see MINDPAL_API_URL")
        return Asleep(f"{self._settings.api_url} is no MindPal server.")

    def _stream(self, client: openai.AsyncOpenAI) -> Generator[str, None, None]:
        messages: list[ChatCompletionMessageParam] = [
            {"role": "user", "content": turn.text}
            if turn.role == "user"
            else {"role": "assistant", "content": turn.text}
            for turn in self._turns
        ]
        asked = client.chat.completions.with_raw_response.create(model=MODEL_NAME, messages=messages, stream=True)
        raw = yield from self._beat(asked)
        contract = raw.headers.get(CONTRACT_HEADER)
        stream: openai.AsyncStream[ChatCompletionChunk] = raw.parse()
        try:
            if not contract:  # neither persona nor guard: not a word of it reaches the child
                raise self._stranger()
            chunks = stream.__aiter__()
            self.ending = Ending(contract=contract)
            while (chunk := (yield from self._beat(_next(chunks)))) is not None:
                yield self._take(chunk)
        finally:
            self._loop.run_until_complete(stream.close())
        if self.ending.finish_reason is None:
            raise Asleep(f"{self._settings.api_url} broke off in the middle of a reply.")

    def _take(self, chunk: ChatCompletionChunk) -> str:
        extra = (chunk.model_extra or {}).get(GUARD_FIELD)
        acted = extra if isinstance(extra, dict) else {}
        choice = chunk.choices[0] if chunk.choices else None
        self.ending = Ending(
            finish_reason=(choice.finish_reason if choice else None) or self.ending.finish_reason,
            action=_text(acted.get("action")) or self.ending.action,
            category=_text(acted.get("category")) or self.ending.category,
            layer=_text(acted.get("layer")) or self.ending.layer,
            contract=self.ending.contract,
        )
        return (choice.delta.content if choice else None) or ""

    def _beat(self, work: Awaitable[T]) -> Generator[str, None, T]:
        """Wait for `work`, with an empty piece every `BEAT_S`; cancel it if the reader walks away."""
        task = asyncio.ensure_future(work, loop=self._loop)
        try:
            while not task.done():
                self._loop.run_until_complete(asyncio.wait({task}, timeout=BEAT_S))
                if not task.done():
                    yield ""
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                self._loop.run_until_complete(asyncio.wait({task}))


def transcribe(settings: Settings, wav: bytes, language: str) -> str:
    """What was said in a recording (WAV, 16 kHz), by the server at `stt_url`; the recording is kept nowhere.

    Raises `Asleep` when nobody answers, or who would is outside this network.
    """
    url = settings.stt_url or ""
    try:
        check_inside("STT_URL", url)
    except BadInput as error:
        log.warning("speech: nobody is asked: %s", error)
        raise Asleep(str(error)) from None
    client = openai.OpenAI(
        base_url=url,
        api_key=settings.stt_key,
        max_retries=1,
        timeout=30,
        http_client=openai.DefaultHttpxClient(trust_env=False, follow_redirects=False, verify=_authorities()),
    )
    try:
        heard = client.audio.transcriptions.create(model=STT_MODEL, file=("speech.wav", wav), language=language)
    except openai.OpenAIError as error:
        raise Asleep(f"{url} cannot be reached: {type(error).__name__}.") from None
    finally:
        client.close()
    return heard.text.strip()


async def _next(chunks: Any) -> ChatCompletionChunk | None:
    chunk: ChatCompletionChunk | None = await anext(chunks, None)
    return chunk


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
