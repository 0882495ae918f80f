"""When a child may chat, by the server's clock. Run: `pytest tests/ui/test_limits.py`."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.ui.databases import Database, family
from ui import visits
from ui.insight import week
from ui.limits import Ruling, in_quiet_hours, rule
from ui.records import Limits, Profile
from ui.store import Store
from ui.tables import Child

ZONES = ("Asia/Shanghai", "America/New_York")  # ahead of UTC, and behind it
ASKED = Limits(60, "22:00", "06:00", 30, "", read_aloud=True, voice=True)


@pytest.fixture
def clock() -> list[datetime]:
    return [datetime(2026, 11, 24, 15).astimezone()]


@pytest.fixture
def timed(database: Database, clock: list[datetime]) -> Iterator[Store]:
    opened = database.open(lambda: clock[0])
    yield opened
    opened.close()


@pytest.fixture
def child(timed: Store) -> Child:
    made = family(timed)
    timed.set_limits(made.id, ASKED)
    found = timed.child(made.id)
    assert found is not None
    return found


def be_here(store: Store, child: Child, clock: list[datetime], minutes: int) -> None:
    for _ in range(minutes):
        visits.act(store, child.id)
        clock[0] += timedelta(minutes=1)


def test_an_hour_a_day_and_the_next_day_begins_anew(timed: Store, child: Child, clock: list[datetime]) -> None:
    be_here(timed, child, clock, 20)
    assert rule(timed, child) == Ruling("open", 40)
    clock[0] += timedelta(hours=2)
    be_here(timed, child, clock, 40)
    assert rule(timed, child) == Ruling("enough", 0)
    clock[0] += timedelta(days=1)
    assert rule(timed, child) == Ruling("open", 60)


@pytest.mark.parametrize("zone", ZONES, indirect=True)
def test_a_day_is_the_familys_and_not_that_of_utc(zone: str, timed: Store, child: Child, clock: list[datetime]) -> None:
    """An early morning is yesterday's by UTC in Shanghai, and an evening is tomorrow's in New York."""
    clock[0] = datetime(2026, 11, 24, 6, 5).astimezone(UTC)
    be_here(timed, child, clock, 60)
    assert rule(timed, child) == Ruling("enough", 0)
    assert week(timed, child).days[-1].minutes == 60
    clock[0] = datetime(2026, 11, 25, 20).astimezone(UTC)
    be_here(timed, child, clock, 60)
    assert rule(timed, child) == Ruling("enough", 0)
    clock[0] = datetime(2026, 11, 26, 7).astimezone(UTC)
    assert rule(timed, child) == Ruling("open", 60)
    assert [day.minutes for day in week(timed, child).days[-3:]] == [60, 60, 0]


@pytest.mark.parametrize("zone", ["America/New_York"], indirect=True)
def test_a_day_on_which_the_clock_is_changed_begins_at_its_own_midnight(
    zone: str, timed: Store, child: Child, clock: list[datetime]
) -> None:
    clock[0] = datetime(2026, 11, 1, 0, 10).astimezone(UTC)  # at two o'clock it is one again
    be_here(timed, child, clock, 30)
    clock[0] = datetime(2026, 11, 1, 12).astimezone(UTC)
    assert rule(timed, child) == Ruling("open", 30)
    clock[0] = datetime(2026, 11, 2, 12).astimezone(UTC)
    assert [day.minutes for day in week(timed, child).days[-3:]] == [0, 30, 0]


def test_a_new_child_has_an_hour_a_day_quiet_nights_breaks_and_no_microphone(timed: Store) -> None:
    new = timed.add_child(Profile("豆豆", "7-9", "zh", "star"))
    assert (new.minutes_a_day, new.quiet_from, new.quiet_to, new.break_minutes) == (60, "22:00", "06:00", 30)
    assert (new.blocked_topics, new.read_aloud, new.voice) == ("", True, False)


def test_a_clock_that_is_set_back_gives_no_time_back(timed: Store, child: Child, clock: list[datetime]) -> None:
    be_here(timed, child, clock, 60)
    clock[0] -= timedelta(hours=3)
    visits.act(timed, child.id)
    assert rule(timed, child).door == "enough"


def test_a_clock_that_is_set_back_gives_no_time_away(timed: Store, child: Child, clock: list[datetime]) -> None:
    """A machine starts hours ahead, the child opens the page, the clock is set right, and again in the middle of a visit."""
    be_here(timed, child, clock, 1)
    clock[0] -= timedelta(hours=8)
    be_here(timed, child, clock, 40)
    visit = visits.newest(timed, child.id)
    assert rule(timed, child, visit) == Ruling("open", 19, remind=True, rest=True)
    clock[0] -= timedelta(seconds=70)
    assert visits.act(timed, child.id).id == visit.id, "a second here or there begins no visit"
    clock[0] -= timedelta(minutes=20)
    be_here(timed, child, clock, 18)
    assert rule(timed, child) == Ruling("open", 1)
    be_here(timed, child, clock, 1)
    assert rule(timed, child) == Ruling("enough", 0)


def test_quiet_hours_come_first_and_pass_midnight(timed: Store, child: Child, clock: list[datetime]) -> None:
    for hour, minute, door in ((21, 59, "open"), (22, 0, "night"), (23, 59, "night"), (5, 59, "night"), (6, 0, "open")):
        clock[0] = clock[0].replace(hour=hour, minute=minute)
        assert rule(timed, child).door == door
    child.quiet_from, child.quiet_to = "20:00", "15:30"
    for hour, minute, door in (
        (20, 59, "quiet"),
        (21, 0, "night"),
        (5, 59, "night"),
        (6, 0, "quiet"),
        (10, 0, "quiet"),
    ):
        clock[0] = clock[0].replace(hour=hour, minute=minute)
        assert rule(timed, child).door == door, "by day nobody is told to sleep"
    noon = clock[0].replace(hour=12)
    assert in_quiet_hours(noon, "11:30", "13:00")
    assert not in_quiet_hours(noon, "12:00", "12:00")


def test_the_guardian_sets_other_limits(timed: Store, child: Child, clock: list[datetime]) -> None:
    timed.set_limits(child.id, replace(ASKED, minutes_a_day=10, quiet_from="20:00"))
    changed = timed.child(child.id)
    assert changed is not None
    be_here(timed, changed, clock, 10)
    assert rule(timed, changed).door == "enough"
    clock[0] = clock[0].replace(hour=20)
    assert rule(timed, changed).door == "quiet"


def test_a_day_without_any_time_is_not_told_as_one_that_is_used_up(
    timed: Store, child: Child, clock: list[datetime]
) -> None:
    be_here(timed, child, clock, 10)
    child.minutes_a_day = 0
    assert rule(timed, child) == Ruling("enough", 0)
    clock[0] += timedelta(days=1)
    assert rule(timed, child) == Ruling("none", 0), "there was no chat that could have been a good one"


def test_what_it_is_is_said_at_the_start_and_every_hour(timed: Store, child: Child, clock: list[datetime]) -> None:
    child.minutes_a_day = 600
    visit = visits.act(timed, child.id)
    assert rule(timed, child, visit).remind
    visits.reminded(timed, visit)
    be_here(timed, child, clock, 59)
    assert not rule(timed, child, visits.act(timed, child.id)).remind
    be_here(timed, child, clock, 2)
    assert rule(timed, child, visits.act(timed, child.id)).remind
    clock[0] += timedelta(hours=2)
    assert rule(timed, child, visits.act(timed, child.id)).remind, "a new visit begins with it"


def test_a_break_is_due_after_half_an_hour_and_again_after_the_next(
    timed: Store, child: Child, clock: list[datetime]
) -> None:
    be_here(timed, child, clock, 29)
    assert not rule(timed, child, visits.act(timed, child.id)).rest
    be_here(timed, child, clock, 1)
    visit = visits.act(timed, child.id)
    assert rule(timed, child, visit).rest
    visits.rested(timed, visit)
    be_here(timed, child, clock, 29)
    assert not rule(timed, child, visits.act(timed, child.id)).rest
