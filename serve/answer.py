"""An answer on its way from the engine to the client, screened sentence by sentence.

In: the engine's ASGI messages. Out: OpenAI's completion or its chunks, with what the guard did beside `choices`. It ends in one
way, whatever happens: with the model's words, with a fixed answer in their place, or with an error.
"""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from data.protocol import GUARD_FIELD, MODEL_NAME
from serve.guard.rules import language_of
from serve.guard.screen import Harm, Screen, Stopped
from serve.guard.verdict import Verdict, answered_in
from serve.reply import Message, Reply, openai_error
from serve.request import Asked, ModelFolder

log = logging.getLogger("mindpal")
# How an engine ends an answer that is whole. Any other word, such as `abort`, tells of one that broke off.
_ENDINGS = ("stop", "length")
# Of their own: a sentence does not wait for the messages that are being judged.
_READERS = ThreadPoolExecutor(2, thread_name_prefix="screen")


class Answer:
    """One answer: takes what the engine sends, gives the client what the screen lets through."""

    def __init__(self, asked: Asked, reply: Reply, model: ModelFolder, stopped: dict[Any, str]):
        self._asked = asked
        self._reply = reply
        self._screen = Screen(model.control_tokens)
        # What the model thinks is told only where the contract lets it think, and is screened like its words.
        self._thoughts = Screen(model.control_tokens) if model.contract.thinking else None
        self._whole_thoughts = ""
        self._judged: asyncio.Future[None] | None = None
        self._stopped = stopped
        self._status = 200
        self._raw = b""
        self._said = ""
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._finish = ""
        self._usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        self.action = "none"
        # What the client is told of the guard's doing, and what is counted.
        self.told: dict[str, str] = {}
        # Set when the client has its whole answer, or is gone.
        self.ended = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether the client has its whole answer, or is gone."""
        return self.ended.is_set()

    @property
    def tokens(self) -> int:
        """How many the model has made, as the engine counts them."""
        return self._usage["completion_tokens"]

    def masked(self) -> None:
        """The last message held personal data; the model is asked without."""
        self.action = "masked"
        self.told = {"action": "masked", "category": "personal_data", "layer": "rules"}

    async def instead(self, words: str, verdict: Verdict) -> None:
        """A fixed answer; the model was not asked."""
        self.action, self.told = verdict.action, verdict.told()
        # The client may have left while it was judged.
        if not self.over:
            await self._end(words, "content_filter")

    def wait_for(self, judged: "asyncio.Future[None] | None") -> None:
        """Nothing of the engine's answer is taken before `judged` is done."""
        self._judged = judged

    async def gone(self) -> None:
        """The client left."""
        if not self.over:
            self.action = "gone"
            self.ended.set()

    async def from_engine(self, message: Message) -> None:
        """Take one ASGI message. Whatever goes wrong here ends the answer: raw words never leave."""
        if message["type"] == "http.response.start":
            # Not passed on, so nothing waits for it: behind it the engine begins to make a stream.
            self._status = message["status"]
            return
        if self._judged and not self.over:
            await first(asyncio.shield(self._judged), self.ended.wait())
            self._judged = None
        if self.over:
            return
        try:
            if message["type"] == "http.response.body":
                await self._take(message.get("body", b""), more=message.get("more_body", False))
        except Stopped as stopped:
            await self.stop(stopped.harm)
        except Exception as error:  # noqa: BLE001 - fails closed, whatever it was
            log.error("the screen failed: %s", type(error).__name__)
            await self.stop(Harm("unread"))

    async def close(self, status: int = 500, message: str = "The model could not answer; please try again.") -> None:
        """An answer without an end gets one: the engine has returned, or a verdict could not be carried out."""
        if self.over:
            return
        self.action = "error"
        try:
            if self._reply.started:
                await self._event({"error": openai_error(status, message, None)})
                await self._reply.part(b"data: [DONE]\n\n", more=False)
            else:
                await self._reply.error(status, message)
        finally:
            self.ended.set()

    async def _take(self, raw: bytes, *, more: bool) -> None:
        self._raw += raw
        if self._status != 200:
            if not more:
                await self._refusal()
        elif not self._asked.stream:
            if not more:
                await self._whole(json.loads(self._raw))
        else:
            *events, self._raw = self._raw.split(b"\n\n")
            for event in events:
                data = event.removeprefix(b"data: ").strip()
                if data == b"[DONE]":
                    await self._finished()
                elif data:
                    await self._chunk(json.loads(data))
                if self.over:
                    return

    async def _refusal(self) -> None:
        # The engine's own sentence may quote the child.
        self.action = "error"
        if self._status == 503:
            await self._reply.error(503, "The model is not ready; please try again in a moment.")
        else:
            # A 4xx, too: what it was asked was made here, and a page would take that for the last word on a child's question.
            await self._reply.error(500, "The model could not answer; please try again.")
        self.ended.set()

    async def _whole(self, completion: dict[str, Any]) -> None:
        self._note(completion)
        choice = completion["choices"][0]
        self._finish = choice["finish_reason"] or ""
        if self._finish not in _ENDINGS:
            await self.close()
            return
        if self._thoughts:
            async for words in self._screened(self._thoughts, _thought(choice["message"])):
                self._whole_thoughts += words
            self._whole_thoughts += await _aside(self._thoughts.read)
        async for words in self._screened(self._screen, choice["message"]["content"] or ""):
            self._said += words
        self._said += await _aside(self._screen.read)
        if not self.over:
            await self._end("", self._finish)

    async def _chunk(self, chunk: dict[str, Any]) -> None:
        if "choices" not in chunk:
            await self.close()
            return
        self._note(chunk)
        for choice in chunk["choices"]:
            content = choice["delta"].get("content") or ""
            if self._thoughts:
                async for words in self._screened(self._thoughts, _thought(choice["delta"])):
                    await self._words(words, field="reasoning_content")
                if content:
                    # The thought is over: what is held of it goes before the answer.
                    await self._words(await _aside(self._thoughts.read), field="reasoning_content")
                    self._thoughts = None
            async for words in self._screened(self._screen, content):
                await self._words(words)
            self._finish = choice.get("finish_reason") or self._finish

    async def _screened(self, screen: Screen, piece: str) -> AsyncIterator[str]:
        """What may be shown now that `piece` has come. Raises `Stopped`."""
        screen.take(piece)
        while screen.is_whole and not self.over:
            yield await _aside(screen.read)

    def _note(self, made: dict[str, Any]) -> None:
        self._id, self._created = made.get("id", self._id), made.get("created", self._created)
        if usage := made.get("usage"):
            self._usage = {name: usage[name] for name in self._usage}

    async def stop(self, harm: Harm) -> None:
        """End the answer with the safe sentence."""
        if self.over:
            return
        self.action = "stopped"
        self.told = {"action": "stopped", "category": harm.category, "layer": harm.layer}
        try:
            # A child who writes pinyin is answered in Chinese characters.
            language = "zh" if language_of(self._said) == "zh" else answered_in(self._asked.child)
            await self._end(self._stopped[language], "content_filter")
        finally:
            self.ended.set()

    async def _finished(self) -> None:
        """The engine's stream is over: what is held of a whole answer leaves, too."""
        if self._finish not in _ENDINGS:
            await self.close()
            return
        if self._thoughts:
            await self._words(await _aside(self._thoughts.read), field="reasoning_content")
        await self._words(await _aside(self._screen.read))
        if not self.over:
            await self._end("", self._finish)

    async def _end(self, words: str, finish: str) -> None:
        if self._asked.stream:
            await self._words(words)
            await self._event(self._made({}, finish) | self._beside())
            if self._asked.include_usage:
                await self._event(self._made(None, None) | {"usage": self._usage} | self._beside())
            await self._reply.part(b"data: [DONE]\n\n", more=False)
        else:
            message = {"role": "assistant", "content": self._said + words, "refusal": None}
            if self._thoughts:
                message["reasoning_content"] = self._whole_thoughts
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
            made = {"id": self._id, "object": "chat.completion", "created": self._created, "model": MODEL_NAME}
            await self._reply.json(200, made | {"choices": [choice], "usage": self._usage} | self._beside())
        self.ended.set()

    async def _words(self, words: str, field: str = "content") -> None:
        # The client may have left while the screen read.
        if self.over:
            return
        if not self._reply.started:
            await self._reply.start(200, b"text/event-stream; charset=utf-8")
            # Told with the first words as well: a client that is cut off knows what they are.
            await self._event(self._made({"role": "assistant", "content": ""}, None) | self._beside())
        if words:
            if field == "content":
                self._said += words
            await self._event(self._made({field: words}, None))

    def _beside(self) -> dict[str, Any]:
        """What stands beside `choices`."""
        return {GUARD_FIELD: self.told} if self.told else {}

    def _made(self, delta: dict[str, str] | None, finish: str | None) -> dict[str, Any]:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        made = {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": MODEL_NAME}
        return made | {"choices": choices}

    async def _event(self, content: dict[str, Any]) -> None:
        await self._reply.part(b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n", more=True)


def _thought(said: dict[str, Any]) -> str:
    """vLLM names it `reasoning`, older versions and other servers `reasoning_content`."""
    return said.get("reasoning") or said.get("reasoning_content") or ""


async def _aside(read: Callable[[], str]) -> str:
    """In a thread: reading takes milliseconds, and other children's answers go on meanwhile."""
    return await asyncio.get_running_loop().run_in_executor(_READERS, read)


async def first(*waits: Awaitable[Any]) -> None:
    """Wait until one of `waits` is done; the others, and all of them where this is cancelled, are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
