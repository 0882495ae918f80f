"""The child's page in a real browser, against a real HTTP server. Run: `pytest tests/ui/test_page.py`.

Pictures of each page are written to `MINDPAL_SHOTS`, when it names a folder.
"""

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.ui.conftest import ROOT, Site
from tests.ui.databases import PIN, PIN_HASH
from tests.ui.model_server import SKY, ModelServer
from tests.ui.walk import SOCKETS, at_rest, first_run, fits, open_parents, replies, say, scrolling, section, wait_until
from ui import exchange
from ui.locales import sentences
from ui.pin import Opened, check
from ui.records import Profile
from ui.store import POLICY_VERSION

WORDS = sentences("zh")
Shot = Callable[[Page, str], None]

pytestmark = [pytest.mark.timeout(300), pytest.mark.end_to_end]


def test_first_run_to_history(site: Site, page: Page, shot: Shot) -> None:
    foreign: list[str] = []
    page.on("request", lambda request: None if _ours(request.url) else foreign.append(request.url))
    with ModelServer(site.model_port) as server:
        page.goto(site.url)
        expect(page.get_by_text(WORDS.welcome_title)).to_be_visible()
        shot(page, "first-run")
        expect(page.get_by_test_id("stChatInput")).to_have_count(0)
        page.get_by_role("button", name=WORDS.start, exact=True).click()
        expect(page.get_by_text(WORDS.missing)).to_be_visible()
        assert server.requests == []

        first_run(page)
        expect(page.get_by_text(WORDS.ai_line)).to_be_visible()
        shot(page, "empty-chat")
        assert set(scrolling(page).evaluate_all("all => all.map(each => each.scrollHeight - each.clientHeight)")) == {0}
        _is_kept(site)
        page.get_by_role("button", name="为什么天空是蓝色的？", exact=True).click()
        _finished(page, "阳光")
        expect(page.locator(".katex")).to_have_count(1)

        say(page, "你好")
        expect(replies(page)).to_have_count(2)
        assert [message["role"] for message in server.requests[-1]["messages"]] == ["user", "assistant", "user"]
        shot(page, "chat")

        say(page, "给我一些链接")
        _finished(page, "完了。")
        expect(replies(page).last).to_contain_text("evil.example")
        expect(replies(page).last.locator("a, img[src*=evil]")).to_have_count(0)
        shot(page, "links")

        page.reload()
        expect(replies(page)).to_have_count(3)
        expect(page.get_by_text(WORDS.ai_line)).to_be_visible()
        assert len(server.requests) == 3, "a reload asks nothing again"

        page.goto(site.url)
        expect(page.get_by_text(WORDS.greeting_under)).to_be_visible()
        page.locator(".st-key-history button").first.click()
        expect(replies(page)).to_have_count(3)
    for hidden in ("stMainMenu", "stAppDeployButton"):
        expect(page.get_by_test_id(hidden)).to_have_count(0)
    assert foreign == []


def test_stop_keeps_what_was_said_and_the_server_sees_it(site: Site, page: Page, shot: Shot) -> None:
    with ModelServer(site.model_port) as server:
        page.goto(site.url)
        first_run(page)
        say(page, "讲一个很长的故事")
        expect(page.get_by_text("第3句。")).to_be_visible()
        expect(page.get_by_text(WORDS.greeting_under)).to_have_count(0)
        shot(page, "streaming")
        _stop(page)
        assert server.hung_up.wait(20)
        page.reload()
        expect(page.get_by_text("第3句。")).to_be_visible()
        expect(page.get_by_text(WORDS.stopped)).to_be_visible()
        assert len(server.requests) == 1
        say(page, "你好")
        _finished(page, "阳光")


def test_a_line_that_breaks_in_the_middle_of_a_reply_loses_nothing(site: Site, page: Page, shot: Shot) -> None:
    site.family()
    page.add_init_script(SOCKETS)
    with ModelServer(site.model_port) as server:
        page.goto(site.url)
        say(page, "讲一个很长的故事")
        expect(page.get_by_text("第3句。")).to_be_visible()
        page.context.set_offline(True)
        page.evaluate("window.sockets.at(-1).close()")
        assert server.hung_up.wait(20)
        expect(page.get_by_text("第3句。")).to_be_visible()
        expect(page.get_by_text(WORDS.calm.broken)).to_be_visible()
        expect(page.get_by_text(WORDS.calm.broken_under)).to_be_visible()
        dialog = page.get_by_test_id("stDialog")
        dialog.wait_for(state="attached")  # Streamlit's own, in English: after some seconds it is there,
        expect(dialog).to_be_hidden()  # and hidden
        shot(page, "offline")
        page.context.set_offline(False)
        expect(page.get_by_text(WORDS.stopped)).to_be_visible()  # by itself
        expect(page.get_by_text(WORDS.calm.broken)).to_be_hidden()
        expect(replies(page).get_by_text("第3句。")).to_be_visible()
        expect(page.locator("[class*='st-key-said-user']")).to_have_count(1)
        assert len(server.requests) == 1
        say(page, "你好")
        _finished(page, "阳光")
        assert [message["content"] for message in server.requests[-1]["messages"]][::2] == ["讲一个很长的故事", "你好"]


def test_stop_is_there_for_a_starter_too(site: Site, page: Page) -> None:
    site.family()
    with ModelServer(site.model_port, pause_s=0.5) as server:
        page.goto(site.url)
        page.get_by_role("button", name="你好", exact=True).click()
        expect(page.locator(".st-key-answer").get_by_text("天空是")).to_be_visible()  # a starter has these words too
        page.get_by_role("button", name=WORDS.stop).click()
        assert server.hung_up.wait(20)
        page.reload()
        expect(page.get_by_text("天空是")).to_be_visible()
        expect(page.get_by_text(WORDS.stopped)).to_be_visible()


def test_nothing_beside_a_growing_reply_cuts_it_off_or_lingers_under_it(site: Site, page: Page, shot: Shot) -> None:
    (child,) = site.family()
    store = site.store()
    here = None
    for number in range(6):
        question = exchange.say(store, child.id, here, f"第{number}问")
        here = question.conversation_id
        exchange.begin_reply(store, question, "嗨", "done")
    store.close()
    note, acts = page.get_by_role("button", name=WORDS.door.remind_ok), page.locator("[class*='st-key-acts-']")
    with ModelServer(site.model_port):
        page.goto(f"{site.url}/?c={here}")
        expect(note).to_be_visible()
        expect(acts).to_have_count(6)
        say(page, "讲一个很长的故事")
        expect(page.get_by_text("第3句。")).to_be_visible()
        expect(note).to_have_count(0)
        expect(acts).to_have_count(0)
        expect(page.locator("[class*='st-key-said-user']")).to_have_count(7)
        expect(replies(page)).to_have_count(6)
        shot(page, "streaming-in-a-long-chat")
        _stop(page)
        expect(note).to_be_visible()
        expect(acts).to_have_count(7)


def test_a_second_tap_on_a_page_that_is_slow_to_change_begins_no_second_chat(site: Site, page: Page) -> None:
    """The server is quick, and what it draws comes late: the first tap's reply grows, and the starter still stands there."""
    (child,) = site.family()
    coming: list[Callable[[], None]] = []
    slow: list[bool] = []

    def arrive() -> None:
        while coming and not slow:
            coming.pop(0)()

    def line(socket: WebSocketRoute) -> None:
        def keep(frame: bytes | str) -> None:
            coming.append(lambda: socket.send(frame))
            arrive()

        socket.connect_to_server().on_message(keep)

    page.route_web_socket(re.compile("_stcore/stream"), line)
    with ModelServer(site.model_port, pause_s=0.1) as server:
        page.goto(site.url)
        starter = page.get_by_role("button", name="你好", exact=True)
        expect(starter).to_be_visible()
        at_rest(page)
        slow.append(True)
        starter.click()
        wait_until(page, lambda: len(server.requests) == 1)
        starter.click()
        wait_until(page, server.hung_up.is_set)
        slow.clear()
        arrive()
        _finished(page, "阳光")
        expect(replies(page)).to_have_count(1)
    store = site.store()
    (chat,) = store.conversations(child.id)
    assert [(message.text, message.state) for message in store.messages(chat.id)] == [("你好", "done"), (SKY, "done")]
    store.close()


def test_another_chat_stops_a_reply_and_a_reload_asks_nothing_again(site: Site, page: Page) -> None:
    site.family()
    with ModelServer(site.model_port) as server:
        page.goto(site.url)
        say(page, "讲一个很长的故事")
        expect(page.get_by_text("第1句。")).to_be_visible()
        page.reload()
        expect(page.get_by_text("第1句。")).to_be_visible()
        assert len(server.requests) == 1
        page.get_by_role("button", name=WORDS.new_chat).click()
        expect(page.get_by_text(WORDS.greeting_under)).to_be_visible()
        say(page, "再讲一个很长的故事")
        # The first chat's sentences may stand here a while yet: what tells is that the second was asked for.
        wait_until(page, lambda: len(server.requests) == 2)
        expect(page.get_by_text("第1句。")).to_be_visible()
        server.hung_up.clear()
        page.get_by_role("button", name=WORDS.new_chat).click()
        expect(page.get_by_text(WORDS.greeting_under)).to_be_visible()
        assert server.hung_up.wait(20)
        assert len(server.requests) == 2


def test_a_sleeping_server_wakes_and_answers(site: Site, page: Page, shot: Shot) -> None:
    site.family()
    page.goto(site.url)
    page.get_by_role("button", name="你好", exact=True).click()
    expect(page.get_by_text(WORDS.waking)).to_be_visible()
    shot(page, "waking")
    page.wait_for_timeout(6_000)
    expect(page.get_by_text(WORDS.waking)).to_be_visible()
    with ModelServer(site.model_port) as server:
        _finished(page, "阳光")
        expect(page.get_by_text(WORDS.waking)).to_have_count(0)
        assert len(server.requests) == 1


def test_a_crisis_is_a_calm_card_and_an_alert(site: Site, page: Page, shot: Shot) -> None:
    site.family()
    with ModelServer(site.model_port):
        page.goto(site.url)
        say(page, "我不想活了")
        expect(page.get_by_text(WORDS.crisis_title)).to_be_visible()
        for line in WORDS.crisis_lines:
            expect(page.get_by_text(line.number, exact=True)).to_be_visible()
        shot(page, "crisis")
        open_parents(page)
        section(page, WORDS.home.alerts)
        expect(page.get_by_text(WORDS.categories["self_harm"])).to_be_visible()
        expect(page.get_by_text("不想活")).to_have_count(0)
        shot(page, "parents-alerts")
        section(page, WORDS.home.family)
        expect(page.get_by_text("3f9a12c4", exact=True)).to_be_visible()
        shot(page, "parents-family")
        page.get_by_role("button", name=WORDS.withdraw).click()
        expect(page.get_by_text(WORDS.home.no_consent)).to_be_visible()
        page.get_by_role("button", name=WORDS.pin.lock).click()
        expect(page.get_by_text(WORDS.withdrawn)).to_be_visible()
        shot(page, "withdrawn")
        expect(page.get_by_test_id("stChatInput")).to_have_count(0)
    store = site.store()
    assert [alert.category for alert in store.alerts()] == ["self_harm"]
    assert store.consent() is None
    store.close()


def test_a_phone_needs_no_sideways_scroll(site: Site, page: Page, shot: Shot) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    with ModelServer(site.model_port):
        page.goto(site.url)
        expect(page.get_by_text(WORDS.welcome_title)).to_be_visible()
        fits(page, "first run")
        shot(page, "phone-first-run")
        first_run(page)
        fits(page, "empty chat")
        shot(page, "phone-empty")
        page.get_by_role("button", name="为什么天空是蓝色的？", exact=True).click()
        _finished(page, "阳光")
        say(page, "我不想活了" + "啊" * 80 + "a" * 120)
        expect(page.get_by_text(WORDS.crisis_title)).to_be_visible()
        fits(page, "chat")
        shot(page, "phone-chat")


def test_english_is_chosen_by_the_profile(site: Site, page: Page, shot: Shot) -> None:
    page.goto(site.url)
    expect(page.get_by_text(WORDS.welcome_title)).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "zh")  # Streamlit's page says "en"
    store = site.store()
    store.first_run("Mum", "Gran 555", PIN_HASH, "en", Profile("Bean", "10-12", "en"))
    store.close()
    page.goto(site.url)
    expect(page.get_by_text("Hello, Bean!")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.get_by_text(sentences("en").ai_line)).to_be_visible()
    shot(page, "english")


def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = subprocess.run(
            [sys.executable, "-m", "ui", "--port", str(port)], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert told.returncode == 2
    assert re.fullmatch(rf"127\.0\.0\.1:{port} cannot be listened on .*--port\.\n", told.stderr)


def _is_kept(site: Site) -> None:
    """What `walk.first_run` has typed, as the page has stored it."""
    store = site.store()
    consent, (child,) = store.consent(), store.children()
    assert consent is not None
    assert (consent.guardian, consent.policy_version) == ("妈妈", POLICY_VERSION)
    assert abs(datetime.now(UTC) - consent.given_at) < timedelta(minutes=5)
    assert store.emergency() == "外婆 13800000000"
    assert store.household().language == "zh"
    assert check(store, PIN) == Opened()
    assert (child.nickname, child.age_band, child.language, child.avatar) == ("豆豆", "7-9", "zh", "star")
    store.close()


def _stop(page: Page) -> None:
    page.get_by_test_id("stChatInputStopButton").click()


def _finished(page: Page, text: str) -> None:
    expect(replies(page).filter(has_text=text).last).to_be_visible()


def _ours(url: str) -> bool:
    return url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))
