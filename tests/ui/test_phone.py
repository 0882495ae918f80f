"""Every state of the child's page, and of the parents', on a dark phone: axe finds nothing serious, and each fits.

Run: `MINDPAL_SHOTS=folder pytest tests/ui/test_phone.py`; then a picture of each page lies in the folder.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.ui.conftest import PATIENCE_MS, Site
from tests.ui.databases import ALLOWED
from tests.ui.model_server import CONTRACT, CRISIS, SKY, ModelServer
from tests.ui.walk import PIN, accessible, fits, say, section
from ui import exchange, visits
from ui.companion.chat import MOODS
from ui.insight import LEANED
from ui.locales import LANGUAGES, sentences
from ui.tables import Household, Visit

PHONE = ViewportSize(width=390, height=844)
TALL = ViewportSize(width=390, height=2400)
Shot = Callable[[Page, str], None]

pytestmark = [pytest.mark.timeout(600), pytest.mark.end_to_end]


def test_every_state_of_the_childs_page_on_a_dark_phone(site: Site, browser: Browser, shot: Shot) -> None:
    words = sentences("zh")
    page = _dark_phone(browser)

    def look(name: str) -> None:
        expect(page.locator(".st-key-ai-line")).to_have_count(1)
        expect(page.locator(".st-key-ai-line")).to_be_visible()
        _look(page, name, shot)

    page.goto(site.url)
    expect(page.get_by_text(words.welcome_title)).to_be_visible()
    page.set_viewport_size(TALL)
    _look(page, "first-run", shot)
    page.locator(".st-key-language").get_by_role("radio", name="English").click()
    expect(page.get_by_text(sentences("en").welcome_title)).to_be_visible()
    _look(page, "first-run-en", shot)
    expect(page.locator(".st-key-step-child").get_by_role("radio", name="English")).to_be_checked()
    page.set_viewport_size(PHONE)

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
        page.get_by_test_id("stExpandSidebarButton").click()
        expect(page.get_by_role("button", name=words.new_chat)).to_be_visible()
        accessible(page, "drawer")
        shot(page, "phone-dark-drawer")
        page.locator(".st-key-history button").first.click()
        expect(page.get_by_test_id("stSidebar")).to_have_attribute("data-collapsed", "true")
        page.get_by_role("button", name=words.talk.manage).click()
        expect(page.get_by_label(words.talk.rename)).to_be_visible()
        look("manage")
        page.keyboard.press("Escape")
        say(page, "说点很怪的")
        page.get_by_role("button", name=words.talk.why).click()
        expect(page.get_by_text(words.talk.why_guarded)).to_be_visible()
        look("blocked")

        page.goto(f"{site.url}/?k={first.id}")
        say(page, "再见")
        expect(page.get_by_text(words.door.goodbye_under)).to_be_visible()
        look("goodbye")
        page.goto(f"{site.url}/?k={first.id}")
        say(page, "我不想活了")
        expect(page.get_by_text(words.crisis_title)).to_be_visible()
        look("crisis")
        page.get_by_role("button", name=words.adult.show).click()
        expect(page.get_by_text(words.adult.please)).to_be_visible()
        look("adult")

        with store.writing() as session:
            visit = session.get_one(Visit, visits.newest(store, first.id).id)
            visit.began -= timedelta(minutes=31)
            visit.seen = store.now()  # the card, too: it does not open by itself again
        page.goto(f"{site.url}/?k={first.id}")
        expect(page.get_by_text(words.door.rest)).to_be_visible()
        look("rest")
        page.get_by_role("button", name=words.door.rest_yes).click()
        expect(page.get_by_text(words.door.resting_title)).to_be_visible()
        expect(page.get_by_text(words.urgent)).to_be_visible()
        look("resting")
    page.goto(f"{site.url}/?k={first.id}")
    page.get_by_role("button", name=words.talk.riddle, exact=True).click()
    expect(page.get_by_text(words.waking)).to_be_visible()
    look("waking")
    store.set_limits(first.id, replace(ALLOWED, minutes_a_day=0))
    page.reload()
    expect(page.get_by_text(words.door.over_title)).to_be_visible()  # after a crisis no day was a good one
    look("enough")
    store.set_limits(first.id, replace(ALLOWED, quiet_from="00:00", quiet_to="23:59"))
    page.reload()
    expect(page.get_by_text(words.door.quiet_title)).to_be_visible()
    look("quiet")

    store.withdraw()
    page.goto(f"{site.url}/?k={first.id}")
    expect(page.get_by_text(words.withdrawn)).to_be_visible()
    look("withdrawn")
    store.close()
    page.context.close()


def test_every_page_of_the_parents_on_a_dark_phone_in_both_languages(site: Site, browser: Browser, shot: Shot) -> None:
    (child,) = site.family()
    store = site.store()
    for mood in MOODS:
        visits.act(store, child.id)
        store.feel(child.id, mood)
    store.audit("transcripts", detail="alerts")
    leant = [("只有你懂我", "redirect", "dependence")] * LEANED
    for text, action, category in (("为什么天空是蓝色的？", None, None), *leant, ("我不想活了", "crisis", None)):
        reply = exchange.begin_reply(store, exchange.say(store, child.id, None, text))
        assert reply is not None
        exchange.end_reply(store, reply, CRISIS if action == "crisis" else SKY, "done", action, category, CONTRACT)
    with store.writing() as session:
        session.get_one(Household, 1).scrub_owed = 1
    backup = sqlite3.connect(site.folder / "mindpal.db", isolation_level=None)  # what was deleted stays in the files
    backup.execute("BEGIN")
    backup.execute("SELECT count(*) FROM messages").fetchone()
    page = _dark_phone(browser)
    page.set_viewport_size(TALL)
    for language in LANGUAGES:
        store.set_language(language)
        words = sentences(language)
        page.goto(f"{site.url}/?p=parents")
        expect(page.get_by_text(words.pin.under)).to_be_visible()
        _look(page, f"{language}-pin", shot)
        page.get_by_label(words.pin.field).fill(PIN)
        page.get_by_role("button", name=words.pin.open, exact=True).click()
        expect(page.get_by_test_id("stVegaLiteChart")).to_have_count(4)
        expect(page.get_by_text(words.overview.leaning_told.format(days=1, chats=LEANED))).to_be_visible()
        _look(page, f"{language}-overview", shot)
        section(page, words.home.alerts)
        page.get_by_text(words.chats.passage).click()
        expect(page.get_by_text(CRISIS)).to_be_visible()
        _look(page, f"{language}-alerts", shot)
        section(page, words.chats.title)
        page.get_by_test_id("stSelectbox").click()
        page.get_by_role("option").last.click()
        expect(page.get_by_role("button", name=words.chats.delete)).to_be_visible()
        _look(page, f"{language}-chats", shot)
        section(page, words.home.children)
        page.get_by_text(words.home.profile).click()
        expect(page.get_by_label(words.child_nickname).first).to_be_visible()
        _look(page, f"{language}-children", shot)
        section(page, words.home.family)
        expect(page.get_by_text(words.sending.channels)).to_be_visible()
        _look(page, f"{language}-family", shot)
        section(page, words.data.title)
        expect(page.get_by_test_id("stTable").get_by_text(words.data.acts["passage"]).first).to_be_visible()
        expect(page.get_by_text(words.data.owed)).to_be_visible()
        _look(page, f"{language}-data", shot)
    page.locator(".st-key-language-en").get_by_role("radio", name="中文").click()
    expect(page.get_by_role("heading", name=sentences("zh").for_parents)).to_be_visible()
    backup.close()
    store.close()
    page.context.close()


def _dark_phone(browser: Browser) -> Page:
    page = browser.new_page(viewport=PHONE, locale="zh-CN", color_scheme="dark", has_touch=True)
    page.set_default_timeout(PATIENCE_MS)
    return page


def _look(page: Page, name: str, shot: Shot) -> None:
    # What a slow machine has not cleared away yet is dim.
    expect(page.locator("[data-stale=true]")).to_have_count(0)
    accessible(page, name)
    fits(page, name)
    shot(page, f"phone-dark-{name}")
