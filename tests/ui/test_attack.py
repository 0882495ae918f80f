"""Somebody wants more than they may have: time, another's chats, the parents' area. In a real browser.

Run: `pytest tests/ui/test_attack.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui.conftest import PATIENCE_MS, Site
from tests.ui.model_server import ModelServer
from tests.ui.walk import open_parents, replies, say, section
from ui import forget
from ui.locales import sentences
from ui.records import Limits

WORDS = sentences("zh")
ALLOWED = Limits(60, "00:00", "00:00", 30, "", read_aloud=True, voice=True)
BY_ITSELF_MS = 90_000  # an open page looks every twenty seconds; a busy machine needs more
Shot = Callable[[Page, str], None]

pytestmark = [pytest.mark.timeout(400), pytest.mark.end_to_end]


def test_no_other_clock_tab_browser_or_way_back_gives_more_time(site: Site, page: Page, browser: Browser) -> None:
    (child,) = site.family()
    store = site.store()
    with ModelServer(site.model_port) as server:
        page.goto(f"{site.url}/?k={child.id}")
        say(page, "给我讲讲大海")
        expect(replies(page)).to_have_count(1)
        chat = page.url
        page.get_by_role("button", name=WORDS.new_chat).click()
        expect(page.get_by_text(WORDS.greeting_under)).to_be_visible()
        store.set_limits(child.id, replace(ALLOWED, minutes_a_day=0))
        page.reload()
        _is_over(page)
        page.go_back()
        _is_over(page)
        page.goto(chat)
        _is_over(page)
        for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
            context = browser.new_context(locale="zh-CN", timezone_id=zone)
            other = context.new_page()
            other.set_default_timeout(PATIENCE_MS)
            other.clock.set_system_time(datetime.now(UTC) + timedelta(days=1))
            other.goto(chat)
            _is_over(other)
            context.close()
        assert len(server.requests) == 1
    store.close()


def test_a_page_left_open_when_the_time_ends_takes_no_more_words(site: Site, page: Page) -> None:
    (child,) = site.family()
    store = site.store()
    with ModelServer(site.model_port) as server:
        page.goto(site.url)
        expect(page.get_by_text(WORDS.greeting_under)).to_be_visible()
        store.set_limits(child.id, replace(ALLOWED, minutes_a_day=0))
        say(page, "还要聊")
        _is_over(page)
        assert server.requests == []
    store.close()


def test_the_way_back_and_a_copied_address_of_the_parents_area_ask_for_the_pin(
    site: Site, page: Page, browser: Browser
) -> None:
    site.family()
    page.goto(site.url)
    open_parents(page)
    section(page, WORDS.home.family)
    expect(page.get_by_text(WORDS.consent_title)).to_be_visible()
    copied = page.url
    page.get_by_role("button", name=WORDS.pin.lock).click()
    expect(page.get_by_text(WORDS.greeting_under)).to_be_visible()
    page.go_back()
    expect(page.get_by_text(WORDS.consent_title)).to_have_count(0)
    page.goto(copied)
    _asks_for_the_pin(page)
    context = browser.new_context(locale="zh-CN")
    other = context.new_page()
    other.goto(copied)
    _asks_for_the_pin(other)
    context.close()


def test_leaving_the_parents_area_with_the_browsers_button_shuts_it(site: Site, page: Page) -> None:
    site.family()
    page.goto(site.url)
    open_parents(page)
    expect(page.get_by_text(WORDS.overview.time_chart)).to_be_visible()
    while "p=parents" in page.url:
        page.go_back()
    expect(page.get_by_text(WORDS.greeting_under)).to_be_visible()
    page.go_forward()
    expect(page.get_by_text(WORDS.overview.time_chart)).to_have_count(0)
    _asks_for_the_pin(page)


def test_a_reload_does_not_hide_the_lock_and_tells_how_to_set_a_new_pin(site: Site, page: Page, shot: Shot) -> None:
    site.family()
    page.goto(f"{site.url}/?p=parents")
    for left in (4, 3, 2, 1):
        _type_pin(page, "0000")
        expect(page.get_by_text(WORDS.pin.wrong.format(left=left))).to_be_visible()
    _type_pin(page, "0000")
    expect(page.get_by_text(WORDS.pin.locked.format(minutes=1))).to_be_visible()
    page.reload()
    expect(page.get_by_text(WORDS.pin.locked.format(minutes=1))).to_be_visible()
    expect(page.get_by_text("python -m ui --new-pin")).to_be_visible()
    shot(page, "pin-reloaded")
    _type_pin(page, "2468")
    expect(page.get_by_text(WORDS.pin.locked.format(minutes=1))).to_be_visible()
    expect(page.get_by_text(WORDS.overview.time_chart)).to_have_count(0)


def test_a_consent_that_is_withdrawn_elsewhere_ends_an_open_page_and_a_growing_reply(site: Site, page: Page) -> None:
    (child,) = site.family()
    store = site.store()
    with ModelServer(site.model_port) as server:
        page.goto(site.url)
        say(page, "讲一个很长的故事")
        expect(page.get_by_text("第3句。")).to_be_visible()
        store.withdraw()
        expect(page.get_by_text(WORDS.withdrawn)).to_be_visible()
        assert server.hung_up.wait(20)
        expect(page.get_by_text("第3句。")).to_have_count(0)
        store.consent_again("妈妈")
        page.reload()
        expect(replies(page)).to_have_count(1)
        store.withdraw()
        expect(page.get_by_text(WORDS.withdrawn)).to_be_visible(timeout=BY_ITSELF_MS)  # and nobody touched the page
    (chat,) = store.conversations(child.id)
    assert store.messages(chat.id)[1].state == "stopped"
    store.close()


def test_a_page_whose_child_is_deleted_asks_who_is_there_and_becomes_no_siblings(site: Site, page: Page) -> None:
    first, second = site.family("豆豆", "果果")
    store = site.store()
    store.give_up(store.say(first.id, None, "豆豆的悄悄话"))
    with ModelServer(site.model_port) as server:
        page.goto(f"{site.url}/?k={second.id}")
        say(page, "讲一个很长的故事")
        expect(page.get_by_text("第3句。")).to_be_visible()
        forget.child(store, second.id)
        expect(page.get_by_text(WORDS.picker.title)).to_be_visible()
        assert server.hung_up.wait(20)
        expect(page.get_by_text("豆豆的悄悄话")).to_have_count(0)
        expect(page.get_by_test_id("stException")).to_have_count(0)
    assert [child.nickname for child in store.children()] == ["豆豆"]
    store.close()


def test_buttons_of_a_page_whose_chat_is_deleted_break_nothing(site: Site, page: Page) -> None:
    (child,) = site.family()
    store = site.store()
    with ModelServer(site.model_port):
        page.goto(site.url)
        say(page, "给我讲讲大海")
        expect(replies(page)).to_have_count(1)
        (chat,) = store.conversations(child.id)
        forget.chat(store, chat.id)
        page.get_by_role("button", name=WORDS.talk.up, exact=True).click()
        expect(page.get_by_text(WORDS.greeting_under)).to_be_visible()
        expect(page.get_by_test_id("stException")).to_have_count(0)
    store.close()


def _is_over(page: Page) -> None:
    expect(page.get_by_text(WORDS.door.enough_title)).to_be_visible()
    expect(page.get_by_test_id("stChatInput")).to_have_count(0)
    expect(page.get_by_text("给我讲讲大海")).to_have_count(0)


def _asks_for_the_pin(page: Page) -> None:
    expect(page.get_by_text(WORDS.pin.under)).to_be_visible()
    expect(page.get_by_text(WORDS.consent_title)).to_have_count(0)


def _type_pin(page: Page, pin: str) -> None:
    page.get_by_label(WORDS.pin.field).fill(pin)
    page.get_by_role("button", name=WORDS.pin.open, exact=True).click()
