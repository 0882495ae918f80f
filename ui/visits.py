"""The time that a child spends with 灵伴, counted from what the child does. In: the store. Out: visits, seconds.

Run: `visits.act(store, child_id)` at each act; `visits.seconds_since(store, child_id, midnight)`.
"""

from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ui.store import Store
from ui.tables import Child, Visit

# Acts closer together than this belong to one visit. Each visit counts a minute more than from its first act to its
# last: the reading after the last one.
SAME_VISIT = timedelta(minutes=5)
SAME_ACT = timedelta(seconds=3)  # acts so close together are counted once: a page that draws itself twice writes once
READING = timedelta(minutes=1)


def act(store: Store, child_id: int) -> Visit:
    """Count an act of the child: the running visit goes on, or a new one begins."""
    now = store.now()
    if (running := last(store, child_id)) is not None and abs(now - running.seen) < SAME_ACT:
        return running
    with store.writing() as session:
        # The child's row is taken first: two open pages would begin two visits, and count the same minute twice.
        session.execute(update(Child).where(Child.id == child_id).values(nickname=Child.nickname))
        running = _last(session, child_id)
        # A clock that was set back finds `seen` in the future. That visit counts, and another one begins: going on with it
        # would count nothing until the clock is there again.
        if running is not None and abs(now - running.seen) < SAME_VISIT:
            running.seen = max(running.seen, now)
            return running
        begun = Visit(child_id=child_id, began=now, seen=now, reminded=None, rested=None)
        session.add(begun)
    return begun


def newest(store: Store, child_id: int) -> Visit:
    """The newest visit, running or not, without counting an act; a first one when there was none."""
    return last(store, child_id) or act(store, child_id)


def last(store: Store, child_id: int) -> Visit | None:
    """The newest visit, running or not; None when there was none."""
    with store.reading() as session:
        return _last(session, child_id)


def since(store: Store, child_id: int, start: datetime) -> list[Visit]:
    """The child's visits that ended after `start`, in order."""
    with store.reading() as session:
        mine = select(Visit).where(Visit.child_id == child_id, Visit.seen > start)
        return list(session.scalars(mine.order_by(Visit.id)))


def seconds_since(store: Store, child_id: int, start: datetime) -> float:
    """How long the child has been here since `start`, in seconds."""
    return sum(
        (visit.seen + READING - max(visit.began, start)).total_seconds() for visit in since(store, child_id, start)
    )


def reminded(store: Store, visit: Visit) -> None:
    """The child has read again what 灵伴 is."""
    with store.writing() as session:
        session.execute(update(Visit).where(Visit.id == visit.id).values(reminded=store.now()))


def rested(store: Store, visit: Visit) -> None:
    """The child has read that a break is due."""
    with store.writing() as session:
        session.execute(update(Visit).where(Visit.id == visit.id).values(rested=store.now()))


def _last(session: Session, child_id: int) -> Visit | None:
    mine = select(Visit).where(Visit.child_id == child_id)
    return session.scalars(mine.order_by(Visit.id.desc()).limit(1)).first()
