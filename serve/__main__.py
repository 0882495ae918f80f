"""Serve a sealed model folder over an OpenAI-compatible API, exactly as it was taught.

python -m serve models/current --port 8000
python -m serve models/current --check  # whether it can be served as things are set
python -m serve key add NAME            # a new key for MINDPAL_API_KEYS_FILE, printed once
python -m serve guard "TEXT"            # what each layer of the guard sees in a message
python -m serve screen "TEXT"           # what each layer of the screen sees in an answer
python -m serve --numbers               # the guard's answers that name a help line, to be edited: MINDPAL_ANSWERS_FILE
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from data.contract import SEAL_FILE, sha256
from data.strict import BadInput
from serve.guard.guard import read_guard
from serve.guard.private import mask
from serve.guard.remote import Down
from serve.guard.screen import layers
from serve.guard.verdict import numbers
from serve.keys import add_key
from serve.launch import launch, prepare, remote_from

_ENVIRONMENT = """\
environment:
  MINDPAL_API_KEYS_FILE    file of `name:sha256` lines; clients then need a key, for /metrics as well. Needed where --host is
                           not loopback
  MINDPAL_REQUESTS_PER_MINUTE, MINDPAL_REQUESTS_AT_ONCE   for each key (240 and 64); 0 is no limit; over it: 429
                           (on CPU, with several keys, 24 of 32 answers at once are one key's at most; its others wait)
  MINDPAL_ANSWERS_FILE     YAML file in the form of serve/guard/answers.yaml: what it names is said in the place of the guard's
                           own answers, such as those of --numbers with a country's help line; all others stay
  GUARD_URL                a guard model's OpenAI-compatible address (http://guard:8000/v1), asked beside each answer
  GUARD_MODEL              its name there (Qwen/Qwen3Guard-Gen-0.6B)
  GUARD_TIMEOUT_S          seconds that it may take (2); later, or where it is down, the other two layers decide alone
  MINDPAL_GRACE_S          seconds that answers may still take after SIGTERM (55); a second one ends at once
  MINDPAL_GPU_MEMORY       on a GPU: the share of its memory to take (0.6); a larger base: 0.9
  MINDPAL_COMPILE=1        on CPU: compile the model (faster answers, a minute more of start-up)
  VLLM_CPU_KVCACHE_SPACE   on CPU: GiB for the conversations being answered (1)
  VLLM_CPU_NUM_OF_RESERVED_CPU, VLLM_ENABLE_V1_MULTIPROCESSING, VLLM_WORKER_MULTIPROC_METHOD   on CPU: 0, 0 and fork unless
                           set; see vLLM
  VLLM_HTTP_TIMEOUT_KEEP_ALIVE   seconds that a quiet connection stays open (75)
  HF_HUB_OFFLINE, VLLM_NO_USAGE_STATS, DO_NOT_TRACK              1 unless set: nothing leaves the machine
refused where set: VLLM_SERVER_DEV_MODE, VLLM_DEBUG_LOG_API_SERVER_RESPONSE, VLLM_ALLOW_RUNTIME_LORA_UPDATING,
  VLLM_MODEL_REDIRECT_PATH, VLLM_KEEP_ALIVE_ON_ENGINE_DEATH; not handed on: SAGEMAKER_*, CUSTOM_*
"""
_NUMBERS = """\
# What the guard says to a child in danger. The English answers name no number: write your country's into them, and in the
# place of China's, take out what may stay as it is, and name the file in MINDPAL_ANSWERS_FILE.
"""


def main() -> int:
    """Read the command line and the environment, once."""
    environment = dict(os.environ)
    try:
        if sys.argv[1:2] == ["key"]:
            return _key(sys.argv[2:], environment)
        if sys.argv[1:2] in (["guard"], ["screen"]):
            return _layers(sys.argv[1], sys.argv[2:], environment)
        if sys.argv[1:] == ["--numbers"]:
            print(f"{_NUMBERS}{numbers()}", end="")
            return 0
        parser = argparse.ArgumentParser(
            prog="python -m serve",
            description=__doc__,
            epilog=_ENVIRONMENT,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("folder", type=Path, metavar="MODEL_FOLDER", help="what `make merge` made")
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=_port, default=8000)
        parser.add_argument(
            "--check",
            action="store_true",
            help="check model, keys and settings, tell which model it is, and start nothing",
        )
        given = parser.parse_args()
        if given.check:
            prepare(given.folder, given.host, given.port, environment)
            print(f"{given.folder.resolve().name} {sha256(given.folder / SEAL_FILE)[:8]}")
            return 0
        launch(given.folder, given.host, given.port, environment)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2


def _key(words: list[str], environment: dict[str, str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m serve key", description="Make a key for a client.")
    parser.add_argument("verb", choices=["add"])
    parser.add_argument("name", metavar="NAME")
    given = parser.parse_args(words)
    path = environment.get("MINDPAL_API_KEYS_FILE", "")
    if not path:
        raise BadInput("MINDPAL_API_KEYS_FILE is not set: name the file that holds the keys' hashes.")
    print(add_key(Path(path), given.name))
    return 0


def _layers(name: str, words: list[str], environment: dict[str, str]) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m serve {name}", description="Show each layer's verdict.")
    parser.add_argument("text", metavar="TEXT")
    given = parser.parse_args(words)
    if name == "guard":
        seen = [*read_guard().layers(given.text), f"model       {_asked_model(given.text, environment)}"]
    else:
        seen = layers(given.text)
    print("\n".join(seen))
    return 0


def _asked_model(text: str, environment: Mapping[str, str]) -> str:
    """In words: what the guard model says of a message, if there is one. Raises `BadInput`."""
    remote = remote_from(environment)
    if not remote:
        return "none is set (GUARD_URL)"
    try:
        verdict = asyncio.run(remote.judge([mask(text)[0]]))
    except Down as down:
        return f"gave no verdict: {down}"
    return f"{verdict.action} {verdict.category}" if verdict else "nothing"


def _port(words: str) -> int:
    if not words.isdecimal() or not 1 <= int(words) <= 65535:
        raise argparse.ArgumentTypeError(f"{words} is no port: choose a number from 1 to 65535")
    return int(words)


if __name__ == "__main__":
    sys.exit(main())
