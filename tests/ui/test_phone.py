"""Every state of the child's page on a dark phone: axe finds nothing serious, and each fits.

Run: `MINDPAL_SHOTS=folder pytest tests/ui/test_phone.py`; then a picture of each page lies in the folder.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.ui.conftest import PATIENCE_MS, Site
from tests.ui.model_server import ModelServer
from tests.ui.walk import accessible, fits, say
from ui.locales import sentences
from ui.store import Limits
from ui.tables import Visit

ALLOWED = Limits(60, "00:00", "00:00", 30, "", read_aloud=True, voice=True)
PHONE = ViewportSize(width=390, height=844)
TALL = ViewportSize(width=390, height=2400)
Shot = Callable[[Page, str], None]

pytestmark = [pytest.mark.timeout(600), pytest.mark.end_to_end]


def test_every_state_of_the_childs_page_on_a_dark_phone(site: Site, browser: Browser, shot: Shot) -> None:
    words = sentences("zh")
    context = browser.new_context(viewport=PHONE, locale="zh-CN", color_scheme="dark", has_touch=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)

    def look(name: str, *, tall: bool = False) -> None:
        if tall:
            page.set_viewport_size(TALL)
        # What a slow machine has not cleared away yet is dim.
        expect(page.locator("[data-stale=true]")).to_have_count(0)
        accessible(page, name)
        fits(page, name)
        shot(page, f"phone-dark-{name}")
        page.set_viewport_size(PHONE)

    page.goto(site.url)
    expect(page.get_by_text(words.welcome_title)).to_be_visible()
    look("first-run", tall=True)

    first, _ = site.family("豆豆", "果果")
    store = site.store()
    with ModelServer(site.model_port):
        page.goto(site.url)
        expect(page.get_by_text(words.picker.title)).to_be_visible()
        look("picker")
        page.get_by_role("button", name="豆豆", exact=True).click()
        expect(page.get_by_role("button", name=words.door.remind_ok)).to_be_visible()
        look("hello")
        page.get_by_role("button", name=words.door.remind_ok).click()
        say(page, "为什么天空是蓝色的？")
        expect(page.get_by_role("button", name=words.talk.again)).to_be_visible()
        look("chat")
        page.get_by_role("button", name=words.talk.manage).click()
        expect(page.get_by_label(words.talk.rename)).to_be_visible()
        look("manage")
        page.keyboard.press("Escape")
        say(page, "说点很怪的")
        page.get_by_role("button", name=words.talk.why).click()
        expect(page.get_by_text(words.talk.why_guarded)).to_be_visible()
        look("blocked")

        page.goto(f"{site.url}/?k={first.id}")
        say(page, "我不想活了")
        expect(page.get_by_text(words.crisis_title)).to_be_visible()
        look("crisis")
        page.get_by_role("button", name=words.adult.show).click()
        expect(page.get_by_text(words.adult.please)).to_be_visible()
        look("adult")

        with store.writing() as session:
            session.get_one(Visit, store.last_visit(first.id).id).began -= timedelta(minutes=31)
        page.goto(f"{site.url}/?k={first.id}")
        expect(page.get_by_text(words.door.rest)).to_be_visible()
        look("rest")
        page.get_by_role("button", name=words.door.rest_yes).click()
        expect(page.get_by_text(words.door.resting_title)).to_be_visible()
        look("resting")
        page.get_by_role("button", name=words.door.resting_back).click()
        say(page, "再见")
        expect(page.get_by_text(words.door.goodbye_under)).to_be_visible()
        look("goodbye")
    page.goto(f"{site.url}/?k={first.id}")
    page.get_by_role("button", name=words.talk.riddle, exact=True).click()
    expect(page.get_by_text(words.waking)).to_be_visible()
    look("waking")
    store.set_limits(first.id, replace(ALLOWED, minutes_a_day=0))
    page.reload()
    expect(page.get_by_text(words.door.enough_title)).to_be_visible()
    look("enough")
    store.set_limits(first.id, replace(ALLOWED, quiet_from="00:00", quiet_to="23:59"))
    page.reload()
    expect(page.get_by_text(words.door.night_title)).to_be_visible()
    look("night")

    store.withdraw()
    page.goto(f"{site.url}/?k={first.id}")
    expect(page.get_by_text(words.withdrawn)).to_be_visible()
    look("withdrawn")
    store.close()
    context.close()
