"""A real Chromium for the tests."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.system import CHROMIUM, NO_CHROMIUM


@contextmanager
def chromium(*more: str) -> Iterator[Browser]:
    """One that ends with the block; `more` are switches. Where there is none, the test is skipped and says what to install."""
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *more])
        yield browser
        browser.close()
