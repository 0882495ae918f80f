"""What the page must not be able to do, read from its source. Run: `pytest tests/ui/test_privacy.py`."""

import re
from pathlib import Path

import pytest

from tests.ui.conftest import ROOT

COMPANION = sorted((ROOT / "ui" / "companion").rglob("*.py"))
SCRIPTS = sorted((ROOT / "ui" / "companion").rglob("*.js"))
LEARNERS = sorted(path for part in ("finetune", "data", "ui/studio") for path in (ROOT / part).rglob("*.py"))


def test_there_is_something_to_read() -> None:
    assert len(COMPANION) > 10
    assert SCRIPTS
    assert len(LEARNERS) > 20


@pytest.mark.parametrize("path", LEARNERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_trains_knows_where_a_family_talks(path: Path) -> None:
    assert not re.search(r"MINDPAL_FAMILY|MINDPAL_KEY_FILE|mindpal\.db|ui\.store|ui\.tables", path.read_text("utf-8"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_browser_is_asked_for_no_place_no_notice_and_no_memory(path: Path) -> None:
    asked = re.compile(r"geolocation|Notification|localStorage|sessionStorage|document\.cookie|fetch\(|XMLHttpRequest")
    assert not asked.search(path.read_text("utf-8"))


@pytest.mark.parametrize("path", COMPANION, ids=lambda path: path.name)
def test_a_child_has_no_knob_of_the_model(path: Path) -> None:
    assert not re.search(r"st\.(select_)?slider|temperature|top_p|top_k|max_tokens", path.read_text("utf-8"))
