"""The guardian's PIN: set, checked, and locked after five wrong tries for a time that doubles with each further one.

In: the store and what was typed. Out: `Opened`, `Wrong` or `Locked`. Only argon2's hash of a PIN is ever kept, and that
sealed: of four digits a machine tries all in minutes, so a copy of the database must not be enough.
Run: `check(store, "2468")`.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import or_, update

from ui.store import Store
from ui.tables import Household

FREE_TRIES = 5
FIRST_LOCK = timedelta(minutes=1)
LONGEST_LOCK = timedelta(hours=24)


@dataclass(frozen=True)
class Opened:
    """The PIN is right; `missed` wrong ones were tried since it was last right or set."""

    missed: int = 0


@dataclass(frozen=True)
class Wrong:
    """The PIN is wrong; `left` tries remain before it is locked."""

    left: int


@dataclass(frozen=True)
class Locked:
    """Too many wrong tries: nothing is looked at before `until`."""

    until: datetime


def is_fit(pin: str) -> bool:
    """Whether this may be a PIN: four to eight digits, and not the same one throughout or a plain run of them."""
    return bool(re.fullmatch(r"[0-9]{4,8}", pin)) and len(set(pin)) > 1 and pin not in "0123456789876543210"


def hashed(pin: str) -> str:
    """What is sealed and kept of a PIN: argon2id with the library's own parameters (RFC 9106, low-memory)."""
    return PasswordHasher().hash(pin)


def change(store: Store, pin: str) -> None:
    """Set another PIN, and open the lock."""
    new = store.sealer.seal(hashed(pin))
    with store.writing() as session:
        home = session.get_one(Household, 1)
        home.pin_hash, home.pin_tries, home.pin_locked_until = new, 0, None


def locked(store: Store) -> Locked | None:
    """The lock that holds now, or None. To ask is no try."""
    until = store.household().pin_locked_until
    return Locked(until) if until is not None and until > store.now() else None


def check(store: Store, pin: str) -> Opened | Wrong | Locked:
    """Try a PIN. The try is counted before it is looked at, so many at once are not more than one after another."""
    now = store.now()
    with store.writing() as session:
        open_now = or_(Household.pin_locked_until.is_(None), Household.pin_locked_until <= now)
        counted = session.execute(
            update(Household).where(Household.id == 1, open_now).values(pin_tries=Household.pin_tries + 1)
        )
        home = session.get_one(Household, 1, populate_existing=True)
        if counted.rowcount != 1:  # type: ignore[attr-defined]
            return Locked(home.pin_locked_until or now)
        if home.pin_tries >= FREE_TRIES:
            home.pin_locked_until = now + lock_after(home.pin_tries)
    if home.pin_hash is None or not _fits(store.sealer.open(home.pin_hash), pin):
        return Locked(home.pin_locked_until) if home.pin_locked_until else Wrong(FREE_TRIES - home.pin_tries)
    with store.writing() as session:
        same = update(Household).where(Household.id == 1, Household.pin_hash == home.pin_hash)
        reset = session.execute(same.values(pin_tries=0, pin_locked_until=None))
    # Another one may have been set meanwhile, and that one counts.
    missed = home.pin_tries - 1  # this try was counted, too
    return Opened(missed) if reset.rowcount == 1 else check(store, pin)  # type: ignore[attr-defined]


def lock_after(tries: int) -> timedelta:
    """How long the PIN is locked after so many wrong tries: 1 minute after the fifth, then twice as long each time."""
    doublings = min(20, tries - FREE_TRIES)
    return min(LONGEST_LOCK, FIRST_LOCK * (1 << doublings))


def _fits(pin_hash: str, pin: str) -> bool:
    try:
        return PasswordHasher().verify(pin_hash, pin)
    except VerifyMismatchError:
        return False
