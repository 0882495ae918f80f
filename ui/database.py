"""Open the family's database: brought up to date, careful, one writer at a time, and deleted means gone.

In: a URL (`url_for` gives SQLite in the family folder, or `DATABASE_URL`). Out: sessions, SQLite or PostgreSQL alike.
Run: `database = Database(url, PATIENCE_S)`, then `database.migrate(sealer)`. `ui/store.py` keeps the records in it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from threading import Lock
from time import monotonic, sleep
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, func, select, text
from sqlalchemy.exc import IntegrityError, NoResultFound, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session

from data.strict import BadInput
from ui.sealing import Sealer
from ui.tables import Household

PATIENCE_S = 15  # another program that holds the records, a backup as a rule, is waited for so long
SCRUB_TRY_MS = 200  # one try at a clean file waits so long, and no longer: meanwhile nobody can write
SCRUB_AGAIN_S = 0.2  # and between two tries the children's words are written
TURN_S = 60  # a writer waits so long for the others of this process, which only a busy machine makes slow


class Unreachable(Exception):
    """The records cannot be read or written now: a full disk, a lock that lasts, a server that is gone. Try again."""


class NotOpened(BadInput, Unreachable):
    """The database cannot be opened now: whoever starts the page is told in a sentence, and an open page tries again."""


class Gone(Exception):
    """What was asked for, or what a new row belongs to, has been deleted meanwhile."""


class Database:
    """One database. Safe to share between threads. Once it is migrated, its sessions raise `Unreachable` or `Gone`."""

    def __init__(self, url: str, patience_s: float) -> None:
        # An error of the database is logged with its statement: without the values, which name a child.
        self._engine = create_engine(url, hide_parameters=True)
        self._sqlite = self._engine.dialect.name == "sqlite"
        careful = _careful_sqlite if self._sqlite else _careful_postgresql
        event.listen(self._engine, "connect", partial(careful, round(1000 * patience_s)))
        # SQLite's own waiting is no queue: of thirty writers, some waited three times as long as behind this lock.
        self._turn = _turn(Path(self._engine.url.database or "").resolve()) if self._sqlite else nullcontext()
        self._patience_s = patience_s

    def close(self) -> None:
        """Let go of it."""
        self._engine.dispose()

    def is_used(self) -> bool:
        """Whether it already holds sealed words: then a new key would be of no use. Raises `NotOpened`."""
        with self.opening(), self._engine.connect() as connection:
            if not self._engine.dialect.has_table(connection, Household.__tablename__):
                return False
            return bool(connection.execute(select(func.count()).select_from(Household)).scalar())

    def migrate(self, sealer: Sealer) -> None:
        """Bring the tables up to date. Raises `BadInput` when they are newer than this program, or `NotOpened`."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        scripts = ScriptDirectory.from_config(config)
        known = {script.revision for script in scripts.walk_revisions()}
        with self.opening(), self._engine.begin() as connection:
            stored = MigrationContext.configure(connection).get_current_revision()
            if stored is not None and stored not in known:
                raise BadInput(
                    f"{self._name()}: the database is at revision {stored}, which is newer than this program; update"
                    " MindPal, or open the database that belongs to this version."
                )
            if self._sqlite and stored != scripts.get_current_head():
                # Where a table is made anew, dropping the old one would empty those that point at it. This can be turned off
                # before a transaction only, for this connection, which is not given back to the others.
                connection.detach()
                connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
                # Without it a change of tables is no part of the transaction, and two pages may start at once.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            config.attributes["connection"], config.attributes["sealer"] = connection, sealer
            command.upgrade(config, "head")

    @contextmanager
    def opening(self) -> Iterator[None]:
        """What has to be done before the records are open: raises `NotOpened` where the database does not let it be done."""
        try:
            yield
        except OperationalError as error:
            raise NotOpened(f"{self._name()}: the database cannot be opened: {error.orig}.") from None
        except Unreachable as error:
            raise NotOpened(f"{self._name()}: the database cannot be opened: {error}.") from None

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for reading; rows stay readable after it."""
        with _translated(), Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose changes are committed at its end, or not at all."""
        with _translated(), self._turn, Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    def scrub(self, patience_s: float | None = None) -> bool:
        """Rewrite it without what was deleted; whether neither its tables nor SQLite's log hold it now.

        Somebody who reads with an old view, a backup as a rule, keeps the old pages in the files. They are waited for
        `patience_s`, and then it is False: try again later.
        """
        until = monotonic() + (self._patience_s if patience_s is None else patience_s)
        while not (done := self._scrubbed()) and monotonic() < until:
            sleep(SCRUB_AGAIN_S)
        return done

    def _scrubbed(self) -> bool:
        isolated = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        try:
            with _translated(), self._turn, isolated.connect() as connection:
                connection.detach()  # it waits less than the others, so it is not given back to them
                return _sqlite_scrubbed(connection) if self._sqlite else _postgresql_scrubbed(connection)
        except Unreachable:  # another program writes, or the disk is full
            return False

    def _name(self) -> str:
        return self._engine.url.render_as_string()  # without the password


def url_for(family: Path, database_url: str | None) -> str:
    """`database_url`, or a SQLite file in the family's folder. Both are made, for their owner only, if they are not there."""
    if database_url:
        return database_url
    file = family / "mindpal.db"
    try:
        family.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise BadInput(f"{family}: the family's folder cannot be made: {error.strerror}.") from None
    try:
        if not file.exists():  # SQLite would let everybody read it, and makes its log as the file is
            file.touch(mode=0o600)
    except OSError as error:
        raise BadInput(f"{file}: the family's records cannot be made: {error.strerror}.") from None
    return f"sqlite:///{family.resolve() / file.name}"


class _Turn:
    """One writer of this process at a time."""

    def __init__(self, patience_s: float) -> None:
        self._lock, self._patience_s = Lock(), patience_s

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=self._patience_s):
            raise Unreachable("WaitedTooLong")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@cache
def _turn(file: Path) -> _Turn:
    """The file's own, however often it is opened: the page and what is done beside it each have a store."""
    return _Turn(TURN_S)


@contextmanager
def _translated() -> Iterator[None]:
    """Raise one of our two errors for what a database may raise in many."""
    try:
        yield
    except OperationalError as error:
        raise Unreachable(type(error.orig).__name__) from error
    except NoConnection as error:  # all of them are in use, for half a minute
        raise Unreachable("NoConnection") from error
    except (IntegrityError, NoResultFound) as error:
        raise Gone(type(error).__name__) from error


def _careful_sqlite(patience_ms: int, connection: Any, _: object) -> None:
    # FULL because WAL with NORMAL can lose committed rows on power loss; secure_delete because deleted means gone.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(f"PRAGMA busy_timeout={patience_ms}")


def _sqlite_scrubbed(connection: Connection) -> bool:
    connection.exec_driver_sql(f"PRAGMA busy_timeout={SCRUB_TRY_MS}")
    # Emptied before, too: behind a reader that lasts, each try's copy of everything would lengthen the log.
    if not _log_emptied(connection):
        return False
    connection.exec_driver_sql("VACUUM")
    return _log_emptied(connection)


def _log_emptied(connection: Connection) -> bool:
    """Write SQLite's log into the file and cut it to nothing; its first column tells that somebody was in the way."""
    busy: int = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
    return not busy


def _postgresql_scrubbed(connection: Connection) -> bool:
    # VACUUM FULL copies a deleted row that an older view may still see, and says nothing of it.
    older = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
        " AND greatest(age(backend_xmin), age(backend_xid)) > age(CAST(CAST(:now AS text) AS xid))"
    )
    now = connection.exec_driver_sql("SELECT pg_snapshot_xmax(pg_current_snapshot())::xid::text").scalar_one()
    if connection.execute(older, {"now": now}).scalar_one():
        return False
    connection.exec_driver_sql(f"SET lock_timeout = {SCRUB_TRY_MS}")
    # Statistics that an older version left hold words, too; they are skipped where the database is somebody else's.
    for table in (*Household.metadata.tables, "pg_statistic"):
        connection.exec_driver_sql(f"VACUUM FULL {table}")
    return True


def _careful_postgresql(patience_ms: int, connection: Any, _: object) -> None:
    # Without it, a page would wait for a forgotten lock for ever and say nothing.
    connection.execute(f"SET lock_timeout = {patience_ms}")
    connection.commit()
