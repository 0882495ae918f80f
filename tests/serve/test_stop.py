"""What a signal to end does to the answers under way: the real policy in the real uvicorn, and a real signal."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest

from data.contract import read_contract
from tests.demo import free_port
from tests.serve.server import ROOT
from tests.serve.slow_server import PIECE
from tests.small_models import make_sealed

HELLO: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "你好"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sealed(tmp_path_factory.mktemp("sealed") / "model", read_contract())


@contextmanager
def _serving(folder: Path, log: Path, grace_s: int, pieces: int) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    port = free_port()
    command = [sys.executable, "-m", "tests.serve.slow_server", folder, port, grace_s, pieces]
    with log.open("wb") as out:
        process = subprocess.Popen([str(word) for word in command], cwd=ROOT, stdout=out, stderr=out)
    try:
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
            deadline = time.monotonic() + 120
            while True:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                try:
                    client.models.list()
                    break
                except openai.APIConnectionError:
                    time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1", process
    finally:
        process.kill()
        process.wait()


def _ask(client: openai.OpenAI) -> Iterator[str]:
    """The words of one answer as they come."""
    for chunk in client.chat.completions.create(model="mindpal", messages=HELLO, stream=True):
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content


def test_an_answer_under_way_is_given_to_its_end_and_no_other_begins(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        _serving(folder, log, grace_s=60, pieces=20) as (address, process),
        openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client,
    ):
        words = _ask(client)
        said = next(words)
        process.send_signal(signal.SIGTERM)
        for _ in range(4):
            said += next(words)
        with (
            openai.OpenAI(base_url=address, api_key="none", max_retries=0) as other,
            pytest.raises(openai.APIConnectionError),
        ):
            other.chat.completions.create(model="mindpal", messages=HELLO)
        assert said + "".join(words) == PIECE * 20
        # At once after it: long before the grace's end.
        assert process.wait(30) == 0
    assert "stopping: answers under way=1" in log.read_text()


@pytest.mark.parametrize("again", [False, True])
def test_it_ends_when_the_grace_ends_or_is_told_again(folder: Path, tmp_path: Path, again: bool) -> None:
    log = tmp_path / "log"
    with (
        _serving(folder, log, grace_s=600 if again else 5, pieces=200) as (address, process),
        openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client,
        ThreadPoolExecutor(1) as beside,
    ):
        plain = beside.submit(client.chat.completions.create, model="mindpal", messages=HELLO)
        words = _ask(client)
        # Long enough for the other to be under way, too.
        for _ in range(5):
            next(words)
        process.send_signal(signal.SIGTERM)
        next(words)
        if again:
            process.send_signal(signal.SIGTERM)
        # Both clients see that it is over, and neither takes half an answer for a whole one.
        with pytest.raises((openai.APIError, httpx.RemoteProtocolError)):
            for _ in words:
                pass
        with pytest.raises(openai.InternalServerError) as refused:
            plain.result(60)
        assert refused.value.status_code == 503
        assert int(refused.value.response.headers["retry-after"]) > 0
        assert process.wait(30) == 0
    told = log.read_text()
    assert "stopping: answers under way=2" in told
    assert ("at once" in told) == again
    assert "Traceback" not in told
    assert PIECE not in told
