"""What is done while no page is open. Run: `pytest tests/ui/test_chores.py`."""

from datetime import UTC, datetime, timedelta

from tests.demo import free_port
from tests.ui.databases import Database, family
from tests.ui.model_server import ModelServer
from ui import chores
from ui.client import settings_from


def test_a_crisis_said_to_a_sleeping_server_reaches_the_guardian_though_the_page_is_closed(database: Database) -> None:
    clock = [datetime.now(UTC)]
    store = database.open(lambda: clock[0])
    child = family(store)
    port = free_port()
    settings = settings_from({"MINDPAL_API_URL": f"http://127.0.0.1:{port}/v1"})
    for words in ("你好", "[400]", "我不想活了"):
        store.say(child.id, None, words)
    spent = store.seconds_since(child.id, clock[0] - timedelta(days=1))
    clock[0] += timedelta(minutes=3)
    assert not chores.answer_left(store, settings), "the server sleeps"
    with ModelServer(port) as server:
        while chores.answer_left(store, settings):
            pass
        assert len(server.requests) == 3
    assert [alert.category for alert in store.alerts()] == ["self_harm"]
    assert store.left_behind() == []
    assert store.seconds_since(child.id, clock[0] - timedelta(days=1)) == spent, "nobody was there"
    store.close()


def test_nobody_is_answered_without_a_consent(database: Database) -> None:
    clock = [datetime.now(UTC)]
    store = database.open(lambda: clock[0])
    store.say(family(store).id, None, "你好")
    clock[0] += timedelta(minutes=3)
    store.withdraw()
    with ModelServer() as server:
        assert not chores.answer_left(store, settings_from({"MINDPAL_API_URL": server.url}))
        assert server.requests == []
    store.close()
