"""The bench's own parts: what it measures without a server."""

import asyncio
import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from data.strict import BadInput
from serve.bench import LAYER_CHUNKS, _counter, _instant_policy, _request_ms, questions
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
