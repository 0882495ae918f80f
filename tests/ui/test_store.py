"""The store on a real SQLite file. Run: `pytest tests/ui/test_store.py`."""

import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from data.strict import BadInput
from tests.ui.model_server import SKY, ModelServer, free_port
from ui.client import Asleep, settings_from
from ui.companion import talk
from ui.store import Store, Table, url_for


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(url_for(tmp_path, None))
    yield opened
    opened.close()


@pytest.fixture
def child_id(store: Store) -> int:
    return store.first_run("妈妈", "豆豆", "7-9", "zh").id


def rows(folder: Path, sql: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(folder / "mindpal.db") as connection:
        found = connection.execute(sql).fetchall()
    connection.close()
    return found


def test_the_migrations_make_exactly_the_tables_of_the_code(store: Store, tmp_path: Path) -> None:
    engine = create_engine(url_for(tmp_path, None))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []
    engine.dispose()


def test_opening_again_keeps_everything_and_the_file_is_careful(store: Store, child_id: int, tmp_path: Path) -> None:
    store.say(child_id, None, "你好")
    again = Store(url_for(tmp_path, None))
    assert [found.title for found in again.conversations(child_id)] == ["你好"]
    again.close()
    assert rows(tmp_path, "PRAGMA journal_mode") == [("wal",)]


def test_a_newer_database_is_refused_with_a_sentence(tmp_path: Path) -> None:
    Store(url_for(tmp_path, None)).close()
    with sqlite3.connect(tmp_path / "mindpal.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(BadInput, match="revision 9999, which is newer than this program; update MindPal"):
        Store(url_for(tmp_path, None))


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="the family's folder cannot be made"):
        url_for(tmp_path / "file" / "family", None)


def test_consent_is_given_withdrawn_and_given_again(store: Store) -> None:
    assert store.consent() is None
    store.first_run("妈妈", "豆豆", "4-6", "zh")
    consent = store.consent()
    assert consent is not None
    assert consent.guardian == "妈妈"
    assert datetime.now(UTC) - consent.given_at < timedelta(minutes=1)
    store.withdraw()
    assert store.consent() is None
    store.consent_again("爸爸")
    assert store.consent() is not None


def test_another_childs_conversation_is_not_found(store: Store, child_id: int) -> None:
    other = store.first_run("妈妈", "果果", "4-6", "zh")
    here = store.say(child_id, None, "你好").conversation_id
    assert store.conversation(child_id, here) is not None
    assert store.conversation(other.id, here) is None


def test_a_question_is_answered_once(store: Store, child_id: int) -> None:
    question = store.say(child_id, None, "你好")
    assert question.state == "waiting"
    assert store.begin_reply(question) is not None
    assert store.begin_reply(question) is None


def test_a_crisis_writes_an_alert_without_words(store: Store, child_id: int) -> None:
    reply = store.begin_reply(store.say(child_id, None, "我不想活了"))
    assert reply is not None
    store.end_reply(reply, "我在。", "guarded", "crisis", "self_harm", "3f9a")
    assert [(alert.message_id, alert.category, alert.seen) for alert in store.alerts()] == [
        (reply.id, "self_harm", False)
    ]
    assert store.last_contract() == "3f9a"
    store.alerts_seen()
    assert store.alerts()[0].seen


def test_a_reply_left_in_the_middle_is_kept_and_the_server_sees_it(store: Store, child_id: int) -> None:
    question = store.say(child_id, None, "讲一个很长的故事")
    with ModelServer() as server:
        growing = talk.reply_to(store, settings_from({"MINDPAL_API_URL": server.url}), question)
        seen = next(text for text in growing if text)
        growing.close()
        assert server.hung_up.wait(5)
    asked, kept = store.messages(question.conversation_id)
    assert (asked.state, kept.state, kept.text) == ("done", "stopped", seen)


def test_a_withdrawn_consent_ends_a_reply(store: Store, child_id: int) -> None:
    question = store.say(child_id, None, "讲一个很长的故事")
    with ModelServer() as server:
        for text in talk.reply_to(store, settings_from({"MINDPAL_API_URL": server.url}), question):
            if text:
                store.withdraw()
        assert server.hung_up.wait(5)
    assert store.messages(question.conversation_id)[1].state == "stopped"


def test_a_sleeping_server_leaves_the_question_waiting_and_a_later_try_answers_it(store: Store, child_id: int) -> None:
    question = store.say(child_id, None, "为什么天空是蓝色的？")
    port = free_port()
    settings = settings_from({"MINDPAL_API_URL": f"http://127.0.0.1:{port}/v1"})
    with pytest.raises(Asleep):
        list(talk.reply_to(store, settings, question))
    messages = store.messages(question.conversation_id)
    assert len(messages) == 1
    waiting = talk.unanswered(messages)
    assert waiting is not None
    with ModelServer(port):
        list(talk.reply_to(store, settings, waiting))
    asked, kept = store.messages(question.conversation_id)
    assert (asked.state, kept.state, kept.text) == ("done", "done", SKY)


def test_a_reply_whose_writer_was_killed_keeps_its_words_and_is_settled(
    store: Store, child_id: int, tmp_path: Path
) -> None:
    writer = os.fork()
    if writer == 0:
        killed = Store(url_for(tmp_path, None))
        reply = killed.begin_reply(killed.say(child_id, None, "讲故事"))
        if reply is not None:
            killed.grow_reply(reply, "从前有")
        os.kill(os.getpid(), 9)
    os.waitpid(writer, 0)
    here = store.conversations(child_id)[0].id
    store.settle(here)
    assert store.messages(here)[1].state == "waiting", "a fresh reply may still be growing"
    old = datetime.now(UTC) - timedelta(minutes=1)
    with sqlite3.connect(tmp_path / "mindpal.db") as connection:
        connection.execute("UPDATE conversations SET updated = ?", (old.strftime("%Y-%m-%d %H:%M:%S.%f"),))
    connection.close()
    store.settle(here)
    assert [(found.text, found.state) for found in store.messages(here)] == [("讲故事", "done"), ("从前有", "stopped")]


def test_the_model_sees_answered_questions_only_and_by_turns(store: Store, child_id: int) -> None:
    first = store.say(child_id, None, "一")
    reply = store.begin_reply(first)
    assert reply is not None
    store.end_reply(reply, "壹", "done")
    unsaid = store.say(child_id, first.conversation_id, "二")
    empty = store.begin_reply(unsaid)
    assert empty is not None
    store.end_reply(empty, "", "stopped")
    question = store.say(child_id, first.conversation_id, "三")
    seen = talk.turns(store.messages(first.conversation_id), question)
    assert [(turn.role, turn.text) for turn in seen] == [("user", "一"), ("assistant", "壹"), ("user", "三")]
