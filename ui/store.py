"""Keep the family's records: consent, children, conversations, alerts. Every write is committed before it returns.

In: a database's URL (`ui/database.py`) and a key file. Out: frozen rows.
Run: `store = Store(url_for(Path("family"), None), Path("family/key"))`; opening brings the tables up to date, or says
why it cannot. What a child said lies sealed in the database (`ui/sealing.py`) and is opened on the way out; it is
written by `ui/exchange.py`.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from data.strict import BadInput
from ui.database import PATIENCE_S, Database, Gone
from ui.locales import LANGUAGES, sentences, shipped
from ui.records import Consent, Conversation, Course, Limits, Message, Profile
from ui.sealing import Sealer, WrongKey, read_key
from ui.tables import (
    AWAY,
    UNREAD,
    Access,
    Alert,
    Audit,
    Channel,
    Child,
    ConsentRow,
    ConversationRow,
    Deed,
    Delivery,
    Household,
    Language,
    MessageRow,
    Mood,
    MoodRow,
)

POLICY_VERSION = "2026-11-29"
TITLE_CHARS = 40
RETENTION_DAYS = 180  # nothing is kept without an end (16 CFR 312.10); the guardian may choose another number
KEY_CHECK = "mindpal"
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Store:
    """The family's records. Safe to share between threads. `clock` is the server's, in UTC.

    Once it is open, every method may raise `Unreachable`, and those that name a row `Gone`.
    """

    def __init__(
        self, url: str, key_file: Path, clock: Callable[[], datetime] | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        self.now = clock or _now
        self._database = Database(url, patience_s)
        try:
            self.sealer = Sealer(read_key(key_file, make=not self._database.is_used()))
            self._database.migrate(self.sealer)
            with self._database.opening():
                self._check_key()
        except WrongKey:
            self.close()
            raise BadInput(
                f"{key_file}: this key does not fit the family's records; put back the file that was kept with the"
                " database."
            ) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    # the guardian

    def first_run(
        self, guardian: str, emergency: str, pin_hash: str, language: Language, profile: Profile | None
    ) -> Child | None:
        """Store the guardian's consent, contact, PIN and language, and the first child's profile: all or nothing.

        Raises `Gone` when another page was faster: a PIN that is set is not set again from here.
        """
        child = _child(profile) if profile else None
        contact, pin = self.sealer.seal(emergency), self.sealer.seal(pin_hash)
        with self.writing() as session:
            unset = update(Household).where(Household.id == 1, Household.pin_hash.is_(None))
            first = session.execute(
                unset.values(emergency=contact, pin_hash=pin, pin_tries=0, pin_locked_until=None, language=language)
            )
            if first.rowcount != 1:  # type: ignore[attr-defined]
                raise Gone("The PIN was set meanwhile.")
            session.add(self._consent(guardian))
            if child:
                session.add(child)
        return child

    def household(self) -> Household:
        """The family's settings."""
        with self.reading() as session:
            return session.get_one(Household, 1)

    def emergency(self) -> str:
        """Whom to call, as the guardian wrote it; may be empty."""
        return self.sealer.open(self.household().emergency)

    def set_household(self, *, emergency: str, transcripts: Access) -> None:
        """Keep the family's settings; a change of who can read the chats is a line in the log."""
        with self.writing() as session:
            home = session.get_one(Household, 1)
            if transcripts != home.transcripts:
                self.note(session, "transcripts", detail=transcripts)
            home.emergency = self.sealer.seal(emergency)
            home.transcripts = transcripts

    def set_retention(self, days: int) -> None:
        """Keep another number of days after which what was said is deleted; that is a line in the log."""
        with self.writing() as session:
            home = session.get_one(Household, 1)
            if days != home.retention_days:
                self.note(session, "days", detail=str(days))
            home.retention_days = days

    def set_language(self, language: Language) -> None:
        """Keep the guardian's language: of the parents' area, and of what is sent."""
        with self.writing() as session:
            session.get_one(Household, 1).language = language

    def consent_again(self, guardian: str) -> None:
        """Store a new consent after a withdrawal or a new policy; children and conversations are as they were."""
        with self.writing() as session:
            session.add(self._consent(guardian))
            self.note(session, "consent given")

    def consent(self) -> Consent | None:
        """The consent that holds now, or None: then nobody may chat."""
        with self.reading() as session:
            row = _holding(session)
        return self._agreed(row) if row is not None else None

    def consents(self) -> list[Consent]:
        """Every consent ever given, newest first."""
        with self.reading() as session:
            rows = list(session.scalars(select(ConsentRow).order_by(ConsentRow.id.desc())))
        return [self._agreed(row) for row in rows]

    def withdraw(self) -> None:
        """End every consent, at once."""
        with self.writing() as session:
            session.execute(update(ConsentRow).where(ConsentRow.withdrawn_at.is_(None)).values(withdrawn_at=self.now()))
            self.note(session, "consent withdrawn")

    def last_contract(self) -> str | None:
        """The fingerprint that the newest answer carried."""
        with self.reading() as session:
            return session.scalars(
                select(MessageRow.contract).where(MessageRow.contract.is_not(None)).order_by(MessageRow.id.desc())
            ).first()

    def audit(
        self, deed: Deed, child_id: int | None = None, conversation_id: int | None = None, detail: str = ""
    ) -> None:
        """Add a line to the log of what was looked at, exported, deleted or set: `deed`, or `deed: detail`."""
        with self.writing() as session:
            self.note(session, deed, child_id, conversation_id, detail)

    def audited(self, limit: int | None = 100) -> list[Audit]:
        """The newest lines of that log, or all of them, newest first."""
        with self.reading() as session:
            return list(session.scalars(select(Audit).order_by(Audit.id.desc()).limit(limit)))

    # the children

    def children(self) -> list[Child]:
        """Every child, in the order of their profiles."""
        with self.reading() as session:
            return list(session.scalars(select(Child).order_by(Child.id)))

    def child(self, child_id: int) -> Child | None:
        """This child, or None."""
        with self.reading() as session:
            return session.get(Child, child_id)

    def add_child(self, profile: Profile) -> Child:
        """Keep a new child's profile, with the default limits."""
        child = _child(profile)
        with self.writing() as session:
            session.add(child)
        return child

    def set_profile(self, child_id: int, profile: Profile) -> None:
        """Change a child's profile."""
        with self.writing() as session:
            child = session.get_one(Child, child_id)
            child.nickname, child.age_band = profile.nickname, profile.age_band
            child.language, child.avatar = profile.language, profile.avatar

    def set_limits(self, child_id: int, limits: Limits) -> None:
        """Change what a child is allowed; that is a line in the log."""
        with self.writing() as session:
            child = session.get_one(Child, child_id)
            child.minutes_a_day, child.break_minutes = limits.minutes_a_day, limits.break_minutes
            child.quiet_from, child.quiet_to = limits.quiet_from, limits.quiet_to
            child.blocked_topics = limits.blocked_topics
            child.read_aloud, child.voice = limits.read_aloud, limits.voice
            if session.is_modified(child):
                self.note(session, "limits", child_id)

    # what a child says of their mood

    def feel(self, child_id: int, mood: Mood) -> None:
        """Keep how the child said they felt."""
        with self.writing() as session:
            self.check_consent(session)
            session.add(MoodRow(child_id=child_id, mood=mood, created=self.now()))

    def moods(self, child_id: int, start: datetime) -> list[MoodRow]:
        """What the child said of their mood since `start`, in order."""
        with self.reading() as session:
            mine = select(MoodRow).where(MoodRow.child_id == child_id, MoodRow.created >= start)
            return list(session.scalars(mine.order_by(MoodRow.id)))

    # alerts

    def alerts(self, child_id: int | None = None) -> list[Alert]:
        """Every alert about what was said, or those of one child, newest first."""
        with self.reading() as session:
            found = select(Alert).where(Alert.category != AWAY)
            if child_id is not None:
                found = found.join(MessageRow, MessageRow.id == Alert.message_id).join(
                    ConversationRow, ConversationRow.id == MessageRow.conversation_id
                )
                found = found.where(ConversationRow.child_id == child_id)
            return list(session.scalars(found.order_by(Alert.id.desc())))

    def crisis_since(self, child_id: int, start: datetime) -> int | None:
        """The chat in which the guard last answered a crisis of this child, if that was since `start`."""
        heard = _chats_of(child_id).where(MessageRow.action == "crisis", MessageRow.created >= start)
        with self.reading() as session:
            return session.scalar(heard.order_by(MessageRow.created.desc()).limit(1))

    def grave_chats(self, child_id: int, start: datetime, before: int) -> list[int]:
        """The chats in which the guard has answered a crisis of this child since `start`, or has yet to read what was said
        before that message."""
        crisis = (MessageRow.action == "crisis") & (MessageRow.created >= start)
        unread = (MessageRow.role == "user") & MessageRow.state.in_(UNREAD) & (MessageRow.id < before)
        found = _chats_of(child_id).where(crisis | unread)
        with self.reading() as session:
            return list(session.scalars(found.distinct().order_by(MessageRow.conversation_id)))

    def alerts_seen(self, drawn: Sequence[int]) -> None:
        """The guardian has looked at these alerts."""
        with self.writing() as session:
            session.execute(update(Alert).where(Alert.id.in_(drawn), Alert.seen.is_(False)).values(seen=True))

    def passage(self, alert: Alert, around: int = 2) -> list[Message]:
        """What was said around an alert: `around` messages before and after it, in order. The look is audited."""
        with self.reading() as session:
            row = session.get_one(MessageRow, alert.message_id)
            child_id = session.get_one(ConversationRow, row.conversation_id).child_id
        self.audit("passage", child_id, row.conversation_id)
        said = self.messages(row.conversation_id, replaced=True)
        at = next(place for place, message in enumerate(said) if message.id == alert.message_id)
        return said[max(0, at - around) : at + around + 1]

    # the conversation

    def conversations(self, child_id: int, limit: int | None = 30, *, hidden: bool = False) -> list[Conversation]:
        """The child's conversations, the one spoken in last first; with `hidden`, also what the child put away."""
        mine = select(ConversationRow).where(ConversationRow.child_id == child_id)
        if not hidden:
            mine = mine.where(ConversationRow.hidden.is_(False))
        return self._conversations(
            mine.order_by(ConversationRow.updated.desc(), ConversationRow.id.desc()).limit(limit)
        )

    def search(self, child_id: int, words: str, limit: int = 30) -> list[Conversation]:
        """The child's conversations whose title or messages hold `words`, in whatever case."""
        wanted = words.casefold()
        said = (
            select(MessageRow.conversation_id, MessageRow.text)
            .join(ConversationRow, ConversationRow.id == MessageRow.conversation_id)
            .where(ConversationRow.child_id == child_id, ConversationRow.hidden.is_(False))
            .where(MessageRow.state != "replaced")
        )
        with self.reading() as session:
            spoken = {found for found, sealed in session.execute(said) if wanted in self.sealer.open(sealed).casefold()}
        mine = self.conversations(child_id, None)
        return [found for found in mine if found.id in spoken or wanted in found.title.casefold()][:limit]

    def conversation(self, child_id: int, conversation_id: int) -> Conversation | None:
        """This conversation, if it is this child's and not put away."""
        with self.reading() as session:
            found = session.get(ConversationRow, conversation_id)
        return self._open(found) if found is not None and found.child_id == child_id and not found.hidden else None

    def rename(self, conversation_id: int, name: str) -> None:
        """Give a conversation another title."""
        with self.writing() as session:
            session.get_one(ConversationRow, conversation_id).name = self.sealer.seal(title(name))

    def hide(self, conversation_id: int) -> None:
        """Put a conversation away: the child sees it no more, the guardian does, until it is deleted."""
        with self.writing() as session:
            session.get_one(ConversationRow, conversation_id).hidden = True

    def last_message(self, conversation_id: int) -> int | None:
        """The number of what was said last; not a word is opened for it."""
        last = select(func.max(MessageRow.id)).where(MessageRow.conversation_id == conversation_id)
        with self.reading() as session:
            return session.scalar(last)

    def messages(self, conversation_id: int, *, replaced: bool = False) -> list[Message]:
        """What was said, in order; with `replaced`, also what was asked again or written anew."""
        said = select(MessageRow).where(MessageRow.conversation_id == conversation_id)
        if not replaced:
            said = said.where(MessageRow.state != "replaced")
        with self.reading() as session:
            rows = list(session.scalars(said.order_by(MessageRow.id)))
        return [self.message(row) for row in rows]

    def course(self, conversation_id: int) -> list[Course]:
        """The same without the words, which take long to open in a long chat."""
        said = select(MessageRow.id, MessageRow.state, MessageRow.action)
        said = said.where(MessageRow.conversation_id == conversation_id, MessageRow.state != "replaced")
        with self.reading() as session:
            return [Course(*row) for row in session.execute(said.order_by(MessageRow.id))]

    # what the other modules of the store use

    def reading(self) -> AbstractContextManager[Session]:
        """A session for reading; rows stay readable after it."""
        return self._database.reading()

    def writing(self) -> AbstractContextManager[Session]:
        """A session whose changes are committed at its end, or not at all."""
        return self._database.writing()

    def check_consent(self, session: Session) -> None:
        """Raise `Gone` when no consent holds: a page that was drawn before it was withdrawn keeps nothing more."""
        if _holding(session) is None:
            raise Gone("The consent was withdrawn meanwhile.")

    def note(
        self,
        session: Session,
        deed: Deed,
        child_id: int | None = None,
        conversation_id: int | None = None,
        detail: str = "",
    ) -> None:
        """Add a line to the log together with the deed itself."""
        what = f"{deed}: {detail}" if detail else deed
        session.add(Audit(at=self.now(), what=what, child_id=child_id, conversation_id=conversation_id))

    def tell(self, session: Session, message_id: int, category: str) -> None:
        """Write an alert, and a delivery of it for each channel, unless it is there."""
        told = select(Alert.id).where(Alert.message_id == message_id, Alert.category == category)
        if session.scalars(told.limit(1)).first() is not None:
            return
        alert = Alert(message_id=message_id, category=category, created=self.now(), seen=False)
        session.add(alert)
        session.flush()
        for channel_id in session.scalars(select(Channel.id)):
            session.add(Delivery(alert_id=alert.id, channel_id=channel_id, tries=0, next_try=self.now(), sent=None))

    def scrub(self, patience_s: float | None = None) -> bool:
        """Rewrite the database's files without what was deleted, if nobody is in the way; whether it is done."""
        return self._database.scrub(patience_s)

    def message(self, row: MessageRow) -> Message:
        """A row, opened."""
        return Message(
            row.id,
            row.conversation_id,
            row.role,
            self.sealer.open(row.text),
            row.state,
            row.action,
            row.category,
            row.contract,
            row.feedback,
            row.created,
        )

    def _check_key(self) -> None:
        with self.writing() as session:
            home = session.get(Household, 1)
            if home is None:
                home = blank(self.sealer)
                # Consents before there were settings: the first revision's words have just been sealed in place.
                home.scrub_owed = int(session.scalars(select(ConsentRow.id)).first() is not None)
                session.add(home)
        self.sealer.open(home.key_check)

    def _consent(self, guardian: str) -> ConsentRow:
        name = self.sealer.seal(guardian)
        return ConsentRow(guardian=name, given_at=self.now(), policy_version=policy_version(), withdrawn_at=None)

    def _agreed(self, row: ConsentRow) -> Consent:
        return Consent(row.id, self.sealer.open(row.guardian), row.given_at, row.policy_version, row.withdrawn_at)

    def _conversations(self, query: Select[ConversationRow]) -> list[Conversation]:
        with self.reading() as session:
            rows = list(session.scalars(query))
        return [self._open(row) for row in rows]

    def _open(self, row: ConversationRow) -> Conversation:
        name = self.sealer.open(row.name)
        return Conversation(row.id, row.child_id, name, row.created, row.updated, row.hidden)


def blank(sealer: Sealer) -> Household:
    """The settings of a family that has not been through the first run."""
    return Household(
        id=1,
        key_check=sealer.seal(KEY_CHECK),
        pin_hash=None,
        pin_tries=0,
        pin_locked_until=None,
        emergency=sealer.seal(""),
        transcripts="full",
        retention_days=RETENTION_DAYS,
        language="zh",
        scrub_owed=0,
    )


def title(words: str) -> str:
    """What a chat is called: the beginning of what was said first, on one line; three points for what nobody can see."""
    # What turns the direction of reading, and what is no character at all, has no business in a list of buttons.
    line = " ".join(_UNSEEN.sub(" ", words).split())
    if not any(unicodedata.category(sign)[0] in "LNPS" for sign in line):
        return "…"
    return line if len(line) <= TITLE_CHARS else f"{line[: TITLE_CHARS - 1].rstrip()}…"


def policy_version() -> str:
    """Which text a guardian agrees to: ours, or what an operator's own sentences make of it, to which it is agreed anew."""
    ours, said = ([(words.facts, words.consent) for words in map(read, LANGUAGES)] for read in (shipped, sentences))
    return POLICY_VERSION if said == ours else f"{POLICY_VERSION}+{hashlib.sha256(repr(said).encode()).hexdigest()[:8]}"


def _chats_of(child_id: int) -> Select[int]:
    """The chat of each message in this child's chats."""
    mine = ConversationRow.id == MessageRow.conversation_id
    return select(MessageRow.conversation_id).join(ConversationRow, mine).where(ConversationRow.child_id == child_id)


def _holding(session: Session) -> ConsentRow | None:
    holds = ConsentRow.withdrawn_at.is_(None) & (ConsentRow.policy_version == policy_version())
    return session.scalars(select(ConsentRow).where(holds).order_by(ConsentRow.id.desc())).first()


def _child(profile: Profile) -> Child:
    return Child(
        nickname=profile.nickname,
        age_band=profile.age_band,
        language=profile.language,
        avatar=profile.avatar,
        minutes_a_day=60,
        quiet_from="22:00",
        quiet_to="06:00",
        break_minutes=30,
        blocked_topics="",
        read_aloud=True,
        voice=False,  # a recording leaves the page: only where the guardian wants it
    )


def _now() -> datetime:
    return datetime.now(UTC)
