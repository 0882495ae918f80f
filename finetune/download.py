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
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from data.contract import read_contract, sha256
from data.strict import BadInput
from finetune.base import HUB_ID, find_base

DEFAULT_ENDPOINT = "https://huggingface.co"
# Without a network the first question is the last: seconds, not minutes of repeated tries.
PATIENCE_S = 10
# How often it is told how much has come.
_TOLD_EVERY_S = 1.0
# The client's bars that count bytes: of all files together, and of one.
_BYTES = ("huggingface_hub.snapshot_download", "huggingface_hub.http_get")
_SHA256_DIGITS = 64
# What a Qwen3 base consists of; pickles are never fetched.
_WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "LICENSE*"]


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
    try:
        reach(endpoint, f"/api/models/{name}")
    except BadInput:
        # What is here already needs no hub.
        with suppress(BadInput):
            return find_base(name, home=home).folder
        raise
    import httpx2
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    print(f"{name} from {endpoint}", file=sys.stderr)
    try:
        _fetch_weights(name, endpoint, home, token)
        snapshot_download(
            name, endpoint=endpoint, cache_dir=home, allow_patterns=_WANTED, token=token, tqdm_class=fetching()
        )
    except GatedRepoError:
        raise BadInput(
            f"{name}: needs its licence accepted at {endpoint}/{name} and a token in HF_TOKEN (containers: in secrets/hub_token)."
        ) from None
    except RepositoryNotFoundError:
        raise BadInput(f"{name}: {endpoint} has no such model; check the spelling.") from None
    except (OSError, httpx2.HTTPError) as error:
        raise BadInput(
            f"{name}: the download broke off ({type(error).__name__}); the same command goes on where it stopped."
        ) from None
    return find_base(name, home=home).folder


def _fetch_weights(name: str, endpoint: str, home: str | None, token: bool | None) -> None:
    """The large files first, one after the other, each going on with what an earlier download left of it.

    They come to lie where the client's cache has them, and it finds them there. Left to itself it begins a file anew in
    each process, and ends no file before its end when it is told to stop.
    """
    from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

    model = HfApi(endpoint=endpoint, token=token).model_info(name)
    cache = Path(home or constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    locks = cache.parent / ".locks" / cache.name
    for file in model.siblings or ():
        if not file.rfilename.endswith(".safetensors"):
            continue
        url = hf_hub_url(name, file.rfilename, revision=model.sha, endpoint=endpoint)
        about = get_hf_file_metadata(url, token=token, endpoint=endpoint)
        if about.etag is None or about.size is None:
            continue
        # Where the file lies elsewhere, the address itself is the permission.
        headers = build_hf_headers(token=token if urlsplit(about.location).netloc == urlsplit(url).netloc else False)
        blob = cache / "blobs" / about.etag
        partial = blob.with_name(f"{about.etag}.incomplete")
        for folder in (blob.parent, locks):
            folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(locks / f"{about.etag}.lock"):
            if blob.is_file():
                continue
            if partial.is_file() and partial.stat().st_size > about.size:
                partial.unlink()
            with partial.open("ab") as came:
                http_get(
                    about.location, came, resume_size=came.tell(), headers=headers, expected_size=about.size,
                    tqdm_class=fetching(),
                )  # fmt: skip
            # The hub names a large file by its SHA-256.
            if len(about.etag) == _SHA256_DIGITS and sha256(partial) != about.etag:
                partial.unlink()
                raise BadInput(
                    f"{name}: {file.rfilename} came damaged and was removed; the same command fetches it anew."
                )
            partial.replace(blob)


def fetching() -> type[Any]:
    """The bar that the hub's client draws, as lines of progress in MB where there is no terminal."""
    from huggingface_hub.utils.tqdm import tqdm

    class Fetching(tqdm):
        """Told of bytes as they come, from all files together; other bars (files, transfer) say nothing."""

        def __init__(self, *words: Any, **given: Any):
            drawn = sys.stderr.isatty()
            self._tells = given.get("name") in _BYTES and not drawn
            self._came, self._told_at = float(given.get("initial") or 0), 0.0
            super().__init__(*words, **given if drawn else {**given, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            self._came += n or 0
            if self._tells and round((self.total or 0) / 1e6, 1) and time.monotonic() - self._told_at > _TOLD_EVERY_S:
                self._told_at = time.monotonic()
                print(f"fetching: {self._came / 1e6:.1f} of {self.total / 1e6:.1f} MB", file=sys.stderr, flush=True)
            done: bool | None = super().update(n)
            return done

    return Fetching


def reach(endpoint: str, path: str) -> None:
    """Raises `BadInput` within seconds where no hub answers at `endpoint`."""
    # The hub's client brings it along.
    import httpx2

    try:
        httpx2.get(f"{endpoint.rstrip('/')}{path}", timeout=PATIENCE_S, follow_redirects=True)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise BadInput(
            f"{endpoint} cannot be reached ({type(error).__name__}); set HF_ENDPOINT to a mirror, name a folder with "
            "BASE=…, or try the small model with `make demo`, which needs no hub."
        ) from None
