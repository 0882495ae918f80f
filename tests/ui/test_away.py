"""The guardian hears that the server is away. Run: `pytest tests/ui/test_away.py`."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.ui.databases import Database, family
from ui import away, exchange, outbox
from ui.locales import sentences
from ui.store import Store

WORDS = sentences("zh")
ASKED = datetime(2026, 11, 24, 12, tzinfo=UTC)

# apprise's e-mail plugin still imports a module that Python 3.13 has taken out; it does without it there.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def clock() -> list[datetime]:
    return [ASKED]


@pytest.fixture
def timed(database: Database, clock: list[datetime]) -> Iterator[Store]:
    opened = database.open(lambda: clock[0])
    yield opened
    opened.close()


def told(store: Store) -> list[str]:
    """What the channels hear now."""
    bodies: list[str] = []

    def keep(_: str, __: str, body: str) -> bool:
        bodies.append(body)
        return True

    away.tell(store)
    outbox.send_due(store, keep)
    return bodies


def test_a_question_that_waits_for_an_hour_is_told_once(timed: Store, clock: list[datetime]) -> None:
    child = family(timed)
    outbox.add_channel(timed, "json://127.0.0.1:9/")
    question = exchange.say(timed, child.id, None, "悄悄话")
    clock[0] += timedelta(minutes=59)
    assert (away.since(timed), told(timed)) == (None, [])
    clock[0] += timedelta(minutes=2)
    assert away.since(timed) == ASKED
    when = ASKED.astimezone().strftime("%Y-%m-%d %H:%M")
    assert told(timed) == [WORDS.sending.away.format(when=when)]
    exchange.say(timed, child.id, None, "还在吗")
    clock[0] += timedelta(hours=2)
    assert told(timed) == [], "once"
    assert timed.alerts() == [], "it is about no word of the child"
    for waiting in (question, exchange.left_behind(timed)[-1][1]):
        exchange.begin_reply(timed, waiting, "我在。", "done")
    assert (away.since(timed), told(timed)) == (None, [])
    exchange.say(timed, child.id, None, "你好")
    clock[0] += timedelta(hours=2)
    assert len(told(timed)) == 1, "another time"


def test_a_crisis_that_is_told_while_the_outage_is_being_sent_is_sent_too(timed: Store, clock: list[datetime]) -> None:
    """The server comes back with the message about its absence on the wire: that alert goes, and another one comes."""
    question = exchange.say(timed, family(timed).id, None, "我不想活了")
    outbox.add_channel(timed, "json://127.0.0.1:9/")
    clock[0] += timedelta(hours=2)
    away.tell(timed)
    bodies: list[str] = []

    def send(_: str, __: str, body: str) -> bool:
        bodies.append(body)
        if len(bodies) == 1:
            reply = exchange.begin_reply(timed, question)
            assert reply is not None
            away.tell(timed)
            exchange.end_reply(timed, reply, "我在。", "guarded", "crisis", "self_harm")
        return True

    outbox.send_due(timed, send)
    crisis = WORDS.sending.body.format(nickname="豆豆", category=WORDS.categories["self_harm"])
    assert bodies == [WORDS.sending.away.format(when=ASKED.astimezone().strftime("%Y-%m-%d %H:%M")), crisis]
    assert outbox.waiting(timed) == 0


def test_an_outage_is_told_for_as_long_as_it_lasts(timed: Store, clock: list[datetime]) -> None:
    question = exchange.say(timed, family(timed).id, None, "我不想活了")
    outbox.add_channel(timed, "json://127.0.0.1:9/")
    clock[0] += timedelta(hours=2)
    assert len(told(timed)) == 1
    clock[0] += timedelta(days=8)
    assert (away.since(timed), told(timed)) == (ASKED, []), "and sent once"
    assert [left.id for _, left in exchange.left_behind(timed)] == [question.id], "a server that comes back reads it"
    exchange.begin_reply(timed, question, "我在。", "guarded", "crisis", "self_harm")
    assert away.since(timed) is None


def test_without_a_consent_nobody_is_away(timed: Store, clock: list[datetime]) -> None:
    exchange.say(timed, family(timed).id, None, "你好")
    clock[0] += timedelta(hours=2)
    timed.withdraw()
    assert away.since(timed) is None


def test_a_question_taken_back_that_nobody_read_waits_too(timed: Store, clock: list[datetime]) -> None:
    question = exchange.say(timed, family(timed).id, None, "你好")
    exchange.begin_reply(timed, question, "", "stopped", judged=False)
    clock[0] += timedelta(hours=2)
    assert away.since(timed) == ASKED
