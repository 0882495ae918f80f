"""The time zone by which quiet hours are kept. Run: `pytest tests/ui/test_clock.py`."""

import pytest

from data.strict import BadInput
from tests.ui.walk import daytime
from ui.clock import check_zone


@pytest.mark.parametrize(
    "zone",
    [
        "Asia/Shanghai", ":Asia/Shanghai", "PRC", "UTC", "America/New_York", "/usr/share/zoneinfo/Asia/Shanghai",
        "CST-8", "<+08>-8", "IST-5:30", "EST5EDT,M3.2.0,M11.1.0", "NOON+0", daytime(),
    ],
    indirect=True,
)  # fmt: skip
def test_a_zone_that_the_clock_goes_by_is_taken(zone: str) -> None:
    check_zone(zone)


@pytest.mark.parametrize(
    "zone",
    ["Asia/Shanghia", "asia/shanghai", "Beijing", "Asia", "../etc/passwd", "+8", "Asia/Shanghai "],
    indirect=True,
)
def test_a_zone_that_is_none_is_one_sentence(zone: str) -> None:
    with pytest.raises(BadInput, match="there is no such time zone"):
        check_zone(zone)


def test_a_machine_whose_clock_goes_by_another_zone_is_told() -> None:
    # As where the C library finds no data: Python may have data of its own.
    with pytest.raises(BadInput, match="Install the package tzdata"):
        check_zone("Pacific/Kiritimati")  # 14 h ahead of UTC, where no machine of ours stands


def test_no_zone_is_the_machines_own() -> None:
    check_zone(None)
    check_zone("")
