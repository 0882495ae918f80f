"""What the parents' area still asks whoever finds it open, shows and writes down, and in which language. Streamlit's own
runner, no browser.

Run: `pytest tests/ui/test_gate.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
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
from ui import exchange, forget, outbox, pin
from ui.companion import gate
from ui.companion.parents_chats import SHOWN
from ui.database import Gone, url_for
from ui.locales import sentences
from ui.records import Limits, Profile
from ui.store import RETENTION_DAYS, Store
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
    opened.session_state[gate.OPENED] = gate.from_now(store.household().pin_hash)
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
        _confirm(app, f"delete-child-{child.id}", typed)
        assert [line.value for line in app.warning] == [WORDS.pin.wrong.format(left=left)]
    assert [found.id for found in store.children()] == [child.id]
    _confirm(app, f"delete-child-{child.id}", PIN)
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
    app.session_state[gate.OPENED] = gate.from_now(store.household().pin_hash)
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


@pytest.mark.parametrize(
    ("awake_s", "by_the_wall_s", "open_"),
    [(599, 599, True), (601, 601, False), (10, 3600, False), (601, -3600, False), (10, -3600, True)],
    ids=["in time", "late", "the laptop slept", "late, and the clock set back", "the clock set back"],
)
def test_ten_minutes_go_on_while_a_laptop_sleeps_and_no_clock_lengthens_them(
    store: Store, app: AppTest, monkeypatch: pytest.MonkeyPatch, awake_s: float, by_the_wall_s: float, *, open_: bool
) -> None:
    clocks = SimpleNamespace(monotonic=lambda: 5000.0, time=lambda: 1.8e9)
    monkeypatch.setattr(gate, "time", clocks)
    app.session_state[gate.OPENED] = gate.from_now(store.household().pin_hash)
    clocks.monotonic, clocks.time = (lambda: 5000.0 + awake_s), (lambda: 1.8e9 + by_the_wall_s)
    app.run()
    assert (app.title[0].value == WORDS.for_parents) is open_
    assert not app.exception


def test_a_page_that_draws_itself_again_keeps_the_area_open_no_longer(
    store: Store, app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = SimpleNamespace(monotonic=lambda: 5000.0, time=lambda: 1.8e9)
    monkeypatch.setattr(gate, "time", clocks)
    app.session_state[gate.OPENED] = gate.from_now(store.household().pin_hash)
    for later_s, by_itself, open_ in ((590, False, True), (1180, True, True), (1200, True, False)):
        clocks.monotonic, clocks.time = (lambda s=later_s: 5000.0 + s), (lambda s=later_s: 1.8e9 + s)
        app.session_state["by-itself"] = by_itself
        app.run()
        assert _is_open(app) is open_, later_s
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
    _contact(app, " ")
    _save(app, "settings")
    assert [line.value for line in app.warning] == [WORDS.home.no_emergency]
    assert store.emergency() == held
    _contact(app, "外公 13900000000")
    _save(app, "settings")
    assert not app.warning
    assert store.emergency() == "外公 13900000000"
    assert not app.exception


def test_no_form_writes_back_what_another_device_has_changed_since_it_was_drawn(store: Store, app: AppTest) -> None:
    (child,) = store.children()
    app.query_params["s"] = "family"
    app.run()
    store.set_household(emergency="外婆", transcripts="alerts")
    _save(app, "settings")
    home = store.household()
    assert (home.transcripts, store.emergency()) == ("alerts", "外婆")
    store.set_household(emergency="外婆", transcripts="full")
    _contact(app, "外公 13900000000")
    _save(app, "settings")
    assert (store.household().transcripts, store.emergency()) == ("full", "外公 13900000000")
    assert app.radio[0].value == "full", "the page follows"

    app.segmented_control(key="section").set_value("children").run()
    stricter = Limits(20, "20:00", "07:30", 30, "恐怖片\n游戏", read_aloud=False, voice=False)
    store.set_limits(child.id, stricter)
    store.set_profile(child.id, Profile("果果", "10-12", "en", "frog"))
    _number(app, WORDS.home.break_minutes, 45)
    _save(app, f"limit-{child.id}")
    assert _limits(store) == replace(stricter, break_minutes=45)
    store.set_limits(child.id, replace(stricter, minutes_a_day=10, break_minutes=45))
    _number(app, WORDS.home.break_minutes, 15)
    _save(app, f"limit-{child.id}")
    assert _limits(store) == replace(stricter, minutes_a_day=10, break_minutes=15)

    store.set_profile(child.id, Profile("豆豆", "4-6", "zh", "bear"))
    _save(app, f"profile-{child.id}")
    (kept,) = store.children()
    assert (kept.nickname, kept.age_band, kept.language, kept.avatar) == ("豆豆", "4-6", "zh", "bear")
    assert not app.exception


@pytest.mark.parametrize("days", [RETENTION_DAYS, 31])
def test_who_agrees_reads_what_is_kept_and_for_how_long(store: Store, app: AppTest, days: int) -> None:
    store.set_retention(days)
    store.withdraw()
    app.query_params["s"] = "family"
    app.run()
    (facts,) = [line.value for line in app.markdown if WORDS.facts[0] in line.value]
    assert f"保留 {days} 天" in facts
    for told in ("孩子说的心情", "查看、导出和删除", "只写孩子的昵称和是哪一类提醒"):
        assert told in facts
    assert not app.exception


def test_an_export_promises_no_more_than_its_files_hold(store: Store, app: AppTest) -> None:
    app.query_params["s"] = "data"
    app.run()
    told = {WORDS.data.export_under, WORDS.data.export_under_alerts}
    assert [line.value for line in app.caption if line.value in told] == [WORDS.data.export_under]
    store.set_household(emergency="外婆", transcripts="alerts")
    app.run()
    assert [line.value for line in app.caption if line.value in told] == [WORDS.data.export_under_alerts]


def test_a_child_without_a_nickname_is_asked_for_that_alone(store: Store, app: AppTest) -> None:
    (child,) = store.children()
    app.query_params["s"] = "children"
    app.run()
    _save(app, "new-child")
    assert [line.value for line in app.warning] == [WORDS.home.no_nickname]
    next(field for field in app.text_input if field.value == child.nickname).input(" ")
    _save(app, f"profile-{child.id}")
    assert [line.value for line in app.warning] == [WORDS.home.no_nickname]
    assert [found.nickname for found in store.children()] == ["豆豆"]
    assert not app.exception


def test_fewer_days_delete_what_was_said_and_so_need_the_pin(store: Store, app: AppTest) -> None:
    app.query_params["s"] = "family"
    app.run()
    for typed, left in (("9999", 4), ("", 3)):
        _days(app, 31, typed)
        assert [line.value for line in app.warning] == [WORDS.pin.wrong.format(left=left)]
    assert store.household().retention_days == 180
    _days(app, 31, PIN)
    assert store.household().retention_days == 31
    _days(app, 365, "")
    assert store.household().retention_days == 365, "more of them delete nothing"
    assert [line.what for line in store.audited()] == ["days: 365", "days: 31"]
    assert not app.exception


def test_a_number_out_of_its_range_is_told_and_nothing_is_saved(store: Store, app: AppTest) -> None:
    (child,) = store.children()
    app.query_params["s"] = "children"
    app.run()
    _number(app, WORDS.home.minutes_a_day, 500)
    next(toggle for toggle in app.toggle if toggle.label == WORDS.home.voice).set_value(False)
    _save(app, f"limit-{child.id}")
    told = WORDS.home.not_within.format(what=WORDS.home.minutes_a_day, low=0, high=240)
    assert ([line.value for line in app.warning], list(app.toast), store.audited()) == ([told], [], [])
    _number(app, WORDS.home.minutes_a_day, 240)
    _save(app, f"limit-{child.id}")
    assert not app.warning
    assert [line.value for line in app.toast] == [WORDS.saved]
    assert (store.children()[0].minutes_a_day, store.children()[0].voice) == (240, False)
    app.segmented_control(key="section").set_value("family").run()
    for days in (0, 4000):
        _days(app, days, PIN)
        assert [line.value for line in app.warning] == [
            WORDS.home.not_within.format(what=WORDS.home.days, low=1, high=3650)
        ]
    assert store.household().retention_days == RETENTION_DAYS
    assert not app.exception


# As in test_outbox.py: a module of apprise's.
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_a_channel_is_removed_by_whoever_knows_the_pin(store: Store, app: AppTest) -> None:
    outbox.add_channel(store, "json://127.0.0.1:9/hook")
    app.query_params["s"] = "family"
    app.run()
    for typed, left in (("9999", 4), ("", 3)):
        _confirm(app, "remove-1", typed)
        assert [line.value for line in app.warning] == [WORDS.pin.wrong.format(left=left)]
    assert len(outbox.channels(store)) == 1
    _confirm(app, "remove-1", PIN)
    assert outbox.channels(store) == []
    assert [line.what for line in store.audited()] == ["channel removed", "channel added"]
    assert not app.exception


def test_wrong_tries_before_the_right_pin_are_told_once(store: Store, app: AppTest) -> None:
    del app.session_state[gate.OPENED]
    for _ in range(3):
        pin.check(store, "0000")  # in whichever browser
    app.run()
    _open(app)
    assert _is_open(app)
    assert [line.value for line in app.warning] == [WORDS.pin.missed.format(missed=3)]
    app.run()
    assert not app.warning
    app.button(key="lock").click().run()
    app.query_params["p"] = "parents"
    app.run()
    _open(app)
    assert _is_open(app)
    assert not app.warning, "there were none"
    app.segmented_control(key="section").set_value("family").run()  # where an open area asks once more
    _days(app, 31, "0000")
    _days(app, 31, PIN)
    assert [line.value for line in app.warning] == [WORDS.pin.missed.format(missed=1)]
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
        app.session_state[gate.OPENED] = gate.from_now(store.household().pin_hash)
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


def test_a_chat_with_its_alert_is_deleted_by_whoever_knows_the_pin(store: Store, app: AppTest) -> None:
    (child,) = store.children()
    question = exchange.say(store, child.id, None, "我不想活了")
    exchange.begin_reply(store, question, "我在。", "guarded", "crisis", "self_harm")
    app.query_params["s"] = "chats"
    app.run()
    app.selectbox(key=f"chat-{child.id}").set_value(question.conversation_id).run()
    form = f"delete-chat-{question.conversation_id}"
    for typed, left in (("9999", 4), ("", 3)):
        _confirm(app, form, typed)
        assert [line.value for line in app.warning] == [WORDS.pin.wrong.format(left=left)]
    assert [alert.category for alert in store.alerts()] == ["self_harm"]
    _confirm(app, form, PIN)
    assert (store.conversations(child.id, hidden=True), store.alerts()) == ([], [])
    assert not app.exception


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
    app.session_state[gate.OPENED] = gate.from_now(store.household().pin_hash)
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
        _confirm(app, f"delete-chat-{oldest}", PIN)
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


def _open(app: AppTest) -> None:
    app.text_input(key="pin-typed").input(PIN)
    _save(app, "pin")


def _days(app: AppTest, days: int, typed: str) -> None:
    _number(app, WORDS.home.days, days)
    app.text_input(key="pin-days").input(typed)
    _save(app, "days")


def _number(app: AppTest, what: str, typed: int) -> None:
    next(field for field in app.number_input if field.label.startswith(what)).set_value(typed)


def _contact(app: AppTest, typed: str) -> None:
    next(field for field in app.text_input if field.label == WORDS.first_run.emergency).input(typed)


def _limits(store: Store) -> Limits:
    (it,) = store.children()
    return Limits(
        it.minutes_a_day, it.quiet_from, it.quiet_to, it.break_minutes, it.blocked_topics, it.read_aloud, it.voice
    )


def _save(app: AppTest, form: str) -> None:
    next(button for button in app.button if button.form_id == form).click().run()


def _confirm(app: AppTest, form: str, typed: str) -> None:
    app.text_input(key=f"pin-{form}").input(typed)
    _save(app, form)


def _delete(app: AppTest, typed: str) -> None:
    app.text_input(key="pin-delete").input(typed)
    next(button for button in app.button if button.label == WORDS.data.delete_all).click().run()
