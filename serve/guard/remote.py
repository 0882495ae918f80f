"""The third layer, if there is one: a guard model behind `GUARD_URL`, asked while the answer is being made.

In: the child's messages, personal data masked. Out: a `Verdict`, or None. Any server with OpenAI's chat completions that has Qwen3Guard-Gen
(https://huggingface.co/Qwen/Qwen3Guard-Gen-0.6B) will do. Nothing of an answer leaves before this layer has
spoken or its time is up. Where it is down, slow or speaks another language, the first two layers decide alone:
that is counted in `mindpal_guard_model_total` and told in one log line, without words.
"""

import asyncio
import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from typing import Literal
from urllib.parse import urlsplit

from data.address import leads_out
from data.template import as_text
from serve.guard.verdict import MESSAGES_JUDGED, Verdict, answered_in

# Qwen3Guard's categories and ours. Those of adults' affairs (politics, copyright) are not a child's danger.
CATEGORIES = {
    "suicide & self-harm": ("crisis", "self_harm"),
    "violent": ("redirect", "violence"),
    "non-violent illegal acts": ("redirect", "other"),
    "sexual content or sexual acts": ("redirect", "sexual"),
    "unethical acts": ("redirect", "hate"),
    "jailbreak": ("redirect", "jailbreak"),
}
# Whole names: what is non-violent is not violent.
_CATEGORY = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, CATEGORIES))})(?![\w-])")
_SAFETY = re.compile(r"Safety:\s*(Safe|Unsafe|Controversial)")
_ANSWER_TOKENS = 64
# Bytes of its answer that are read; a verdict takes some hundred.
_ANSWER_BYTES = 64 * 1024
# Of an earlier message only its end is read with the last one: whole, a long one would leave the last one no room.
EARLIER = 500
# With these statuses a server says that a text is too long for its model.
_TOO_LONG = (400, 413)
# Of its own: where the guard model hangs, the guard's own layers still have theirs. And more than there are answers at once:
# a question that waited here for its turn would have no time left, and under load nobody would ask the guard model.
_THREADS = ThreadPoolExecutor(256, thread_name_prefix="guard-model")

# `refused`: it is there, and does not take what it was asked. `public`: it is not in this network, and was told nothing.
Outcome = Literal["down", "slow", "refused", "public"]


class Down(Exception):
    """The guard model gave no verdict; the text says why, without words of a child, and `outcome` is what is counted."""

    def __init__(self, reason: str, outcome: Outcome = "down"):
        super().__init__(reason)
        self.outcome = outcome


@dataclass(frozen=True)
class Remote:
    """A guard model: its address ending in /v1, its name there, and how long it may take."""

    url: str
    model: str = "Qwen/Qwen3Guard-Gen-0.6B"
    seconds: float = 2.0

    async def judge(self, messages: Sequence[str]) -> Verdict | None:
        """The verdict on the last messages. Raises `Down`."""
        try:
            asked = asyncio.get_running_loop().run_in_executor(_THREADS, self._ask, messages)
            said = await asyncio.wait_for(asked, self.seconds)
        except Down:
            raise
        except TimeoutError:
            raise Down("slow", "slow") from None
        except Exception as error:  # noqa: BLE001 - whatever it answers, it gave no verdict
            raise Down(type(error).__name__) from None
        safety = _SAFETY.search(said)
        if not safety:
            raise Down("no verdict")
        named = [CATEGORIES[name] for name in _CATEGORY.findall(said.lower())]
        # "Controversial" is enough for a child in danger, not for turning a question away.
        for action, category in named:
            if action == "crisis" and safety[1] != "Safe":
                return Verdict("crisis", category, "model", answered_in(messages))
        if safety[1] == "Unsafe" and named:
            return Verdict("redirect", named[0][1], "model", answered_in(messages))
        return None

    def _ask(self, messages: Sequence[str]) -> str:
        # The child's side of the last turns, as one message: the guard model judges what was asked.
        earlier, last = [message[-EARLIER:] for message in messages[-MESSAGES_JUDGED:-1]], messages[-1]
        status, answer = self._post("\n".join([*earlier, last]))
        if earlier and status in _TOO_LONG:
            status, answer = self._post(last)
        if status != 200:
            raise Down(f"HTTP {status}", "refused" if 400 <= status < 500 else "down")
        return str(json.loads(answer)["choices"][0]["message"]["content"])

    def _post(self, words: str) -> tuple[int, bytes]:
        """The status and the body of its answer. Raises `Down` where it is not in this network."""
        asked = {
            "model": self.model,
            # Its control tokens may be others than those of the model that is served.
            "messages": [{"role": "user", "content": as_text(words)}],
            "max_tokens": _ANSWER_TOKENS,
            "temperature": 0,
        }
        address = urlsplit(self.url)
        kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
        # Directly: the guard model is a neighbour, and a proxy of the environment must not see what a child said.
        with closing(kind(address.hostname or "", address.port, timeout=self.seconds)) as connection:
            connection.connect()
            # Asked of the connection itself, before a word is sent: a name may be unknown when the server starts, and
            # lead elsewhere every time that it is looked up.
            if leads_out(connection.sock.getpeername()[0]):
                raise Down("public", "public")
            connection.request(
                "POST",
                f"{address.path.rstrip('/')}/chat/completions",
                json.dumps(asked).encode(),
                {"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            return answer.status, answer.read(_ANSWER_BYTES)
