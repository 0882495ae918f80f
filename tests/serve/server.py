"""A real vLLM on a real tiny sealed model, for the tests that look at the server from outside."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import openai

from data.contract import read_contract
from tests.small_models import make_sealed

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180
# Half a minute on two free cores; several on busy ones.
READY_S = 420
# Long answers, so that a client can leave in the middle of one.
CONTRACT = read_contract().model_copy(
    update={
        "window": 4096,
        "sampling": read_contract().sampling.model_copy(update={"max_tokens": 3000, "temperature": 1.0}),
    }
)


@dataclass(frozen=True)
class Server:
    """A running server."""

    folder: Path
    port: int
    pid: int
    log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.address}/v1", api_key="none", timeout=PATIENCE_S, max_retries=0)

    def status(self, method: str, path: str) -> int:
        body = b"{}" if method in ("POST", "PUT", "PATCH") else None
        request = urllib.request.Request(self.address + path, method=method, data=body)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def running(self) -> float:
        with urllib.request.urlopen(f"{self.address}/metrics", timeout=PATIENCE_S) as answer:
            found = re.search(r"^vllm:num_requests_running\{.*\} (\S+)$", answer.read().decode(), flags=re.MULTILINE)
        assert found, "the metrics name no running requests"
        return float(found[1])


@contextmanager
def running(folder: Path, log: Path, **environment: str) -> Iterator[tuple[Server, "subprocess.Popen[bytes]"]]:
    """A server of the model in `folder` (made if it is empty), with variables set; ended with the block."""
    if not folder.is_dir() or not any(folder.iterdir()):
        make_sealed(folder, CONTRACT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MINDPAL_")}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "serve", str(folder), "--port", str(port)],
            cwd=ROOT,
            env={**kept, **environment},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        made = Server(folder, port, process.pid, log)
        deadline = time.monotonic() + READY_S
        while True:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            try:
                if made.status("GET", "/health") == 200:
                    break
            except OSError:
                time.sleep(0.5)
        yield made, process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
