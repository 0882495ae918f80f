"""The store on a real SQLite file and a real PostgreSQL server. Run: `pytest tests/ui/test_store.py`."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError

from tests.ui.databases import Database, family
from ui import forget, visits
from ui.database import Gone
from ui.records import Profile
from ui.store import SAID_CHARS, Store
from ui.tables import Channel, ConversationRow, Numbered


def test_a_deleted_childs_or_chats_page_is_told_so_and_writes_into_no_other(store: Store, child_id: int) -> None:
    sibling = store.add_child(Profile("果果"))
    question = store.say(child_id, None, "豆豆的话")
    reply = store.begin_reply(question)
    assert reply is not None
    forget.child(store, child_id)
    # SQLite gives the numbers of the deleted rows to these.
    other = store.say(sibling.id, None, "果果的话")
    assert store.begin_reply(question) is None
    answer = store.begin_reply(other)
    assert answer is not None
    for late in (
        lambda: store.grow_reply(reply, "别人的话"),
        lambda: store.end_reply(reply, "别人的话", "guarded", "crisis"),
        lambda: store.feedback(reply, "not_nice"),
        lambda: store.say(child_id, None, "还在吗"),
        lambda: visits.act(store, child_id),
        lambda: store.feel(child_id, "good"),
    ):
        with pytest.raises(Gone):
            late()
    store.give_up(question)
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
        store.begin_reply(store.say(child.id, None, "我不想活了"), "我在。", "guarded", "crisis", "self_harm")
        visits.act(store, child.id)
        return {table: database.rows(f"SELECT max(id) FROM {table}")[0][0] for table in tables}

    first = lived()
    forget.everything(store)
    again = lived()
    assert len(tables) == 7
    assert all(again[table] > first[table] for table in tables), (first, again)


def test_a_chat_is_named_by_how_it_begins(store: Store, child_id: int) -> None:
    for words in ("为什么\n天空是蓝色的？", "I had a quarrel with my best friend and I am sad"):
        store.say(child_id, None, words)
    titles = [found.title for found in store.conversations(child_id)]
    assert titles == ["I had a quarrel with my best friend and…", "为什么 天空是蓝色的？"]


def test_a_title_can_be_seen_and_turns_nothing_round(store: Store, child_id: int) -> None:
    for words in ("\x00\x1b", "\u200b\u2060", "\u202e你好\u2066", "🦄👨‍👩‍👧", "مرحبا"):
        store.say(child_id, None, words)
    assert [found.title for found in store.conversations(child_id)] == ["مرحبا", "🦄👨‍👩‍👧", "你好", "…", "…"]


def test_whoever_speaks_past_the_fields_says_no_more_than_they_let(store: Store, child_id: int) -> None:
    question = store.say(child_id, None, "啊" * 100_000)
    assert len(question.text) == SAID_CHARS
    assert len(store.ask_again(question, "哦" * 100_000).text) == SAID_CHARS
    store.rename(question.conversation_id, "嗯\n" * 100_000)
    assert store.conversations(child_id)[0].title == f"{'嗯 ' * 19}嗯…"


def test_what_was_left_waiting_is_found_for_a_week(database: Database) -> None:
    clock = [datetime.now(UTC)]
    store = database.open(lambda: clock[0])
    child = family(store)
    question = store.say(child.id, None, "你在吗")
    assert store.left_behind() == [], "its page may still be open"
    clock[0] += timedelta(minutes=3)
    assert [(found.id, left.text) for found, left in store.left_behind()] == [(child.id, "你在吗")]
    clock[0] += timedelta(days=7)
    assert store.left_behind() == []
    clock[0] -= timedelta(days=1)
    assert len(store.left_behind()) == 1
    store.begin_reply(question)
    assert store.left_behind() == []
    store.close()


def test_a_first_run_that_comes_too_late_changes_nothing(store: Store, child_id: int) -> None:
    held = store.household().pin_hash
    with pytest.raises(Gone):
        store.first_run("别人", "", "another PIN's hash", Profile("别的孩子"))
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
    question = store.say(child_id, None, "你好")
    store.begin_reply(question, "嗨", "done")
    store.withdraw()
    for late in (
        lambda: store.say(child_id, question.conversation_id, "还在吗"),
        lambda: store.ask_again(question),
        lambda: store.ask_again(question, "别的话"),
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
    assert store.ask_again(question).state == "waiting"


def test_another_childs_conversation_is_not_found(store: Store, child_id: int) -> None:
    other = store.add_child(Profile("果果", "4-6"))
    here = store.say(child_id, None, "你好").conversation_id
    assert store.conversation(child_id, here) is not None
    assert store.conversation(other.id, here) is None


def test_a_question_is_answered_once(store: Store, child_id: int) -> None:
    question = store.say(child_id, None, "你好")
    assert question.state == "waiting"
    assert store.begin_reply(question) is not None
    assert store.begin_reply(question) is None


def test_a_crisis_writes_an_alert_without_words_and_the_passage_is_audited(store: Store, child_id: int) -> None:
    reply = store.begin_reply(store.say(child_id, None, "我不想活了"))
    assert reply is not None
    store.end_reply(reply, "我在。", "guarded", "crisis", "self_harm", "3f9a")
    (alert,) = store.alerts(child_id)
    assert (alert.message_id, alert.category, alert.seen) == (reply.id, "self_harm", False)
    assert store.last_contract() == "3f9a"
    store.alerts_seen([])
    assert not any(alert.seen for alert in store.alerts()), "what was not drawn was not seen"
    store.alerts_seen([alert.id for alert in store.alerts()])
    assert store.alerts()[0].seen
    assert [message.text for message in store.passage(alert)] == ["我不想活了", "我在。"]
    assert [(line.what, line.child_id) for line in store.audited()] == [("passage", child_id)]


def test_not_nice_tells_the_guardian_once(store: Store, child_id: int) -> None:
    reply = store.begin_reply(store.say(child_id, None, "你好"))
    assert reply is not None
    store.feedback(reply, "not_nice")
    store.feedback(reply, "not_nice")
    assert [alert.category for alert in store.alerts()] == ["not_nice"]
    assert store.messages(reply.conversation_id)[1].feedback == "not_nice"


def test_the_log_of_accesses_is_only_ever_added_to(store: Store, database: Database) -> None:
    store.audit("transcript", 1, 2)
    for forbidden in ("UPDATE audit SET what = 'nothing'", "DELETE FROM audit"):
        with pytest.raises(DBAPIError, match="only ever added to"):
            database.rows(forbidden)
    forget.everything(store)
    assert [line.what for line in store.audited()] == ["delete all", "transcript"]


def test_who_can_read_the_chats_changes_together_with_its_line_in_the_log(
    store: Store, child_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set_household(emergency="外婆", transcripts="alerts", retention_days=30)
    store.set_household(emergency="外公", transcripts="alerts", retention_days=60)
    assert [line.what for line in store.audited()] == ["transcripts: alerts"]

    def full(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(store, "note", full)
    with pytest.raises(OSError, match="full"):
        store.set_household(emergency="外公", transcripts="full", retention_days=60)
    assert store.household().transcripts == "alerts"


def test_asking_again_puts_the_old_pair_aside(store: Store, child_id: int) -> None:
    question = store.say(child_id, None, "为什么天是蓝的")
    reply = store.begin_reply(question)
    assert reply is not None
    store.end_reply(reply, "因为光。", "done")
    again = store.ask_again(question, "为什么海是蓝的")
    assert [message.text for message in store.messages(question.conversation_id)] == ["为什么海是蓝的"]
    assert again.state == "waiting"
    assert len(store.messages(question.conversation_id, replaced=True)) == 3


def test_a_button_of_an_old_page_puts_nothing_aside_that_it_did_not_show(store: Store, child_id: int) -> None:
    question = store.say(child_id, None, "为什么天是蓝的")
    here = question.conversation_id
    reply = store.begin_reply(question)
    assert reply is not None
    with pytest.raises(Gone):
        store.ask_again(question)  # its reply is still growing
    store.end_reply(reply, "因为光。", "done")
    later = store.say(child_id, here, "那大海呢")
    with pytest.raises(Gone):
        store.ask_again(question)
    assert [message.text for message in store.messages(here)] == ["为什么天是蓝的", "因为光。", "那大海呢"]
    answer = store.begin_reply(later)
    assert answer is not None
    store.end_reply(answer, "也是光。", "done")
    again = store.ask_again(later)
    with pytest.raises(Gone):
        store.ask_again(later, "两个窗口一起按")
    assert [message.id for message in store.messages(here)] == [question.id, reply.id, again.id]


def test_what_the_guard_has_yet_to_read_stays_when_it_is_said_in_other_words(store: Store, child_id: int) -> None:
    question = store.say(child_id, None, "我不想活了")
    assert store.begin_reply(question, state="stopped", judged=False) is not None
    again = store.ask_again(question, "你好")
    with pytest.raises(Gone):
        store.ask_again(question, "两个窗口一起按")
    said = store.messages(question.conversation_id)
    assert [(message.id, message.state) for message in said] == [(question.id, "unjudged"), (again.id, "waiting")]


def test_an_alert_is_written_once(store: Store, child_id: int) -> None:
    reply = store.begin_reply(store.say(child_id, None, "我不想活了"), "卡片", "waiting", "crisis", "self_harm")
    assert reply is not None
    store.end_reply(reply, "卡片，全部", "guarded", "crisis", "self_harm")
    assert [alert.category for alert in store.alerts()] == ["self_harm"]


def test_history_is_searched_renamed_and_put_away(store: Store, child_id: int) -> None:
    here = store.say(child_id, None, "讲一个小兔子的故事").conversation_id
    store.say(child_id, None, "Hello Moon")
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


def test_a_reply_whose_writer_was_killed_keeps_its_words_and_is_settled(
    store: Store, child_id: int, database: Database
) -> None:
    writer = os.fork()
    if writer == 0:
        killed = database.open()
        reply = killed.begin_reply(killed.say(child_id, None, "讲故事"))
        if reply is not None:
            killed.grow_reply(reply, "从前有")
        os.kill(os.getpid(), 9)
    os.waitpid(writer, 0)
    here = store.conversations(child_id)[0].id
    store.settle(here)
    assert store.messages(here)[1].state == "waiting", "a fresh reply may still be growing"
    later = database.open(lambda: datetime.now(UTC) + timedelta(minutes=1))
    later.settle(here)
    later.close()
    assert [(found.text, found.state) for found in store.messages(here)] == [("讲故事", "done"), ("从前有", "stopped")]


def test_twenty_kills_lose_no_committed_message_and_double_none(
    store: Store, child_id: int, database: Database
) -> None:
    for number in range(20):
        told, writer = os.pipe()
        killed = os.fork()
        if killed == 0:
            own = database.open()
            reply = own.begin_reply(own.say(child_id, None, f"第{number}问"))
            if reply is not None:
                os.write(writer, b"!")
                for length in range(10_000):
                    own.grow_reply(reply, "字" * length)
            os._exit(1)
        os.read(told, 1)
        time.sleep(0.005 * number)
        os.kill(killed, 9)
        os.waitpid(killed, 0)
        os.close(told)
        os.close(writer)
    conversations = store.conversations(child_id)
    assert sorted(found.title for found in conversations) == sorted(f"第{number}问" for number in range(20))
    for found in conversations:
        question, reply = store.messages(found.id)
        assert (question.text, question.state, reply.role) == (found.title, "done", "assistant")
        assert set(reply.text) <= {"字"}


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
