"""What becomes of a question: kept as it is said, answered or left, asked again. Each act is one transaction.

In: the store, what a child said, what 灵伴 answers. Out: messages; an alert together with the reply that it is about.
Run: `reply = begin_reply(store, say(store, child_id, None, "你好"))`, `grow_reply` while it is written, `end_reply` once.
`State` (`ui/tables.py`) names what may become of a message. Any of these raises `Gone` for a message that was deleted.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import Update, case, select, update
from sqlalchemy.orm import Session

from ui.database import Gone
from ui.records import Message
from ui.store import Store, title
from ui.tables import Child, ConversationRow, Feedback, MessageRow, Role, State

TYPED_CHARS = 2000  # what a field lets a child type at once
# What is kept of a message at most. Five minutes of speech are a third of it, and the server takes it however its characters
# are escaped: twelve bytes each are less than `SENT_BYTES` of `ui/companion/talk.py`.
SAID_CHARS = 16_000
LEFT_AFTER = timedelta(minutes=2)  # an open page asks a sleeping server again every few seconds
ABANDONED_S = 20  # a reply is touched every few seconds while it grows; twenty silent ones mean its writer is gone


def say(store: Store, child_id: int, conversation_id: int | None, words: str) -> Message:
    """Keep what the child said, in a new conversation when there is none yet. It waits for an answer."""
    words = words[:SAID_CHARS]
    with store.writing() as session:
        store.check_consent(session)
        if conversation_id is None:
            name = store.sealer.seal(title(words))
            started = ConversationRow(
                child_id=child_id, name=name, created=store.now(), updated=store.now(), hidden=False
            )
            session.add(started)
            session.flush()
            conversation_id = started.id
        row = _row(store, conversation_id, "user", words)
        session.add(row)
        _touch(store, session, conversation_id)
        session.flush()
        return store.message(row)


def ask_again(store: Store, question: Message, words: str | None = None) -> Message:
    """Let the last question wait for an answer again, as it was or in other words; the old pair is put aside.

    Raises `Gone` when another page has asked again, or something else, meanwhile: nothing that was said is put aside
    by a button that did not show it.
    """
    # The guard has yet to read the words of an unjudged one.
    aside = case((MessageRow.state == "unjudged", "unjudged"), else_="replaced")
    asked = question.text if words is None else words[:SAID_CHARS]
    with store.writing() as session:
        store.check_consent(session)
        there = MessageRow.state != "replaced"
        _only(session.execute(_this(question).where(there).values(state="replaced" if words is None else aside)))
        after = (MessageRow.conversation_id == question.conversation_id) & (MessageRow.id > question.id) & there
        later = session.execute(select(MessageRow.id, MessageRow.role, MessageRow.state).where(after)).all()
        if any(found.role == "user" or found.state == "waiting" for found in later):
            raise Gone("Something else was said meanwhile.")
        # By their numbers: PostgreSQL would show this statement what was said after the one above had looked.
        seen = MessageRow.id.in_([found.id for found in later])
        session.execute(update(MessageRow).where(seen).values(state="replaced"))
        row = _row(store, question.conversation_id, "user", asked)
        session.add(row)
        _touch(store, session, question.conversation_id)
        session.flush()
        return store.message(row)


def begin_reply(
    store: Store,
    question: Message,
    words: str = "",
    state: State = "waiting",
    action: str | None = None,
    category: str | None = None,
    contract: str | None = None,
    *,
    judged: bool = True,
) -> Message | None:
    """Open the reply to a waiting question; None when somebody else has answered it meanwhile.

    A reply that is known whole is kept at once as it ends, with its alert. `judged`: whether the guard has read the
    question; if not, it waits for that alone.
    """
    asked: State = "done" if judged else "unjudged"
    with store.writing() as session:
        claimed = session.execute(_this(question).where(MessageRow.state == "waiting").values(state=asked))
        if claimed.rowcount != 1:  # type: ignore[attr-defined]
            return None
        row = _row(store, question.conversation_id, "assistant", words)
        row.state, row.action, row.category, row.contract = state, action, category, contract
        session.add(row)
        _touch(store, session, question.conversation_id)
        session.flush()
        if action == "crisis":
            store.tell(session, row.id, category or action)
        return store.message(row)


def grow_reply(store: Store, reply: Message, words: str) -> None:
    """Keep what has been said so far."""
    with store.writing() as session:
        _only(session.execute(_this(reply).values(text=store.sealer.seal(words))))
        _touch(store, session, reply.conversation_id)


def end_reply(
    store: Store,
    reply: Message,
    words: str,
    state: State,
    action: str | None = None,
    category: str | None = None,
    contract: str | None = None,
) -> None:
    """Keep the reply as it ended; an alert is written with it when the guard saw a crisis."""
    with store.writing() as session:
        ended = _this(reply).values(
            text=store.sealer.seal(words), state=state, action=action, category=category, contract=contract
        )
        _only(session.execute(ended))
        if action == "crisis":
            store.tell(session, reply.id, category or action)
        _touch(store, session, reply.conversation_id)


def judged(
    store: Store, question: Message, words: str, action: str | None, category: str | None, contract: str | None
) -> None:
    """The guard has read a question of which the child awaits no answer. After a crisis there is one all the same."""
    with store.writing() as session:
        read = session.execute(_this(question).where(MessageRow.state == "unjudged").values(state="done"))
        if action != "crisis" or read.rowcount != 1:  # type: ignore[attr-defined]
            return
        later = (MessageRow.conversation_id == question.conversation_id) & (MessageRow.id > question.id)
        left = (MessageRow.role == "assistant") & MessageRow.state.in_(("stopped", "replaced"))
        reply = session.scalars(select(MessageRow).where(later, left).order_by(MessageRow.id).limit(1)).one()
        if reply.state != "replaced":
            reply.state = "guarded"
        reply.text, reply.action = store.sealer.seal(words), action
        reply.category, reply.contract = category, contract
        reply.created = store.now()  # of the guard's answer: it counts for a day, though it comes after a weekend
        store.tell(session, reply.id, category or action)
        _touch(store, session, question.conversation_id)


def give_up(store: Store, question: Message) -> None:
    """Wait no longer for an answer to this question."""
    with store.writing() as session:
        session.execute(_this(question).values(state="stopped"))


def left_behind(store: Store) -> list[tuple[Child, Message]]:
    """Questions that nobody has read, and of which no page takes care; oldest first."""
    closed = (MessageRow.state == "waiting") & (MessageRow.created < store.now() - LEFT_AFTER)
    with store.reading() as session:
        found = session.execute(
            select(Child, MessageRow)
            .join(ConversationRow, ConversationRow.child_id == Child.id)
            .join(MessageRow, MessageRow.conversation_id == ConversationRow.id)
            .where(MessageRow.role == "user", (MessageRow.state == "unjudged") | closed)
            .order_by(MessageRow.id)
        )
        return [(child, store.message(row)) for child, row in found]


def settle(store: Store, conversation_id: int) -> None:
    """Mark replies whose writer is gone (a killed page) as stopped; what they said stays."""
    with store.reading() as session:
        silent = store.now() - session.get_one(ConversationRow, conversation_id).updated
    if silent > timedelta(seconds=ABANDONED_S):
        growing = (MessageRow.conversation_id == conversation_id) & (MessageRow.role == "assistant")
        with store.writing() as session:
            session.execute(update(MessageRow).where(growing, MessageRow.state == "waiting").values(state="stopped"))


def feedback(store: Store, message: Message, mark: Feedback | None) -> None:
    """Keep what the child thinks of a reply; "this was not nice" tells the guardian."""
    with store.writing() as session:
        _only(session.execute(_this(message).values(feedback=mark)))
        if mark == "not_nice":
            store.tell(session, message.id, "not_nice")


def _row(store: Store, conversation_id: int, role: Role, words: str) -> MessageRow:
    return MessageRow(
        conversation_id=conversation_id,
        role=role,
        text=store.sealer.seal(words),
        state="waiting",
        action=None,
        category=None,
        contract=None,
        feedback=None,
        created=store.now(),
    )


def _touch(store: Store, session: Session, conversation_id: int) -> None:
    session.execute(update(ConversationRow).where(ConversationRow.id == conversation_id).values(updated=store.now()))


def _this(message: Message) -> Update:
    return update(MessageRow).where(MessageRow.id == message.id)


def _only(changed: Any) -> None:
    if changed.rowcount != 1:
        raise Gone("The message was deleted meanwhile.")
