"""The third layer, if there is one: a guard model behind `GUARD_URL`, asked while the answer is being made.

In: the child's messages, personal data masked. Out: a `Verdict`, or None. Any server with OpenAI's chat completions that has Qwen3Guard-Gen
(https://huggingface.co/Qwen/Qwen3Guard-Gen-0.6B) will do. Nothing of an answer leaves before this layer has
spoken or its time is up. Where it is down, slow or speaks another language, the first two layers decide alone:
that is counted in `mindpal_guard_model_total` and told in one log line, without words.
"""

import asyncio
import json
import re
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from serve.guard.crisis import MESSAGES_JUDGED, Verdict
from serve.guard.screen import language_of

# Qwen3Guard's categories and ours. Those of adults' affairs (politics, copyright) are not a child's danger.
CATEGORIES = {
    "suicide & self-harm": ("crisis", "self_harm"),
    "violent": ("redirect", "violence"),
    "non-violent illegal acts": ("redirect", "other"),
    "sexual content or sexual acts": ("redirect", "sexual"),
    "unethical acts": ("redirect", "hate"),
    "jailbreak": ("redirect", "jailbreak"),
}
_SAFETY = re.compile(r"Safety:\s*(Safe|Unsafe|Controversial)")
_ANSWER_TOKENS = 64
# Of its own: where the guard model hangs, the guard's own layers still have theirs.
_THREADS = ThreadPoolExecutor(32, thread_name_prefix="guard-model")


class Down(Exception):
    """The guard model gave no verdict; the text says why, without words of a child."""


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
        except TimeoutError:
            raise Down("slow") from None
        safety = _SAFETY.search(said)
        if not safety:
            raise Down("no verdict")
        told = said.lower()
        named = [CATEGORIES[name] for name in CATEGORIES if name in told]
        # "Controversial" is enough for a child in danger, not for turning a question away.
        for action, category in named:
            if action == "crisis" and safety[1] != "Safe":
                return Verdict("crisis", category, "model", language_of(messages[-1]))
        if safety[1] == "Unsafe" and named:
            return Verdict("redirect", named[0][1], "model", language_of(messages[-1]))
        return None

    def _ask(self, messages: Sequence[str]) -> str:
        # The child's side of the last turns, as one message: the guard model judges what was asked.
        asked = {
            "model": self.model,
            "messages": [{"role": "user", "content": "\n".join(messages[-MESSAGES_JUDGED:])}],
            "max_tokens": _ANSWER_TOKENS,
            "temperature": 0,
        }
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions",
            data=json.dumps(asked).encode(),
            headers={"Content-Type": "application/json"},
        )
        # The guard model is a neighbour: a proxy of the environment must not see what a child said.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=self.seconds) as answer:
                return str(json.load(answer)["choices"][0]["message"]["content"])
        except Exception as error:  # noqa: BLE001 - whatever it was, there is no verdict
            raise Down(type(error).__name__) from None
