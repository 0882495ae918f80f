"""The guardian's PIN and its lock. Run: `pytest tests/ui/test_pin.py`."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.ui.databases import PIN, Database, family
from ui import pin
from ui.pin import Locked, Opened, Wrong, change, check, is_fit, lock_after, locked
from ui.store import Store

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> list[datetime]:
    return [NOON]


@pytest.fixture
def timed(database: Database, clock: list[datetime]) -> Iterator[Store]:
    opened = database.open(lambda: clock[0])
    family(opened)
    yield opened
    opened.close()


def test_the_right_pin_opens_and_its_digits_are_nowhere(timed: Store, database: Database) -> None:
    assert check(timed, PIN) == Opened()
    change(timed, "97531")
    kept = timed.household().pin_hash
    assert kept is not None
    pin_hash = timed.sealer.open(kept)
    assert pin_hash.startswith("$argon2id$")
    assert not database.holds(pin_hash.encode()), "whoever copies the database without its key has nothing to guess by"


def test_five_wrong_tries_lock_it_for_ever_longer_times(timed: Store, clock: list[datetime]) -> None:
    assert [check(timed, "0000") for _ in range(4)] == [Wrong(4), Wrong(3), Wrong(2), Wrong(1)]
    assert locked(timed) is None
    assert check(timed, "0000") == Locked(NOON + timedelta(minutes=1))
    assert locked(timed) == Locked(NOON + timedelta(minutes=1))
    assert check(timed, PIN) == Locked(NOON + timedelta(minutes=1)), "not even the right one"
    clock[0] += timedelta(minutes=1)
    assert locked(timed) is None
    assert check(timed, "0000") == Locked(clock[0] + timedelta(minutes=2))
    clock[0] += timedelta(minutes=2)
    assert check(timed, PIN) == Opened(missed=6)
    assert check(timed, "0000") == Wrong(4)
    assert check(timed, PIN) == Opened(missed=1), "each is told once"


def test_many_tries_at_once_are_not_more_than_five(timed: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda _: check(timed, "0000"), range(20)))
    assert sum(isinstance(verdict, Wrong) for verdict in verdicts) == 4
    assert timed.household().pin_tries == 5


def test_a_try_under_way_does_not_open_what_has_a_new_pin(timed: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fits = pin._fits

    def set_meanwhile(pin_hash: str, typed: str) -> bool:
        monkeypatch.setattr(pin, "_fits", fits)
        change(timed, "97531")
        return fits(pin_hash, typed)

    monkeypatch.setattr(pin, "_fits", set_meanwhile)
    assert check(timed, PIN) == Wrong(4)
    assert check(timed, "97531") == Opened(missed=1)


def test_the_lock_grows_to_a_day_and_a_new_pin_opens_it(timed: Store) -> None:
    assert [lock_after(tries) // timedelta(minutes=1) for tries in (5, 6, 7, 15, 16, 99)] == [1, 2, 4, 1024, 1440, 1440]
    for _ in range(5):
        check(timed, "0000")
    change(timed, "8642")
    assert check(timed, "8642") == Opened()


@pytest.mark.parametrize(
    ("pin", "fit"),
    [("2468", True), ("24681357", True), ("1111", False), ("1234", False), ("9876", False), ("123", False), ("12a4", False),
     ("123456789", False), ("２４６８", False)],
)  # fmt: skip
def test_what_may_be_a_pin(pin: str, fit: bool) -> None:
    assert is_fit(pin) is fit
