"""The guardian's PIN, the children's limits and profiles, in a real browser. Run: `pytest tests/ui/test_guardian.py`."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.ui.conftest import PATIENCE_MS, Site
from tests.ui.databases import ALLOWED
from tests.ui.model_server import ModelServer
from tests.ui.walk import PIN, VOICES, at_rest, open_parents, replies, say, section, wait_until
from ui import visits
from ui.locales import sentences
from ui.tables import Visit

WORDS = sentences("zh")
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


class TestWhatAGuardianSets:
    """A guardian and a child, each in a browser of their own; the clock of the parents' door is moved by a file."""

    @pytest.fixture
    def later(self, tmp_path: Path) -> Path:
        file = tmp_path / "later"
        file.write_text("0")
        return file

    @pytest.fixture
    def program(self, later: Path) -> tuple[str, ...]:
        return ("tests.ui.later", str(later))

    @pytest.fixture
    def more_environment(self) -> dict[str, str]:
        return {"STT_URL": "http://127.0.0.1:9/v1"}  # there is a microphone; nobody speaks

    def test_it_reaches_the_childs_page_and_after_ten_minutes_the_area_shuts(
        self, site: Site, page: Page, browser: Browser, shot: Shot, later: Path
    ) -> None:
        (first,) = site.family()
        store = site.store()
        childs = browser.new_page(locale="zh-CN")
        childs.set_default_timeout(PATIENCE_MS)
        childs.add_init_script(f"{VOICES}; window.give('Mandarin', 'zh-CN')")
        read, microphone = childs.get_by_text(WORDS.talk.read), childs.get_by_test_id("stChatInputMicButton")
        with ModelServer(site.model_port):
            childs.goto(f"{site.url}/?k={first.id}")
            say(childs, "你好")
            expect(read).to_be_visible()
            expect(microphone).to_be_visible()

            page.goto(site.url)
            open_parents(page)
            section(page, WORDS.home.children)
            shot(page, "parents-children")
            card = page.locator(f".st-key-child-card-{first.id}")
            card.get_by_label(WORDS.home.minutes_a_day).fill("45")
            card.get_by_label(WORDS.home.break_minutes).fill("10")
            card.get_by_role("textbox", name=WORDS.home.blocked_topics).fill("恐怖片")
            card.get_by_text(WORDS.home.read_aloud).click()
            card.get_by_text(WORDS.home.voice).click()
            _save(card, lambda: store.children()[0].minutes_a_day == 45)

            childs.reload()
            expect(childs.get_by_text(re.compile(WORDS.door.minutes_left.format(minutes="4[345]")))).to_be_visible()
            expect(childs.get_by_role("button", name=WORDS.talk.again)).to_be_visible()
            expect(childs.get_by_test_id("stChatInputTextArea")).to_be_visible()
            expect(read).to_have_count(0)
            expect(microphone).to_have_count(0)
            expect(childs.get_by_text(WORDS.ai_line)).to_be_visible()
            say(childs, "恐怖片好看吗")
            expect(childs.get_by_text(WORDS.door.topic)).to_be_visible()
            expect(childs.get_by_text(WORDS.door.rest)).to_have_count(0)
            with store.writing() as session:
                session.get_one(Visit, visits.newest(store, first.id).id).began -= timedelta(minutes=11)
            childs.reload()
            expect(childs.get_by_text(WORDS.door.rest)).to_be_visible()

            section(page, WORDS.home.family)
            page.get_by_text(WORDS.home.transcripts_alerts).click()
            settings = page.locator(".st-key-settings-card")
            _save(settings, lambda: store.household().transcripts == "alerts")
            childs.reload()
            expect(childs.get_by_text(WORDS.ai_line_alerts)).to_be_visible()
            expect(childs.get_by_text(WORDS.ai_line)).to_have_count(0)
            settings.get_by_label(WORDS.first_run.emergency).fill("外公 13900000000")  # no line in the log
            _save(settings, lambda: store.emergency() == "外公 13900000000")
            days = page.locator(".st-key-panel-days")
            days.get_by_label(WORDS.home.days).fill("31")
            days.get_by_label(WORDS.pin.current).fill(PIN)
            _save(days, lambda: store.household().retention_days == 31)
            at_rest(page)
            # The field of the days from before, which has another key, stands hidden beside it for a moment.
            expect(days.get_by_label(WORDS.home.days)).to_have_count(1)
            expect(days.get_by_label(WORDS.home.days)).to_have_value("31")
            section(page, WORDS.data.title)
            told = WORDS.data.acts["transcripts"].format(detail=WORDS.home.transcripts_alerts)
            expect(page.get_by_test_id("stTable").get_by_text(told)).to_have_count(1)

            section(page, WORDS.home.children)
            _time(page, WORDS.home.quiet_to, "2359")
            _save(card, lambda: store.children()[0].quiet_to == "23:59")
            childs.reload()
            expect(childs.get_by_text(WORDS.door.quiet_title)).to_be_visible()
            expect(childs.get_by_text(WORDS.door.quiet.format(until="23:59"))).to_be_visible()
            childs.close()

        new = page.locator(".st-key-child-card-new")
        new.get_by_label(WORDS.child_nickname).fill("果果")
        new.get_by_role("radio").nth(4).click()
        new.get_by_role("button", name=WORDS.home.add_child).click()
        expect(page.get_by_role("heading", name="果果")).to_be_visible()
        assert store.children()[1].nickname == "果果"
        store.close()

        later.write_text("480")
        section(page, WORDS.home.family)  # an act: ten minutes more
        expect(page.get_by_text(WORDS.consent_title)).to_be_visible()
        later.write_text("960")
        section(page, WORDS.home.alerts)
        expect(page.get_by_text(WORDS.alerts_none)).to_be_visible()
        later.write_text("1570")
        expect(page.get_by_text(WORDS.pin.under)).to_be_visible()  # by itself
        expect(page.get_by_text(WORDS.alerts_none)).to_have_count(0)

        page.get_by_role("button", name=WORDS.back, exact=True).click()
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


def test_the_days_time_and_quiet_hours_end_kindly(site: Site, page: Page, shot: Shot) -> None:
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
        expect(page.get_by_text(WORDS.door.quiet_title)).to_be_visible()
        shot(page, "quiet")
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
    with store.writing() as session:  # an hour goes by
        reminded = session.get_one(Visit, visit.id).reminded
        assert reminded is not None
        session.get_one(Visit, visit.id).reminded = reminded - timedelta(minutes=60)
    page.reload()
    expect(page.locator(".st-key-remind").get_by_text(WORDS.door.remind.replace("*", ""))).to_be_visible()
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


def _save(card: Locator, is_saved: Callable[[], bool]) -> None:
    """Press the card's last button to save, and wait until it lies in the records."""
    card.get_by_role("button", name=WORDS.save, exact=True).last.click()
    wait_until(card.page, is_saved)
    at_rest(card.page)  # it is drawn once more, with what is stored now


def _time(page: Page, name: str, digits: str) -> None:
    """Type hours and minutes."""
    page.get_by_role("group", name=name).get_by_role("spinbutton").first.click()
    page.keyboard.type(digits)
    page.keyboard.press("Tab")
