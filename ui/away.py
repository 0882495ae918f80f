"""Tell the guardian that nobody answers: a question has waited for an hour, so nobody judges what a child says.

In: the store. Out: the moment since when; one alert, of which the channels hear once, and which is gone when the
questions are answered, and not before. It holds no word of a child. Run: `tell(store)`, again and again (`ui/chores.py` does).
"""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, select

from ui.store import Store
from ui.tables import AWAY, UNREAD, Alert, MessageRow

AFTER = timedelta(hours=1)


def since(store: Store) -> datetime | None:
    """When the oldest of the questions was asked that have waited for too long; None while all is well."""
    if store.consent() is None:  # then nobody is asked
        return None
    with store.reading() as session:
        return session.scalar(select(func.min(MessageRow.created)).where(_waits_long(store)))


def tell(store: Store) -> None:
    """Write an alert when nobody answers, once; forget it when they do."""
    waits = since(store) is not None
    with store.writing() as session:
        told = session.scalars(select(Alert.id).where(Alert.category == AWAY).limit(1)).first() is not None
        if told and not waits:
            session.execute(delete(Alert).where(Alert.category == AWAY))
        elif waits and not told:
            oldest = select(MessageRow.id).where(_waits_long(store)).order_by(MessageRow.id).limit(1)
            for message_id in session.scalars(oldest):
                store.tell(session, message_id, AWAY)


def _waits_long(store: Store) -> ColumnElement[bool]:
    return MessageRow.state.in_(UNREAD) & (MessageRow.role == "user") & (MessageRow.created <= store.now() - AFTER)
