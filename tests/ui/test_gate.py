"""What the parents' area still asks whoever finds it open, shows and writes down, and in which language. Streamlit's own
runner, no browser.

Run: `pytest tests/ui/test_gate.py`.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert
from streamlit.runtime.media_file_manager import MediaFileManager
from streamlit.testing.v1 import AppTest

from tests.demo import free_port
from tests.ui.conftest import ROOT
from tests.ui.databases import family
from tests.ui.later import Later
from tests.ui.walk import PIN
from ui import exchange, forget, pin
from ui.companion import gate
from ui.companion.parents_chats import SHOWN
from ui.database import Gone, url_for
from ui.locales import sentences
from ui.records import Profile
from ui.store import Store
from ui.tables import ConversationRow

WORDS = sentences("zh")
OTHER = "8642"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(url_for(tmp_path / "family", None), tmp_path / "family" / "key")
    family(opened)
    yield opened
    opened.close()


@pytest.fixture
def app(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """This family's page, with the parents' area open, and no server to answer."""
    monkeypatch.setenv("MINDPAL_FAMILY", str(tmp_path / "family"))
    monkeypatch.setenv("MINDPAL_API_URL", f"http://127.0.0.1:{free_port()}/v1")
    for name in ("DATABASE_URL", "MINDPAL_KEY_FILE", "MINDPAL_API_KEY_FILE", "STT_URL"):
        monkeypatch.delenv(name, raising=False)
    opened = AppTest.from_file(str(ROOT / "ui" / "companion" / "app.py"), default_timeout=120)
    opened.query_params["p"] = "parents"
    opened.session_state[gate.OPENED] = (time.monotonic() + 600, store.household().pin_hash)
    return opened


def test_another_pin_is_set_by_whoever_knows_this_one(store: Store, app: AppTest) -> None:
    app.query_params["s"] = "family"
    app.run()
    _set(app, "9999", OTHER)
    assert [line.value for line in app.warning] == [WORDS.pin.wrong.format(left=4)]
    _set(app, "", OTHER)
    assert [line.value for line in app.warning] == [WORDS.pin.wrong.format(left=3)]
    assert isinstance(pin.check(store, PIN), pin.Opened), "it is as it was"
    _set(app, PIN, OTHER)
    assert isinstance(pin.check(store, OTHER), pin.Opened)
    app.run()
    assert _is_open(app), "this tab stays open"
    assert not app.exception


def test_a_child_is_deleted_by_whoever_knows_the_pin(store: Store, app: AppTest) -> None:
    (child,) = store.children()
    app.query_params["s"] = "data"
    app.run()
    for typed, left in (("9999", 4), ("", 3)):
        _delete_child(app, child.id, typed)
        assert [line.value for line in app.warning] == [WORDS.pin.wrong.format(left=left)]
    assert [found.id for found in store.children()] == [child.id]
    _delete_child(app, child.id, PIN)
    assert store.children() == []
    assert _is_open(app), "nothing else is gone"
    assert not app.exception


def test_five_wrong_tries_lock_it_here_as_at_the_door(store: Store, app: AppTest) -> None:
    app.query_params["s"] = "data"
    app.run()
    app.checkbox(key="sure").check().run()
    for _ in range(pin.FREE_TRIES):
        _delete(app, "9999")
    assert [line.value for line in app.warning] == [WORDS.pin.locked.format(minutes=1)]
    _delete(app, PIN)
    assert len(store.children()) == 1, "it is locked"
    pin.change(store, PIN)
    app.session_state[gate.OPENED] = (time.monotonic() + 600, store.household().pin_hash)
    app.run()
    _delete(app, PIN)
    assert store.children() == []
    assert not app.exception


def test_another_pin_shuts_what_this_one_opened(store: Store, app: AppTest) -> None:
    app.run()
    assert _is_open(app)
    pin.change(store, OTHER)
    app.run()
    assert not _is_open(app)
    assert not app.exception


def test_the_parents_area_speaks_the_guardians_language_and_the_childs_page_the_childs(
    store: Store, app: AppTest
) -> None:
    store.add_child(Profile("Bean", language="en"))
    store.audit("export")
    app.query_params["s"] = "data"
    app.run()
    assert (app.title[0].value, _log(app)) == (WORDS.for_parents, WORDS.data.acts["export"])
    english = sentences("en")
    app.segmented_control(key="language-zh").set_value("en").run()
    assert (app.title[0].value, _log(app)) == (english.for_parents, english.data.acts["export"])
    assert store.household().language == "en"
    # Chosen meanwhile in another tab: this one follows, and turns nothing back.
    store.set_language("zh")
    app.run()
    assert (app.title[0].value, store.household().language) == (WORDS.for_parents, "zh")
    store.set_language("en")
    del app.query_params["p"]
    app.query_params["k"] = str(store.children()[0].id)
    app.run()
    assert app.title[0].value == WORDS.greeting.format(nickname="豆豆")
    assert not app.exception


def _log(app: AppTest) -> str:
    return str(app.table[0].value.iloc[0, 1])


def test_the_emergency_contact_is_not_taken_away(store: Store, app: AppTest) -> None:
    app.query_params["s"] = "family"
    app.run()
    held = store.emergency()
    app.text_input(key="emergency-now").input(" ")
    app.number_input(key="retention").set_value(31)
    _save(app, "settings")
    assert [line.value for line in app.warning] == [WORDS.home.no_emergency]
    assert (store.emergency(), store.household().retention_days) == (held, 180)
    app.text_input(key="emergency-now").input("外公 13900000000")
    _save(app, "settings")
    assert not app.warning
    assert (store.emergency(), store.household().retention_days) == ("外公 13900000000", 31)
    assert not app.exception


def test_an_export_looks_at_the_door_when_it_is_pressed(
    store: Store, app: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made outside of the page's run, and so after the page has looked."""
    files: list[Callable[[], bytes]] = []
    add = MediaFileManager.add_deferred

    def keep(manager: MediaFileManager, file: Callable[[], bytes], *args: Any, **more: Any) -> str:
        files.append(file)
        return add(manager, file, *args, **more)

    monkeypatch.setattr(MediaFileManager, "add_deferred", keep)
    later = tmp_path / "later"
    later.write_text("0")
    monkeypatch.setattr(gate, "time", Later(later))
    app.query_params["s"] = "data"

    def drawn() -> Callable[[], bytes]:
        app.session_state[gate.OPENED] = (time.monotonic() + 600, store.household().pin_hash)
        files.clear()
        app.run()
        assert not app.exception
        return files[0]

    assert "豆豆".encode() in drawn()()
    lines = len(store.audited())

    file = drawn()
    pin.change(store, OTHER)
    _is_refused(file)

    file = drawn()
    later.write_text("601")
    _is_refused(file)
    later.write_text("0")

    file = drawn()
    forget.child(store, store.children()[0].id)
    _is_refused(file)
    assert [line.what for line in store.audited()][:-lines] == ["delete child"]


def test_each_look_at_a_chat_is_a_line_in_the_log(store: Store, app: AppTest) -> None:
    (child,) = store.children()
    question = exchange.say(store, child.id, None, "我的秘密")
    looks = 0

    def read(*, anew: bool) -> None:
        nonlocal looks
        app.selectbox(key=f"chat-{child.id}").set_value(question.conversation_id).run()
        assert "我的秘密" in [line.value for line in app.text]
        looks += anew
        assert [line.what for line in store.audited()] == ["transcript"] * looks

    app.query_params["s"] = "chats"
    app.run()
    read(anew=True)
    read(anew=False)
    exchange.say(store, child.id, question.conversation_id, "还有一个")
    read(anew=True)
    app.selectbox(key=f"chat-{child.id}").set_value(None).run()
    read(anew=True)
    app.button(key="lock").click().run()
    app.query_params["p"] = "parents"
    app.query_params["s"] = "chats"
    app.session_state[gate.OPENED] = (time.monotonic() + 600, store.household().pin_hash)
    app.session_state[f"chat-{child.id}"] = question.conversation_id  # a tab may bring its choice along
    app.run()
    read(anew=True)
    assert not app.exception


def test_every_chat_can_be_read_and_deleted_the_oldest_and_one_of_two_that_read_the_same(
    store: Store, app: AppTest
) -> None:
    (child,) = store.children()
    name, at = store.sealer.seal("给我讲一个故事"), store.now()
    row = {"child_id": child.id, "name": name, "created": at, "updated": at, "hidden": False}
    with store.writing() as session:
        session.execute(insert(ConversationRow), [row] * (SHOWN + 2))
    app.query_params["s"] = "chats"
    app.run()
    chosen = app.selectbox(key=f"chat-{child.id}")
    assert len(set(chosen.options)) == SHOWN
    app.button(key=f"chats-earlier-{child.id}").click().run()
    assert len(set(app.selectbox(key=f"chat-{child.id}").options)) == SHOWN + 2
    assert f"chats-earlier-{child.id}" not in [button.key for button in app.button]
    for oldest in (1, 2):
        app.selectbox(key=f"chat-{child.id}").set_value(oldest).run()
        app.button(key=f"delete-chat-{oldest}").click().run()
        assert store.conversation(child.id, oldest) is None
    assert not app.exception


def _is_refused(file: Callable[[], bytes]) -> None:
    with pytest.raises(Gone):
        file()


def _is_open(app: AppTest) -> bool:
    return app.title[0].value == WORDS.for_parents


def _set(app: AppTest, current: str, new: str) -> None:
    app.text_input(key="pin-now").input(current)
    app.text_input(key="new-pin").input(new)
    app.text_input(key="new-pin-2").input(new)
    _save(app, "new-pin")


def _save(app: AppTest, form: str) -> None:
    next(button for button in app.button if button.form_id == form).click().run()


def _delete_child(app: AppTest, child_id: int, typed: str) -> None:
    app.text_input(key=f"pin-delete-{child_id}").input(typed)
    next(button for button in app.button if button.form_id == f"delete-child-{child_id}").click().run()


def _delete(app: AppTest, typed: str) -> None:
    app.text_input(key="pin-delete").input(typed)
    next(button for button in app.button if button.label == WORDS.data.delete_all).click().run()
