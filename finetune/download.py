"""Fetch a base model from a hub, going on where an earlier download stopped.

In: a hub id (HF_ENDPOINT names a mirror, HF_HOME the cache), or a folder that is here already. Out: the folder's path.

    python -m finetune download                     # base_model of data/contract.yaml
    python -m finetune download Qwen/Qwen3-1.7B
    python -m finetune download --endpoint https://hf-mirror.com
"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.contract import read_contract
from data.strict import BadInput
from finetune.base import HUB_ID, find_base

DEFAULT_ENDPOINT = "https://huggingface.co"
# Without a network the first question is the last: seconds, not minutes of repeated tries.
PATIENCE_S = 10
# How often it is told how much has come.
_TOLD_EVERY_S = 1.0
# The client's bar that counts the bytes of all files on disk.
_BYTES = "huggingface_hub.snapshot_download"
# What a Qwen3 base consists of; pickles are never fetched.
_WANTED = ["*.safetensors", "*.json", "*.txt", "LICENSE*"]


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune download`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune download", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", nargs="?", help="a hub id or a folder (default: base_model of data/contract.yaml)")
    parser.add_argument("--endpoint", help="the hub or a mirror of it (default: HF_ENDPOINT, or Hugging Face's)")
    given = parser.parse_args(words)
    name = given.base or read_contract().base_model
    print(download(name, environment, given.endpoint))
    return 0


def download(name: str, environment: Mapping[str, str], endpoint: str | None = None) -> Path:
    """The folder of `name` on this machine, fetched where it is not there yet. Raises `BadInput`."""
    home = environment.get("HF_HUB_CACHE")
    if Path(name).expanduser().exists() or not HUB_ID.fullmatch(name):
        return find_base(name, home=home).folder
    usual = environment.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
    # A token is for the hub that the environment names, and no mirror's to see.
    token = False if endpoint and endpoint != usual else None
    endpoint = endpoint or usual
    reach(endpoint, f"/api/models/{name}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    print(f"{name} from {endpoint}", file=sys.stderr)
    try:
        snapshot_download(
            name, endpoint=endpoint, cache_dir=home, allow_patterns=_WANTED, token=token, tqdm_class=fetching()
        )
    except GatedRepoError:
        raise BadInput(f"{name}: needs its licence accepted at {endpoint}/{name} and a token in HF_TOKEN.") from None
    except RepositoryNotFoundError:
        raise BadInput(f"{name}: {endpoint} has no such model; check the spelling.") from None
    except (OSError, HfHubHTTPError) as error:
        raise BadInput(
            f"{name}: the download broke off ({type(error).__name__}); the same command goes on where it stopped."
        ) from None
    return find_base(name, home=home).folder


def fetching() -> type[Any]:
    """The bar that the hub's client draws, as lines of progress in MB where there is no terminal."""
    from huggingface_hub.utils.tqdm import tqdm

    class Fetching(tqdm):
        """Told of bytes as they come, from all files together; other bars (files, transfer) say nothing."""

        def __init__(self, *words: Any, **given: Any):
            drawn = sys.stderr.isatty()
            self._tells = given.get("name") == _BYTES and not drawn
            self._came, self._told_at = 0.0, 0.0
            super().__init__(*words, **given if drawn else {**given, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            self._came += n or 0
            if self._tells and self.total and time.monotonic() - self._told_at > _TOLD_EVERY_S:
                self._told_at = time.monotonic()
                print(f"fetching: {self._came / 1e6:.1f} of {self.total / 1e6:.1f} MB", file=sys.stderr, flush=True)
            done: bool | None = super().update(n)
            return done

    return Fetching


def reach(endpoint: str, path: str) -> None:
    """Raises `BadInput` within seconds where no hub answers at `endpoint`."""
    import httpx

    try:
        httpx.get(f"{endpoint.rstrip('/')}{path}", timeout=PATIENCE_S, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise BadInput(
            f"{endpoint} cannot be reached ({type(error).__name__}); set HF_ENDPOINT to a mirror, name a folder with "
            "BASE=…, or try the small model with `make demo`, which needs no hub."
        ) from None
