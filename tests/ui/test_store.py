"""The store on a real SQLite file and a real PostgreSQL server. Run: `pytest tests/ui/test_store.py`."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError

from tests.ui.databases import ALLOWED, Database, family
from ui import exchange, forget, outbox, visits
from ui.database import Gone
from ui.records import Profile
from ui.sealing import Sealer
from ui.store import Store
from ui.tables import Channel, ConversationRow, Numbered


def test_a_deleted_childs_or_chats_page_is_told_so_and_writes_into_no_other(store: Store, child_id: int) -> None:
    sibling = store.add_child(Profile("果果"))
    question = exchange.say(store, child_id, None, "豆豆的话")
    reply = exchange.begin_reply(store, question)
    assert reply is not None
    forget.child(store, child_id)
    # These come where the deleted rows were, under numbers of their own.
    other = exchange.say(store, sibling.id, None, "果果的话")
    assert exchange.begin_reply(store, question) is None
    answer = exchange.begin_reply(store, other)
    assert answer is not None
    for late in (
        lambda: exchange.grow_reply(store, reply, "别人的话"),
        lambda: exchange.end_reply(store, reply, "别人的话", "guarded", "crisis"),
        lambda: exchange.feedback(store, reply, "not_nice"),
        lambda: exchange.say(store, child_id, None, "还在吗"),
        lambda: visits.act(store, child_id),
        lambda: store.feel(child_id, "good"),
    ):
        with pytest.raises(Gone):
            late()
    exchange.give_up(store, question)
    assert [(found.text, found.state) for found in store.messages(other.conversation_id)] == [
        ("果果的话", "done"),
        ("", "waiting"),
    ]
    assert store.alerts() == []


def test_no_number_is_given_twice(store: Store, database: Database) -> None:
    """A page, a sender or the log may still hold the number of what was deleted."""
    tables = [
        mapper.class_.__tablename__ for mapper in Numbered.registry.mappers if issubclass(mapper.class_, Numbered)
    ]

    def lived() -> dict[str, int]:
        child = family(store)
        with store.writing() as session:
            session.add(Channel(address=store.sealer.seal("json://127.0.0.1:9/"), created=store.now()))
        exchange.begin_reply(
            store, exchange.say(store, child.id, None, "我不想活了"), "我在。", "guarded", "crisis", "self_harm"
        )
        visits.act(store, child.id)
        return {table: database.rows(f"SELECT max(id) FROM {table}")[0][0] for table in tables}

    first = lived()
    forget.everything(store)
    again = lived()
    assert len(tables) == 7
    assert all(again[table] > first[table] for table in tables), (first, again)


def test_a_chat_is_named_by_how_it_begins(store: Store, child_id: int) -> None:
    for words in ("为什么\n天空是蓝色的？", "I had a quarrel with my best friend and I am sad"):
        exchange.say(store, child_id, None, words)
    titles = [found.title for found in store.conversations(child_id)]
    assert titles == ["I had a quarrel with my best friend and…", "为什么 天空是蓝色的？"]


def test_a_title_can_be_seen_and_turns_nothing_round(store: Store, child_id: int) -> None:
    for words in ("\x00\x1b", "\u200b\u2060", "\u202e你好\u2066", "🦄👨‍👩‍👧", "مرحبا"):
        exchange.say(store, child_id, None, words)
    assert [found.title for found in store.conversations(child_id)] == ["مرحبا", "🦄👨‍👩‍👧", "你好", "…", "…"]


def test_a_first_run_that_comes_too_late_changes_nothing(store: Store, child_id: int) -> None:
    held = store.household().pin_hash
    with pytest.raises(Gone):
        store.first_run("别人", "", "another PIN's hash", "en", Profile("别的孩子"))
    assert store.household().pin_hash == held
    assert [consent.guardian for consent in store.consents()] == ["妈妈"]
    assert [child.id for child in store.children()] == [child_id]


def test_consent_is_given_withdrawn_and_given_again(store: Store) -> None:
    assert store.consent() is None
    family(store)
    consent = store.consent()
    assert consent is not None
    assert consent.guardian == "妈妈"
    assert datetime.now(UTC) - consent.given_at < timedelta(minutes=1)
    store.withdraw()
    assert store.consent() is None
    store.consent_again("爸爸")
    assert store.consent() is not None
    assert [(found.guardian, found.withdrawn_at is None) for found in store.consents()] == [
        ("爸爸", True),
        ("妈妈", False),
    ]


def test_after_a_withdrawal_nothing_that_a_child_says_is_kept(store: Store, child_id: int, database: Database) -> None:
    question = exchange.say(store, child_id, None, "你好")
    exchange.begin_reply(store, question, "嗨", "done")
    store.withdraw()
    for late in (
        lambda: exchange.say(store, child_id, question.conversation_id, "还在吗"),
        lambda: exchange.ask_again(store, question),
        lambda: exchange.ask_again(store, question, "别的话"),
        lambda: store.feel(child_id, "sad"),
    ):
        with pytest.raises(Gone):
            late()
    assert [(found.text, found.state) for found in store.messages(question.conversation_id, replaced=True)] == [
        ("你好", "done"),
        ("嗨", "done"),
    ]
    assert database.rows("SELECT count(*) FROM moods") == [(0,)]
    store.consent_again("妈妈")
    assert exchange.ask_again(store, question).state == "waiting"


def test_what_has_become_of_a_chat_is_told_without_its_words(store: Store, child_id: int) -> None:
    question = exchange.say(store, child_id, None, "你好")
    exchange.begin_reply(store, question, "嗨", "done")
    again = exchange.ask_again(store, question, "早上好")
    course = store.course(question.conversation_id)
    assert [(one.id, one.state, one.action) for one in course] == [
        (message.id, message.state, message.action) for message in store.messages(question.conversation_id)
    ]
    assert course[-1].id == again.id
    store.sealer = Sealer(os.urandom(32))
    assert store.course(question.conversation_id) == course


def test_another_childs_conversation_is_not_found(store: Store, child_id: int) -> None:
    other = store.add_child(Profile("果果", "4-6"))
    here = exchange.say(store, child_id, None, "你好").conversation_id
    assert store.conversation(child_id, here) is not None
    assert store.conversation(other.id, here) is None


def test_a_crisis_writes_an_alert_without_words_and_the_passage_is_audited(store: Store, child_id: int) -> None:
    reply = exchange.begin_reply(store, exchange.say(store, child_id, None, "我不想活了"))
    assert reply is not None
    exchange.end_reply(store, reply, "我在。", "guarded", "crisis", "self_harm", "3f9a")
    (alert,) = store.alerts(child_id)
    assert (alert.message_id, alert.category, alert.seen) == (reply.id, "self_harm", False)
    assert store.last_contract() == "3f9a"
    store.alerts_seen([])
    assert not any(alert.seen for alert in store.alerts()), "what was not drawn was not seen"
    store.alerts_seen([alert.id for alert in store.alerts()])
    assert store.alerts()[0].seen
    assert [message.text for message in store.passage(alert)] == ["我不想活了", "我在。"]
    assert [(line.what, line.child_id) for line in store.audited()] == [("passage", child_id)]


def test_the_log_of_accesses_is_only_ever_added_to(store: Store, database: Database) -> None:
    store.audit("transcript", 1, 2)
    for forbidden in ("UPDATE audit SET what = 'nothing'", "DELETE FROM audit"):
        with pytest.raises(DBAPIError, match="only ever added to"):
            database.rows(forbidden)
    forget.everything(store)
    assert [line.what for line in store.audited()] == ["delete all", "transcript"]


# As in test_outbox.py: a module of apprise's.
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_what_a_guardian_changes_is_changed_together_with_its_line_in_the_log(
    store: Store, child_id: int, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever finds the area open must not shut out the guardian, delete what was said or stop the alerts unseen."""
    outbox.add_channel(store, "json://127.0.0.1:9/hook")
    acts: tuple[tuple[str, Callable[[], object]], ...] = (
        ("transcripts: alerts", lambda: store.set_household(emergency="外婆", transcripts="alerts")),
        ("days: 30", lambda: store.set_retention(30)),
        ("limits", lambda: store.set_limits(child_id, replace(ALLOWED, minutes_a_day=240))),
        ("channel removed", lambda: outbox.remove_channel(store, 1)),
        ("consent withdrawn", store.withdraw),
        ("consent given", lambda: store.consent_again("妈妈")),
        ("channel added", lambda: outbox.add_channel(store, "json://127.0.0.1:9/another")),
    )
    tables = ("household", "children", "channels", "consents", "audit")

    def kept() -> list[list[tuple[Any, ...]]]:
        return [database.rows(f"SELECT * FROM {table} ORDER BY id") for table in tables]

    def full(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    for line, act in acts:
        before = kept()
        with monkeypatch.context() as patched:
            patched.setattr(store, "note", full)
            with pytest.raises(OSError, match="full"):
                act()
        assert kept() == before, line
        act()
        assert store.audited()[0].what == line
        assert store.audited()[0].child_id == (child_id if line == "limits" else None)
    lines = len(store.audited())
    store.set_household(emergency="外公", transcripts="alerts")
    store.set_retention(30)
    store.set_limits(child_id, replace(ALLOWED, minutes_a_day=240))
    assert len(store.audited()) == lines, "what is as it was is no line"


def test_history_is_searched_renamed_and_put_away(store: Store, child_id: int) -> None:
    here = exchange.say(store, child_id, None, "讲一个小兔子的故事").conversation_id
    exchange.say(store, child_id, None, "Hello Moon")
    store.rename(here, "睡前故事")
    assert [found.title for found in store.search(child_id, "兔子")] == ["睡前故事"]
    assert [found.title for found in store.search(child_id, "睡前")] == ["睡前故事"]
    assert [found.title for found in store.search(child_id, "moon")] == ["Hello Moon"]
    assert store.search(child_id, "大象") == []
    store.hide(here)
    assert store.conversation(child_id, here) is None
    assert store.search(child_id, "兔子") == []
    assert len(store.conversations(child_id)) == 1
    assert len(store.conversations(child_id, hidden=True)) == 2


def test_pages_that_open_together_begin_one_visit(store: Store, child_id: int) -> None:
    together = Barrier(8)

    def visit(_: int) -> int:
        together.wait()
        return visits.act(store, child_id).id

    with ThreadPoolExecutor(8) as pages:
        assert len(set(pages.map(visit, range(8)))) == 1
    assert len(visits.since(store, child_id, datetime.now(UTC) - timedelta(days=1))) == 1


def test_ten_thousand_conversations_open_in_a_second(store: Store, child_id: int) -> None:
    at = datetime.now(UTC)
    with store.writing() as session:
        session.execute(
            insert(ConversationRow),
            [
                {"child_id": child_id, "name": store.sealer.seal(f"第{number}次"), "created": at, "updated": at, "hidden": False}
                for number in range(10_000)
            ],
        )  # fmt: skip
    began = time.perf_counter()
    assert store.conversations(child_id)[0].title == "第9999次"
    assert time.perf_counter() - began < 1
    assert [found.title for found in store.search(child_id, "第9999次")] == ["第9999次"]
