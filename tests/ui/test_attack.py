"""Somebody wants more than they may have: time, another's chats, the parents' area. In a real browser.

Run: `pytest tests/ui/test_attack.py`.
"""

import http.client
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import delete, insert
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from tests.ui.conftest import PATIENCE_MS, Site
from tests.ui.databases import ALLOWED
from tests.ui.model_server import CRISIS, ModelServer
from tests.ui.walk import PIN, at_rest, escape, open_parents, replies, say, section
from ui import exchange, forget, outbox, pin
from ui.companion.chat import SHOWN
from ui.locales import sentences
from ui.store import Store
from ui.tables import MessageRow

WORDS = sentences("zh")
BY_ITSELF_MS = 90_000  # an open page looks every twenty seconds; a busy machine needs more
Shot = Callable[[Page, str], None]

pytestmark = [pytest.mark.timeout(400), pytest.mark.end_to_end]


@pytest.fixture
def more_environment() -> dict[str, str]:
    return {"MINDPAL_HOSTS": "family.example, *.school.example"}


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


def test_a_crisis_is_not_shut_away_and_comes_from_behind_a_shut_door(site: Site, page: Page, shot: Shot) -> None:
    """Nobody touches the page: an adult is reading it as the day's time ends, and later a sleeping server has answered."""
    (child,) = site.family()
    store = site.store()
    with ModelServer(site.model_port):
        page.goto(site.url)
        say(page, "我不想活了")
        page.get_by_role("button", name=WORDS.adult.show).click()
        expect(page.get_by_text(WORDS.adult.please)).to_be_visible()
        store.set_limits(child.id, replace(ALLOWED, minutes_a_day=0))
        expect(page.get_by_test_id("stChatInput")).to_have_count(0, timeout=BY_ITSELF_MS)
        expect(page.get_by_text(WORDS.adult.please)).to_be_visible()
        shot(page, "crisis-at-the-door-adult")
        escape(page)
        expect(page.get_by_text(WORDS.adult.please)).to_have_count(0)
        expect(page.get_by_text(WORDS.crisis_title)).to_be_visible()
        for line in WORDS.crisis_lines:
            expect(page.get_by_text(line.number, exact=True)).to_be_visible()
        expect(page.get_by_text(WORDS.door.enough_title)).to_have_count(0)
        shot(page, "crisis-at-the-door")
    question = exchange.say(store, child.id, None, "我还是很难受")
    page.goto(f"{site.url}/?c={question.conversation_id}")
    expect(page.get_by_text(WORDS.door.kept)).to_be_visible()
    expect(page.get_by_text(WORDS.door.over_title)).to_be_visible()
    exchange.begin_reply(store, question, CRISIS, "guarded", "crisis", "self_harm")
    expect(page.get_by_text(CRISIS)).to_be_visible(timeout=BY_ITSELF_MS)
    expect(page.get_by_text(WORDS.door.over_title)).to_have_count(0)
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
    exchange.give_up(store, exchange.say(store, first.id, None, "豆豆的悄悄话"))
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


# As in test_outbox.py: a module of apprise's.
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_a_new_pin_shuts_what_the_old_one_opened_and_no_button_of_it_works(site: Site, page: Page) -> None:
    site.family()
    store = site.store()
    outbox.add_channel(store, "json://127.0.0.1:9/hook")
    page.goto(site.url)
    open_parents(page)
    section(page, WORDS.home.family)
    page.get_by_role("button", name=WORDS.sending.remove).click()
    asked = page.get_by_test_id("stPopoverBody")
    asked.get_by_label(WORDS.pin.current).fill(PIN)
    pin.change(store, "8642")
    asked.get_by_role("button", name=WORDS.sending.remove).click()
    _asks_for_the_pin(page)
    assert len(outbox.channels(store)) == 1
    store.close()


def test_an_export_behind_a_door_that_is_shut_meanwhile_is_refused_in_the_guardians_language(
    site: Site, page: Page
) -> None:
    site.family()
    page.goto(site.url)
    open_parents(page)
    section(page, WORDS.data.title)
    expect(page.get_by_text(WORDS.data.log_under)).to_be_visible()
    at_rest(page)
    expect(page.get_by_text(WORDS.data.export_failed)).to_be_hidden()
    with closing(site.store()) as store:
        pin.change(store, "8642")
    page.get_by_role("button", name=WORDS.data.export.format(form="JSON")).click()
    expect(page.get_by_text(WORDS.data.export_failed)).to_be_visible()
    expect(page.get_by_test_id("stDownloadButtonError")).to_be_hidden()


def test_what_a_guardian_sent_is_sent_again_from_another_browser_and_does_nothing(
    site: Site, page: Page, browser: Browser
) -> None:
    """Everything that deleted a family, but the messages with the PIN; and with them, to see that they are what deletes."""
    site.family()
    store = site.store()
    sent: list[bytes] = []

    def keep(frame: bytes | str) -> None:
        sent.append(frame if isinstance(frame, bytes) else frame.encode())

    page.on("websocket", lambda socket: socket.on("framesent", keep))
    page.goto(site.url)
    open_parents(page)
    section(page, WORDS.data.title)
    page.get_by_text(WORDS.data.sure).click()
    page.get_by_label(WORDS.pin.current).fill(PIN)
    page.get_by_role("button", name=WORDS.data.delete_all).click()
    expect(page.get_by_text(WORDS.welcome_title)).to_be_visible()
    page.goto("about:blank")
    site.family()
    context = browser.new_context(locale="zh-CN")
    other = context.new_page()
    other.goto(site.url)
    expect(other.get_by_text(WORDS.greeting_under)).to_be_visible()
    _send(other, site, [frame for frame in sent if PIN.encode() not in frame])
    assert [child.nickname for child in store.children()] == ["豆豆"]
    _send(other, site, sent)
    until = time.monotonic() + 60
    while store.children() and time.monotonic() < until:
        other.wait_for_timeout(200)
    assert store.children() == []
    context.close()
    store.close()


def test_the_page_answers_by_no_name_that_a_website_could_have(site: Site) -> None:
    own = f"127.0.0.1:{site.port}"
    for name in (own, f"localhost:{site.port}", "192.168.1.20:8501", "family.example", "class.school.example"):
        assert _knocks(site, name, f"http://{name}") == 101, name
    for name in ("evil.example", f"evil.example:{site.port}", "127.0.0.1.evil.example", "school.example"):
        assert _knocks(site, name, f"http://{name}") == 403, name
    assert _knocks(site, own, "http://evil.example") == 403


def test_odd_words_two_tabs_at_once_and_a_chat_of_five_hundred(site: Site, page: Page, shot: Shot) -> None:
    (child,) = site.family()
    store = site.store()
    odd = (
        "🦄👨‍👩‍👧🌈",
        "مرحبا، كيف حالك؟",
        "\u202e倒过来\u202c的话",
        "# **标题** ![](x) [一](http://x.example)",
        "\x01\x02",
        "-",
    )
    with ModelServer(site.model_port):
        for words in odd:
            page.goto(site.url)
            say(page, words)
            expect(replies(page)).to_have_count(1)
            expect(page.locator("[class*='st-key-said-user']")).to_have_count(1)
        expect(page.locator(".st-key-history button")).to_have_text(
            ["-", "…", "# **标题** ![](x) [一](http\u200b://x.example)", "倒过来 的话", odd[1], odd[0]]
        )
        expect(page.get_by_test_id("stMain").locator("a, img[src*=x]")).to_have_count(0)
        shot(page, "odd-words")

        here = _many(store, child.id)
        page.goto(f"{site.url}/?c={here}")
        expect(replies(page)).to_have_count(SHOWN // 2)
        page.get_by_role("button", name=WORDS.talk.earlier).click()
        expect(replies(page)).to_have_count(SHOWN)
        second = page.context.new_page()
        second.set_default_timeout(PATIENCE_MS)
        second.goto(f"{site.url}/?c={here}")
        expect(replies(second)).to_have_count(SHOWN // 2)
        for opened, words in ((page, "第一个窗口"), (second, "第二个窗口")):
            say(opened, words)
        for opened in (page, second):
            opened.wait_for_timeout(1000)
            opened.reload()
            for words in ("第一个窗口", "第二个窗口"):
                expect(opened.locator("[class*='st-key-said-user']").get_by_text(words)).to_have_count(1)
            expect(opened.get_by_test_id("stException")).to_have_count(0)
    said = store.messages(here)[500:]
    assert sorted(message.role for message in said) == ["assistant", "assistant", "user", "user"]
    store.close()


def _many(store: Store, child_id: int) -> int:
    """A chat of five hundred messages."""
    here = exchange.say(store, child_id, None, "第0句").conversation_id
    with store.writing() as session:
        session.execute(delete(MessageRow).where(MessageRow.conversation_id == here))
        session.execute(
            insert(MessageRow),
            [
                {"conversation_id": here, "role": ("user", "assistant")[number % 2], "state": "done",
                 "text": store.sealer.seal(f"第{number}句"), "created": store.now()}
                for number in range(500)
            ],
        )  # fmt: skip
    return here


def _knocks(site: Site, host: str, origin: str) -> int:
    """The status with which the page's socket answers."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    headers = {
        "Host": host, "Origin": origin, "Connection": "Upgrade", "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    connection.request("GET", "/_stcore/stream", headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


def _send(page: Page, site: Site, frames: list[bytes]) -> None:
    """Send these messages over a socket of one's own, each when the page has been drawn after the one before."""
    drawn: list[ForwardMsg] = []

    def keep(frame: bytes | str) -> None:
        told = ForwardMsg.FromString(frame if isinstance(frame, bytes) else frame.encode())
        if told.WhichOneof("type") == "script_finished":
            drawn.append(told)

    page.once("websocket", lambda socket: socket.on("framereceived", keep))
    page.evaluate(
        """async address => {
          window.own = new WebSocket(address, ["streamlit"]);
          await new Promise((open, failed) => { own.onopen = open; own.onerror = failed; });
        }""",
        f"ws://127.0.0.1:{site.port}/_stcore/stream",
    )
    for frame in frames:
        before, until = len(drawn), time.monotonic() + 5
        page.evaluate("frame => own.send(new Uint8Array(frame))", list(frame))
        while len(drawn) == before and time.monotonic() < until:  # not every message draws the page
            page.wait_for_timeout(50)


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
