"""A SQLite file or a PostgreSQL server of Debian's packages, for tests of the store.

In: a folder. Out: a `Database` that opens stores and runs plain SQL. `postgres(folder)` starts a server and ends it.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text, update
from sqlalchemy.pool import NullPool

from ui.pin import hashed
from ui.records import Limits, Profile
from ui.store import Store
from ui.tables import Child, Table

PIN = "2468"
PIN_HASH = hashed(PIN)
# A child may chat at any time of the day.
ALLOWED = Limits(60, "00:00", "00:00", 30, "", read_aloud=True, voice=True)


@dataclass(frozen=True)
class Database:
    """One empty database and where its key lies."""

    url: str
    key_file: Path
    files: Path  # everything of the server that could hold a word

    def open(self, clock: Callable[[], datetime] | None = None, patience_s: float = 15) -> Store:
        return Store(self.url, self.key_file, clock, patience_s)

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        engine = create_engine(self.url, poolclass=NullPool)
        with engine.begin() as connection:
            done = connection.execute(text(sql), values)
            return [tuple(row) for row in done] if done.returns_rows else []

    @contextmanager
    def held(self) -> Iterator[None]:
        """Another program lets everybody read and nobody write."""
        engine = create_engine(self.url, poolclass=NullPool)
        tables = ", ".join(table.name for table in Table.metadata.sorted_tables)
        with engine.connect() as other:
            sqlite = engine.dialect.name == "sqlite"
            other.exec_driver_sql("BEGIN IMMEDIATE" if sqlite else f"LOCK TABLE {tables} IN EXCLUSIVE MODE")
            yield
            other.rollback()

    def holds(self, words: bytes) -> bool:
        """Whether these bytes stand anywhere in the database's files."""
        read = [path.read_bytes() for path in self.files.rglob("*") if path.is_file()]
        assert read
        return any(words in content for content in read)


def family(store: Store, nickname: str = "豆豆") -> Child:
    """A family with one child, as the first run leaves it, but without quiet hours: tests run at night too."""
    made = store.first_run("妈妈", "外婆 13800000000", PIN_HASH, "zh", Profile(nickname))
    assert made is not None
    with store.writing() as session:  # as it was from the first: no line in the log
        session.execute(update(Child).where(Child.id == made.id).values(asdict(ALLOWED)))
    child = store.child(made.id)
    assert child is not None
    return child


def postgres_programs() -> Path | None:
    """The folder of the newest PostgreSQL on this machine."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def postgres(programs: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """A server without a network port; gives the URL of its first database and the folder of its files."""
    data = folder / "data"
    folder.mkdir()
    as_owner: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to be root
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        as_owner = ["runuser", "-u", "postgres", "--"]

    def run(program: str, *words: str) -> None:
        subprocess.run([*as_owner, str(programs / program), *words], check=True, capture_output=True, cwd=folder)

    run("initdb", "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8")
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
    run("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}", data
    finally:
        run("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder)
