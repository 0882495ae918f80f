"""An end to what is kept: a chat, a child, everything, or what is past the guardian's days. Gone from the files, too.

In: the store. Out: nothing of it, neither in the tables nor in the database's files. Where the files cannot be
rewritten at once (somebody reads with an old view, the disk is full) that is owed: `household.scrub_owed` counts such
deletions, the parents' page tells it, and `ui/chores.py` tries again.
Run: `forget.chat(store, 7)`.
"""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import groupby

from sqlalchemy import Row, delete, exists, select, update
from sqlalchemy.orm import Session

from ui.outbox import unheard
from ui.store import Store, blank, title
from ui.tables import (
    UNREAD,
    Alert,
    Channel,
    Child,
    ConsentRow,
    ConversationRow,
    Household,
    MessageRow,
    MoodRow,
    Role,
    State,
    Visit,
)

# However few the guardian's days are: a server that was off over a weekend still hears of a crisis.
LEFT_FOR = timedelta(days=7)
MANY = 1000  # rows named in one statement; SQLite's limit is 32,766

log = logging.getLogger("mindpal")

Said = Row[int, int, Role, State, datetime]


def chat(store: Store, conversation_id: int) -> None:
    """Delete a conversation and its alerts."""
    with store.writing() as session:
        child_id = session.get_one(ConversationRow, conversation_id).child_id
        session.execute(delete(ConversationRow).where(ConversationRow.id == conversation_id))
        store.note(session, "delete conversation", child_id, conversation_id)
        _owe(session)
    _scrub_now(store)


def child(store: Store, child_id: int) -> None:
    """Delete a child and everything of theirs."""
    with store.writing() as session:
        session.execute(delete(Child).where(Child.id == child_id))
        store.note(session, "delete child", child_id)
        _owe(session)
    _scrub_now(store)


def everything(store: Store) -> None:
    """Delete everything but the log of what was done; the next page is the first run's."""
    with store.writing() as session:
        _owe(session)
        owed = session.scalars(select(Household.scrub_owed)).one()  # a scrub that is under way must not pay this one
        for table in (Channel, Child, ConsentRow, Household):
            session.execute(delete(table))
        home = blank(store.sealer)
        home.scrub_owed = owed
        session.add(home)
        store.note(session, "delete all")
    _scrub_now(store)


def expired(store: Store) -> int:
    """Delete what is older than the guardian's number of days; how many messages that were.

    An exchange, a question with what was answered, leaves as a whole when its last word is too old: an alert keeps the
    words that it is about. A question that nobody has read waits for that for a week at least, and an alert of which nobody
    has heard as long as it may be sent.
    The files are not waited for: alerts are sent by the same job, which rewrites them at its next try.
    """
    now = store.now()
    start = now - timedelta(days=store.household().retention_days)
    with store.writing() as session:
        gone = _old_messages(store, session, start, now)
        for first in range(0, len(gone), MANY):
            session.execute(delete(MessageRow).where(MessageRow.id.in_(gone[first : first + MANY])))
        emptied = ~exists().where(MessageRow.conversation_id == ConversationRow.id)
        others = (
            delete(ConversationRow).where(emptied),
            delete(Visit).where(Visit.seen < start),
            delete(MoodRow).where(MoodRow.created < start),
        )
        more = [session.execute(other).rowcount for other in others]  # type: ignore[attr-defined]
        if gone:
            store.note(session, "expired", detail=str(len(gone)))
        if gone or any(more):
            _owe(session)
    return len(gone)


def is_owed(store: Store) -> bool:
    """Whether something that was deleted may still lie in the database's files."""
    return store.household().scrub_owed > 0


def scrub(store: Store, patience_s: float | None = None) -> bool:
    """Rewrite the database's files if that is owed; whether it is owed no longer."""
    owed = store.household().scrub_owed
    if owed and not store.scrub(patience_s):
        return False
    if owed:
        with store.writing() as session:
            # A deletion that came meanwhile has counted itself on top, and stays owed.
            session.execute(update(Household).where(Household.scrub_owed == owed).values(scrub_owed=0))
    return True


def _owe(session: Session) -> None:
    session.execute(update(Household).values(scrub_owed=Household.scrub_owed + 1))


def _scrub_now(store: Store) -> None:
    if not scrub(store):
        log.warning("deleted, but another program still holds the old pages of the files: tried again until it is done")


def _old_messages(store: Store, session: Session, start: datetime, now: datetime) -> list[int]:
    """What is to leave. A chat that stays is named by what stays, unless the child has given it a name."""
    touched = select(MessageRow.conversation_id).where(MessageRow.created < start)
    said = (
        select(MessageRow.id, MessageRow.conversation_id, MessageRow.role, MessageRow.state, MessageRow.created)
        .where(MessageRow.conversation_id.in_(touched))
        .order_by(MessageRow.conversation_id, MessageRow.id)
    )
    held = set(session.scalars(select(Alert.message_id).where(unheard(now))))
    gone: list[int] = []
    for _, messages in groupby(session.execute(said).all(), key=lambda message: message.conversation_id):
        exchanges = _exchanges(messages)
        past = [_is_past(exchange, held, start, now) for exchange in exchanges]
        gone += [message.id for exchange, old in zip(exchanges, past, strict=True) if old for message in exchange]
        if past[0] and not all(past):
            _name_anew(store, session, exchanges[0][0], exchanges[past.index(False)][0])
    return gone


def _exchanges(messages: Iterable[Said]) -> list[list[Said]]:
    exchanges: list[list[Said]] = []
    for message in messages:
        if message.role == "user" or not exchanges:
            exchanges.append([])
        exchanges[-1].append(message)
    return exchanges


def _is_past(exchange: list[Said], held: set[int], start: datetime, now: datetime) -> bool:
    return all(
        message.created < start
        and message.id not in held
        and not (message.role == "user" and message.state in UNREAD and message.created > now - LEFT_FOR)
        for message in exchange
    )


def _name_anew(store: Store, session: Session, was: Said, now: Said) -> None:
    chat = session.get_one(ConversationRow, was.conversation_id)
    first, next_first = (store.sealer.open(session.get_one(MessageRow, said.id).text) for said in (was, now))
    if store.sealer.open(chat.name) == title(first):
        chat.name = store.sealer.seal(title(next_first))
