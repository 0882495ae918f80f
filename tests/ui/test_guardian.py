"""The guardian's PIN, the children's limits and profiles, in a real browser. Run: `pytest tests/ui/test_guardian.py`."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui.conftest import Site
from tests.ui.model_server import ModelServer
from tests.ui.walk import open_parents, replies, say, section
from ui import visits
from ui.locales import sentences
from ui.records import Limits
from ui.tables import Visit

WORDS = sentences("zh")
ALLOWED = Limits(60, "00:00", "00:00", 30, "", read_aloud=True, voice=True)
Shot = Callable[[Page, str], None]

pytestmark = [pytest.mark.timeout(300), pytest.mark.end_to_end]


def test_the_parents_area_is_behind_the_pin_and_five_tries_lock_it(site: Site, page: Page, shot: Shot) -> None:
    site.family()
    page.goto(f"{site.url}/?p=parents&s=family")
    expect(page.get_by_text(WORDS.pin.under)).to_be_visible()
    expect(page.get_by_text(WORDS.consent_title)).to_have_count(0)
    shot(page, "pin")
    for left in (4, 3, 2, 1):
        _type_pin(page, "0000")
        expect(page.get_by_text(WORDS.pin.wrong.format(left=left))).to_be_visible()
    _type_pin(page, "0000")
    expect(page.get_by_text(WORDS.pin.locked.format(minutes=1))).to_be_visible()
    shot(page, "pin-locked")
    store = site.store()
    with store.writing() as session:
        home = session.merge(store.household())
        home.pin_locked_until = store.now() - timedelta(seconds=1)
    store.close()
    _type_pin(page, "2468")
    expect(page.get_by_text(WORDS.consent_title)).to_be_visible()
    page.reload()
    expect(page.get_by_text(WORDS.pin.under)).to_be_visible()


def test_a_guardian_adds_a_child_and_sets_limits(site: Site, page: Page, shot: Shot) -> None:
    site.family()
    page.goto(site.url)
    open_parents(page)
    section(page, WORDS.home.children)
    shot(page, "parents-children")
    page.get_by_label(WORDS.home.minutes_a_day).fill("45")
    page.get_by_role("textbox", name=WORDS.home.blocked_topics).fill("恐怖片")
    page.locator(".st-key-child-card-1").get_by_role("button", name=WORDS.save, exact=True).last.click()
    expect(page.get_by_text(WORDS.saved)).to_be_visible()
    new = page.locator(".st-key-child-card-new")
    new.get_by_label(WORDS.child_nickname).fill("果果")
    new.get_by_role("radio").nth(4).click()
    new.get_by_role("button", name=WORDS.home.add_child).click()
    expect(page.get_by_role("heading", name="果果")).to_be_visible()
    store = site.store()
    first, second = store.children()
    store.close()
    assert (first.minutes_a_day, first.blocked_topics) == (45, "恐怖片")
    assert second.nickname == "果果"
    page.get_by_role("button", name=WORDS.pin.lock).click()
    expect(page.get_by_text(WORDS.picker.title)).to_be_visible()
    shot(page, "picker")
    page.get_by_role("button", name="果果", exact=True).click()
    expect(page.get_by_text(WORDS.greeting.format(nickname="果果"))).to_be_visible()
    page.reload()
    expect(page.get_by_text(WORDS.greeting.format(nickname="果果"))).to_be_visible()


def test_two_children_in_two_browsers_see_their_own_chats(site: Site, browser: Browser) -> None:
    first, second = site.family("豆豆", "果果")
    with ModelServer(site.model_port):
        pages = [browser.new_page() for _ in range(2)]
        for opened, child, word in zip(pages, (first, second), ("苹果", "香蕉"), strict=True):
            opened.goto(f"{site.url}/?k={child.id}")
            say(opened, word)
        for opened, word, other in zip(pages, ("苹果", "香蕉"), ("香蕉", "苹果"), strict=True):
            expect(replies(opened)).to_have_count(1)
            expect(opened.get_by_text(word).first).to_be_visible()
            expect(opened.get_by_text(other)).to_have_count(0)
        pages[1].goto(f"{site.url}/?k={second.id}&c=1")
        expect(pages[1].get_by_text(WORDS.greeting_under)).to_be_visible()
        for opened in pages:
            opened.close()


def test_the_days_time_and_the_night_end_kindly(site: Site, page: Page, shot: Shot) -> None:
    (child,) = site.family()
    with ModelServer(site.model_port) as server:
        page.goto(site.url)
        expect(page.get_by_text(WORDS.greeting_under)).to_be_visible()
        store = site.store()
        store.set_limits(child.id, replace(ALLOWED, minutes_a_day=0))
        expect(page.get_by_text(WORDS.door.enough_title)).to_be_visible(timeout=40_000)  # by itself
        expect(page.get_by_test_id("stChatInput")).to_have_count(0)
        shot(page, "enough")
        store.set_limits(child.id, replace(ALLOWED, quiet_from="00:00", quiet_to="23:59"))
        page.reload()
        expect(page.get_by_text(WORDS.door.night_title)).to_be_visible()
        shot(page, "night")
        store.close()
        assert server.requests == []


def test_what_it_is_and_a_break_are_said(site: Site, page: Page, shot: Shot) -> None:
    (child,) = site.family()
    store = site.store()
    page.goto(site.url)
    expect(page.locator(".st-key-remind")).to_be_visible()
    with store.writing() as session:
        visit = session.get_one(Visit, visits.newest(store, child.id).id)
        visit.began -= timedelta(minutes=31)
    page.reload()
    # A child who does not confirm what it is told hears of the break all the same.
    expect(page.locator(".st-key-remind")).to_be_visible()
    expect(page.get_by_text(WORDS.door.rest)).to_be_visible()
    page.get_by_role("button", name=WORDS.door.remind_ok).click()
    expect(page.locator(".st-key-remind")).to_have_count(0)
    page.reload()
    expect(page.get_by_text(WORDS.door.rest)).to_be_visible()
    expect(page.locator(".st-key-remind")).to_have_count(0)
    shot(page, "rest")
    page.get_by_role("button", name=WORDS.door.rest_yes).click()
    expect(page.get_by_text(WORDS.door.resting_title)).to_be_visible()
    expect(page.get_by_test_id("stChatInput")).to_have_count(0)
    page.get_by_role("button", name=WORDS.door.resting_back).click()
    expect(page.get_by_text(WORDS.greeting_under)).to_be_visible()
    store.close()


def test_goodbye_is_let_go_at_once(site: Site, page: Page, shot: Shot) -> None:
    site.family()
    with ModelServer(site.model_port) as server:
        page.goto(site.url)
        say(page, "灵伴，再见！")
        expect(page.get_by_text(WORDS.door.goodbye.format(nickname="豆豆"))).to_be_visible()
        expect(page.get_by_text(WORDS.door.goodbye_under)).to_be_visible()
        expect(page.get_by_test_id("stChatInput")).to_have_count(0)
        expect(page.get_by_text(WORDS.ai_line)).to_be_visible()
        shot(page, "goodbye")
        assert server.requests == []
        page.get_by_role("button", name=WORDS.new_chat).click()
        expect(page.get_by_test_id("stChatInput")).to_be_visible()


def _type_pin(page: Page, pin: str) -> None:
    page.get_by_label(WORDS.pin.field).fill(pin)
    page.get_by_role("button", name=WORDS.pin.open, exact=True).click()
