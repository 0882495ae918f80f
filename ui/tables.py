"""The tables of the family's records. A child's words and a guardian's name are sealed (`ui/sealing.py`), in base64.

In: nothing. Out: SQLAlchemy classes, the same on SQLite and PostgreSQL. `ui/migrations` makes the tables, and sees to it
that PostgreSQL keeps no statistics of words and names: those would outlive their rows.
"""

from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from sqlalchemy import DateTime, ForeignKey, String, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

AgeBand = Literal["4-6", "7-9", "10-12"]
Language = Literal["zh", "en"]
Role = Literal["user", "assistant"]
# `replaced`: asked again or written anew; the child sees it no more, and neither does the model.
# `unjudged`: the child awaits no answer any more, but the guard has not read it.
State = Literal["done", "stopped", "waiting", "guarded", "replaced", "unjudged"]
UNREAD: tuple[State, ...] = ("waiting", "unjudged")  # of a question: the guard has yet to read it
Feedback = Literal["up", "down", "not_nice"]
Mood = Literal["great", "good", "so_so", "sad", "angry"]
# What the log of accesses tells of.
Deed = Literal[
    "transcript", "passage", "export", "delete conversation", "delete child", "delete all", "expired", "transcripts",
    "limits", "days", "channel added", "channel removed", "consent given", "consent withdrawn",
    "retention",  # of versions that deleted whole chats
]  # fmt: skip
Access = Literal["full", "alerts"]
AWAY = "away"  # the kind of alert that is about the server, and about no word of a child


class Moment(TypeDecorator[datetime]):
    """A moment, written and compared in UTC. SQLite forgets time zones: a local midnight would be taken for UTC's."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    """What all tables share: a number that names the row."""

    type_annotation_map: ClassVar = {datetime: Moment}

    id: Mapped[int] = mapped_column(primary_key=True)


class Numbered(Table):
    """A row that may be deleted while a page, a sender or the log still holds its number: no other row ever gets it."""

    __abstract__ = True
    __table_args__ = ({"sqlite_autoincrement": True},)


class Household(Table):
    """The one family of this database: its PIN, its settings, and a sealed word that tells whether the key fits."""

    __tablename__ = "household"

    key_check: Mapped[str] = mapped_column(Text)
    pin_hash: Mapped[str | None] = mapped_column(Text)  # sealed
    pin_tries: Mapped[int]
    pin_locked_until: Mapped[datetime | None]
    emergency: Mapped[str] = mapped_column(Text)  # sealed
    transcripts: Mapped[Access] = mapped_column(String(10))
    retention_days: Mapped[int]
    language: Mapped[Language] = mapped_column(String(2))  # the guardian's; each child has one of their own
    scrub_owed: Mapped[int]  # deletions that the database's files may still hold: see `ui/forget.py`


class ConsentRow(Table):
    """A guardian's yes: who, when, to which text; `withdrawn_at` ends it."""

    __tablename__ = "consents"

    guardian: Mapped[str] = mapped_column(Text)  # sealed
    given_at: Mapped[datetime]
    policy_version: Mapped[str] = mapped_column(String(20))
    withdrawn_at: Mapped[datetime | None]


class Child(Numbered):
    """A child who may talk to 灵伴, and the limits that the guardian set."""

    __tablename__ = "children"

    nickname: Mapped[str] = mapped_column(String(40))
    age_band: Mapped[AgeBand] = mapped_column(String(8))
    language: Mapped[Language] = mapped_column(String(2))
    avatar: Mapped[str] = mapped_column(String(20))
    minutes_a_day: Mapped[int]
    quiet_from: Mapped[str] = mapped_column(String(5))
    quiet_to: Mapped[str] = mapped_column(String(5))
    break_minutes: Mapped[int]
    blocked_topics: Mapped[str] = mapped_column(Text)  # one a line
    read_aloud: Mapped[bool]
    voice: Mapped[bool]


class ConversationRow(Numbered):
    """One conversation of one child. `hidden`: the child put it away; the guardian still finds it."""

    __tablename__ = "conversations"

    child_id: Mapped[int] = mapped_column(ForeignKey("children.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(Text)  # sealed
    created: Mapped[datetime]
    updated: Mapped[datetime] = mapped_column(index=True)
    hidden: Mapped[bool]


class MessageRow(Numbered):
    """One thing said. `waiting`: a question not yet answered, or a reply still growing."""

    __tablename__ = "messages"

    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    role: Mapped[Role] = mapped_column(String(10))
    text: Mapped[str] = mapped_column(Text)  # sealed
    state: Mapped[State] = mapped_column(String(10))
    action: Mapped[str | None] = mapped_column(String(40))
    category: Mapped[str | None] = mapped_column(String(80))
    contract: Mapped[str | None] = mapped_column(String(80))
    feedback: Mapped[Feedback | None] = mapped_column(String(10))
    created: Mapped[datetime]


class Alert(Numbered):
    """Something that the guardian should see. It points at the message; it holds no words of it."""

    __tablename__ = "alerts"

    message_id: Mapped[int] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"))
    category: Mapped[str] = mapped_column(String(80))
    created: Mapped[datetime]
    seen: Mapped[bool]


class Channel(Numbered):
    """Where alerts are sent: an address as `apprise` writes it. It holds a password, so it is sealed."""

    __tablename__ = "channels"

    address: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime]


class Delivery(Numbered):
    """One alert on its way to one channel: tried at `next_try`, until `sent`."""

    __tablename__ = "deliveries"

    alert_id: Mapped[int] = mapped_column(ForeignKey("alerts.id", ondelete="CASCADE"), index=True)
    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"))
    tries: Mapped[int]
    next_try: Mapped[datetime] = mapped_column(index=True)
    sent: Mapped[datetime | None]


class Visit(Numbered):
    """A stretch of time with 灵伴. `reminded`, `rested`: when the child last read what 灵伴 is, and last had a break."""

    __tablename__ = "visits"

    child_id: Mapped[int] = mapped_column(ForeignKey("children.id", ondelete="CASCADE"), index=True)
    began: Mapped[datetime]
    seen: Mapped[datetime] = mapped_column(index=True)
    reminded: Mapped[datetime | None]
    rested: Mapped[datetime | None]


class MoodRow(Table):
    """How a child said they felt."""

    __tablename__ = "moods"

    child_id: Mapped[int] = mapped_column(ForeignKey("children.id", ondelete="CASCADE"), index=True)
    mood: Mapped[Mood] = mapped_column(String(10))
    created: Mapped[datetime]


class Audit(Table):
    """What was looked at, exported, deleted or set, and when. Rows are only ever added: triggers refuse the rest."""

    __tablename__ = "audit"

    at: Mapped[datetime]
    what: Mapped[str] = mapped_column(String(40))
    child_id: Mapped[int | None]  # no foreign key: the line outlives the child's records
    conversation_id: Mapped[int | None]
