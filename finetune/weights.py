"""Change single tensors of a safetensors file without loading it.

In: a file and what becomes of some of its tensors. Out: a copy with the same header; one tensor is in memory at a time.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data.strict import BadInput
from finetune.base import Stored, stored_tensors

Change = Callable[[Any], Any]


def rewrite(source: Path, target: Path, changes: Mapping[str, Change]) -> None:
    """Copy `source`; each tensor named in `changes` becomes what its function gives, of the same shape and dtype."""
    import torch

    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        for name, stored in stored_tensors(source).items():
            if name not in changes:
                continue
            changed = changes[name](read_tensor(stored))
            if tuple(changed.shape) != stored.shape:
                raise ValueError(f"{name}: {tuple(changed.shape)} in the place of {stored.shape}")
            file.seek(stored.start)
            file.write(changed.contiguous().flatten().view(torch.uint8).numpy().data)


def read_tensor(stored: Stored) -> Any:
    """One tensor of a file."""
    import torch

    known = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    if stored.dtype not in known:
        raise BadInput(f"{stored.file}: holds {stored.dtype}; weights in bf16, fp16 or fp32 are supported.")
    with stored.file.open("rb") as file:
        file.seek(stored.start)
        content = bytearray(file.read(stored.end - stored.start))
    return torch.frombuffer(content, dtype=known[stored.dtype]).view(stored.shape)


def taken_from(stored: Stored) -> Change:
    """The change that puts another file's tensor in the place, in the dtype that is there."""
    return lambda old: read_tensor(stored).to(old.dtype)
