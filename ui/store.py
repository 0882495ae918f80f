"""Keep the family's records: consent, children, conversations, alerts. Every write is committed before it returns.

In: a database URL (`url_for` gives SQLite in the family folder, or `DATABASE_URL`). Out: frozen rows.
Run: `store = Store(url_for(Path("family"), None))`; opening brings the tables up to date, or says why it cannot.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import DateTime, ForeignKey, String, Text, create_engine, event, select, update
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import TypeDecorator

from data.strict import BadInput

POLICY_VERSION = "2026-11-24"
TITLE_CHARS = 24
ABANDONED_S = 10  # a reply is touched about once a second while it grows; ten silent seconds mean its writer is gone

AgeBand = Literal["4-6", "7-9", "10-12"]
Language = Literal["zh", "en"]
Role = Literal["user", "assistant"]
State = Literal["done", "stopped", "waiting", "guarded"]


class Moment(TypeDecorator[datetime]):
    """A moment in UTC. SQLite forgets time zones; this puts UTC back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    """What all tables share: a number that names the row."""

    type_annotation_map: ClassVar = {datetime: Moment}

    id: Mapped[int] = mapped_column(primary_key=True)


class Consent(Table):
    """A guardian's yes: who, when, to which text; `withdrawn_at` ends it."""

    __tablename__ = "consents"

    guardian: Mapped[str] = mapped_column(String(80))
    given_at: Mapped[datetime]
    policy_version: Mapped[str] = mapped_column(String(20))
    withdrawn_at: Mapped[datetime | None]


class Child(Table):
    """A child who may talk to 灵伴."""

    __tablename__ = "children"

    nickname: Mapped[str] = mapped_column(String(40))
    age_band: Mapped[AgeBand] = mapped_column(String(8))
    language: Mapped[Language] = mapped_column(String(2))


class Conversation(Table):
    """One conversation of one child."""

    __tablename__ = "conversations"

    child_id: Mapped[int] = mapped_column(ForeignKey("children.id", ondelete="CASCADE"), index=True)
    title: Mapped[str] = mapped_column(String(80))
    created: Mapped[datetime]
    updated: Mapped[datetime] = mapped_column(index=True)


class Message(Table):
    """One thing said. `waiting`: a question not yet answered, or a reply still growing."""

    __tablename__ = "messages"

    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    role: Mapped[Role] = mapped_column(String(10))
    text: Mapped[str] = mapped_column(Text)
    state: Mapped[State] = mapped_column(String(10))
    action: Mapped[str | None] = mapped_column(String(40))
    category: Mapped[str | None] = mapped_column(String(80))
    contract: Mapped[str | None] = mapped_column(String(80))
    created: Mapped[datetime]


class Alert(Table):
    """Something that the guardian should see. It points at the message; it holds no words of it."""

    __tablename__ = "alerts"

    message_id: Mapped[int] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"))
    category: Mapped[str] = mapped_column(String(80))
    created: Mapped[datetime]
    seen: Mapped[bool]


class Store:
    """The family's records. One per process; safe to share between threads."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _careful_sqlite)
        try:
            _migrate(self._engine)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    # the guardian

    def first_run(self, guardian: str, nickname: str, age_band: AgeBand, language: Language) -> Child:
        """Store the guardian's consent and the child's profile, both or neither."""
        child = Child(nickname=nickname, age_band=age_band, language=language)
        with self._write() as session:
            session.add(Consent(guardian=guardian, given_at=_now(), policy_version=POLICY_VERSION, withdrawn_at=None))
            session.add(child)
        return child

    def consent_again(self, guardian: str) -> None:
        """Store a new consent after a withdrawal; children and conversations are as they were."""
        with self._write() as session:
            session.add(Consent(guardian=guardian, given_at=_now(), policy_version=POLICY_VERSION, withdrawn_at=None))

    def consent(self) -> Consent | None:
        """The consent that holds now, or None: then nobody may chat."""
        with self._read() as session:
            holds = Consent.withdrawn_at.is_(None) & (Consent.policy_version == POLICY_VERSION)
            return session.scalars(select(Consent).where(holds).order_by(Consent.id.desc())).first()

    def withdraw(self) -> None:
        """End every consent, at once."""
        with self._write() as session:
            session.execute(update(Consent).where(Consent.withdrawn_at.is_(None)).values(withdrawn_at=_now()))

    def child(self) -> Child | None:
        """The child whose page this is: the newest profile."""
        with self._read() as session:
            return session.scalars(select(Child).order_by(Child.id.desc())).first()

    def alerts(self) -> list[Alert]:
        """Every alert, newest first."""
        with self._read() as session:
            return list(session.scalars(select(Alert).order_by(Alert.id.desc())))

    def alerts_seen(self) -> None:
        """The guardian has looked at the list."""
        with self._write() as session:
            session.execute(update(Alert).where(Alert.seen.is_(False)).values(seen=True))

    def last_contract(self) -> str | None:
        """The fingerprint that the newest answer carried."""
        with self._read() as session:
            return session.scalars(
                select(Message.contract).where(Message.contract.is_not(None)).order_by(Message.id.desc())
            ).first()

    # the conversation

    def conversations(self, child_id: int, limit: int = 30) -> list[Conversation]:
        """The child's conversations, the one spoken in last first."""
        with self._read() as session:
            mine = select(Conversation).where(Conversation.child_id == child_id)
            return list(
                session.scalars(mine.order_by(Conversation.updated.desc(), Conversation.id.desc()).limit(limit))
            )

    def conversation(self, child_id: int, conversation_id: int) -> Conversation | None:
        """This conversation, if it is this child's."""
        with self._read() as session:
            found = session.get(Conversation, conversation_id)
            return found if found is not None and found.child_id == child_id else None

    def messages(self, conversation_id: int) -> list[Message]:
        """What was said, in order."""
        with self._read() as session:
            said = select(Message).where(Message.conversation_id == conversation_id)
            return list(session.scalars(said.order_by(Message.id)))

    def say(self, child_id: int, conversation_id: int | None, text: str) -> Message:
        """Keep what the child said, in a new conversation when there is none yet. It waits for an answer."""
        with self._write() as session:
            if conversation_id is None:
                title = " ".join(text.split())[:TITLE_CHARS]
                started = Conversation(child_id=child_id, title=title, created=_now(), updated=_now())
                session.add(started)
                session.flush()
                conversation_id = started.id
            message = _message(conversation_id, "user", text)
            session.add(message)
            _touch(session, conversation_id)
        return message

    def begin_reply(self, question: Message) -> Message | None:
        """Open the reply to a waiting question; None when somebody else has answered it meanwhile."""
        with self._write() as session:
            claimed = session.execute(
                update(Message).where(Message.id == question.id, Message.state == "waiting").values(state="done")
            )
            if claimed.rowcount != 1:  # type: ignore[attr-defined]
                return None
            reply = _message(question.conversation_id, "assistant", "")
            session.add(reply)
            _touch(session, question.conversation_id)
        return reply

    def grow_reply(self, reply: Message, text: str) -> None:
        """Keep what has been said so far."""
        with self._write() as session:
            session.execute(update(Message).where(Message.id == reply.id).values(text=text))
            _touch(session, reply.conversation_id)

    def end_reply(
        self,
        reply: Message,
        text: str,
        state: State,
        action: str | None = None,
        category: str | None = None,
        contract: str | None = None,
    ) -> None:
        """Keep the reply as it ended; an alert is written with it when the guard saw a crisis."""
        with self._write() as session:
            session.execute(
                update(Message)
                .where(Message.id == reply.id)
                .values(text=text, state=state, action=action, category=category, contract=contract)
            )
            if action == "crisis":
                session.add(Alert(message_id=reply.id, category=category or action, created=_now(), seen=False))
            _touch(session, reply.conversation_id)

    def give_up(self, question: Message) -> None:
        """Wait no longer for an answer to this question."""
        with self._write() as session:
            session.execute(update(Message).where(Message.id == question.id).values(state="stopped"))

    def settle(self, conversation_id: int) -> None:
        """Mark replies whose writer is gone (a killed page) as stopped; what they said stays."""
        with self._write() as session:
            found = session.get_one(Conversation, conversation_id)
            if _now() - found.updated > timedelta(seconds=ABANDONED_S):
                growing = (Message.conversation_id == conversation_id) & (Message.role == "assistant")
                session.execute(update(Message).where(growing, Message.state == "waiting").values(state="stopped"))

    @contextmanager
    def _read(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session


def url_for(family: Path, database_url: str | None) -> str:
    """`database_url`, or a SQLite file in the family's folder, which is made if it is not there."""
    if database_url:
        return database_url
    try:
        family.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise BadInput(f"{family}: the family's folder cannot be made: {error.strerror}.") from None
    return f"sqlite:///{family.resolve() / 'mindpal.db'}"


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with engine.begin() as connection:
        stored = MigrationContext.configure(connection).get_current_revision()
        if stored is not None and stored not in known:
            raise BadInput(
                f"{engine.url.render_as_string()}: the database is at revision {stored}, which is newer than this"
                " program; update MindPal, or open the database that belongs to this version."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _careful_sqlite(connection: Any, _: object) -> None:
    # FULL because WAL with NORMAL can lose committed rows on power loss; secure_delete because deleted means gone.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _message(conversation_id: int, role: Role, text: str) -> Message:
    return Message(conversation_id=conversation_id, role=role, text=text, state="waiting", created=_now())


def _touch(session: Session, conversation_id: int) -> None:
    session.execute(update(Conversation).where(Conversation.id == conversation_id).values(updated=_now()))


def _now() -> datetime:
    return datetime.now(UTC)
