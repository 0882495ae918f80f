"""What is done while no page is open. Run: `pytest tests/ui/test_chores.py`."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler

import pytest

from tests.demo import free_port
from tests.ui.databases import ALLOWED, Database, family
from tests.ui.model_server import SKY, ModelServer
from tests.ui.serving import Serving, respond
from ui import chores, exchange, outbox, visits
from ui.client import settings_from
from ui.limits import rule
from ui.records import Limits
from ui.store import Store


def test_a_crisis_said_to_a_sleeping_server_reaches_the_guardian_though_the_page_is_closed(database: Database) -> None:
    clock = [datetime.now(UTC)]
    store = database.open(lambda: clock[0])
    child = family(store)
    port = free_port()
    settings = settings_from({"MINDPAL_API_URL": f"http://127.0.0.1:{port}/v1"})
    for words in ("你好", "[400]", "我不想活了"):
        exchange.say(store, child.id, None, words)
    spent = visits.seconds_since(store, child.id, clock[0] - timedelta(days=1))
    clock[0] += timedelta(minutes=3)
    chores.answer_left(store, settings)
    assert len(exchange.left_behind(store)) == 3, "the server sleeps"
    with ModelServer(port) as server:
        chores.answer_left(store, settings)
        assert len(server.requests) == 3
    assert [alert.category for alert in store.alerts()] == ["self_harm"]
    assert exchange.left_behind(store) == []
    assert visits.seconds_since(store, child.id, clock[0] - timedelta(days=1)) == spent, "nobody was there"
    store.close()


@pytest.mark.parametrize(
    "limits", [replace(ALLOWED, minutes_a_day=0), replace(ALLOWED, quiet_to="23:59")], ids=["the day's time", "night"]
)
def test_a_crisis_is_heard_though_the_door_is_shut(store: Store, limits: Limits) -> None:
    noon = datetime.now().astimezone().replace(hour=12)
    store.now = lambda: noon
    child = family(store)
    crisis, other = (exchange.say(store, child.id, None, words) for words in ("我不想活了", "为什么天空是蓝色的？"))
    store.set_limits(child.id, limits)
    shut = store.child(child.id)
    assert shut is not None
    assert rule(store, shut).door != "open"
    store.now = lambda: noon + timedelta(minutes=3)
    with ModelServer() as server:
        chores.answer_left(store, settings_from({"MINDPAL_API_URL": server.url}))
    assert [alert.category for alert in store.alerts()] == ["self_harm"]
    assert [message.action for message in store.messages(crisis.conversation_id)] == [None, "crisis"]
    kept = store.messages(other.conversation_id)[-1]
    assert (kept.text, kept.state) == (SKY, "done"), "read when the door opens again"
    assert visits.since(store, child.id, noon - timedelta(days=1)) == [], "nobody was there"


def test_a_question_on_which_the_server_fails_holds_up_no_other(store: Store) -> None:
    child = family(store)
    for words in ("[503]", "我不想活了"):
        exchange.say(store, child.id, None, words)
    later = datetime.now(UTC) + timedelta(minutes=3)
    store.now = lambda: later
    with ModelServer() as server:
        chores.answer_left(store, settings_from({"MINDPAL_API_URL": server.url}))
    assert [alert.category for alert in store.alerts()] == ["self_harm"]
    assert [message.text for _, message in exchange.left_behind(store)] == ["[503]"], "it is asked again"


def test_nobody_is_answered_without_a_consent(database: Database) -> None:
    clock = [datetime.now(UTC)]
    store = database.open(lambda: clock[0])
    exchange.say(store, family(store).id, None, "你好")
    clock[0] += timedelta(minutes=3)
    store.withdraw()
    with ModelServer() as server:
        chores.answer_left(store, settings_from({"MINDPAL_API_URL": server.url}))
        assert server.requests == []
    store.close()


def test_a_crisis_that_the_child_wrote_anew_before_anybody_read_it_is_heard(store: Store) -> None:
    child = family(store)
    question = exchange.say(store, child.id, None, "我不想活了")
    assert exchange.begin_reply(store, question, "", "stopped", judged=False) is not None
    exchange.ask_again(store, question, "你好")
    with ModelServer() as server:
        for _ in range(2):
            chores.answer_left(store, settings_from({"MINDPAL_API_URL": server.url}))
        assert len(server.requests) == 1, "the new words have a page that takes care of them"
    assert [alert.category for alert in store.alerts()] == ["self_harm"]


def test_what_the_child_took_back_and_was_harmless_stays_as_it_was(store: Store) -> None:
    child = family(store)
    question = exchange.say(store, child.id, None, "为什么天空是蓝色的？")
    assert exchange.begin_reply(store, question, "", "stopped", judged=False) is not None
    with ModelServer() as server:
        for _ in range(2):
            chores.answer_left(store, settings_from({"MINDPAL_API_URL": server.url}))
        assert len(server.requests) == 1
    said = store.messages(question.conversation_id)
    assert [(message.text, message.state) for message in said] == [("为什么天空是蓝色的？", "done"), ("", "stopped")]
    assert store.alerts() == []


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_an_alert_does_not_wait_behind_a_question(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chores, "LEFT_S", 0.1)
    monkeypatch.setattr(chores, "SEND_S", 0.1)
    child = family(store)
    exchange.say(store, child.id, None, "你好")
    later = datetime.now(UTC) + timedelta(minutes=3)
    store.now = lambda: later
    asked, arrived, released = threading.Event(), threading.Event(), threading.Event()

    def hang(_: BaseHTTPRequestHandler, __: bytes) -> None:
        asked.set()
        released.wait(90)

    def keep(request: BaseHTTPRequestHandler, _: bytes) -> None:
        arrived.set()
        respond(request, 200)

    with Serving(hang) as hung, Serving(keep) as webhook:
        outbox.add_channel(store, f"json://127.0.0.1:{webhook.port}/")
        before = set(threading.enumerate())
        stop = chores.start(store, settings_from({"MINDPAL_API_URL": f"http://127.0.0.1:{hung.port}/v1"}))
        started = [thread for thread in threading.enumerate() if thread not in before]
        assert asked.wait(60)
        exchange.begin_reply(
            store, exchange.say(store, child.id, None, "我不想活了"), "我在。", "guarded", "crisis", "self_harm"
        )
        heard = arrived.wait(60)
        stop.set()
        released.set()
        for thread in started:
            thread.join(60)
    assert heard
