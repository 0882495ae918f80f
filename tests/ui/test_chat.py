"""What a child can do in a chat, in a real browser. Run: `pytest tests/ui/test_chat.py`."""

import threading
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, FilePayload, Page, Request, expect

from tests.ui.conftest import Site
from tests.ui.model_server import HEARD, ModelServer
from tests.ui.walk import PIN, VOICES, accessible, escape, open_parents, replies, say, section, tab_to, wait_until
from ui import exchange
from ui.locales import sentences

WORDS = sentences("zh")
Shot = Callable[[Page, str], None]

pytestmark = [pytest.mark.timeout(300), pytest.mark.end_to_end]


def test_a_reply_is_tried_again_edited_and_judged(site: Site, page: Page, shot: Shot) -> None:
    (child,) = site.family()
    with ModelServer(site.model_port) as server:
        page.goto(site.url)
        say(page, "为什么天空是蓝色的？")
        expect(replies(page)).to_have_count(1)
        page.get_by_role("button", name=WORDS.talk.up, exact=True).click()
        # Two presses that come at once have no order.
        expect(page.get_by_test_id("stBaseButton-secondary").filter(has_text=WORDS.talk.up).first).to_be_visible()
        page.get_by_role("button", name=WORDS.talk.not_nice).click()
        expect(page.get_by_text(WORDS.talk.told)).to_be_visible()
        page.get_by_role("button", name=WORDS.talk.again).click()
        expect(page.get_by_text(WORDS.talk.told)).to_have_count(0)
        expect(replies(page)).to_have_count(1)
        page.get_by_role("button", name=WORDS.talk.edit).click()
        page.get_by_label(WORDS.talk.edit_title).fill("为什么海是蓝色的？")
        page.get_by_role("button", name=WORDS.talk.send, exact=True).click()
        expect(page.locator("[class*='st-key-said-user']").get_by_text("为什么海是蓝色的？")).to_be_visible()
        expect(replies(page)).to_have_count(1)
        assert [len(request["messages"]) for request in server.requests] == [1, 1, 1]
        say(page, "说点很怪的")
        page.get_by_role("button", name=WORDS.talk.why).click()
        expect(page.get_by_text(WORDS.talk.why_guarded)).to_be_visible()
        expect(page.get_by_text(WORDS.urgent)).to_be_visible()
        shot(page, "why")
        page.keyboard.press("Escape")
        # What was stopped wrongly can be complained of, too.
        page.get_by_role("button", name=WORDS.talk.not_nice).last.click()
        expect(page.get_by_text(WORDS.talk.told)).to_be_visible()
    store = site.store()
    assert [alert.category for alert in store.alerts(child.id)] == ["not_nice", "not_nice"]
    store.close()


def test_history_is_found_renamed_and_put_away(site: Site, page: Page, shot: Shot) -> None:
    (child,) = site.family()
    store = site.store()
    rabbit = exchange.say(store, child.id, None, "讲一个小兔子的故事")
    exchange.give_up(store, rabbit)
    exchange.give_up(store, exchange.say(store, child.id, None, "一加一等于几"))
    page.goto(f"{site.url}/?k={child.id}&c={rabbit.conversation_id}")
    history = page.locator(".st-key-history")
    expect(history.get_by_role("button")).to_have_count(2)
    page.get_by_label(WORDS.talk.search).fill("兔子")
    page.get_by_label(WORDS.talk.search).press("Enter")
    expect(history.get_by_role("button")).to_have_count(1)
    page.get_by_role("button", name=WORDS.talk.manage).click()
    page.get_by_label(WORDS.talk.rename).fill("睡前故事")
    shot(page, "manage")
    page.get_by_role("button", name=WORDS.save, exact=True).click()
    expect(history.get_by_text("睡前故事")).to_be_visible()
    page.get_by_role("button", name=WORDS.talk.hide).click()
    expect(page.get_by_text(WORDS.greeting_under)).to_be_visible()
    expect(page.get_by_text("睡前故事")).to_have_count(0)
    assert [found.hidden for found in store.conversations(child.id, hidden=True)].count(True) == 1
    store.close()


def test_a_mood_an_idea_and_what_adults_can_see(site: Site, page: Page, shot: Shot) -> None:
    (child,) = site.family()
    store = site.store()
    store.set_household(emergency="外婆", transcripts="alerts")
    with ModelServer(site.model_port):
        page.goto(site.url)
        expect(page.get_by_text(WORDS.ai_line_alerts)).to_be_visible()
        page.get_by_role("button", name=WORDS.talk.moods["good"], exact=True).click()
        expect(page.get_by_text(WORDS.talk.mood_thanks)).to_be_visible()
        assert [found.mood for found in store.moods(child.id, store.now().replace(year=2000))] == ["good"]
        page.get_by_role("button", name=WORDS.talk.story, exact=True).click()
        expect(replies(page)).to_have_count(1)
        open_parents(page)
        section(page, WORDS.chats.title)
        expect(page.get_by_text(WORDS.chats.alerts_only)).to_be_visible()
    store.close()


def test_a_crisis_is_shown_to_an_adult_and_read_with_its_passage(site: Site, page: Page, shot: Shot) -> None:
    site.family()
    with ModelServer(site.model_port):
        page.goto(site.url)
        say(page, "我不想活了")
        page.get_by_role("button", name=WORDS.adult.show).click()
        expect(page.get_by_text(WORDS.adult.please)).to_be_visible()
        expect(page.get_by_text("外婆 13800000000")).to_be_visible()
        shot(page, "adult")
        escape(page)
        open_parents(page)
        expect(page.get_by_text(WORDS.overview.time_chart)).to_be_visible()
        shot(page, "parents-overview")
        section(page, WORDS.home.alerts)
        page.get_by_text(WORDS.chats.passage).click()
        expect(page.get_by_text("我不想活了")).to_be_visible()
        section(page, WORDS.chats.title)
        page.get_by_test_id("stSelectbox").click()
        page.get_by_role("option").click()
        expect(page.get_by_test_id("stChatMessage").get_by_text("我不想活了")).to_be_visible()
        section(page, WORDS.data.title)
        log = page.get_by_test_id("stTable")
        for deed in ("passage", "transcript"):
            expect(log.get_by_text(WORDS.data.acts[deed], exact=True)).to_have_count(1)
        shot(page, "parents-data")
        with page.expect_download() as download:
            page.get_by_role("button", name=WORDS.data.export.format(form="HTML")).click()
        assert "我不想活了" in download.value.path().read_text("utf-8")
        page.get_by_text(WORDS.data.sure).click()
        page.get_by_label(WORDS.pin.current).fill(PIN)
        page.get_by_role("button", name=WORDS.data.delete_all).click()
        expect(page.get_by_text(WORDS.welcome_title)).to_be_visible()
    store = site.store()
    assert [line.what for line in store.audited()] == ["delete all", "export", "transcript", "passage"]
    store.close()


def test_a_reply_is_read_aloud_sentence_by_sentence_by_a_voice_of_the_device_only(site: Site, page: Page) -> None:
    site.family()
    page.add_init_script(VOICES)
    with ModelServer(site.model_port):
        page.goto(site.url)
        say(page, "为什么天空是蓝色的？")
        read = page.get_by_role("button", name=WORDS.talk.read)
        expect(page.get_by_text(WORDS.talk.read)).to_have_count(1)
        expect(read).to_have_count(0)  # it is there, and hidden: nothing here speaks Mandarin but a voice far away
        page.evaluate("window.give('Mandarin', 'zh_CN')")
        read.click()
        page.evaluate("window.current.onend()")
        stop = page.get_by_role("button", name=f"■ {WORDS.talk.read_stop}")
        assert page.evaluate("window.said") == [
            ["天空是蓝色的，因为阳光穿过空气时，蓝光被散射得最多。", "Mandarin"],
            ["公式：", "Mandarin"],
        ]
        page.get_by_role("button", name=WORDS.talk.up, exact=True).click()  # the page is drawn anew meanwhile
        expect(page.locator("[class*='st-key-up-'] button[kind=secondary]")).to_be_visible()
        stop.click()
        expect(read).to_be_visible()
        assert page.evaluate("window.said.at(-1)") == "cancel"
        assert len(page.evaluate("window.said")) == 3


def test_a_whole_chat_by_the_keyboard_alone(site: Site, page: Page) -> None:
    """Mood, question, Stop, another question, try again, the menu; and what has the focus can be seen each time."""
    (child,) = site.family()
    keys, field = page.keyboard, page.get_by_test_id("stChatInputTextArea")
    with ModelServer(site.model_port) as server:
        page.goto(site.url)
        tab_to(page, page.get_by_role("button", name=WORDS.talk.moods["good"], exact=True))
        keys.press("Enter")
        expect(page.get_by_text(WORDS.talk.mood_thanks)).to_be_visible()
        tab_to(page, field)
        keys.type("讲一个很长的故事")
        keys.press("Enter")
        expect(page.get_by_text("第1句。")).to_be_visible()
        tab_to(page, page.get_by_test_id("stChatInputStopButton"))
        keys.press("Enter")
        assert server.hung_up.wait(20)
        expect(page.get_by_text(WORDS.stopped)).to_be_visible()
        tab_to(page, field)
        keys.type("你好")
        keys.press("Enter")
        expect(replies(page)).to_have_count(2)
        tab_to(page, page.get_by_role("button", name=WORDS.talk.again))
        keys.press("Enter")
        wait_until(page, lambda: len(server.requests) == 3)
        expect(replies(page)).to_have_count(2)
        assert [request["messages"][-1]["content"] for request in server.requests] == [
            "讲一个很长的故事",
            "你好",
            "你好",
        ]
        tab_to(page, page.get_by_role("button", name=WORDS.talk.manage))
        keys.press("Enter")
        tab_to(page, page.get_by_label(WORDS.talk.rename))
        keys.press("Control+A")
        keys.type("故事")
        keys.press("Enter")
        expect(page.locator(".st-key-history").get_by_text("故事", exact=True)).to_be_visible()
    store = site.store()
    assert [found.mood for found in store.moods(child.id, store.now().replace(year=2000))] == ["good"]
    assert [found.title for found in store.conversations(child.id)] == ["故事"]
    store.close()


class TestSpeaking:
    """With a server that turns speech into text. The browser's microphone is Chromium's own false one."""

    @pytest.fixture
    def more_environment(self, tmp_path: object) -> dict[str, str]:
        self.heard = threading.Event()
        self.speech = ModelServer(together=self.heard)
        return {"STT_URL": self.speech.url}

    def test_what_is_said_aloud_is_asked(self, site: Site, page: Page, shot: Shot) -> None:
        site.family()
        sent: list[Request] = []
        page.on("request", lambda request: sent.append(request) if "/upload_file/" in request.url else None)
        self.heard.set()
        with ModelServer(site.model_port) as server, self.speech as speech:
            _speak(site, page, shot)
            expect(replies(page)).to_have_count(1)
            assert server.requests[0]["messages"][-1]["content"] == HEARD
            assert b"RIFF" in speech.recordings[0]
            # More than a minute of speech, put where this recording was.
            recording = next(request for request in sent if request.method == "PUT")
            longer = FilePayload(name="speech.wav", mimeType="audio/wav", buffer=bytes(2 * 1024**2))
            token = {name: value for name, value in recording.all_headers().items() if name.startswith("x-")}
            put = page.request.put(recording.url, multipart={"file": longer}, headers=token)
            assert put.ok, put.status

    def test_a_press_of_stop_while_it_listens_loses_nothing(self, site: Site, page: Page, shot: Shot) -> None:
        site.family()
        with ModelServer(site.model_port) as server, self.speech as speech:
            _speak(site, page, shot)
            wait_until(page, lambda: len(speech.recordings) == 1)
            page.get_by_test_id("stChatInputStopButton").click()
            self.heard.set()
            expect(page.locator("[class*='st-key-said-user']").get_by_text(HEARD)).to_be_visible()  # by itself
            expect(replies(page)).to_have_count(1)
            assert (len(speech.recordings), len(server.requests)) == (1, 1)


def _speak(site: Site, page: Page, shot: Shot) -> None:
    page.context.grant_permissions(["microphone"], origin=site.url)
    page.goto(site.url)
    bar = page.get_by_test_id("stChatInput")
    bar.get_by_role("button").first.click()
    page.wait_for_timeout(1500)
    shot(page, "speaking")
    bar.get_by_role("button").last.click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(site: Site, browser: Browser, shot: Shot, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, locale="zh-CN", color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    with ModelServer(site.model_port):
        page.goto(site.url)
        expect(page.get_by_label(WORDS.guardian_name)).to_be_visible()
        accessible(page, "first run")
        site.family()
        page.goto(site.url)
        expect(page.get_by_role("button", name=WORDS.door.remind_ok)).to_be_visible()
        accessible(page, "empty chat")
        shot(page, f"phone-{scheme}-empty")
        say(page, "为什么天空是蓝色的？")
        expect(page.get_by_role("button", name=WORDS.talk.again)).to_be_visible()
        accessible(page, "chat")
        shot(page, f"phone-{scheme}-chat")
        page.get_by_role("button", name=WORDS.talk.manage).click()
        expect(page.get_by_label(WORDS.talk.rename)).to_be_visible()
        accessible(page, "an opened menu")
        shot(page, f"phone-{scheme}-manage")
        page.goto(f"{site.url}/?p=parents&s=family")
        page.get_by_label(WORDS.pin.field).fill("2468")
        page.get_by_role("button", name=WORDS.pin.open, exact=True).click()
        expect(page.get_by_text(WORDS.sending.channels)).to_be_visible()
        accessible(page, "parents")
        shot(page, f"phone-{scheme}-parents")
        section(page, WORDS.data.title)
        expect(page.get_by_text(WORDS.data.log_under)).to_be_visible()
        accessible(page, "data")
        shot(page, f"phone-{scheme}-data")
    context.close()
