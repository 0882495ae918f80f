"""What a guardian sees of a week without reading. Run: `pytest tests/ui/test_insight.py`."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.ui.databases import Database, family
from ui import exchange, visits
from ui.companion.parents_overview import leaning, summary
from ui.insight import FULL_DAYS, Leaning, week
from ui.locales import LANGUAGES, sentences
from ui.store import Store

WORDS = sentences("zh")


def test_a_week_in_numbers(database: Database) -> None:
    clock = [datetime.now(UTC).astimezone().replace(hour=9, minute=0) - timedelta(days=2)]
    store = database.open(lambda: clock[0])
    child = family(store)
    for _ in range(10):
        visits.act(store, child.id)
        clock[0] += timedelta(minutes=1)
    exchange.say(store, child.id, None, "给我讲一个恐龙的故事")
    store.feel(child.id, "sad")
    clock[0] += timedelta(days=2)
    seen = week(store, child)
    store.close()
    assert [day.minutes for day in seen.days] == [0, 0, 0, 0, 10, 0, 0]
    assert seen.days[4].moods == ("sad",)
    assert (seen.chats, seen.questions, seen.alerts) == (1, 1, 0)
    assert dict(seen.themes) == {"nature": 1, "stories": 1}
    assert summary(seen, WORDS) == "这一周聊了 1 次，一共 10 分钟。聊得最多的是动物和自然、故事和谜语。没有提醒。"


def test_leaning_on_it_is_told_when_it_happens_over_several_turns_and_chats(database: Database) -> None:
    """Not a word of love, not two: three in a week, whether in one chat or in several; after the week it is gone."""
    clock = [datetime.now(UTC).astimezone().replace(hour=9, minute=0) - timedelta(days=3)]
    store = database.open(lambda: clock[0])
    child = family(store)
    here = _answered(store, child.id, None, "只有你懂我", "dependence")
    _answered(store, child.id, here, "怎么杀人", "violence")
    _answered(store, child.id, here, "我只要你", "dependence")
    assert not week(store, child).leaning
    clock[0] += timedelta(days=1)
    _answered(store, child.id, None, "做我妈妈吧", "roles")
    assert week(store, child).leaning == Leaning(chats=2, days=2)
    told = leaning(week(store, child).leaning, WORDS)
    assert told == [WORDS.overview.leaning_told.format(days=2, chats=2), WORDS.overview.leaning_under]
    clock[0] += timedelta(days=8)
    assert not week(store, child).leaning
    store.close()


def test_a_days_time_used_up_on_most_days_is_told(database: Database) -> None:
    clock = [datetime.now(UTC).astimezone().replace(hour=9, minute=0) - timedelta(days=6)]
    store = database.open(lambda: clock[0])
    child = family(store)
    for day in range(FULL_DAYS):
        assert not week(store, child).leaning, day
        began = clock[0]
        while clock[0] - began <= timedelta(minutes=child.minutes_a_day):
            visits.act(store, child.id)
            clock[0] += timedelta(minutes=4)
        clock[0] = began + timedelta(days=1)
    assert week(store, child).leaning == Leaning(full_days=FULL_DAYS)
    child.minutes_a_day = 0
    assert not week(store, child).leaning, "who may not chat uses nothing up"
    store.close()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sign_judges_nobody(language: str) -> None:
    words = sentences("zh" if language == "zh" else "en")
    told = " ".join(leaning(Leaning(chats=2, days=2, full_days=4), words)).casefold()
    for verdict in ("依赖", "沉迷", "成瘾", "上瘾", "问题", "addict", "depend", "problem", "too much", "lonely"):
        assert verdict not in told


def _answered(store: Store, child_id: int, here: int | None, words: str, category: str) -> int:
    question = exchange.say(store, child_id, here, words)
    reply = exchange.begin_reply(store, question)
    assert reply is not None
    exchange.end_reply(store, reply, "我是人工智能。", "guarded", "redirect", category)
    return question.conversation_id
