"""A real Chromium for the tests."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from playwright.sync_api import Browser, BrowserType, sync_playwright

from tests.system import CHROMIUM, NO_CHROMIUM

DEAF = Path(__file__).with_name("deaf.py")


@contextmanager
def chromium(*more: str) -> Iterator[Browser]:
    """One that ends with the block; `more` are switches. Where there is none, the test is skipped and says what to install."""
    if CHROMIUM is None:
        pytest.skip(NO_CHROMIUM)
    with sync_playwright() as playwright:
        browser = launch(playwright.chromium, *more)
        yield browser
        browser.close()


def launch(kind: BrowserType, *more: str) -> Browser:
    """Start one, which no container that starts or ends beside it disturbs."""
    with TemporaryDirectory() as folder:
        program = Path(folder) / "chromium"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{DEAF}" "{CHROMIUM}" "$@"\n')
        program.chmod(0o755)
        return kind.launch(executable_path=program, args=["--no-sandbox", *more])
