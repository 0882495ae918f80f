"""The bases on this machine: where they lie, how large they are, what it takes to load them.

In: folders, the hub's cache. Out: names, and what their headers tell. Only headers are read: no weight is loaded here.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.contract import SEAL_FILE
from data.strict import BadInput, read_json

# Bytes of the bf16 weights on the hub, for what is not here yet.
KNOWN = {
    "Qwen/Qwen3-0.6B": 1_503_000_000,
    "Qwen/Qwen3-1.7B": 4_063_000_000,
    "Qwen/Qwen3-4B": 8_045_000_000,
    "Qwen/Qwen3-8B": 16_381_000_000,
}
STANDIN = Path("data/standin")
MIRROR = "https://hf-mirror.com"
HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Headers:
    """What config.json and the weights' headers tell."""

    architecture: str
    layers: int
    hidden: int
    positions: int
    parameters: int
    dtype: str
    disk: int


def found_bases(hub: Path, models: Path, shipped: Path = STANDIN) -> list[str]:
    """The stand-in that comes with MindPal, what is in the hub's cache, and bare model folders; sealed ones are no bases.

    What is wrong with one, a download cut short perhaps, is told whoever chooses it.
    """
    found = [str(shipped)] if (shipped / "config.json").is_file() else []
    found += ["/".join(folder.name.split("--")[1:]) for folder in sorted(hub.glob("models--*--*"))]
    for folder in sorted(models.iterdir()) if models.is_dir() else ():
        if not folder.is_symlink() and holds(folder, "config.json") and not holds(folder, SEAL_FILE):
            found.append(str(folder))
    return found


def holds(folder: Path, name: str) -> bool:
    """Whether a file is in a folder. A folder that may not be looked into, or cannot be one, holds nothing."""
    try:
        return (folder / name).is_file()
    except OSError:
        return False


def newest_snapshot(folder: Path) -> Path | None:
    """The snapshot that a hub-cache folder (`models--org--name`) stands for, as the trainer takes it."""
    main = folder / "refs" / "main"
    if main.is_file() and (folder / "snapshots" / main.read_text().strip()).is_dir():
        return folder / "snapshots" / main.read_text().strip()
    there = sorted((folder / "snapshots").iterdir()) if (folder / "snapshots").is_dir() else []
    return there[0] if len(there) == 1 else None


def fetched(hub: Path, name: str) -> int:
    """Bytes of a base that have come from the hub so far, unfinished files included."""
    blobs = hub / f"models--{name.replace('/', '--')}" / "blobs"
    return sum(path.stat().st_size for path in blobs.iterdir()) if blobs.is_dir() else 0


def folder_of(name: str, hub: Path) -> Path:
    """Where a base lies, or would: a folder as it is, a hub-cache folder's snapshot, a hub id in the cache.

    Raises `BadInput` where that may not be looked into.
    """
    with _looking_into(name):
        folder = Path(name).expanduser()
        if not folder.is_dir():
            folder = hub / f"models--{name.replace('/', '--')}"
        folder = newest_snapshot(folder) or folder
        # Whether it may be looked into, too.
        (folder / "config.json").is_file()
        return folder


def is_here(name: str, hub: Path) -> bool:
    """Whether a base is on this machine, whole."""
    try:
        headers(name, hub)
    except BadInput:
        return False
    return True


def headers(name: str, hub: Path) -> Headers:
    """What a base's headers tell. Raises `BadInput` with what is not there, or may not be looked into."""
    folder = folder_of(name, hub)
    if not (folder / "config.json").is_file():
        raise BadInput(f"{name}: is not on this machine yet.")
    with _looking_into(name):
        return _headers(name, folder)


@contextmanager
def _looking_into(name: str) -> Iterator[None]:
    """No right to look there, a name that is too long, `~` of nobody: one sentence."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadInput(
            f"{name}: cannot be looked into ({why}); name another base, or give the right to read it."
        ) from None


def _headers(name: str, folder: Path) -> Headers:
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise BadInput(f"{folder / 'config.json'}: expected a mapping; download the base again.")
    if missing := _missing_weights(folder):
        raise BadInput(f"{name}: {missing} of its files of weights are not there yet; go on with its download.")
    parameters, dtypes, disk = 0, set(), 0
    for path in sorted(folder.glob("*.safetensors")):
        disk += path.stat().st_size
        for stored in _header(path).values():
            parameters += math.prod(stored["shape"])
            dtypes.add(stored["dtype"])
    if not disk:
        raise BadInput(f"{name}: no weights (*.safetensors) are there; download it.")
    return Headers(
        architecture=str((config.get("architectures") or ["?"])[0]),
        layers=int(config.get("num_hidden_layers", 0)),
        hidden=int(config.get("hidden_size", 0)),
        positions=int(config.get("max_position_embeddings", 0)),
        parameters=parameters,
        dtype="/".join(sorted(dtypes)),
        disk=disk,
    )


def _missing_weights(folder: Path) -> int:
    """How many of the files that the weights are spread over are not there: a download that has not come to its end."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return 0
    found = read_json(index)
    files = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(files, dict):
        raise BadInput(f"{index}: names no weights; download the base again.")
    return sum(not (folder / name).is_file() for name in set(map(str, files.values())))


def memory_to_load(found: Headers) -> int:
    """Bytes that the weights take in memory, with a tenth for what an answer needs, and what torch itself takes."""
    return round(found.disk * 1.1 + 0.8e9)


def _header(path: Path) -> dict[str, Any]:
    # https://github.com/huggingface/safetensors#format
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length < path.stat().st_size:
            raise BadInput(f"{path}: cut short or no safetensors file; download it again.")
        try:
            found = json.loads(file.read(length))
        except ValueError:
            raise BadInput(f"{path}: cut short or no safetensors file; download it again.") from None
    return {name: stored for name, stored in found.items() if name != "__metadata__"}
