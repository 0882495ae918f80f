"""The bench's own parts: what it measures without a server."""

import asyncio
import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from statistics import median
from typing import Any

import jinja2
import pytest

from data.contract import read_contract
from data.strict import BadInput
from data.template import END, chat_template
from serve.bench import (
    CONVERSATIONS,
    LAYER_CHUNKS,
    STOCK_TEMPLATE,
    TURNS,
    _ask,
    _counter,
    _instant_policy,
    _prefix_hit,
    _request_ms,
    questions,
)
from serve.guard.guard import read_guard
from serve.policy import Policy, Settings
from tests.pace import pace
from tests.small_models import make_sealed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sealed(tmp_path_factory.mktemp("model"))


@pytest.mark.alone
def test_the_layers_work_is_small(folder: Path) -> None:
    async def measure() -> list[tuple[float, float]]:
        """For each request its time, and that of one of its chunks, as multiples of known work done beside it."""
        policy, lines, measured = _instant_policy(folder), questions(), []
        for number in range(200):
            line = lines[number % len(lines)]
            short, beside, long = (
                await _request_ms(policy, line, 1),
                pace() * 1000,
                await _request_ms(policy, line, LAYER_CHUNKS),
            )
            measured.append((short / beside, (long - short) / (LAYER_CHUNKS - 1) / beside))
        return measured

    requests, chunks = zip(*asyncio.run(measure()), strict=True)
    # Measured: 7 to 8, 26 to 29 (what is in doubt is read in windows, too) and 0.25 to 0.3 (every sentence is read); twice as
    # much where a processor multiplies small integers no faster than others, and more where others fill its cache.
    assert median(requests) < 24
    assert sorted(requests)[-3] < 80
    assert 0 < median(chunks) < 0.9


@pytest.mark.parametrize("fails", ["once it has begun", "at once"])
def test_only_answers_are_measured(folder: Path, fails: str) -> None:
    policy = _instant_policy(folder)
    for chunks in (1, LAYER_CHUNKS):
        assert asyncio.run(_request_ms(policy, "为什么天空是蓝色的？", chunks)) > 0

    async def engine(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if fails == "once it has begun":
            event = {"choices": [{"index": 0, "delta": {"content": "因为阳光。"}, "finish_reason": None}]}
            body = b"data: " + json.dumps(event).encode() + b"\n\n"
            await send({"type": "http.response.body", "body": body, "more_body": True})

    policy = Policy(engine, Settings(folder, None))
    with pytest.raises(BadInput, match="gave no answer"):
        asyncio.run(_request_ms(policy, "为什么天空是蓝色的？", 1))


def test_the_questions_reach_the_model() -> None:
    guard, asked = read_guard(), questions()
    assert len(asked) > 100
    assert sum(guard.judge([question]) is not None for question in asked) <= 0.03 * len(asked)


def test_a_counter_is_summed_over_its_labels() -> None:
    told = 'vllm:x_total{engine="0"} 3.0\nvllm:x_total{engine="1"} 4\nvllm:x_total_created{engine="0"} 9\n'
    assert _counter(told, "vllm:x_total") == 7


class _Cache(HTTPServer):
    """An engine with nothing but a prefix cache, of blocks of 16 tokens; each character is one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.address = f"http://127.0.0.1:{self.server_port}"
        # Without one it renders what each request brings, as bare vLLM.
        self.template: str | None = None
        # Of each so many questions the guard answers one.
        self.guarded = 10**9
        self.told = 'vllm:cache_config_info{_block_size_resolved="True",block_size="16",hash_block_size="8"} 1.0\n'
        self._cached, self._hits, self._answers = set[str](), 0, 0

    def metrics(self) -> str:
        return f'{self.told}vllm:prefix_cache_hits_total{{engine="0"}} {self._hits}.0\n'

    def answer(self, body: Any) -> Any:
        self._answers += 1
        prompt = jinja2.Environment().from_string(self.template or body["chat_template"]).render(
            messages=body["messages"], add_generation_prompt=True, **body["chat_template_kwargs"]
        )  # fmt: skip
        if self._answers % self.guarded == 0:
            return _completion("请告诉大人。", "content_filter", 0, 0)
        words = f"因为阳光里有很多颜色，空气把蓝色的光撒得到处都是，所以天空是蓝色的，第{self._answers}次。"
        self._hits += 16 * next(n for n in range(len(prompt)) if prompt[: 16 * (n + 1)] not in self._cached)
        read = (prompt + words + END)[:-1]
        self._cached |= {read[:end] for end in range(16, len(read) + 1, 16)}
        return _completion(words, "stop", len(prompt), len(words + END))


def _completion(words: str, finish: str, prompt: int, completion: int) -> Any:
    choice = {"message": {"role": "assistant", "content": words}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


class _Asked(BaseHTTPRequestHandler):
    server: _Cache

    def do_GET(self) -> None:
        self._send(self.server.metrics())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(json.dumps(self.server.answer(body)))

    def _send(self, told: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(told.encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def cache() -> Iterator[_Cache]:
    with _Cache() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


@pytest.mark.parametrize("guarded", [10**9, 3])
def test_only_a_conversations_own_turns_are_prefix_hits(cache: _Cache, folder: Path, guarded: int) -> None:
    contract = read_contract()
    cache.template = chat_template(contract.persona, thinking=contract.thinking)
    # As the throughput's run may have done.
    for question in questions()[-CONVERSATIONS * TURNS :]:
        _ask(cache.address, {"messages": [{"role": "user", "content": question}], "chat_template_kwargs": {}})
    cache.guarded = guarded
    assert _prefix_hit(cache.address, folder) == 1


def test_the_stock_template_loses_each_answer(cache: _Cache, folder: Path) -> None:
    # The last one, each time: what was before it is found.
    assert 0.6 < _prefix_hit(cache.address, folder) < 0.9


def test_the_ideal_is_not_guessed(cache: _Cache, folder: Path) -> None:
    cache.told = 'vllm:cache_config_info{hash_block_size="8"} 1.0\n'
    with pytest.raises(BadInput, match="names no block_size"):
        _prefix_hit(cache.address, folder)


@pytest.mark.parametrize("thinking", [False, True])
def test_the_stock_template_is_qwen3s_own(thinking: bool) -> None:
    """TRL keeps Qwen3's template as it was published."""
    found = importlib.util.find_spec("trl")
    assert found
    assert found.origin
    published = (Path(found.origin).parent / "chat_templates" / "qwen3.jinja").read_text(encoding="utf-8")
    messages = [{"role": "system", "content": "灵伴"}]
    for number in range(3):
        messages.append({"role": "user", "content": f"q{number}"})
        ours, theirs = (
            jinja2.Environment().from_string(template).render(
                messages=messages, add_generation_prompt=True, enable_thinking=thinking
            )
            for template in (STOCK_TEMPLATE, published)
        )  # fmt: skip
        assert ours == theirs
        messages.append({"role": "assistant", "content": f"a{number}"})
