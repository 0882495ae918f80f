"""What the store gives out and takes in, frozen, with every seal opened. In: nothing. Out: the classes."""

from dataclasses import dataclass
from datetime import datetime

from ui.tables import AgeBand, Feedback, Language, Role, State


@dataclass(frozen=True)
class Profile:
    """What a guardian says of a child."""

    nickname: str
    age_band: AgeBand = "7-9"
    language: Language = "zh"
    avatar: str = "star"


@dataclass(frozen=True)
class Limits:
    """What a guardian allows a child. `quiet_from` and `quiet_to` are HH:MM by the server's clock."""

    minutes_a_day: int
    quiet_from: str
    quiet_to: str
    break_minutes: int
    blocked_topics: str
    read_aloud: bool
    voice: bool


@dataclass(frozen=True)
class Consent:
    """A guardian's yes, with the name opened; `withdrawn_at` ended it."""

    id: int
    guardian: str
    given_at: datetime
    policy_version: str
    withdrawn_at: datetime | None


@dataclass(frozen=True)
class Conversation:
    """One conversation of one child, with its title opened."""

    id: int
    child_id: int
    title: str
    created: datetime
    updated: datetime
    hidden: bool


@dataclass(frozen=True)
class Course:
    """What has become of one thing said, without its words."""

    id: int
    state: State
    action: str | None


@dataclass(frozen=True)
class Message:
    """One thing said, opened."""

    id: int
    conversation_id: int
    role: Role
    text: str
    state: State
    action: str | None
    category: str | None
    contract: str | None
    feedback: Feedback | None
    created: datetime
