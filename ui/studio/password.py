"""The studio's password: set, checked, and locked after five wrong tries, as the parents' PIN (ui/pin.py) is.

In: the secret file and what was typed. Out: `Opened`, `Wrong` or `Locked`. The file (mode 0600) holds argon2's hash and
the count of tries; a try is counted before it is looked at, so many at once are not more than one after another.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from data.runs import dump
from data.strict import BadInput, Strict, read_json
from ui.pin import FREE_TRIES, Locked, Opened, Wrong, hashed, lock_after

SHORTEST = 8


class Secret(Strict):
    """What the file holds. `locked_until` is UTC, ISO 8601, or empty."""

    hash: str
    tries: int = 0
    locked_until: str = ""


@dataclass(frozen=True)
class PasswordFile:
    """The password that a file keeps."""

    file: Path

    def is_set(self) -> bool:
        """Whether there is a password yet."""
        return self.file.is_file()

    def change(self, password: str) -> None:
        """Set another password, and open the lock. Raises `BadInput` where it is too simple."""
        if not is_fit(password):
            raise BadInput(
                f"A password has at least {SHORTEST} characters, five of them different; nothing was changed."
            )
        new = hashed(password)
        with self._alone():
            self._write(Secret(hash=new))

    def check(self, password: str, now: datetime | None = None) -> Opened | Wrong | Locked:
        """Try a password. Raises `BadInput` where the file is damaged."""
        now = now or datetime.now(UTC)
        with self._alone():
            secret = self._read()
            until = datetime.fromisoformat(secret.locked_until) if secret.locked_until else None
            if until and until > now:
                return Locked(until)
            tries = secret.tries + 1
            until = now + lock_after(tries) if tries >= FREE_TRIES else None
            self._write(Secret(hash=secret.hash, tries=tries, locked_until=until.isoformat() if until else ""))
        if not _fits(secret.hash, password, self.file):
            return Locked(until) if until else Wrong(FREE_TRIES - tries)
        with self._alone():
            if self._read().hash == secret.hash:
                self._write(Secret(hash=secret.hash))
                return Opened()
        return self.check(password, now)  # another one was set meanwhile, and that one counts

    def _read(self) -> Secret:
        return Secret.parse(read_json(self.file), str(self.file))

    def _write(self, secret: Secret) -> None:
        partial = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        partial.unlink(missing_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(dump(secret.model_dump()))
        partial.replace(self.file)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.file.with_name(f".{self.file.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def is_fit(password: str) -> bool:
    """Whether this may be a password."""
    return len(password) >= SHORTEST and len(set(password)) >= 5


def _fits(stored: str, password: str, file: Path) -> bool:
    try:
        return PasswordHasher().verify(stored, password)
    except VerifyMismatchError:
        return False
    except InvalidHashError:
        raise BadInput(f"{file}: holds no argon2 hash; `python -m ui.studio --new-password` sets one anew.") from None
