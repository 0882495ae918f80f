"""What a child asks is kept: typed and spoken together, as the door is being shut, as somebody presses Stop, on a full disk.
Streamlit's own runner, no browser.

Run: `pytest tests/ui/test_asked.py`.
"""

import re
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import streamlit as st
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import ChatInput

from tests.demo import free_port
from tests.ui.conftest import ROOT
from tests.ui.databases import ALLOWED, family
from tests.ui.full_disk import full_disk
from tests.ui.model_server import HEARD, ModelServer
from ui import exchange, visits
from ui.client import settings_from
from ui.companion import gate
from ui.companion.unsaid import Unsaid
from ui.database import url_for
from ui.exchange import TYPED_CHARS
from ui.locales import sentences
from ui.records import Limits, Profile
from ui.store import Store
from ui.tables import Access, Language, MessageRow, Visit

WORDS = sentences("zh")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(url_for(tmp_path / "family", None), tmp_path / "family" / "key")
    yield opened
    opened.close()


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page of this family, with no server to answer."""
    monkeypatch.setenv("MINDPAL_FAMILY", str(tmp_path / "family"))
    monkeypatch.setenv("MINDPAL_API_URL", f"http://127.0.0.1:{free_port()}/v1")
    for name in ("DATABASE_URL", "MINDPAL_KEY_FILE", "MINDPAL_API_KEY_FILE", "STT_URL"):
        monkeypatch.delenv(name, raising=False)
    return _tab()


@pytest.fixture
def another(app: AppTest) -> AppTest:
    """Another tab."""
    return _tab()


def _tab() -> AppTest:
    return AppTest.from_file(str(ROOT / "ui" / "companion" / "app.py"), default_timeout=120)


@pytest.fixture
def speech(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """A server that turns speech into text."""
    with ModelServer() as server:
        monkeypatch.setenv("STT_URL", server.url)
        yield server


class Spoken(ChatInput):
    """A field into which somebody has spoken: Streamlit's runner types only."""

    @property
    def _widget_state(self) -> WidgetState:
        sent = super()._widget_state
        (recording,) = sent.chat_input_value.file_uploader_state.uploaded_file_info
        sent.chat_input_value.audio_file_info.CopyFrom(recording)
        sent.chat_input_value.ClearField("file_uploader_state")
        return sent


def _speak(app: AppTest, beside: str | None = None) -> None:
    field = app.chat_input[0]
    assert field.proto.accept_audio
    field.__class__ = Spoken
    field._files = [("1", "speech.wav", b"RIFF-a-recording", "audio/wav")]
    field.set_value(beside).run()
    assert not app.exception


@contextmanager
def _stopped() -> Iterator[None]:
    """Somebody presses Stop as soon as what was sent has come: the page is not drawn."""
    with pytest.MonkeyPatch.context() as pressed:
        pressed.setattr("ui.companion.look.dress", st.stop)
        yield


def _said(store: Store) -> list[list[str]]:
    """What the first child has said in each chat, the oldest chat first."""
    child = store.children()[0]
    return [[message.text for message in store.messages(chat.id)] for chat in store.conversations(child.id)[::-1]]


@pytest.mark.parametrize("hears", [True, False], ids=["heard", "deaf"])
def test_what_is_typed_beside_a_recording_is_not_lost(store: Store, hears: bool) -> None:
    child = family(store)
    with ModelServer() as server:
        speech = settings_from({"STT_URL": server.url if hears else f"http://127.0.0.1:{free_port()}/v1"})
        for typed in ("我不想活了", ""):
            said = Unsaid(child.id, None, typed, b"RIFF-a-recording")
            said.hear(store, speech)
            said.hear(store, speech)  # another run of the page
            assert said.text == "\n".join(part for part in (typed, HEARD if hears else "") if part)
            assert said.unheard is not hears
            assert (said.write(store, None) is None) is (not said.text)
        assert len(server.recordings) == (2 if hears else 0)
    assert _said(store) == ([[f"我不想活了\n{HEARD}"], [HEARD]] if hears else [["我不想活了"]])


def test_a_stop_in_the_same_moment_loses_no_word(store: Store, app: AppTest) -> None:
    child = family(store)
    app.run()
    with _stopped():
        app.chat_input[0].set_value("我不想活了").run()
    assert _said(store) == [["我不想活了"]], "written, though the tab may be closed now"
    app.run()
    assert not app.exception
    assert app.query_params["c"] == str(store.conversations(child.id)[0].id)
    assert [line.value for line in app.main.text] == ["我不想活了"]
    app.button(key="new").click().run()
    with _stopped():
        app.button(key="idea-auto_stories").click().run()
    assert _said(store) == [["我不想活了"], [WORDS.talk.story_ask]]
    app.run()
    assert [line.value for line in app.main.text] == [WORDS.talk.story_ask]
    app.run()
    assert _said(store) == [["我不想活了"], [WORDS.talk.story_ask]], "once"


def test_a_stop_in_the_same_moment_loses_no_recording(store: Store, app: AppTest, speech: ModelServer) -> None:
    family(store)
    app.run()
    with _stopped():
        _speak(app, "你好")
    assert (_said(store), speech.recordings) == ([], [])
    app.run()
    app.run()
    assert not app.exception
    assert (_said(store), len(speech.recordings)) == ([[f"你好\n{HEARD}"]], 1)


def test_what_was_spoken_at_length_is_kept_to_its_end(
    store: Store, app: AppTest, speech: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.ui.model_server.HEARD", told := f"{'好' * 2 * TYPED_CHARS}我不想活了")
    family(store)
    app.run()
    _speak(app)
    assert _said(store) == [[told]]


def test_no_recording_leaves_the_page_once_the_guardian_has_turned_voice_off(
    store: Store, app: AppTest, speech: ModelServer
) -> None:
    child = family(store)
    app.run()
    store.set_limits(child.id, replace(ALLOWED, voice=False))
    _speak(app, "我不想活了")
    assert speech.recordings == []
    assert _said(store) == [["我不想活了"]], "what was typed beside it is heard"
    assert [toast.value for toast in app.toast] == [WORDS.talk.unheard]
    app.run()
    assert not app.chat_input[0].proto.accept_audio


def test_everything_that_was_said_on_a_full_disk_is_said_in_order_once_there_is_room(
    store: Store, app: AppTest
) -> None:
    child, sibling = family(store), store.add_child(Profile("果果"))
    store.set_limits(sibling.id, ALLOWED)
    app.query_params["k"] = str(child.id)
    app.run()
    said = [WORDS.talk.story_ask, "我不想活了", "你在吗", "你在吗"]
    with full_disk():
        app.button(key="idea-auto_stories").click().run()
        for text in said[1:]:
            app.chat_input[0].set_value(text).run()
        assert not app.exception
        assert [line.value for line in app.text] == said
        assert f"**{WORDS.calm.title}**" in [line.value for line in app.markdown]
        app.query_params["k"] = str(sibling.id)
        app.run()
        assert not app.text, "a sibling does not read it"
    app.run()
    assert _said(store) == []
    app.query_params["k"] = str(child.id)
    app.run()
    assert not app.exception
    assert [line.value for line in app.main.text] == said, "in one chat: the guard reads them together"
    app.run()
    assert _said(store) == [said]


def test_what_was_said_after_the_consent_was_withdrawn_is_not_kept_and_not_said_later(
    store: Store, app: AppTest
) -> None:
    family(store)
    app.run()
    store.withdraw()
    app.chat_input[0].set_value("我的秘密").run()
    assert not app.exception
    assert WORDS.withdrawn in [line.value for line in app.markdown]
    store.consent_again("妈妈")
    app.run()
    assert len(app.chat_input) == 1
    assert _said(store) == []


def test_what_is_asked_as_the_door_shuts_is_kept(store: Store, app: AppTest) -> None:
    child = family(store)
    app.run()
    assert not app.exception
    app.chat_input[0].set_value("我不想活了")
    store.set_limits(child.id, replace(ALLOWED, minutes_a_day=0))
    app.run()
    assert not app.exception
    assert WORDS.door.enough_title in [title.value for title in app.title]
    assert WORDS.door.kept in [line.value for line in app.markdown]
    assert WORDS.urgent in [line.value for line in app.caption]
    app.run()
    (chat,) = store.conversations(child.id)
    assert [(found.text, found.state) for found in store.messages(chat.id)] == [("我不想活了", "waiting")]


def test_what_uses_up_the_days_time_is_kept_and_the_page_says_so_after_a_reload_too(
    store: Store, app: AppTest, another: AppTest
) -> None:
    child = family(store)
    store.set_limits(child.id, replace(ALLOWED, minutes_a_day=5))
    app.run()
    with store.writing() as session:  # of 300 seconds 260 are used: what is said now is the last act
        visit = session.get_one(Visit, visits.newest(store, child.id).id)
        visit.began, visit.seen = (store.now() - timedelta(seconds=before) for before in (300, 100))
    app.chat_input[0].set_value("我不想活了").run()
    assert not app.exception
    assert WORDS.door.enough_title in [title.value for title in app.title]
    assert WORDS.door.kept in [line.value for line in app.markdown]
    (chat,) = store.conversations(child.id)
    another.query_params["c"] = str(chat.id)
    another.run()
    assert WORDS.door.kept in [line.value for line in another.markdown]
    question = store.messages(chat.id)[0]
    assert (question.text, question.state) == ("我不想活了", "waiting")
    exchange.give_up(store, question)
    another.run()
    assert WORDS.door.kept not in [line.value for line in another.markdown]


@pytest.mark.parametrize(
    "limits", [replace(ALLOWED, minutes_a_day=0), replace(ALLOWED, quiet_to="23:59")], ids=["the day's time", "night"]
)
def test_a_crisis_stands_before_the_shut_door_and_nothing_calls_it_a_good_chat(
    store: Store, app: AppTest, another: AppTest, limits: Limits
) -> None:
    child = family(store)
    question = exchange.say(store, child.id, None, "我不想活了")
    reply = exchange.begin_reply(store, question, "我在。", "guarded", "crisis", "self_harm")
    assert reply is not None
    app.query_params["c"] = str(question.conversation_id)
    app.run()
    app.button(key=f"adult-{reply.id}").click().run()
    assert f"### {WORDS.adult.please}" in [line.value for line in app.markdown]
    store.set_limits(child.id, limits)
    app.run()
    assert not app.exception
    assert not app.chat_input
    assert [line.value for line in app.main.subheader] == [WORDS.crisis_title]
    assert not app.title
    drawn = [line.value for line in app.markdown]
    line = WORDS.crisis_lines[0]
    assert {"我在。", f"### {WORDS.adult.please}", f"**{line.number}**  {line.who}"} <= set(drawn)
    until = [told.format(until=limits.quiet_to) for told in (WORDS.door.night, WORDS.door.quiet)]
    assert not {WORDS.door.enough, *until} & set(drawn)
    assert WORDS.urgent in [line.value for line in app.caption]
    more = exchange.say(store, child.id, question.conversation_id, "你还在吗")
    app.run()
    assert [line.value for line in app.main.subheader] == [WORDS.crisis_title]
    assert WORDS.door.kept in [line.value for line in app.markdown]
    exchange.begin_reply(store, more, "在的。", "done")
    app.run()
    assert [line.value for line in app.main.subheader] == [WORDS.crisis_title]
    assert not app.title

    another.run()  # its address names no chat
    assert not another.exception
    assert (another.title[0].value == WORDS.door.over_title) is (limits.minutes_a_day == 0)
    with store.writing() as session:
        session.get_one(MessageRow, reply.id).created -= timedelta(hours=25)
    for tab in (app, another):
        tab.run()
        assert not tab.main.subheader
        assert (tab.title[0].value == WORDS.door.enough_title) is (limits.minutes_a_day == 0), "another day"


@pytest.mark.parametrize("limits", [ALLOWED, replace(ALLOWED, minutes_a_day=0)], ids=["open", "shut"])
def test_a_crisis_that_was_answered_while_the_page_was_closed_is_open_when_the_child_comes_back(
    store: Store, app: AppTest, another: AppTest, limits: Limits
) -> None:
    child = family(store)
    visits.act(store, child.id)
    with store.writing() as session:
        visit = session.get_one(Visit, visits.newest(store, child.id).id)
        visit.began = visit.seen = store.now() - timedelta(minutes=1)
    question = exchange.say(store, child.id, None, "我不想活了")
    exchange.begin_reply(store, question, "我在。", "guarded", "crisis", "self_harm")
    exchange.say(store, child.id, None, "你好")
    store.set_limits(child.id, limits)
    app.run()
    assert not app.exception
    assert app.query_params["c"] == str(question.conversation_id)
    assert [line.value for line in app.main.subheader] == [WORDS.crisis_title]
    if limits is ALLOWED:
        app.button(key="new").click().run()
        another.run()
        for tab in (app, another):
            assert "c" not in tab.query_params, "it has been seen"
            assert [title.value for title in tab.title] == [WORDS.greeting.format(nickname="豆豆")]


def test_a_shut_door_says_nothing_that_is_not_so(store: Store, app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    child, door = family(store), WORDS.door

    def drawn(limits: Limits) -> tuple[str, bool]:
        store.set_limits(child.id, limits)
        app.run()
        assert not app.exception
        assert WORDS.urgent in [line.value for line in app.caption]
        told = {door.night, door.quiet.format(until=limits.quiet_to), door.none} & {line.value for line in app.markdown}
        return app.title[0].value, bool(told)

    assert drawn(replace(ALLOWED, minutes_a_day=0)) == (door.none_title, True)
    monkeypatch.setattr("ui.limits.NIGHT", ("00:00", "00:00"))
    assert drawn(replace(ALLOWED, quiet_to="23:59")) == (door.quiet_title, True)


def test_what_is_put_away_stays_to_be_seen_as_far_as_the_family_has_set(store: Store, app: AppTest) -> None:
    question = exchange.say(store, family(store).id, None, "你好")
    exchange.begin_reply(store, question, "嗨", "done")
    app.query_params["c"] = str(question.conversation_id)
    told = {"full": WORDS.talk.hide_under, "alerts": WORDS.talk.hide_under_alerts}
    readers: list[Access] = ["full", "alerts"]
    for transcripts in readers:
        store.set_household(emergency="外婆", transcripts=transcripts)
        app.run()
        assert [line.value for line in app.caption if line.value in told.values()] == [told[transcripts]]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_an_emergency_has_its_own_numbers(store: Store, app: AppTest, language: Language) -> None:
    child, words = family(store), sentences(language)
    store.set_profile(child.id, Profile("豆豆", language=language))
    question = exchange.say(store, child.id, None, "厨房着火了")
    reply = exchange.begin_reply(store, question, "马上离开。", "guarded", "crisis", "emergency")
    assert reply is not None
    exchange.end_reply(store, reply, "马上离开。", "guarded", "crisis", "emergency")
    app.query_params["c"] = str(question.conversation_id)
    app.run()
    drawn = [line.value for line in app.markdown]
    assert [line.split("**")[1] for line in drawn if line.startswith("**1")] == ["119", "120", "110"]
    assert "马上离开。" in drawn
    assert words.crisis_adult not in drawn
    assert words.categories["emergency"]
    assert [line.value for line in app.main.subheader] == [words.emergency_title]
    app.button(key=f"adult-{reply.id}").click().run()
    assert not app.exception
    drawn = [line.value for line in app.markdown]
    first, then, last = (f"- {step}" for step in words.adult.emergency_advice)
    assert drawn.index(first) < drawn.index(then) < drawn.index(last), "out, the number, and only then the child"
    assert re.findall(r"1\d\d", then) == ["119", "120", "110"]
    assert not {f"- {step}" for step in words.adult.advice} & set(drawn)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_child_who_is_hurt_is_not_sent_to_the_parents(store: Store, app: AppTest, language: Language) -> None:
    child, words = family(store), sentences(language)
    store.set_profile(child.id, Profile("豆豆", language=language))
    question = exchange.say(store, child.id, None, "爸爸打我")
    assert exchange.begin_reply(store, question, "谢谢你告诉我。", "guarded", "crisis", "abuse") is not None
    app.query_params["c"] = str(question.conversation_id)
    app.run()
    drawn = [line.value for line in app.main.markdown]
    assert words.abuse_adult in drawn
    assert words.crisis_adult not in drawn
    assert not any(parents in words.abuse_adult for parents in ("爸爸", "妈妈", "parents"))
    assert [line.split("**")[1] for line in drawn if line.startswith("**1")] == ["12355", "12356", "110", "120"]


def test_two_runs_of_the_page_that_have_the_same_to_write_write_it_once(store: Store) -> None:
    child = family(store)
    held = Unsaid(child.id, None, "你好", greeting=1)
    with ThreadPoolExecutor(2) as runs:
        chats = list(runs.map(lambda _: held.write(store, None), range(2)))
    assert [[chat.id] * 2 for chat in store.conversations(child.id)] == [chats]
    assert _said(store) == [["你好"]]


def test_what_is_typed_into_a_chat_that_has_ended_elsewhere_is_said_in_it(store: Store, app: AppTest) -> None:
    child = family(store)
    here = exchange.say(store, child.id, None, "你好").conversation_id
    exchange.begin_reply(store, store.messages(here)[0], "嗨", "done")
    app.query_params["c"] = str(here)
    app.run()
    field = app.chat_input[0]
    exchange.begin_reply(store, exchange.say(store, child.id, here, "再见"), "再见！", "done", "goodbye")
    field.set_value("我不想活了").run()
    assert not app.exception
    assert [message.text for message in store.messages(here)] == ["你好", "嗨", "再见", "再见！", "我不想活了"]
    assert len(app.chat_input) == 1, "the chat goes on"
    assert WORDS.door.goodbye_under not in [line.value for line in app.caption]


def test_nothing_that_would_cut_a_reply_off_is_offered_while_one_is_due(store: Store, app: AppTest) -> None:
    child = family(store)
    question = exchange.say(store, child.id, None, "你好")
    here = question.conversation_id
    reply = exchange.begin_reply(store, question, "嗨", "done")
    assert reply is not None
    offered = {"remind-ok", f"up-{reply.id}", f"not-nice-{reply.id}"}
    app.query_params["c"] = str(here)
    app.run()
    assert offered <= {button.key for button in app.button}
    due = exchange.say(store, child.id, here, "讲个故事")  # nobody answers
    app.run()
    assert not app.exception
    assert not offered & {button.key for button in app.button}
    exchange.begin_reply(store, due, "从前", "done")
    app.run()
    assert offered <= {button.key for button in app.button}


def test_a_break_is_taken_by_the_child_who_wanted_it_and_by_no_sibling(store: Store, app: AppTest) -> None:
    first, second = family(store), store.add_child(Profile("果果"))
    store.set_limits(second.id, ALLOWED)
    app.query_params["k"] = str(first.id)
    app.run()
    with store.writing() as session:
        session.get_one(Visit, visits.newest(store, first.id).id).began -= timedelta(minutes=31)
    app.run()
    app.button(key="rest-yes").click().run()
    assert [title.value for title in app.title] == [WORDS.door.resting_title]
    app.query_params["k"] = str(second.id)
    app.run()
    assert [title.value for title in app.title] == [WORDS.greeting.format(nickname="果果")]
    app.query_params["k"] = str(first.id)
    app.run()
    app.button(key="rested").click().run()
    assert [title.value for title in app.title] == [WORDS.greeting.format(nickname="豆豆")]


def test_a_chat_of_which_only_what_was_put_aside_is_left_is_none(store: Store, app: AppTest) -> None:
    question = exchange.say(store, family(store).id, None, "你好")
    with store.writing() as session:
        session.get_one(MessageRow, question.id).state = "replaced"
    app.query_params["c"] = str(question.conversation_id)
    app.run()
    assert not app.exception
    assert [title.value for title in app.title] == [WORDS.greeting.format(nickname="豆豆")]


def test_what_was_said_at_length_is_said_in_other_words_to_its_end(store: Store, app: AppTest) -> None:
    question = exchange.say(store, family(store).id, None, f"{'好' * 2 * TYPED_CHARS}我不想活了")
    reply = exchange.begin_reply(store, question, "嗨", "done")
    assert reply is not None
    app.query_params["c"] = str(question.conversation_id)
    app.run()
    assert app.text_area(key=f"edit-text-{reply.id}").value == question.text
    next(button for button in app.button if button.form_id == f"edit-{reply.id}").click().run()
    assert not app.exception
    assert [found.text for found in store.messages(question.conversation_id)] == [question.text]


def test_other_words_that_come_behind_another_tab_are_said_once(store: Store, app: AppTest, another: AppTest) -> None:
    child = family(store)
    question = exchange.say(store, child.id, None, "你好")
    here = question.conversation_id
    reply = exchange.begin_reply(store, question, "嗨", "done")
    assert reply is not None
    for tab in (app, another):
        tab.query_params["c"] = str(here)
        tab.run()
        tab.text_area(key=f"edit-text-{reply.id}").input("我不想活了")
    exchange.say(store, child.id, here, "讲个故事")  # and a third one was quicker
    for tab in (app, another):
        next(button for button in tab.button if button.form_id == f"edit-{reply.id}").click().run()
        assert not tab.exception
        assert [found.text for found in store.messages(here)] == ["你好", "嗨", "讲个故事", "我不想活了"]
        assert [line.value for line in tab.main.text] == ["你好", "讲个故事", "我不想活了"]


def test_five_minutes_of_speech_fit_into_an_upload() -> None:
    config = tomllib.loads((ROOT / "ui" / "companion" / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    assert config["server"]["maxUploadSize"] * 1024**2 > 5 * 60 * 16_000 * 2


def test_a_database_that_is_away_at_the_first_visit_is_a_calm_card(
    app: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql+psycopg://u:secret@/none?host={tmp_path}")
    app.run()
    assert not app.exception
    assert not app.error
    assert f"**{WORDS.calm.title}**" in [line.value for line in app.markdown]
    monkeypatch.delenv("DATABASE_URL")
    app.run()
    assert [title.value for title in app.title] == [WORDS.welcome_title]


def test_whom_to_call_stands_beside_a_refusal(store: Store, app: AppTest) -> None:
    question = exchange.say(store, family(store).id, None, "你好")
    exchange.give_up(store, question)
    app.query_params["c"] = str(question.conversation_id)
    app.run()
    assert not app.exception
    assert [line.value for line in app.info] == [WORDS.refused]
    assert WORDS.urgent in [line.value for line in app.caption]


def test_a_guardian_sees_that_nobody_answers_and_the_clock(store: Store, app: AppTest) -> None:
    question = exchange.say(store, family(store).id, None, "悄悄话")
    with store.writing() as session:
        session.get_one(MessageRow, question.id).created -= timedelta(hours=2)
    app.query_params["p"] = "parents"
    app.query_params["s"] = "children"
    app.session_state[gate.OPENED] = gate.from_now(store.household().pin_hash)  # the PIN was given here
    app.run()
    assert not app.exception
    when = (question.created - timedelta(hours=2)).astimezone().strftime("%Y-%m-%d %H:%M")
    assert [line.value for line in app.warning] == [WORDS.sending.away.format(when=when)]
    clock = WORDS.home.clock.partition("{now}")[0]
    assert any(line.value.startswith(clock) for line in app.caption)


def test_a_button_that_is_pressed_after_the_consent_was_withdrawn_writes_nothing(store: Store, app: AppTest) -> None:
    """Its act comes before the page looks whether somebody still agrees."""
    child = family(store)
    question = exchange.say(store, child.id, None, "你好")
    reply = exchange.begin_reply(store, question, "嗨", "done")
    assert reply is not None

    def pressed(name: str) -> None:
        app.run()
        if name == "edit":
            app.text_area(key=f"edit-text-{reply.id}").input("我的秘密")
        button = next(each for each in app.button if name in (each.key, each.form_id.removesuffix(f"-{reply.id}")))
        store.withdraw()
        button.click().run()
        assert not app.exception
        assert WORDS.withdrawn in [line.value for line in app.markdown]
        store.consent_again("妈妈")

    pressed("mood-good")
    app.query_params["c"] = str(question.conversation_id)
    pressed(f"again-{reply.id}")
    pressed("edit")
    assert store.moods(child.id, question.created - timedelta(days=1)) == []
    assert [found.text for found in store.messages(question.conversation_id, replaced=True)] == ["你好", "嗨"]
