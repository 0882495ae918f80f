"""What is deleted is gone, from the database's files too; what is too old leaves. Run: `pytest tests/ui/test_forget.py`."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Text, create_engine, text
from sqlalchemy.pool import NullPool

from tests.demo import free_port
from tests.ui.conftest import ROOT
from tests.ui.databases import ALLOWED, Database, family
from ui import exchange, forget, outbox
from ui.records import Message, Profile
from ui.store import Store
from ui.tables import Channel, Table

DAYS = 30
PATIENCE_S = 120


def test_what_is_deleted_is_gone_from_the_files_at_once(store: Store, child_id: int, database: Database) -> None:
    kept = exchange.say(store, child_id, None, "留下的话")
    chat, other = (_exchange(store, child_id, words) for words in ("要删掉的话", "也要删掉"))
    in_the_file = _sealed(database, chat)
    _settle_files(database)
    in_the_log = _sealed(database, other)
    assert all(_holds(database, words) for words in in_the_file)
    forget.chat(store, chat.conversation_id)
    assert not any(_holds(database, words) for words in in_the_file)
    assert [message.text for message in store.messages(kept.conversation_id)] == ["留下的话"]
    forget.child(store, child_id)
    assert not any(_holds(database, words) for words in (*in_the_file, *in_the_log))
    assert (store.children(), forget.is_owed(store)) == ([], False)
    assert database.rows("SELECT count(*) FROM messages") == [(0,)]
    assert [line.what for line in store.audited()] == ["delete child", "delete conversation"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_no_word_stays_in_postgresqls_statistics(store: Store, child_id: int, database: Database) -> None:
    """Its examples of a column's values outlive the rows, and of an emptied table for ever."""
    sibling = store.add_child(Profile("果果果果"))
    for child in (child_id, sibling.id):
        store.set_limits(child, replace(ALLOWED, blocked_topics="恐怖片"))
        _exchange(store, child, "要删掉的话")
        with store.writing() as session:
            session.add(Channel(address=store.sealer.seal("json://127.0.0.1:9/"), created=store.now()))
    database.rows("ANALYZE")
    told = _statistics(database)
    assert "messages.created" in told, "it was looked at"
    for table in Table.metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, Text) or column.name == "nickname":
                assert f"{table.name}.{column.name}" not in told
    forget.everything(store)
    database.rows("ANALYZE")
    assert not any(word in str(_statistics(database)) for word in ("豆豆", "果果", "恐怖片"))


def test_delete_all_leaves_a_first_run_and_the_log(store: Store, child_id: int, database: Database) -> None:
    words = _sealed(database, _exchange(store, child_id, "你好"))
    (guardian,) = database.rows("SELECT guardian FROM consents")[0]
    _settle_files(database)
    assert _holds(database, guardian.encode())
    forget.everything(store)
    assert not any(_holds(database, gone) for gone in (*words, guardian.encode()))
    assert (store.children(), store.consents(), store.household().pin_hash) == ([], [], None)
    assert [line.what for line in store.audited()] == ["delete all"]


def test_what_a_reader_still_holds_is_owed_until_it_is_gone(database: Database) -> None:
    store = database.open(patience_s=0.5)
    here = _exchange(store, family(store).id, "要删掉的话")
    words = _sealed(database, here)
    _settle_files(database)
    with _old_view(database):
        forget.chat(store, here.conversation_id)
        assert store.messages(here.conversation_id) == []
        assert forget.is_owed(store), "the guardian must not be told that it is gone from the files"
        assert any(_holds(database, gone) for gone in words)
        assert not forget.scrub(store, patience_s=0)
        store.close()
        store = database.open(patience_s=0.5)
        assert forget.is_owed(store), "a restart forgets nothing"
    assert forget.scrub(store)
    assert not forget.is_owed(store)
    assert not any(_holds(database, gone) for gone in words)
    store.close()


def test_a_reader_that_lasts_does_not_let_the_log_grow(database: Database) -> None:
    """Each try copies the whole database into SQLite's log: not before there is a chance to empty it."""
    store = database.open(patience_s=0.5)
    here = _exchange(store, family(store).id, "要删掉的话" * 10_000)
    with _old_view(database):
        forget.chat(store, here.conversation_id)
        before = _size(database)
        for _ in range(5):
            assert not forget.scrub(store, patience_s=0)
        # PostgreSQL writes a page of its own now and then.
        assert _size(database) < before + 2**16
    store.close()


@pytest.mark.parametrize("what", ["chat", "everything"])
def test_a_deletion_during_a_scrub_stays_owed(
    store: Store, child_id: int, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    first, second = (_exchange(store, child_id, words) for words in ("一", "二"))
    scrub = store.scrub

    def meanwhile(patience_s: float | None = None) -> bool:
        done = scrub(patience_s)
        monkeypatch.setattr(store, "scrub", lambda _: False)
        forget.chat(store, second.conversation_id) if what == "chat" else forget.everything(store)
        return done

    monkeypatch.setattr(store, "scrub", meanwhile)
    forget.chat(store, first.conversation_id)
    assert forget.is_owed(store)


@pytest.fixture
def clock() -> list[datetime]:
    return [datetime.now(UTC)]


@pytest.fixture
def timed(database: Database, clock: list[datetime]) -> Iterator[Store]:
    opened = database.open(lambda: clock[0])
    family(opened)
    opened.set_retention(DAYS)
    yield opened
    opened.close()


def test_old_words_leave_a_long_chat_one_exchange_after_another(
    timed: Store, database: Database, clock: list[datetime]
) -> None:
    """One chat over forty days: what is older than thirty leaves, in pairs, and the name that it gave the chat."""
    today = clock[0]
    here: int | None = None
    words: dict[int, list[bytes]] = {}
    for ago in (40, 31, 29, 0):
        clock[0] = today - timedelta(days=ago)
        message = _exchange(timed, 1, f"{ago}天前", here)
        here, words[ago] = message.conversation_id, _sealed(database, message)
    assert here is not None
    gone = [_name(database, here), *words[40], *words[31]]
    _settle_files(database)
    assert forget.expired(timed) == 4
    assert forget.scrub(timed)
    assert [message.text for message in timed.messages(here)] == ["29天前", "答29天前", "0天前", "答0天前"]
    assert [chat.title for chat in timed.conversations(1)] == ["29天前"]
    assert not any(_holds(database, old) for old in gone)
    assert forget.expired(timed) == 0
    assert [line.what for line in timed.audited()] == ["expired: 4", f"days: {DAYS}"], "nothing to do is no line"
    clock[0] = today + timedelta(days=DAYS + 1)
    assert forget.expired(timed) == 4
    assert timed.conversations(1, hidden=True) == [], "an emptied chat leaves, too"


def test_a_name_that_a_child_gave_stays_with_what_is_left_of_the_chat(timed: Store, clock: list[datetime]) -> None:
    today = clock[0]
    clock[0] = today - timedelta(days=40)
    here = _exchange(timed, 1, "讲故事").conversation_id
    timed.rename(here, "睡前故事")
    clock[0] = today
    _exchange(timed, 1, "再讲一个", here)
    assert forget.expired(timed) == 2
    assert [chat.title for chat in timed.conversations(1)] == ["睡前故事"]


def test_a_late_answer_keeps_its_question_and_an_unheard_one_is_waited_for(timed: Store, clock: list[datetime]) -> None:
    """With one day of keeping: the server slept for three, and what was said to it was a cry for help."""
    timed.set_retention(1)
    today = clock[0]
    clock[0] = today - timedelta(days=3)
    question, never = exchange.say(timed, 1, None, "我不想活了"), exchange.say(timed, 1, None, "你在吗")
    clock[0] = today
    assert forget.expired(timed) == 0
    reply = exchange.begin_reply(timed, question)
    assert reply is not None
    exchange.end_reply(timed, reply, "我在。", "guarded", "crisis", "self_harm")
    assert forget.expired(timed) == 0
    (alert,) = timed.alerts()
    assert [message.text for message in timed.passage(alert)] == ["我不想活了", "我在。"]
    clock[0] = today + timedelta(days=5)
    timed.alerts_seen([alert.id])
    assert forget.expired(timed) == 3, "and a week is long enough for any server"
    assert (timed.alerts(), timed.messages(never.conversation_id)) == ([], [])


@pytest.mark.parametrize("heard", ["by nobody", "seen", "sent"])
def test_an_alert_of_which_nobody_has_heard_stays_for_as_long_as_it_may_be_sent(
    timed: Store, clock: list[datetime], heard: str
) -> None:
    """With one day of keeping, and an address that does not answer for two."""
    timed.set_retention(1)
    with timed.writing() as session:
        session.add(Channel(address=timed.sealer.seal("json://127.0.0.1:9/"), created=clock[0]))
    question = exchange.say(timed, 1, None, "我不想活了")
    exchange.begin_reply(timed, question, "我在。", "guarded", "crisis", "self_harm")
    other = _exchange(timed, 1, "你好")
    outbox.send_due(timed, lambda *_: False)
    clock[0] += timedelta(days=2)
    if heard == "seen":
        timed.alerts_seen([alert.id for alert in timed.alerts()])
    if heard == "sent":
        assert outbox.send_due(timed, lambda *_: True) == 1
    assert forget.expired(timed) == (2 if heard == "by nobody" else 4)
    assert timed.messages(other.conversation_id) == []
    if heard == "by nobody":
        (alert,) = timed.alerts()
        assert [message.text for message in timed.passage(alert)] == ["我不想活了", "我在。"]
        clock[0] += timedelta(days=5)
        assert forget.expired(timed) == 2, "a week is the end"
    assert timed.alerts() == []


def test_the_pages_own_process_enforces_the_days_and_pays_what_is_owed(database: Database) -> None:
    """`python -m ui`, as a family runs it: no page is open, and a backup reads while it begins."""
    store = database.open(lambda: datetime.now(UTC) - timedelta(days=DAYS + 10))
    here = _exchange(store, family(store).id, "很久以前的话")
    words = _sealed(database, here)
    store.set_retention(DAYS)
    store.close()
    store = database.open()
    _exchange(store, 1, "今天的话", here.conversation_id)
    _settle_files(database)
    environment = {
        **os.environ,
        "DATABASE_URL": database.url,
        "MINDPAL_KEY_FILE": str(database.key_file),
        "MINDPAL_API_URL": f"http://127.0.0.1:{free_port()}/v1",
    }
    log = database.key_file.with_name("log")
    with log.open("wb") as told, _old_view(database):
        page = subprocess.Popen(
            [sys.executable, "-m", "ui", "--port", str(free_port())],
            cwd=ROOT,
            env=environment,
            stdout=told,
            stderr=told,
        )
        try:
            _until(lambda: len(store.messages(here.conversation_id)) == 2, page)
            assert forget.is_owed(store)
            assert any(_holds(database, gone) for gone in words)
        except BaseException:
            page.kill()
            raise
    try:
        _until(lambda: not forget.is_owed(store) and "gone from the files" in log.read_text(), page)
    finally:
        page.kill()
        page.wait()
    assert not any(_holds(database, gone) for gone in words)
    assert [message.text for message in store.messages(here.conversation_id)] == ["今天的话", "答今天的话"]
    assert [line.what for line in store.audited()] == ["expired: 2", f"days: {DAYS}"]
    store.close()
    lines = log.read_text()
    assert "retention messages=2" in lines
    assert "的话" not in lines


def _exchange(store: Store, child_id: int, words: str, here: int | None = None) -> Message:
    question = exchange.say(store, child_id, here, words)
    reply = exchange.begin_reply(store, question)
    assert reply is not None
    exchange.end_reply(store, reply, f"答{words}", "done")
    return question


def _sealed(database: Database, question: Message) -> list[bytes]:
    """A question and its answer as the database holds them: sealed, the same text is never the same twice."""
    told = "SELECT text FROM messages WHERE conversation_id = :here AND id >= :id"
    return [row[0].encode() for row in database.rows(told, here=question.conversation_id, id=question.id)]


def _name(database: Database, conversation_id: int) -> bytes:
    sealed: str = database.rows("SELECT name FROM conversations WHERE id = :id", id=conversation_id)[0][0]
    return sealed.encode()


def _statistics(database: Database) -> dict[str, str]:
    """What PostgreSQL tells of each column's values."""
    told = "SELECT tablename || '.' || attname, concat(most_common_vals, histogram_bounds) FROM pg_stats"
    return dict(database.rows(f"{told} WHERE schemaname = 'public'"))


def _settle_files(database: Database) -> None:
    """Before a deletion only: from SQLite's log into its file, from PostgreSQL's memory into its files.

    PostgreSQL looks at the rows first, as it does by itself: it keeps examples of what stands in them.
    """
    sqlite = database.url.startswith("sqlite")
    for act in ("PRAGMA wal_checkpoint(TRUNCATE)",) if sqlite else ("ANALYZE", "CHECKPOINT"):
        database.rows(act)


def _holds(database: Database, words: bytes) -> bool:
    """Whether the files hold these bytes: SQLite's with its log, PostgreSQL's tables.

    PostgreSQL's own log of changes is kept until it is recycled (SECURITY.md says so). Their two ends are looked for: a
    page's end may cut them. In a process of its own: one that opens and closes SQLite's files loses its locks on them.
    """
    asked: list[str | bytes] = [
        "grep",
        "-rqaF",
        "--exclude-dir=pg_wal",
        "-e",
        words[:40],
        "-e",
        words[-40:],
        str(database.files),
    ]
    return subprocess.run(asked, stderr=subprocess.DEVNULL).returncode == 0


def _size(database: Database) -> int:
    return sum(path.stat().st_size for path in database.files.rglob("*") if path.is_file())


@contextmanager
def _old_view(database: Database) -> Iterator[None]:
    """Another program, a backup as a rule, reads everything as it was when it began."""
    engine = create_engine(database.url, poolclass=NullPool)
    with engine.connect() as other:
        if engine.dialect.name == "sqlite":
            other.exec_driver_sql("BEGIN")
        else:
            other = other.execution_options(isolation_level="REPEATABLE READ")  # noqa: PLW2901
        other.execute(text("SELECT count(*) FROM messages"))
        yield
        other.rollback()


def _until(done: Callable[[], bool], page: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + PATIENCE_S
    while not done():
        assert page.poll() is None, "the page ended"
        assert time.monotonic() < until
        time.sleep(0.2)
