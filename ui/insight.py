"""What a guardian sees without reading: time per day, moods, alerts, themes, and whether a child leans on 灵伴.

In: the store. Out: numbers. Run: `week(store, child)`. Themes are counted by words in what the child said; no sentence
leaves this module.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise

from sqlalchemy import select

from ui import visits
from ui.clock import midnight
from ui.store import Store
from ui.tables import Child, ConversationRow, MessageRow, Mood

DAYS = 7
# Kinds of the server's guard in which a child takes 灵伴 for a person: it cannot do without it, or wants it for kin.
LEANING = ("dependence", "roles")
LEANED = 3  # so many such words in a week are told, not one or two
FULL_DAYS = 4  # and a day's time used up on most days
# A theme and the words that tell it, in both languages; a message may tell several.
THEMES: dict[str, tuple[str, ...]] = {
    "nature": ("动物", "恐龙", "猫", "狗", "兔", "鸟", "鱼", "花", "树", "animal", "dinosaur", "cat", "dog", "bird", "fish"),
    "science": ("为什么", "天空", "太空", "星", "月亮", "太阳", "地球", "黑洞", "why", "space", "star", "moon", "sun", "sky"),
    "stories": ("故事", "童话", "谜语", "笑话", "story", "tale", "riddle", "joke"),
    "school": ("学校", "老师", "作业", "考试", "上课", "数学", "同学", "school", "teacher", "homework", "exam", "maths"),
    "friends": ("朋友", "吵架", "一起玩", "孤单", "friend", "quarrel", "lonely"),
    "family": ("爸爸", "妈妈", "爷爷", "奶奶", "外婆", "弟弟", "妹妹", "哥哥", "姐姐", "mum", "mom", "dad", "brother", "sister"),
    "feelings": ("难过", "开心", "害怕", "生气", "紧张", "想哭", "担心", "sad", "happy", "afraid", "angry", "scared", "worried"),
    "games": ("游戏", "足球", "篮球", "画画", "音乐", "唱歌", "game", "football", "music", "draw"),
}  # fmt: skip


@dataclass(frozen=True)
class Day:
    """One day of one child."""

    date: date
    minutes: float
    moods: tuple[Mood, ...]
    alerts: int


@dataclass(frozen=True)
class Leaning:
    """Signs over several turns or chats that a child may take 灵伴 for more than it is. What was counted, no verdict.

    `chats`, `days`: in how many chats, on how many days, the guard answered that 灵伴 is no person. `full_days`: on how
    many days the day's time was used up. One word of love, or one long day, is no sign: then they are 0.
    """

    chats: int = 0
    days: int = 0
    full_days: int = 0

    def __bool__(self) -> bool:
        return bool(self.days or self.full_days)


@dataclass(frozen=True)
class Week:
    """Seven days, today the last, and what was talked about in them."""

    days: tuple[Day, ...]
    chats: int
    questions: int
    themes: tuple[tuple[str, int], ...]
    leaning: Leaning

    @property
    def minutes(self) -> float:
        """Minutes of the whole week."""
        return sum(day.minutes for day in self.days)

    @property
    def alerts(self) -> int:
        """Alerts of the whole week."""
        return sum(day.alerts for day in self.days)


def week(store: Store, child: Child) -> Week:
    """The last seven days by the server's calendar."""
    child_id = child.id
    today = store.now().astimezone().date()
    midnights = [midnight(today - timedelta(days=back)) for back in range(DAYS - 1, -2, -1)]
    first = midnights[0]
    here = visits.since(store, child_id, first)
    moods = store.moods(child_id, first)
    alerts = store.alerts(child_id)
    days = []
    for start, end in pairwise(midnights):
        spent = sum(_inside(visit.began, visit.seen + visits.READING, start, end) for visit in here)
        days.append(
            Day(
                start.date(),
                round(spent / 60, 1),
                tuple(found.mood for found in moods if start <= found.created < end),
                sum(start <= alert.created < end for alert in alerts),
            )
        )
    said = _questions(store, child_id, first)
    counted = Counter(
        theme for _, text in said for theme, words in THEMES.items() if any(word in text for word in words)
    )
    chats = len({conversation for conversation, _ in said})
    full_days = sum(day.minutes >= child.minutes_a_day > 0 for day in days)
    leaning = _leaning(_leaned(store, child_id, first), full_days)
    return Week(tuple(days), chats, len(said), tuple(counted.most_common()), leaning)


def _questions(store: Store, child_id: int, start: datetime) -> list[tuple[int, str]]:
    asked = (
        select(MessageRow.conversation_id, MessageRow.text)
        .join(ConversationRow, ConversationRow.id == MessageRow.conversation_id)
        .where(ConversationRow.child_id == child_id, MessageRow.role == "user", MessageRow.created >= start)
        .where(MessageRow.state != "replaced")
    )
    with store.reading() as session:
        return [(found, store.sealer.open(sealed).casefold()) for found, sealed in session.execute(asked)]


def _leaned(store: Store, child_id: int, start: datetime) -> list[tuple[int, date]]:
    """The chat and the day of each answer of the guard's that 灵伴 is no person."""
    answered = (
        select(MessageRow.conversation_id, MessageRow.created)
        .join(ConversationRow, ConversationRow.id == MessageRow.conversation_id)
        .where(ConversationRow.child_id == child_id, MessageRow.created >= start)
        .where(MessageRow.category.in_(LEANING))
    )
    with store.reading() as session:
        return [(found, created.astimezone().date()) for found, created in session.execute(answered)]


def _leaning(leaned: list[tuple[int, date]], full_days: int) -> Leaning:
    told = len(leaned) >= LEANED
    return Leaning(
        chats=len({chat for chat, _ in leaned}) if told else 0,
        days=len({day for _, day in leaned}) if told else 0,
        full_days=full_days if full_days >= FULL_DAYS else 0,
    )


def _inside(began: datetime, ended: datetime, start: datetime, end: datetime) -> float:
    """Seconds of began–ended that lie in start–end."""
    return max(0.0, (min(ended, end) - max(began, start)).total_seconds())
