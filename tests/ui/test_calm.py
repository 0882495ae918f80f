"""A full disk and held records, seen from the page of a child, in a real browser. Run: `pytest tests/ui/test_calm.py`."""

import resource
import sqlite3
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.ui.conftest import Site
from tests.ui.model_server import CRISIS, ModelServer
from tests.ui.walk import open_parents, replies, say, section
from ui import exchange
from ui.locales import sentences

WORDS = sentences("zh")
ASKED = "给我讲讲大海"
Shot = Callable[[Page, str], None]

pytestmark = [pytest.mark.timeout(400), pytest.mark.end_to_end]


@pytest.mark.parametrize("typed", [True, False], ids=["typed", "starter"])
def test_a_full_disk_is_a_calm_card_and_the_words_are_said_once_there_is_room(
    site: Site, page: Page, shot: Shot, typed: bool
) -> None:
    (child,) = site.family()
    with ModelServer(site.model_port) as server:
        page.goto(site.url)
        expect(page.get_by_text(WORDS.greeting_under)).to_be_visible()
        _fill_disk(site)
        if typed:
            say(page, ASKED)
        else:
            page.get_by_role("button", name=WORDS.talk.story, exact=True).click()
        asked = ASKED if typed else WORDS.talk.story_ask
        card = page.locator(".st-key-calm")
        expect(card.get_by_text(WORDS.calm.title)).to_be_visible()
        expect(card.get_by_text(asked, exact=True)).to_be_visible()
        shot(page, f"calm-{'typed' if typed else 'starter'}")
        page.wait_for_timeout(7_000)
        expect(card.get_by_text(asked, exact=True)).to_be_visible()
        assert server.requests == []
        _make_room(site)
        expect(replies(page)).to_have_count(1)
        expect(card).to_have_count(0)
    store = site.store()
    (chat,) = store.conversations(child.id)
    assert [message.role for message in store.messages(chat.id)] == ["user", "assistant"]
    assert store.messages(chat.id)[0].text == asked
    store.close()


def test_a_disk_that_fills_in_the_middle_of_a_crisis_loses_no_alert(site: Site, page: Page) -> None:
    site.family()
    store = site.store()
    with ModelServer(site.model_port, pause_s=3):
        page.goto(site.url)
        say(page, "我不想活了")
        expect(page.get_by_text(CRISIS)).to_be_visible()
        _fill_disk(site)
        expect(page.locator(".st-key-calm")).to_be_visible()
        expect(page.get_by_text(WORDS.urgent)).to_be_visible()
        assert store.alerts() == []
        page.goto("about:blank")
        _make_room(site)
        until = time.monotonic() + 60
        while not store.alerts() and time.monotonic() < until:
            page.wait_for_timeout(200)
        assert [alert.category for alert in store.alerts()] == ["self_harm"]
        page.goto(f"{site.url}/?c=1")
        expect(page.get_by_text(WORDS.crisis_title)).to_be_visible()
    store.close()


def test_records_that_a_backup_holds_for_ten_seconds_are_waited_for(site: Site, page: Page) -> None:
    site.family()
    with ModelServer(site.model_port):
        page.goto(site.url)
        expect(page.get_by_text(WORDS.greeting_under)).to_be_visible()
        backup = sqlite3.connect(site.folder / "mindpal.db", isolation_level=None)
        backup.execute("BEGIN IMMEDIATE")
        say(page, ASKED)
        page.wait_for_timeout(10_000)
        backup.execute("ROLLBACK")
        backup.close()
        expect(replies(page)).to_have_count(1)
        expect(page.locator(".st-key-calm")).to_have_count(0)


def test_a_guardian_is_told_too_and_a_button_can_be_pressed_again(site: Site, page: Page, shot: Shot) -> None:
    (child,) = site.family()
    store = site.store()
    exchange.give_up(store, exchange.say(store, child.id, None, "\n".join(("今天", "我的秘密"))))
    page.goto(site.url)
    open_parents(page)
    # A look that cannot be written down in the log is none: the line comes before the words.
    section(page, WORDS.chats.title)
    expect(page.get_by_test_id("stSelectbox")).to_be_visible()
    _fill_disk(site)
    page.get_by_test_id("stSelectbox").click()
    page.get_by_role("option").last.click()
    expect(page.get_by_text(WORDS.calm.adults)).to_be_visible()
    expect(page.get_by_test_id("stChatMessage")).to_have_count(0)
    assert store.audited() == []
    _make_room(site)
    expect(page.get_by_test_id("stChatMessage").get_by_text("我的秘密")).to_be_visible()
    assert [line.what for line in store.audited()] == ["transcript"]
    store.close()
    section(page, WORDS.home.family)
    expect(page.get_by_role("button", name=WORDS.withdraw)).to_be_visible()
    _fill_disk(site)
    page.get_by_role("button", name=WORDS.withdraw).click()
    expect(page.get_by_text(WORDS.calm.adults)).to_be_visible()
    shot(page, "calm-guardian")
    _make_room(site)
    page.get_by_role("button", name=WORDS.withdraw).click()
    expect(page.get_by_text(WORDS.home.no_consent)).to_be_visible()


def _fill_disk(site: Site) -> None:
    """No file of the page's process may grow: its writes fail as on a full disk, with another number."""
    resource.prlimit(site.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))


def _make_room(site: Site) -> None:
    resource.prlimit(site.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
