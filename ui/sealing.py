"""Encrypt what a child said before it is written, with AES-256-GCM and a key that lies in a file of its own.

In: the key file (`key` in the family's folder, or MINDPAL_KEY_FILE). Out: a `Sealer`.
Run: `sealer = Sealer(read_key(path, make=True)); sealer.open(sealer.seal("你好"))`. Copy the key file when you copy the
database: one is worth nothing without the other.
"""

import base64
import os
from binascii import Error as NotBase64
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from data.strict import BadInput

KEY_BYTES = 32
NONCE_BYTES = 12  # what GCM is defined for; random, so one key is good for about 2^32 texts (NIST SP 800-38D, 8.3)


class WrongKey(Exception):
    """The text was sealed with another key, or was changed."""


class Sealer:
    """Seals and opens texts with one key. Safe to share between threads."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, text: str) -> str:
        """The text, encrypted, in base64: nonce, ciphertext and tag. The same text is never sealed the same twice."""
        nonce = os.urandom(NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, text.encode(), None)).decode("ascii")

    def open(self, sealed: str) -> str:
        """The text that was sealed. Raises `WrongKey`."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], None).decode()
        except (InvalidTag, NotBase64, ValueError):
            raise WrongKey from None


def read_key(path: Path, *, make: bool) -> bytes:
    """The 32 bytes of a key file; `make` writes a new one when there is none. Raises `BadInput`."""
    # A key that is there may lie where nothing can be written, as a container's secrets do.
    if make and not path.exists():
        _make(path)
    try:
        key = base64.b64decode(path.read_text(encoding="ascii").strip(), validate=True)
    except FileNotFoundError:
        raise BadInput(
            f"{path}: the key of the family's records is missing; put back the file that was kept with the database"
            " (MINDPAL_KEY_FILE names another place), or the records stay unreadable."
        ) from None
    except OSError as error:
        raise BadInput(f"{path}: the key of the family's records cannot be read: {error.strerror}.") from None
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise BadInput(f"{path}: not a key of MindPal (32 bytes in base64); put back the file that was kept.")
    return key


def _make(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Written aside and linked: another page that starts at the same moment finds all of a key or none.
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(base64.b64encode(os.urandom(KEY_BYTES)).decode("ascii") + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, path)
        except FileExistsError:
            return
        finally:
            aside.unlink()
    except OSError as error:
        raise BadInput(f"{path}: the key of the family's records cannot be written: {error.strerror}.") from None
