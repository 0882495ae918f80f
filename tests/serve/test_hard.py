"""The running server in hard times: ten thousand malformed requests, and two hundred clients for two minutes.

Run: `pytest -s tests/serve/test_hard.py`; `-s` shows the figures.
"""

import asyncio
import http.client
import json
import time
from collections import Counter
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.serve.server import PATIENCE_S, Server
from tests.serve.test_policy import anything, bodies
from tests.serve.test_server import HELLO

pytestmark = [pytest.mark.timeout(900), pytest.mark.end_to_end]

MALFORMED = 10_000
CLIENTS = 200
FLOOD_S = 120.0
TOKENS = 8


def _short(body: Any) -> Any:
    """What may be a request after all is answered in a word: this is about requests, not about the model's speed."""
    return {**body, "max_tokens": 1, "max_completion_tokens": 1} if isinstance(body, dict) else body


whole = (bodies | anything).map(_short).map(lambda body: json.dumps(body).encode("utf-8", "surrogatepass"))
# Also cut in the middle, with a byte changed, and none of JSON's at all.
cut = st.builds(lambda raw, at: raw[: at % (len(raw) + 1)], whole, st.integers(0, 4096))
spoiled = st.builds(
    lambda raw, at, byte: raw[: at % (len(raw) + 1)] + bytes([byte]) + raw[at % (len(raw) + 1) + 1 :],
    whole,
    st.integers(0, 4096),
    st.integers(0, 255),
)
json_types = st.sampled_from(
    ["application/json", "application/json; charset=utf-16", "application/json;charset=x;y", "Application/JSON ; z=1"]
)


def _status(line: http.client.HTTPConnection, raw: bytes, kind: str) -> int:
    line.request("POST", "/v1/chat/completions", raw, {"Content-Type": kind})
    answer = line.getresponse()
    told = answer.read()
    assert answer.status == 200 or 400 <= answer.status < 500
    if answer.status != 200:
        error = json.loads(told)["error"]
        assert error["message"].count("\n") == 0
        assert error["type"]
        assert error["message"].endswith(".")
    return answer.status


def test_ten_thousand_malformed_requests(server: Server) -> None:
    """No answer but 200 and 4xx, each 4xx one sentence in OpenAI's format, and the same engine at the end."""
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    statuses: Counter[int] = Counter()
    begun = time.monotonic()

    @settings(
        max_examples=MALFORMED, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(whole | cut | spoiled | st.binary(max_size=200), json_types)
    def ask(raw: bytes, kind: str) -> None:
        statuses[_status(line, raw, kind)] += 1

    ask()
    # What is no JSON is not read, and the line serves the next request all the same.
    for kind in ("text/plain", "multipart/form-data; boundary=x", ""):
        assert _status(line, json.dumps({"messages": HELLO}).encode(), kind) == 415
    line.close()
    print(f"{statuses.total()} requests in {time.monotonic() - begun:.0f} s: {dict(statuses)}")
    # hypothesis leaves out what it made before.
    assert statuses.total() > 0.9 * MALFORMED
    assert statuses[400] > MALFORMED // 2
    answer = server.client().chat.completions.create(model="m", messages=HELLO, max_tokens=TOKENS)
    assert answer.choices
    assert "Traceback" not in server.log.read_text()


def test_two_hundred_clients_for_two_minutes(server: Server) -> None:
    """Every request is answered or told to come back, and told when."""
    statuses: Counter[int] = Counter()
    longest = 0.0

    async def one(client: openai.AsyncOpenAI, number: int, until: float) -> None:
        nonlocal longest
        asked = 0
        while time.monotonic() < until:
            begun = time.monotonic()
            try:
                if (number + asked) % 2:
                    await client.chat.completions.create(model="m", messages=HELLO, max_tokens=TOKENS, seed=asked)
                else:
                    stream = await client.chat.completions.create(
                        model="m", messages=HELLO, max_tokens=TOKENS, seed=asked, stream=True
                    )
                    finishes = [choice.finish_reason async for chunk in stream for choice in chunk.choices]
                    assert finishes[-1] in ("stop", "length", "content_filter")
                statuses[200] += 1
            except openai.APIStatusError as error:
                statuses[error.status_code] += 1
                # A client that does what Retry-After says.
                await asyncio.sleep(float(error.response.headers["retry-after"]))
            asked += 1
            longest = max(longest, time.monotonic() - begun)

    async def flood() -> None:
        async with openai.AsyncOpenAI(
            base_url=f"{server.address}/v1", api_key="none", timeout=PATIENCE_S, max_retries=0
        ) as client:
            until = time.monotonic() + FLOOD_S
            await asyncio.gather(*(one(client, number, until) for number in range(CLIENTS)))

    asyncio.run(flood())
    print(f"{CLIENTS} clients, {FLOOD_S:.0f} s: {dict(statuses)}, the longest waited {longest:.1f} s")
    assert set(statuses) <= {200, 429}
    assert statuses[200] > CLIENTS
    assert server.running() == 0
    assert "Traceback" not in server.log.read_text()
