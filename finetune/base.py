"""The base model: from what a person names (a hub id, a folder, a hub-cache folder) to a folder that can be loaded.

In: `BASE=…` or the contract's `base_model`. Out: a `Base`, or `BadInput` before anything is loaded.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.contract import sha256
from data.strict import BadInput, read_json
from data.template import END

PAD = "<|endoftext|>"
TOKENIZER = "tokenizer.json"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Stored:
    """A tensor in a safetensors file: its dtype in the format's words (BF16, F32, …), and where its bytes lie."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    # Bytes of the file.
    start: int
    end: int


@dataclass(frozen=True)
class Base:
    """A base on this machine: what it was called, and where it lies."""

    name: str
    folder: Path

    def config(self) -> dict[str, Any]:
        """The content of `config.json`."""
        config = read_json(self.folder / "config.json")
        if not isinstance(config, dict):
            raise BadInput(f"{self.folder / 'config.json'}: expected a mapping; download the base again.")
        return config

    def weight_files(self) -> list[Path]:
        """The safetensors files, in order."""
        return sorted(self.folder.glob("*.safetensors"))

    def tensors(self) -> dict[str, Stored]:
        """Every weight by name, from the files' headers: nothing is loaded."""
        return {name: stored for path in self.weight_files() for name, stored in stored_tensors(path).items()}

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each weight file and of the tokenizer, by name."""
        files = [*self.weight_files(), self.folder / TOKENIZER]
        return {path.name: sha256(path) for path in files if path.is_file()}


def find_base(name: str, *, home: str | None = None) -> Base:
    """The base that `name` means, checked as far as can be without loading it.

    `home` replaces the hub's cache folder. Raises `BadInput` with what to do.
    """
    try:
        folder = Path(name).expanduser()
        if folder.is_dir():
            return _checked(Base(name, _snapshot(folder)))
        is_file = folder.exists()
    except (OSError, RuntimeError) as error:
        # No right to look there, a name that is too long, or `~` of nobody.
        why = error.strerror if isinstance(error, OSError) else error
        raise BadInput(
            f"{name}: cannot be looked into ({why}); name another base, or give the right to read it."
        ) from None
    if is_file:
        raise BadInput(f"{name}: is a file; a base is a folder or a hub id, as in BASE=Qwen/Qwen3-0.6B.")
    if not HUB_ID.fullmatch(name):
        raise BadInput(f"{name}: no such folder, and no hub id either (ORG/NAME, as in Qwen/Qwen3-0.6B).")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = snapshot_download(name, cache_dir=home, local_files_only=True)
    except LocalEntryNotFoundError:
        raise BadInput(
            f"{name}: not on this machine yet; `make download BASE={name}` fetches it, "
            "BASE=FOLDER names one that is here, and `make demo` needs none."
        ) from None
    return _checked(Base(name, Path(found)))


def same_base(recorded: Mapping[str, str], found: Mapping[str, str]) -> bool:
    """Whether a run's record and a base's `hashes` mean the same; old records do not tell of the tokenizer."""
    return recorded == {name: digest for name, digest in found.items() if name in recorded or name != TOKENIZER}


def stored_tensors(path: Path) -> dict[str, Stored]:
    """The header of a safetensors file (https://github.com/huggingface/safetensors#format). Raises `BadInput`."""
    broken = f"{path}: cut short or no safetensors file; "
    again = "fetch it or make it again."
    size = path.stat().st_size
    with path.open("rb") as file:
        # Eight bytes tell the length of a JSON text that tells where each tensor lies behind it.
        head = file.read(8)
        begin = 8 + int.from_bytes(head, "little")
        if len(head) < 8 or begin > size:
            raise BadInput(broken + again)
        text = file.read(begin - 8)
    try:
        header = json.loads(text)
        found = {
            name: Stored(
                path, about["dtype"], tuple(about["shape"]), *(begin + place for place in about["data_offsets"])
            )
            for name, about in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(broken + again) from None
    if max((stored.end for stored in found.values()), default=begin) != size:
        raise BadInput(broken + again)
    return found


def load_tokenizer(base: Base) -> Any:
    """The base's tokenizer. Raises `BadInput` where it lacks the control tokens of Qwen3's chat."""
    from transformers import utils as transformers_utils
    from transformers.utils import logging as transformers_log

    # transformers imports both wherever they are installed, for losses and ways to generate that are not ours: 75 MB.
    transformers_utils.is_sklearn_available = transformers_utils.is_scipy_available = lambda: False
    # Its remarks are no sentences of ours; what matters of them is checked.
    transformers_log.set_verbosity_error()
    if not (base.folder / TOKENIZER).is_file():
        raise BadInput(f"{base.folder}: no tokenizer.json; download the base again.")
    try:
        tokenizer = _tokenizer_class(base.folder).from_pretrained(base.folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(
            f"{base.folder}: its tokenizer cannot be loaded ({type(error).__name__}); download it again."
        ) from None
    known = {token.content for token in tokenizer.added_tokens_decoder.values()}
    for token in ("<|im_start|>", END, PAD):
        if token not in known:
            raise BadInput(f"{base.folder}: its tokenizer has no {token}; the base has to be of the Qwen3 family.")
    return tokenizer


def _tokenizer_class(folder: Path) -> Any:
    """What AutoTokenizer chooses. It imports torch for that, and all else that checking a data set imports takes a quarter of
    the time; so it is asked only where the name is none of a Qwen3 base."""
    config = folder / "tokenizer_config.json"
    told = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else None
    named = told.get("tokenizer_class") if isinstance(told, dict) else None
    if named in ("Qwen2Tokenizer", "Qwen2TokenizerFast"):
        from transformers import Qwen2Tokenizer

        return Qwen2Tokenizer
    if named in ("TokenizersBackend", "PreTrainedTokenizerFast"):
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


def _snapshot(folder: Path) -> Path:
    """A hub-cache folder (`models--org--name`) stands for the snapshot of its main branch, or its only one."""
    if not (folder / "snapshots").is_dir():
        return folder
    main = folder / "refs" / "main"
    if main.is_file() and (folder / "snapshots" / main.read_text().strip()).is_dir():
        return folder / "snapshots" / main.read_text().strip()
    snapshots = sorted(path for path in (folder / "snapshots").iterdir() if path.is_dir())
    if len(snapshots) != 1:
        raise BadInput(f"{folder}: holds {len(snapshots)} snapshots; name one of snapshots/* as BASE.")
    return snapshots[0]


def _checked(base: Base) -> Base:
    if not (base.folder / "config.json").is_file():
        raise BadInput(f"{base.folder}: no config.json, so this is not a model folder; check BASE.")
    architectures = base.config().get("architectures") or []
    if not any(str(name).endswith("ForCausalLM") for name in architectures):
        raise BadInput(
            f"{base.folder}: {architectures or 'an unknown architecture'} is not a causal language model; check BASE."
        )
    if not base.weight_files():
        found = sorted(path.name for path in base.folder.glob("*.bin"))
        other = f" ({found[0]} is not read: pickles can run code)" if found else ""
        raise BadInput(f"{base.folder}: no weights (*.safetensors){other}; `make download` fetches them.")
    index = base.folder / "model.safetensors.index.json"
    if index.is_file():
        content = read_json(index)
        named = set(content["weight_map"].values()) if isinstance(content, dict) else set()
        missing = sorted(name for name in named if not (base.folder / name).is_file())
        if missing:
            raise BadInput(f"{base.folder}: {missing[0]} is missing; `make download` goes on where it stopped.")
    # A download cut short is noticed without reading it.
    base.tensors()
    return base
