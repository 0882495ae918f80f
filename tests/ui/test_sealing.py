"""What a child said cannot be read without the key. Run: `pytest tests/ui/test_sealing.py`."""

import stat
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError

from data.strict import BadInput
from tests.ui.databases import PIN, Database
from ui import exchange, forget, pin
from ui.database import Database as Opened
from ui.records import Profile
from ui.sealing import Sealer, WrongKey, read_key
from ui.store import KEY_CHECK, POLICY_VERSION, Store
from ui.tables import Table

MIGRATIONS = Path(__file__).parents[2] / "ui" / "migrations"


def test_a_text_is_opened_by_its_key_only_and_a_changed_one_by_none() -> None:
    sealer = Sealer(b"1" * 32)
    sealed = sealer.seal("你好")
    assert sealed != sealer.seal("你好")
    assert sealer.open(sealed) == "你好"
    for key, changed in ((b"2" * 32, sealed), (b"1" * 32, "A" + sealed[1:]), (b"1" * 32, "你好"), (b"1" * 32, "")):
        with pytest.raises(WrongKey):
            Sealer(key).open(changed)


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key"
    made = read_key(path, make=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key(path, make=True) == made
    assert [found.name for found in path.parent.iterdir()] == ["key"]


def test_no_word_lies_open_in_the_database(store: Store, child_id: int, database: Database) -> None:
    exchange.say(store, child_id, None, "我最喜欢的颜色是紫色")
    store.rename(1, "紫色的秘密")
    for word in ("紫色", "外婆", "妈妈"):
        assert not database.holds(word.encode())


def test_a_missing_wrong_or_broken_key_is_one_sentence(store: Store, child_id: int, database: Database) -> None:
    kept = database.key_file.read_text()
    database.key_file.unlink()
    with pytest.raises(BadInput, match="the key of the family's records is missing; put back the file"):
        database.open()
    assert not database.key_file.exists(), "a new key would hide that the old one is lost"
    read_key(database.key_file, make=True)
    with pytest.raises(BadInput, match="this key does not fit the family's records"):
        database.open()
    database.key_file.write_text("short")
    with pytest.raises(BadInput, match="not a key of MindPal"):
        database.open()
    database.key_file.write_text(kept)
    database.open().close()


def test_a_database_of_the_first_revision_is_sealed_and_kept(database: Database) -> None:
    _upgrade(database, "0001")
    day = "2026-11-01"
    for row in (
        "INSERT INTO consents VALUES (1, '王小明的妈妈', :day, '2020-01-01', NULL)",
        "INSERT INTO children VALUES (1, '豆豆', '7-9', 'zh')",
        "INSERT INTO conversations VALUES (1, 1, '你好灵伴', :day, :day)",
        "INSERT INTO messages (id, conversation_id, role, text, state, created)"
        " VALUES (1, 1, 'user', '你好灵伴', 'done', :day)",
    ):
        database.rows(row, **({"day": day} if ":day" in row else {}))
    store = database.open()
    assert [found.title for found in store.conversations(1)] == ["你好灵伴"]
    assert [found.text for found in store.messages(1)] == ["你好灵伴"]
    assert store.children()[0].minutes_a_day == 60
    assert [found.guardian for found in store.consents()] == ["王小明的妈妈"]
    _no_longer_in_the_clear(store, database, "你好灵伴", "王小明")


def test_names_of_the_second_revision_are_sealed_where_they_lie(database: Database) -> None:
    database.key_file.parent.mkdir(exist_ok=True)
    key = read_key(database.key_file, make=True)
    _second(database, Sealer(key))
    store = database.open()
    assert [(found.guardian, found.withdrawn_at is None) for found in store.consents()] == [
        ("李爸爸", True),
        ("王妈妈", False),
    ]
    assert store.emergency() == "外婆 13800000000"
    assert store.household().language == "en", "the newest child's, in which the parents' area was drawn"
    _no_longer_in_the_clear(store, database, "王妈妈", "李爸爸")


def test_a_migration_that_breaks_off_leaves_the_database_as_it_was(database: Database) -> None:
    """Half the names sealed would be sealed twice by the next start, and nobody could read them."""
    key = read_key(database.key_file, make=True)
    _second(database, Sealer(key))
    before = database.rows("SELECT * FROM consents")

    class Broken(Sealer):
        def seal(self, text: str) -> str:
            if text == "李爸爸":
                raise RuntimeError("the disk is full")
            return super().seal(text)

    opened = Opened(database.url, 1)
    with pytest.raises(RuntimeError):
        opened.migrate(Broken(key))
    opened.close()
    assert database.rows("SELECT * FROM consents") == before
    store = database.open()
    assert [found.guardian for found in store.consents()] == ["李爸爸", "王妈妈"]
    store.close()


def test_the_third_revisions_rows_are_kept_and_their_numbers_are_given_to_no_other(database: Database) -> None:
    """A child and a chat that were deleted, of whom the log tells; and rows in every table that point at one another."""
    sealer = Sealer(read_key(database.key_file, make=True))
    _third(database, sealer)
    tables = [table.name for table in Table.metadata.sorted_tables if table.name != "household"]
    before = {name: database.rows(f"SELECT * FROM {name} ORDER BY id") for name in tables}
    assert all(before.values())
    store = database.open()
    assert {name: database.rows(f"SELECT * FROM {name} ORDER BY id") for name in tables} == before
    assert [found.text for found in store.messages(1)] == ["我不想活了", "我在。"]
    engine = create_engine(database.url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []
        if engine.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    engine.dispose()
    with store.reading() as session:
        if database.url.startswith("sqlite"):
            assert session.connection().exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
    assert store.add_child(Profile("果果")).id == 4
    assert exchange.say(store, 2, None, "你好").conversation_id == 4
    with pytest.raises(DBAPIError, match="only ever added to"):
        database.rows("DELETE FROM audit")
    forget.child(store, 1)
    emptied = ("messages", "alerts", "deliveries", "visits", "moods")
    assert [database.rows(f"SELECT count(*) FROM {name}") for name in emptied] == [
        [(count,)] for count in (2, 0, 0, 0, 0)
    ]
    assert [found.title for found in store.conversations(2)] == ["你好", "妹妹的"]
    store.close()


def test_the_pin_of_the_fifth_revision_is_sealed_and_still_opens(database: Database) -> None:
    sealer = Sealer(read_key(database.key_file, make=True))
    pin_hash = _fifth(database, sealer)
    store = database.open()
    kept = store.household().pin_hash
    assert kept is not None
    assert sealer.open(kept) == pin_hash
    assert (pin.check(store, "0000"), pin.check(store, PIN)) == (pin.Wrong(4), pin.Opened(missed=1))
    _no_longer_in_the_clear(store, database, pin_hash)


def test_a_key_that_does_not_fit_seals_nothing(database: Database) -> None:
    """A PIN sealed with it would open nothing any more, and a guardian's name could not be read."""
    key = read_key(database.key_file, make=True)
    pin_hash = _fifth(database, Sealer(key))
    kept = database.key_file.read_text()
    database.key_file.unlink()
    read_key(database.key_file, make=True)
    with pytest.raises(BadInput, match="this key does not fit the family's records"):
        database.open()
    assert database.rows("SELECT pin_hash FROM household") == [(pin_hash,)]
    database.key_file.write_text(kept)
    store = database.open()
    assert pin.check(store, PIN) == pin.Opened()
    store.close()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_statistics_that_the_fifth_revision_left_hold_no_name_any_more(database: Database) -> None:
    _fifth(database, Sealer(read_key(database.key_file, make=True)))
    database.rows("UPDATE children SET nickname = '小明明' WHERE id = 1")
    known = "SELECT count(*) FROM pg_stats WHERE attname = 'nickname' AND histogram_bounds::text LIKE '%小明明%'"
    database.rows("ANALYZE")
    database.rows("CHECKPOINT")
    assert (database.rows(known), database.holds("小明明".encode())) == ([(1,)], True)
    store = database.open()
    assert database.rows(known) == [(0,)]
    database.rows("DELETE FROM children WHERE id = 1")
    _no_longer_in_the_clear(store, database, "小明明")


def _upgrade(database: Database, revision: str, sealer: Sealer | None = None) -> None:
    engine = create_engine(database.url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"], config.attributes["sealer"] = connection, sealer
        command.upgrade(config, revision)
    engine.dispose()


def _second(database: Database, sealer: Sealer) -> None:
    """A family's database as the version before left it, with two guardians and two children."""
    _upgrade(database, "0002", sealer)
    database.rows(
        "INSERT INTO household (id, key_check, pin_tries, emergency, transcripts, retention_days)"
        " VALUES (1, :check, 0, :emergency, 'full', 180)",
        check=sealer.seal(KEY_CHECK),
        emergency=sealer.seal("外婆 13800000000"),
    )
    for nickname, language in (("豆豆", "zh"), ("Bean", "en")):
        database.rows(
            "INSERT INTO children (nickname, age_band, language) VALUES (:nickname, '7-9', :language)",
            nickname=nickname,
            language=language,
        )
    database.rows("INSERT INTO consents VALUES (1, '王妈妈', '2026-11-01', '2026-11-24', '2026-11-02')")
    database.rows(
        "INSERT INTO consents VALUES (2, '李爸爸', '2026-11-03', :version, NULL)", version=POLICY_VERSION
    )  # it holds


def _third(database: Database, sealer: Sealer) -> None:
    """A family's database as the version before left it: two children and one deleted, a crisis, an address."""
    _second(database, sealer)
    _upgrade(database, "0003", sealer)
    day = "2026-11-04 10:00:00"
    sealed = {word: sealer.seal(word) for word in ("豆豆的", "妹妹的", "我不想活了", "我在。", "json://127.0.0.1:9/")}
    database.rows("INSERT INTO children (nickname, age_band, language) VALUES ('走了', '7-9', 'zh')")
    for child, name in ((1, "豆豆的"), (2, "妹妹的"), (3, "豆豆的")):
        database.rows(
            "INSERT INTO conversations (child_id, name, created, updated) VALUES (:child, :name, :day, :day)",
            child=child, name=sealed[name], day=day,
        )  # fmt: skip
    for chat, role, text in ((1, "user", "我不想活了"), (1, "assistant", "我在。"), (2, "user", "我在。")):
        database.rows(
            "INSERT INTO messages (conversation_id, role, text, state, created) VALUES (:chat, :role, :text, 'done', :day)",
            chat=chat, role=role, text=sealed[text], day=day,
        )  # fmt: skip
    database.rows(
        "INSERT INTO alerts (message_id, category, created, seen) VALUES (2, 'self_harm', :day, FALSE)", day=day
    )
    database.rows(
        "INSERT INTO channels (address, created) VALUES (:address, :day)",
        address=sealed["json://127.0.0.1:9/"],
        day=day,
    )
    database.rows("INSERT INTO deliveries (alert_id, channel_id, tries, next_try) VALUES (1, 1, 3, :day)", day=day)
    database.rows("INSERT INTO visits (child_id, began, seen) VALUES (1, :day, :day)", day=day)
    database.rows("INSERT INTO moods (child_id, mood, created) VALUES (1, 'sad', :day)", day=day)
    database.rows("DELETE FROM conversations WHERE child_id = 3")
    database.rows("DELETE FROM children WHERE id = 3")
    database.rows(
        "INSERT INTO audit (at, what, child_id, conversation_id) VALUES (:day, 'delete conversation', 3, 3)", day=day
    )


def _fifth(database: Database, sealer: Sealer) -> str:
    """A family's database as the version before left it; gives the PIN's hash, kept as argon2 writes it."""
    _third(database, sealer)
    _upgrade(database, "0005", sealer)
    pin_hash = pin.hashed(PIN)
    database.rows("UPDATE household SET pin_hash = :pin", pin=pin_hash)
    return pin_hash


def _no_longer_in_the_clear(store: Store, database: Database, *words: str) -> None:
    """What a file still holds after the change of tables is owed, and the page's process pays it at its start."""
    assert forget.is_owed(store)
    assert forget.scrub(store)
    read = b"".join(
        path.read_bytes() for path in database.files.rglob("*") if path.is_file() and "pg_wal" not in path.parts
    )
    for word in words:
        assert word.encode() not in read
    store.close()
