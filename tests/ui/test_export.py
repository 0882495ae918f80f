"""What a guardian takes away: all of it, in each form. Run: `pytest tests/ui/test_export.py`."""

import csv
import io
import json
import zipfile
from html import escape

import pytest
from sqlalchemy import select

from tests.ui.databases import Database, family
from ui import exchange, export, outbox, readable, visits
from ui.database import Unreachable
from ui.locales import LANGUAGES, sentences
from ui.records import Limits, Profile
from ui.sealing import WrongKey
from ui.store import Store
from ui.tables import Channel, Child, Table
from ui.telling import moment

WORDS = sentences("zh")
LIMITS = Limits(47, "21:13", "06:37", 23, "恐怖片\n零花钱", read_aloud=True, voice=False)
# What stays behind: numbers of rows, secrets, what is only there for the next try, and what is no fact of the child.
STAYS = {
    "household.key_check", "household.pin_hash", "household.pin_tries", "household.pin_locked_until", "household.scrub_owed",
    "channels.address", "channels.created", "deliveries.tries", "deliveries.next_try",
}  # fmt: skip


@pytest.fixture
def child(store: Store) -> Child:
    """A child of whom a row is kept in every table."""
    made = family(store)
    store.set_profile(made.id, Profile("豆豆", "10-12", "zh", "penguin"))
    store.set_limits(made.id, LIMITS)
    store.set_retention(211)
    store.withdraw()
    store.consent_again("爸爸")
    with store.writing() as session:
        address = store.sealer.seal("json://me:verysecret@127.0.0.1/hook")
        session.add(Channel(address=address, created=store.now()))
    for asked, told, action in (("=1+1 <b>", "等于二。", None), ("我不想活了", "我在。", "crisis")):
        reply = exchange.begin_reply(store, exchange.say(store, made.id, None, asked))
        assert reply is not None
        exchange.end_reply(store, reply, told, "done", action, "self_harm" if action else None, "3f9a12c4")
        exchange.feedback(store, reply, "down" if action else "up")
    assert outbox.send_due(store, lambda *_: True) == 1
    store.feel(made.id, "good")
    visit = visits.act(store, made.id)
    visits.reminded(store, visit)
    visits.rested(store, visit)
    store.audit("transcript", made.id, 1)
    other = store.add_child(Profile("果果"))
    store.feel(other.id, "angry")
    store.audit("transcript", other.id, 99)
    found = store.child(made.id)
    assert found is not None
    return found


def test_every_form_is_labelled_in_its_text_and_in_its_metadata(store: Store, child: Child) -> None:
    kept = export.gather(store, child)
    label = {"Label": "1", "ContentProducer": "MindPal", "ProduceID": f"mindpal-child-{child.id}"}
    told = json.loads(export.as_json(kept, WORDS))
    assert (told["AIGC"], told["notice"]) == (label, WORDS.data.ai_label)
    texts = {said["text"]: said["ai_generated"] for chat in told["chats"] for said in chat["messages"]}
    assert texts == {"=1+1 <b>": False, "等于二。": True, "我不想活了": False, "我在。": True}

    raw = export.as_zip(kept, WORDS)
    with zipfile.ZipFile(io.BytesIO(raw)) as folder:
        assert json.loads(folder.comment) == label
        files = {name: folder.read(name) for name in folder.namelist()}
    assert set(files) == {f"{name}.csv" for name in export.COLUMNS}
    for name, content in files.items():
        assert content.startswith(b"\xef\xbb\xbf"), name
        first, columns, *rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
        assert (first[0], json.loads(first[1])) == (f"# {WORDS.data.ai_label}", label), name
        assert tuple(columns) == export.COLUMNS[name.removesuffix(".csv")]
        assert rows, name
    said = list(csv.reader(io.StringIO(files["chats.csv"].decode("utf-8-sig"))))
    assert len(said) == 2 + 4
    assert "'=1+1 <b>" in [row[8] for row in said[2:]], "no cell is a formula"

    page = readable.as_html(kept, WORDS).decode()
    assert '<meta name="AIGC" content="{&quot;Label&quot;: &quot;1&quot;' in page
    assert WORDS.data.ai_label in page
    assert page.count(f" · {WORDS.data.ai_mark}") == 2, "each word of the AI's is marked"
    assert "=1+1 &lt;b&gt;" in page
    assert "<script" not in page


def test_nothing_that_is_kept_of_a_child_is_missing(store: Store, child: Child, database: Database) -> None:
    """Every column of every table: whoever adds one puts it into the export, or into `STAYS` with a reason."""
    kept = export.gather(store, child)
    told = export.as_json(kept, WORDS).decode()
    with zipfile.ZipFile(io.BytesIO(export.as_zip(kept, WORDS))) as folder:
        tables = "".join(folder.read(name).decode() for name in folder.namelist())
    looked_at = 0
    with store.reading() as session:
        for table in Table.metadata.sorted_tables:
            found = list(session.execute(select(table)).mappings())
            owner = "id" if table is Child.__table__ else "child_id"
            rows = [row for row in found if row.get(owner) in (None, child.id)]
            assert rows, table.name
            for row in rows:
                for column, value in row.items():
                    if column == "id" or column.endswith("_id") or f"{table.name}.{column}" in STAYS:
                        continue
                    for wanted in _told(store, value):
                        looked_at += 1
                        assert wanted in told, (table.name, column)
                        assert wanted in tables, (table.name, column)
    assert looked_at > 60
    assert "verysecret" not in told + tables
    assert "angry" not in told + tables, "another child's"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_to_read_tells_all_of_it_in_a_parents_words(store: Store, child: Child, language: str) -> None:
    words = sentences("zh" if language == "zh" else "en")
    kept = export.gather(store, child)
    page = readable.as_html(kept, words).decode()
    for told in (
        words.avatars["penguin"], words.age_suffix.format(band="10-12"), "47", "21:13", "零花钱", words.data.no,
        "外婆 13800000000", words.consent_given.format(guardian="爸爸", when=moment(kept.at), version="")[:9], "妈妈",
        words.consent_ended.format(when=moment(kept.at))[:-8], "211", words.home.transcripts_full,
        words.categories["self_harm"], words.talk.moods["good"], words.chats.feedback["up"], words.data.feedback,
        words.data.acts["transcript"], words.data.acts["export"], "我不想活了", moment(kept.visits[0].began),
        words.data.sent.format(when=moment(kept.at))[:-8], words.language,
    ):  # fmt: skip
        assert escape(told) in page, told
    for raw in (
        "self_harm",
        "penguin" if language == "zh" else "企鹅",
        "10-12 岁" if language == "en" else "10-12 years",
    ):
        assert raw not in page


def test_with_alerts_only_an_export_holds_passages_only(store: Store, child: Child) -> None:
    store.set_household(emergency="", transcripts="alerts")
    kept = export.gather(store, child)
    told = export.as_json(kept, WORDS).decode()
    assert "我不想活了" in told
    for form in (told, readable.as_html(kept, WORDS).decode()):
        assert "等于二" not in form
        assert "1+1" not in form
    assert {found["feedback"] for found in json.loads(told)["feedback"]} == {"up", "down"}


def test_what_cannot_be_audited_is_not_read(database: Database) -> None:
    """The line in the log comes first: with records that nobody can write, nothing is exported and no passage shown."""
    store = database.open(patience_s=0.2)
    made = family(store)
    reply = exchange.begin_reply(store, exchange.say(store, made.id, None, "我不想活了"))
    assert reply is not None
    exchange.end_reply(store, reply, "我在。", "guarded", "crisis")
    (alert,) = store.alerts()
    opened: list[str] = []
    unseal = store.sealer.open
    store.sealer.open = lambda sealed: opened.append(sealed) or unseal(sealed)  # type: ignore[method-assign,func-returns-value]
    with database.held():
        for look in (lambda: store.passage(alert), lambda: export.gather(store, made)):
            with pytest.raises(Unreachable):
                look()
        assert opened == [], "not a word was opened"
    assert store.audited() == []
    assert [message.text for message in store.passage(alert)] == ["我不想活了", "我在。"]
    assert [line.what for line in store.audited()] == ["passage"]
    store.close()


def _told(store: Store, value: object) -> list[str]:
    """How a value of the database stands in a file; nothing for none, and for yes and no, which stand everywhere."""
    if value is None or isinstance(value, bool) or value == "":
        return []
    if isinstance(value, str):
        try:
            return [store.sealer.open(value)]
        except WrongKey:
            return value.splitlines()
    return [str(value)]
