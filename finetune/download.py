"""Fetch a base model from a hub, going on where an earlier download stopped.

In: a hub id (HF_ENDPOINT names a mirror, HF_HOME the cache), or a folder that is here already. Out: the folder's path.

    python -m finetune download                     # base_model of data/contract.yaml
    python -m finetune download Qwen/Qwen3-1.7B
    HF_ENDPOINT=https://hf-mirror.com python -m finetune download
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from data.contract import read_contract
from data.strict import BadInput
from finetune.base import HUB_ID, find_base

DEFAULT_ENDPOINT = "https://huggingface.co"
# Without a network the first question is the last: seconds, not minutes of repeated tries.
PATIENCE_S = 10
# What a Qwen3 base consists of; pickles are never fetched.
_WANTED = ["*.safetensors", "*.json", "*.txt", "LICENSE*"]


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune download`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune download", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", nargs="?", help="a hub id or a folder (default: base_model of data/contract.yaml)")
    given = parser.parse_args(words)
    name = given.base or read_contract().base_model
    print(download(name, environment))
    return 0


def download(name: str, environment: Mapping[str, str]) -> Path:
    """The folder of `name` on this machine, fetched where it is not there yet. Raises `BadInput`."""
    home = environment.get("HF_HUB_CACHE")
    if Path(name).expanduser().exists() or not HUB_ID.fullmatch(name):
        return find_base(name, home=home).folder
    endpoint = environment.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
    _reach(name, endpoint)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    print(f"{name} from {endpoint}", file=sys.stderr)
    try:
        snapshot_download(name, endpoint=endpoint, cache_dir=home, allow_patterns=_WANTED)
    except GatedRepoError:
        raise BadInput(f"{name}: needs its licence accepted at {endpoint}/{name} and a token in HF_TOKEN.") from None
    except RepositoryNotFoundError:
        raise BadInput(f"{name}: {endpoint} has no such model; check the spelling.") from None
    except (OSError, HfHubHTTPError) as error:
        raise BadInput(
            f"{name}: the download broke off ({type(error).__name__}); the same command goes on where it stopped."
        ) from None
    return find_base(name, home=home).folder


def _reach(name: str, endpoint: str) -> None:
    import httpx

    try:
        httpx.get(f"{endpoint.rstrip('/')}/api/models/{name}", timeout=PATIENCE_S, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise BadInput(
            f"{endpoint} cannot be reached ({type(error).__name__}); set HF_ENDPOINT to a mirror, name a folder with "
            "BASE=…, or try the small model with `make demo`, which needs no hub."
        ) from None
