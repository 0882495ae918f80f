"""Send alerts to the guardian's channels from a queue in the database, once each, again after a failure.

In: the rows of `deliveries`, written together with their alert. Out: messages through `apprise` (e-mail, WeCom,
DingTalk, Telegram, a webhook, …). A message names the child and the kind of alert; it holds no word of the chat.
It is in the guardian's language.
apprise goes through a proxy of the environment (HTTP_PROXY): such a message leaves the house.
Run: `send_due(store)`, again and again (`ui/chores.py` does).

A row is taken by moving its next try ahead before it is sent. A process that dies between sending and marking leaves
a row that is sent a second time ten minutes later: an alert told twice is better than one that is lost.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, exists, func, select, update

from data.strict import BadInput
from ui.locales import Language, Sentences, sentences
from ui.store import Store
from ui.tables import AWAY, Alert, Channel, Child, ConversationRow, Delivery, Household, MessageRow
from ui.telling import category, moment

TAKEN_FOR = timedelta(minutes=10)
FIRST_WAIT = timedelta(seconds=10)
LONGEST_WAIT = timedelta(hours=1)
GIVE_UP_AFTER = timedelta(days=7)

log = logging.getLogger("mindpal")

Notify = Callable[[str, str, str], bool]


@dataclass(frozen=True)
class Due:
    """One alert for one channel. `said`: when that was said which it is about."""

    delivery_id: int
    channel_id: int
    tries: int
    address: str
    nickname: str
    language: Language
    category: str
    said: datetime


class Several(BadInput):
    """An address that means more than one recipient."""


def notify(address: str, title: str, body: str) -> bool:
    """Send through `apprise`; whether it arrived, as far as the service says."""
    import apprise

    channel = apprise.Apprise()
    return bool(channel.add(address) and channel.notify(title=title, body=body))


def add_channel(store: Store, address: str) -> None:
    """Keep a new channel, with a line in the log; what nobody has heard of yet is sent there, too.

    It may be the first, or one in the place of a wrong address. Raises `BadInput` when apprise does not know the address,
    and `Several` when it means more than one recipient: while one of them failed, the others would get each alert with
    every new try, about 175 times in seven days.
    """
    import apprise

    meant = apprise.Apprise()
    if not meant.add(address):
        raise BadInput("This address is not one that apprise knows; see the list at https://github.com/caronc/apprise.")
    # apprise counts each recipient once for each try of its own.
    if sum(len(service) // (service.retry + 1) for service in meant) > 1:
        raise Several("This address means several recipients; add one address for each recipient.")
    now = store.now()
    with store.writing() as session:
        channel = Channel(address=store.sealer.seal(address), created=now)
        session.add(channel)
        session.flush()
        store.note(session, "channel added")
        for alert_id in session.scalars(select(Alert.id).where(unheard(now)).order_by(Alert.id)):
            session.add(Delivery(alert_id=alert_id, channel_id=channel.id, tries=0, next_try=now, sent=None))


def unheard(now: datetime) -> ColumnElement[bool]:
    """Of an alert: the guardian has not seen it, no channel has got it, and it may still be sent."""
    reached = exists().where(Delivery.alert_id == Alert.id, Delivery.sent.is_not(None))
    return Alert.seen.is_(False) & (Alert.created > now - GIVE_UP_AFTER) & ~reached


def channels(store: Store) -> list[tuple[int, str]]:
    """The channels, as number and a name without secrets: the scheme, and how the address ends before its options."""
    with store.reading() as session:
        rows = list(session.scalars(select(Channel).order_by(Channel.id)))
    return [(row.id, _name(store.sealer.open(row.address))) for row in rows]


def remove_channel(store: Store, channel_id: int) -> None:
    """Forget a channel and what was waiting for it, with a line in the log."""
    with store.writing() as session:
        session.delete(session.get_one(Channel, channel_id))
        store.note(session, "channel removed")


def try_channel(store: Store, channel_id: int) -> bool:
    """Send a trial message; whether it arrived."""
    with store.reading() as session:
        address = store.sealer.open(session.get_one(Channel, channel_id).address)
    words = sentences(store.household().language).sending
    return notify(address, words.title, words.trial)


def waiting(store: Store) -> int:
    """How many deliveries have not arrived yet, and are tried again."""
    open_ = select(func.count()).select_from(Delivery).join(Alert, Alert.id == Delivery.alert_id)
    with store.reading() as session:
        return session.scalar(open_.where(Delivery.sent.is_(None), Alert.created > store.now() - GIVE_UP_AFTER)) or 0


def given_up(store: Store) -> set[int]:
    """The alerts that did not arrive in seven days at one channel or more: they are tried no longer."""
    lost = select(Alert.id).join(Delivery, Delivery.alert_id == Alert.id)
    with store.reading() as session:
        return set(session.scalars(lost.where(Delivery.sent.is_(None), Alert.created <= store.now() - GIVE_UP_AFTER)))


def arrived(store: Store, alert_ids: list[int]) -> dict[int, list[datetime]]:
    """When which of these alerts reached a channel that is still kept."""
    found: dict[int, list[datetime]] = {}
    with store.reading() as session:
        sent = select(Delivery).where(Delivery.alert_id.in_(alert_ids), Delivery.sent.is_not(None))
        for row in session.scalars(sent.order_by(Delivery.id)):
            if row.sent is not None:
                found.setdefault(row.alert_id, []).append(row.sent)
    return found


def send_due(store: Store, send: Notify = notify) -> int:
    """Send what is due; how many arrived.

    A channel that fails is left alone until the next round: what waits for it must not hold up the others.
    """
    arrived = 0
    failed: set[int] = set()
    while (due := _take(store, failed)) is not None:
        words = sentences(due.language)
        ok = send(due.address, words.sending.title, _body(due, words))
        _mark(store, due, ok=ok)
        arrived += ok
        if not ok:
            failed.add(due.channel_id)
        log.info("alert delivery=%d try=%d ok=%s", due.delivery_id, due.tries, ok)
    return arrived


def wait_after(tries: int) -> timedelta:
    """How long to wait after so many failures: ten seconds, then twice as long each time, an hour at most."""
    return min(LONGEST_WAIT, FIRST_WAIT * (1 << min(20, tries - 1)))


def _body(due: Due, words: Sentences) -> str:
    if due.category == AWAY:
        return words.sending.away.format(when=moment(due.said))
    return words.sending.body.format(nickname=due.nickname, category=category(due.category, words))


def _take(store: Store, failed: set[int]) -> Due | None:
    """Take what is due at none of these channels: a new alert before those that have been tried."""
    now = store.now()
    waits = (Delivery.sent.is_(None)) & (Delivery.next_try <= now)
    with store.writing() as session:
        row = session.execute(
            select(Delivery, Channel, Alert, MessageRow.created, Child)
            .join(Channel, Channel.id == Delivery.channel_id)
            .join(Alert, Alert.id == Delivery.alert_id)
            .join(MessageRow, MessageRow.id == Alert.message_id)
            .join(ConversationRow, ConversationRow.id == MessageRow.conversation_id)
            .join(Child, Child.id == ConversationRow.child_id)
            .where(waits, Alert.created > now - GIVE_UP_AFTER, Delivery.channel_id.not_in(failed))
            .order_by(Delivery.tries, Delivery.next_try)
            .limit(1)
        ).first()
        if row is None:
            return None
        delivery, channel, alert, said, child = row
        taken = session.execute(
            update(Delivery)
            .where(Delivery.id == delivery.id, waits)
            .values(next_try=now + TAKEN_FOR, tries=Delivery.tries + 1)
        )
        if taken.rowcount != 1:  # type: ignore[attr-defined]
            return None  # another process has it; the next round finds what is left
        language = session.get_one(Household, 1).language
    address = store.sealer.open(channel.address)
    return Due(delivery.id, channel.id, delivery.tries, address, child.nickname, language, alert.category, said)


def _mark(store: Store, due: Due, *, ok: bool) -> None:
    now = store.now()
    values = {"sent": now} if ok else {"next_try": now + wait_after(due.tries)}
    # A send may last: meanwhile the alert may have been deleted, or the row taken by another process.
    own = (Delivery.id == due.delivery_id) & (Delivery.tries == due.tries) & Delivery.sent.is_(None)
    with store.writing() as session:
        session.execute(update(Delivery).where(own).values(values))


def _name(address: str) -> str:
    scheme, _, rest = address.partition("?")[0].partition("://")
    return f"{scheme}://…{rest.rstrip('/')[-4:]}"
