"""Opening the family's database, on a real SQLite file and a real PostgreSQL server. Run: `pytest tests/ui/test_database.py`."""

import sqlite3
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from data.strict import BadInput
from tests.ui.databases import Database, family
from ui import exchange, forget
from ui.database import Gone, Unreachable, url_for
from ui.store import Store
from ui.tables import Child, Household, Table


def test_the_migrations_make_exactly_the_tables_of_the_code(store: Store, database: Database) -> None:
    engine = create_engine(database.url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []
    engine.dispose()


def test_opening_again_keeps_everything(store: Store, child_id: int, database: Database) -> None:
    exchange.say(store, child_id, None, "你好")
    again = database.open()
    assert [found.title for found in again.conversations(child_id)] == ["你好"]
    again.close()


def test_every_connection_is_a_careful_one(store: Store, child_id: int, database: Database) -> None:
    """Not only the first, nor only the file: most of it is each connection's own setting, off where nobody asks."""
    sqlite = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "busy_timeout": 15_000}
    postgresql = {"lock_timeout": "15s", "synchronous_commit": "on"}
    careful, ask = (sqlite, "PRAGMA") if database.url.startswith("sqlite") else (postgresql, "SHOW")
    forget.chat(
        store, exchange.say(store, child_id, None, "你好").conversation_id
    )  # a scrub waits less, on a connection of its own
    with ExitStack() as together:
        sessions = [together.enter_context(store.reading()) for _ in range(6)]
        for session in sessions:
            found = {name: session.connection().exec_driver_sql(f"{ask} {name}").scalar_one() for name in careful}
            assert found == careful
        assert len({id(session.connection().connection.dbapi_connection) for session in sessions}) == len(sessions)


def test_a_newer_database_is_refused_with_a_sentence(database: Database) -> None:
    database.open().close()
    database.rows("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(BadInput, match="revision 9999, which is newer than this program; update MindPal"):
        database.open()


def test_the_familys_files_are_their_owners_only(tmp_path: Path) -> None:
    shared = tmp_path / "family"
    shared.mkdir(mode=0o755)
    url = url_for(shared, None)
    store = Store(url, shared / "key")
    child = family(store)
    exchange.say(store, child.id, None, "你好")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in shared.iterdir()}
    assert modes == dict.fromkeys(("key", "mindpal.db", "mindpal.db-shm", "mindpal.db-wal"), 0o600)
    store.close()
    (shared / "mindpal.db").chmod(0o640)
    assert url_for(shared, None) == url
    assert stat.S_IMODE((shared / "mindpal.db").stat().st_mode) == 0o640, "whoever chose another one keeps it"


def test_a_folder_that_cannot_be_made_and_a_server_that_is_not_there_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="the family's folder cannot be made"):
        url_for(tmp_path / "file" / "family", None)
    (tmp_path / "mindpal.db").symlink_to(tmp_path / "nowhere" / "mindpal.db")
    with pytest.raises(BadInput, match="the family's records cannot be made"):
        url_for(tmp_path, None)
    with pytest.raises(BadInput, match=r"postgresql.*:\*\*\*@.*the database cannot be opened"):
        Store(f"postgresql+psycopg://u:secret@/none?host={tmp_path}", tmp_path / "key")


def test_what_cannot_be_opened_now_is_a_sentence_for_a_start_and_a_moment_for_an_open_page(tmp_path: Path) -> None:
    """Tables that are yet to be made, and another program that holds them."""
    held = sqlite3.connect(tmp_path / "held.db", isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    with pytest.raises(BadInput, match=r"held\.db: the database cannot be opened: database is locked") as told:
        Store(f"sqlite:///{tmp_path / 'held.db'}", tmp_path / "key", patience_s=0.2)
    assert isinstance(told.value, Unreachable)
    held.close()


def test_records_that_are_held_between_their_tables_and_their_first_row_are_a_sentence_too(database: Database) -> None:
    database.open().close()
    database.rows(f"DELETE FROM {Household.__tablename__}")
    with database.held(), pytest.raises(BadInput, match="the database cannot be opened"):
        database.open(patience_s=0.2)


def test_a_program_that_holds_the_records_is_waited_for_and_then_it_is_one_word(
    store: Store, child_id: int, database: Database
) -> None:
    hasty = database.open(patience_s=0.2)
    with ThreadPoolExecutor(1) as patient:
        with database.held():
            with pytest.raises(Unreachable):
                exchange.say(hasty, child_id, None, "你好")
            waiting = patient.submit(exchange.say, store, child_id, None, "我等着")
            time.sleep(1)
            assert not waiting.done()
            assert hasty.conversations(child_id) == [], "reading goes on"
        assert waiting.result().text == "我等着"
    assert [found.title for found in hasty.conversations(child_id)] == ["我等着"]
    hasty.close()


def test_writers_of_one_process_take_turns_whichever_store_is_theirs(
    store: Store, child_id: int, database: Database
) -> None:
    """The page and its chores have one each: neither takes the other for a program that holds the records."""
    hasty = database.open(patience_s=0.2)
    with ThreadPoolExecutor(1) as chores:
        with store.writing() as session:
            session.get_one(Child, child_id).nickname = "果果"
            session.flush()
            waiting = chores.submit(exchange.say, hasty, child_id, None, "我等着")
            time.sleep(1)
        assert waiting.result().text == "我等着"
    hasty.close()


def test_an_error_of_the_database_names_no_value(store: Store, child_id: int) -> None:
    with pytest.raises(Gone) as told:
        exchange.say(store, child_id + 1, None, "我的秘密")
    assert "hidden" in str(told.value.__cause__)
    assert "2026" not in str(told.value.__cause__)
