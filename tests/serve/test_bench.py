"""The bench's own parts: what it measures without a server."""

from pathlib import Path

from serve.bench import LAYER_REQUESTS, _at, _counter, _layer, questions
from serve.guard.guard import read_guard
from tests.small_models import make_sealed


def test_the_layers_work_is_small(tmp_path: Path) -> None:
    request_ms, chunk_ms = _layer(make_sealed(tmp_path / "model"))
    assert len(request_ms) == LAYER_REQUESTS
    # Processor time; the issue allows 3 ms, 10 ms and 0.2 ms on an idle machine.
    assert 0 < _at(request_ms, 0.5) < 6
    assert _at(request_ms, 0.99) < 20
    assert chunk_ms < 0.4


def test_the_questions_reach_the_model() -> None:
    guard, asked = read_guard(), questions()
    assert len(asked) > 100
    assert sum(guard.judge([question]) is not None for question in asked) <= 0.03 * len(asked)


def test_a_counter_is_summed_over_its_labels() -> None:
    told = 'vllm:x_total{engine="0"} 3.0\nvllm:x_total{engine="1"} 4\nvllm:x_total_created{engine="0"} 9\n'
    assert _counter(told, "vllm:x_total") == 7
