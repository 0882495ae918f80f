"""When a child may chat, by the server's clock: minutes a day, quiet hours, breaks, and how often 灵伴 says what it is.

In: the store and a child. Out: a `Ruling`. The defaults are the strictest found: an hour a day, a break at 30 minutes,
nothing from 22:00 to 06:00 (China's minors' mode), and the reminder at each start and every hour (Washington HB 2225).
Run: `rule(store, child)`. The server's time zone is TZ; a child's device has no say.
"""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Literal

from ui import visits
from ui.clock import midnight
from ui.store import Store
from ui.tables import Child, Visit

REMIND_AGAIN = timedelta(minutes=60)
NIGHT = ("21:00", "06:00")  # quiet hours may lie in the day, too, and nobody sleeps then

# `quiet`: quiet hours by day; `none`: the guardian gives no time at all, and nothing was said today.
Door = Literal["open", "night", "quiet", "enough", "none"]


@dataclass(frozen=True)
class Ruling:
    """What holds now. `door`: may the child chat; `remind`, `rest`: what the page says first."""

    door: Door
    minutes_left: int
    remind: bool = False
    rest: bool = False


def rule(store: Store, child: Child, visit: Visit | None = None) -> Ruling:
    """Judge this moment; with the running visit, also whether a reminder or a break is due."""
    now = store.now()
    local = now.astimezone()
    used = visits.seconds_since(store, child.id, midnight(local.date()))
    left = max(0, round(child.minutes_a_day - used / 60))
    if in_quiet_hours(local, child.quiet_from, child.quiet_to):
        return Ruling("night" if in_quiet_hours(local, *NIGHT) else "quiet", left)
    if used >= 60 * child.minutes_a_day:
        return Ruling("enough" if used else "none", 0)
    if visit is None:
        return Ruling("open", left)
    return Ruling(
        "open",
        left,
        remind=visit.reminded is None or now - visit.reminded >= REMIND_AGAIN,
        rest=now - (visit.rested or visit.began) >= timedelta(minutes=child.break_minutes),
    )


def in_quiet_hours(local: datetime, start: str, end: str) -> bool:
    """Whether a local moment lies in quiet hours, which may pass midnight; the same time twice means none."""
    at, begins, ends = local.time(), time.fromisoformat(start), time.fromisoformat(end)
    return begins <= at < ends if begins <= ends else at >= begins or at < ends
