"""The guard's files are those that were written: each is kept beside its hash.

In: a file. Out: nothing, or a `BadInput` that says how to mend it.
"""

import hashlib
from pathlib import Path

from data.strict import BadInput


def check_hash(path: Path, mend: str) -> None:
    """Raises `BadInput`, ending in `mend`, where `path` has not the SHA-256 that stands in the `.sha256` beside it."""
    beside = path.with_suffix(".sha256")
    try:
        expected, found = beside.read_text(encoding="ascii").strip(), hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: it or its hash cannot be read ({type(error).__name__}); {mend}") from None
    if expected != found:
        raise BadInput(f"{path}: its hash is {found[:8]}, but {beside.name} says {expected[:8]}; {mend}")
