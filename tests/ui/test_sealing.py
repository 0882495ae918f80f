"""What a child said cannot be read without the key. Run: `pytest tests/ui/test_sealing.py`."""

import sqlite3
import stat
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from data.strict import BadInput
from tests.ui.databases import Database
from ui.database import url_for
from ui.sealing import Sealer, WrongKey, read_key
from ui.store import Store

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
    store.say(child_id, None, "我最喜欢的颜色是紫色")
    store.rename(1, "紫色的秘密")
    for word in ("紫色", "外婆"):
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


def test_a_database_of_the_first_revision_is_sealed_and_kept(tmp_path: Path) -> None:
    engine = create_engine(url_for(tmp_path, None))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    with sqlite3.connect(tmp_path / "mindpal.db") as old:
        old.execute("INSERT INTO children VALUES (1, '豆豆', '7-9', 'zh')")
        old.execute("INSERT INTO conversations VALUES (1, 1, '你好灵伴', '2026-11-01', '2026-11-01')")
        old.execute(
            "INSERT INTO messages (id, conversation_id, role, text, state, created)"
            " VALUES (1, 1, 'user', '你好灵伴', 'done', '2026-11-01')"
        )
    old.close()
    store = Store(url_for(tmp_path, None), tmp_path / "key")
    assert [found.title for found in store.conversations(1)] == ["你好灵伴"]
    assert [found.text for found in store.messages(1)] == ["你好灵伴"]
    assert store.children()[0].minutes_a_day == 60
    store.close()
    left = b"".join(path.read_bytes() for path in tmp_path.glob("mindpal.db*"))
    assert "你好灵伴".encode() not in left
