"""What a child asks is kept: typed and spoken together, and as the door is being shut. Streamlit's own runner, no browser.

Run: `pytest tests/ui/test_asked.py`.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from streamlit.proto.Common_pb2 import FileURLs
from streamlit.runtime.uploaded_file_manager import UploadedFile, UploadedFileRec
from streamlit.testing.v1 import AppTest
from streamlit.typing import ChatInputValue

from tests.demo import free_port
from tests.ui.conftest import ROOT
from tests.ui.databases import ALLOWED, family
from tests.ui.model_server import HEARD, ModelServer
from ui import exchange
from ui.client import settings_from
from ui.companion import gate
from ui.companion.chat import asked
from ui.database import url_for
from ui.locales import sentences
from ui.store import Store
from ui.tables import MessageRow

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
    return AppTest.from_file(str(ROOT / "ui" / "companion" / "app.py"), default_timeout=120)


@pytest.mark.parametrize("hears", [True, False], ids=["heard", "deaf"])
def test_what_is_typed_beside_a_recording_is_not_lost(store: Store, hears: bool) -> None:
    recording = UploadedFile(UploadedFileRec("1", "speech.wav", "audio/wav", b"RIFF-a-recording"), FileURLs())
    child = family(store)
    with ModelServer() as server:
        speech = settings_from({"STT_URL": server.url if hears else f"http://127.0.0.1:{free_port()}/v1"})
        assert asked(speech, child, ChatInputValue("我不想活了 ", audio=recording, _include_audio=True), WORDS) == (
            f"我不想活了\n{HEARD}" if hears else "我不想活了"
        )
        assert asked(speech, child, ChatInputValue("", audio=recording, _include_audio=True), WORDS) == (
            HEARD if hears else None
        )
        assert asked(speech, child, " ", WORDS) is None


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
    app.session_state[gate.OPENED] = (time.monotonic() + 600, store.household().pin_hash)  # the PIN was given here
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
