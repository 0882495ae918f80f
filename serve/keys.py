"""The keys with which clients may ask: a file with one `name:sha256` a line, so that no key stands anywhere.

In: the file named by MINDPAL_API_KEYS_FILE. Out: `Keys`, or a new line in the file.

    python -m serve key add NAME     # prints the key, once
"""

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from data.strict import BadInput

_LINE = re.compile(r"([A-Za-z0-9_.-]+):([0-9a-f]{64})")


@dataclass(frozen=True)
class Keys:
    """Name and SHA-256, in hex, of each key."""

    hashes: dict[str, str]

    def name_of(self, authorization: str) -> str | None:
        """Whose key an `Authorization: Bearer …` header holds. Every key is compared, in constant time."""
        scheme, _, key = authorization.partition(" ")
        given = hashlib.sha256(key.strip().encode("utf-8", "surrogatepass")).hexdigest()
        found = None
        for name, expected in self.hashes.items():
            if hmac.compare_digest(given, expected):
                found = name
        return found if scheme.lower() == "bearer" else None


def read_keys(path: Path) -> Keys:
    """The keys in `path`. Raises `BadInput` with the line that is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: the file of MINDPAL_API_KEYS_FILE cannot be read: {error}.") from None
    hashes: dict[str, str] = {}
    for number, written in enumerate(lines, start=1):
        line = written.split("#", 1)[0].strip()
        if not line:
            continue
        match = _LINE.fullmatch(line)
        if not match:
            raise BadInput(f"{path} line {number}: not `name:sha256`; make one with `python -m serve key add NAME`.")
        if match[1] in hashes:
            raise BadInput(f'{path} line {number}: the name "{match[1]}" stands twice; remove one of its lines.')
        hashes[match[1]] = match[2]
    if not hashes:
        raise BadInput(f"{path}: holds no key; make one with `python -m serve key add NAME`.")
    return Keys(hashes)


def add_key(path: Path, name: str) -> str:
    """Append a fresh key's hash to `path` and return the key; it can not be read again from anywhere."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise BadInput(f"{name!r} is no name for a key; use letters, digits, `_`, `.` and `-`.")
    if path.exists() and path.stat().st_size and name in read_keys(path).hashes:
        raise BadInput(f'{path}: the name "{name}" is taken; choose another, or remove its line first.')
    key = f"mp-{secrets.token_urlsafe(32)}"
    try:
        ends_line = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
        # Not readable by others from the first byte on: hashes of strong keys are no secret, but no one's business.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8") as file:
            file.write(f"{'' if ends_line else chr(10)}{name}:{hashlib.sha256(key.encode()).hexdigest()}\n")
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror}.") from None
    return key
