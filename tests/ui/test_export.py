"""What a guardian takes away, and what they see of a week. Run: `pytest tests/ui/test_export.py`."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.ui.databases import Database, family
from ui import export
from ui.companion.parents_overview import summary
from ui.insight import week
from ui.locales import sentences
from ui.store import Store
from ui.tables import Child

WORDS = sentences("zh")


@pytest.fixture
def child(store: Store) -> Child:
    made = family(store)
    for asked, told, action in (("=1+1 <b>", "等于二。", None), ("我不想活了", "我在。", "crisis")):
        reply = store.begin_reply(store.say(made.id, None, asked))
        assert reply is not None
        store.end_reply(reply, told, "done", action, "self_harm" if action else None, "3f9a12c4")
    store.feel(made.id, "good")
    return made


def test_every_form_is_labelled_in_its_text_and_in_its_metadata(store: Store, child: Child) -> None:
    gathered = export.gather(store, child)
    told = json.loads(export.as_json(gathered, WORDS))
    assert told["AIGC"] == {"Label": "1", "ContentProducer": "MindPal", "ProduceID": f"mindpal-child-{child.id}"}
    assert told["notice"] == WORDS.data.ai_label
    texts = {said["text"]: said["ai_generated"] for chat in told["chats"] for said in chat["messages"]}
    assert texts == {"=1+1 <b>": False, "等于二。": True, "我不想活了": False, "我在。": True}
    assert [found["mood"] for found in told["moods"]] == ["good"]

    raw = export.as_csv(gathered, WORDS)
    assert raw.startswith(b"\xef\xbb\xbf")
    label, columns, *rows = list(csv.reader(io.StringIO(raw.decode("utf-8-sig"))))
    assert label[0] == f"# {WORDS.data.ai_label}"
    assert json.loads(label[1])["Label"] == "1"
    assert tuple(columns) == export.COLUMNS
    assert len(rows) == 4
    assert "'=1+1 <b>" in [row[4] for row in rows], "no cell is a formula"

    page = export.as_html(gathered, WORDS).decode()
    assert '<meta name="AIGC" content="{&quot;Label&quot;: &quot;1&quot;' in page
    assert WORDS.data.ai_label in page
    assert "=1+1 &lt;b&gt;" in page
    assert "<script" not in page
    assert [line.what for line in store.audited()] == ["export"]


def test_with_alerts_only_an_export_holds_passages_only(store: Store, child: Child) -> None:
    store.set_household(emergency="", transcripts="alerts", retention_days=30)
    told = export.as_json(export.gather(store, child), WORDS).decode()
    assert "我不想活了" in told
    assert "等于二" not in told
    assert "1+1" not in told


def test_a_week_in_numbers(database: Database) -> None:
    clock = [datetime.now(UTC).astimezone().replace(hour=9, minute=0) - timedelta(days=2)]
    store = database.open(lambda: clock[0])
    child = family(store)
    for _ in range(10):
        store.visit(child.id)
        clock[0] += timedelta(minutes=1)
    store.say(child.id, None, "给我讲一个恐龙的故事")
    store.feel(child.id, "sad")
    clock[0] += timedelta(days=2)
    seen = week(store, child.id)
    store.close()
    assert [day.minutes for day in seen.days] == [0, 0, 0, 0, 10, 0, 0]
    assert seen.days[4].moods == ("sad",)
    assert (seen.chats, seen.questions, seen.alerts) == (1, 1, 0)
    assert dict(seen.themes) == {"nature": 1, "stories": 1}
    assert summary(seen, WORDS) == "这一周聊了 1 次，一共 10 分钟。聊得最多的是动物和自然、故事和谜语。没有提醒。"
