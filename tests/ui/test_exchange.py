"""Questions and their replies, on a real SQLite file and a real PostgreSQL server. Run: `pytest tests/ui/test_exchange.py`."""

import os
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, event

from tests.ui.databases import Database, family
from ui import exchange
from ui.database import Gone
from ui.exchange import SAID_CHARS
from ui.records import Message
from ui.store import Store


def test_no_more_is_kept_of_a_message_than_the_server_takes(store: Store, child_id: int) -> None:
    question = exchange.say(store, child_id, None, "啊" * 100_000)
    assert len(question.text) == SAID_CHARS
    assert len(exchange.ask_again(store, question, "哦" * 100_000).text) == SAID_CHARS
    store.rename(question.conversation_id, "嗯\n" * 100_000)
    assert store.conversations(child_id)[0].title == f"{'嗯 ' * 19}嗯…"


def test_what_was_left_waiting_is_found_for_as_long_as_it_is_kept(database: Database) -> None:
    clock = [datetime.now(UTC)]
    store = database.open(lambda: clock[0])
    child = family(store)
    question = exchange.say(store, child.id, None, "你在吗")
    assert exchange.left_behind(store) == [], "its page may still be open"
    clock[0] += timedelta(minutes=3)
    assert [(found.id, left.text) for found, left in exchange.left_behind(store)] == [(child.id, "你在吗")]
    clock[0] += timedelta(days=100)
    assert len(exchange.left_behind(store)) == 1
    exchange.begin_reply(store, question)
    assert exchange.left_behind(store) == []
    store.close()


def test_a_question_is_answered_once(store: Store, child_id: int) -> None:
    question = exchange.say(store, child_id, None, "你好")
    assert question.state == "waiting"
    assert exchange.begin_reply(store, question) is not None
    assert exchange.begin_reply(store, question) is None


def test_not_nice_tells_the_guardian_once(store: Store, child_id: int) -> None:
    reply = exchange.begin_reply(store, exchange.say(store, child_id, None, "你好"))
    assert reply is not None
    exchange.feedback(store, reply, "not_nice")
    exchange.feedback(store, reply, "not_nice")
    assert [alert.category for alert in store.alerts()] == ["not_nice"]
    assert store.messages(reply.conversation_id)[1].feedback == "not_nice"


def test_asking_again_puts_the_old_pair_aside(store: Store, child_id: int) -> None:
    question = exchange.say(store, child_id, None, "为什么天是蓝的")
    reply = exchange.begin_reply(store, question)
    assert reply is not None
    exchange.end_reply(store, reply, "因为光。", "done")
    again = exchange.ask_again(store, question, "为什么海是蓝的")
    assert [message.text for message in store.messages(question.conversation_id)] == ["为什么海是蓝的"]
    assert again.state == "waiting"
    assert len(store.messages(question.conversation_id, replaced=True)) == 3


def test_a_button_of_an_old_page_puts_nothing_aside_that_it_did_not_show(store: Store, child_id: int) -> None:
    question = exchange.say(store, child_id, None, "为什么天是蓝的")
    here = question.conversation_id
    reply = exchange.begin_reply(store, question)
    assert reply is not None
    with pytest.raises(Gone):
        exchange.ask_again(store, question)  # its reply is still growing
    exchange.end_reply(store, reply, "因为光。", "done")
    later = exchange.say(store, child_id, here, "那大海呢")
    with pytest.raises(Gone):
        exchange.ask_again(store, question)
    assert [message.text for message in store.messages(here)] == ["为什么天是蓝的", "因为光。", "那大海呢"]
    answer = exchange.begin_reply(store, later)
    assert answer is not None
    exchange.end_reply(store, answer, "也是光。", "done")
    again = exchange.ask_again(store, later)
    with pytest.raises(Gone):
        exchange.ask_again(store, later, "两个窗口一起按")
    assert [message.id for message in store.messages(here)] == [question.id, reply.id, again.id]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_what_is_said_just_as_the_old_pair_is_put_aside_stays(store: Store, child_id: int, database: Database) -> None:
    question = exchange.say(store, child_id, None, "为什么天是蓝的")
    reply = exchange.begin_reply(store, question, "因为光。", "done")
    assert reply is not None
    other, meanwhile = database.open(), list[Message]()

    def looked(_: Connection, __: object, statement: str, *___: object) -> None:
        if statement.startswith("SELECT messages") and not meanwhile:
            meanwhile.append(exchange.say(other, child_id, question.conversation_id, "我不想活了"))

    event.listen(store._database._engine, "after_cursor_execute", looked)
    again = exchange.ask_again(store, question)
    other.close()
    said = store.messages(question.conversation_id)
    assert [(message.id, message.state) for message in said] == [(meanwhile[0].id, "waiting"), (again.id, "waiting")]


def test_what_the_guard_has_yet_to_read_stays_when_it_is_said_in_other_words(store: Store, child_id: int) -> None:
    question = exchange.say(store, child_id, None, "我不想活了")
    assert exchange.begin_reply(store, question, state="stopped", judged=False) is not None
    again = exchange.ask_again(store, question, "你好")
    with pytest.raises(Gone):
        exchange.ask_again(store, question, "两个窗口一起按")
    said = store.messages(question.conversation_id)
    assert [(message.id, message.state) for message in said] == [(question.id, "unjudged"), (again.id, "waiting")]


def test_an_alert_is_written_once(store: Store, child_id: int) -> None:
    reply = exchange.begin_reply(
        store, exchange.say(store, child_id, None, "我不想活了"), "卡片", "waiting", "crisis", "self_harm"
    )
    assert reply is not None
    exchange.end_reply(store, reply, "卡片，全部", "guarded", "crisis", "self_harm")
    assert [alert.category for alert in store.alerts()] == ["self_harm"]


def test_a_reply_whose_writer_was_killed_keeps_its_words_and_is_settled(
    store: Store, child_id: int, database: Database
) -> None:
    writer = os.fork()
    if writer == 0:
        killed = database.open()
        reply = exchange.begin_reply(killed, exchange.say(killed, child_id, None, "讲故事"))
        if reply is not None:
            exchange.grow_reply(killed, reply, "从前有")
        os.kill(os.getpid(), 9)
    os.waitpid(writer, 0)
    here = store.conversations(child_id)[0].id
    exchange.settle(store, here)
    assert store.messages(here)[1].state == "waiting", "a fresh reply may still be growing"
    later = database.open(lambda: datetime.now(UTC) + timedelta(minutes=1))
    exchange.settle(later, here)
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
            reply = exchange.begin_reply(own, exchange.say(own, child_id, None, f"第{number}问"))
            if reply is not None:
                os.write(writer, b"!")
                for length in range(10_000):
                    exchange.grow_reply(own, reply, "字" * length)
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
