"""The family's clock: quiet hours, days and the times that a guardian reads are those of the time zone TZ.

In: TZ. Out: midnights; or a `BadInput`: the C library takes a zone that it does not know for UTC and says nothing, and
quiet hours are hours off. Run: `check_zone(os.environ.get("TZ"))`, once, at the start.
"""

import re
import time
from datetime import date, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from data.strict import BadInput

# A zone written out, as POSIX has it: CST-8 is eight hours ahead of UTC. Summer time and its rules may follow.
_WRITTEN = re.compile(
    r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)(?P<sign>[+-]?)(?P<hours>2[0-3]|[01]?\d)(?::(?P<minutes>[0-5]\d))?(?::[0-5]\d)?"
    r"(?P<summer>(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)[\d:+-]*(?:,[JM\d./:+-]+){0,2})?"
)


def check_zone(name: str | None) -> None:
    """Raise `BadInput` when this machine's clock does not go by the zone `name`. None: it has one of its own."""
    if not name:
        return
    expected = _expected(name.removeprefix(":"))
    if expected is None:
        raise BadInput(
            f'TZ is "{name}", and there is no such time zone: quiet hours would be kept by UTC. Write one such as'
            " Asia/Shanghai."
        )
    if expected != (found := _offset(datetime.now().astimezone())):
        raise BadInput(
            f'TZ is "{name}", but this machine\'s clock is {found / 3600:+g} h from UTC and not {expected / 3600:+g} h:'
            " quiet hours would be wrong. Install the package tzdata."
        )


def midnight(day: date) -> datetime:
    """When a day begins for the family, on its own side of a change to summer time: a day may have 23 or 25 hours."""
    return datetime(day.year, day.month, day.day).astimezone()


def _expected(name: str) -> float | None:
    """How many seconds a zone's clock is ahead of UTC now; None when there is no such zone."""
    try:
        if name.startswith("/"):
            with open(name, "rb") as file:
                return _offset(datetime.now(ZoneInfo.from_file(file)))
        return _offset(datetime.now(ZoneInfo(name)))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        written = _WRITTEN.fullmatch(name)
    if written is None:
        return None
    west = 3600 * int(written["hours"]) + 60 * int(written["minutes"] or 0)
    standard = west if written["sign"] == "-" else -west
    # Whether it is summer the C library knows by the rules; it has read them if it knows the winter.
    return _offset(datetime.now().astimezone()) if written["summer"] and -time.timezone == standard else standard


def _offset(moment: datetime) -> float:
    ahead = moment.utcoffset()
    return ahead.total_seconds() if ahead is not None else 0.0
