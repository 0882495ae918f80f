"""Alerts reach a real local webhook: once, again after a failure, and after a restart. Run: `pytest tests/ui/test_outbox.py`."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data.strict import BadInput
from tests.ui.databases import Database, family
from tests.ui.serving import Webhook
from ui import exchange, outbox
from ui.locales import sentences
from ui.store import Store
from ui.tables import Channel

WORDS = sentences("zh")

# apprise's e-mail plugin still imports a module that Python 3.13 has taken out; it does without it there.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as hook:
        yield hook


@pytest.fixture
def clock() -> list[datetime]:
    return [datetime(2026, 11, 24, 12, tzinfo=UTC)]


@pytest.fixture
def timed(database: Database, clock: list[datetime]) -> Iterator[Store]:
    opened = database.open(lambda: clock[0])
    yield opened
    opened.close()


def crisis(store: Store, kind: str = "self_harm") -> None:
    child = next(iter(store.children()), None) or family(store)
    reply = exchange.begin_reply(store, exchange.say(store, child.id, None, "我不想活了"))
    assert reply is not None
    exchange.end_reply(store, reply, "我在。", "guarded", "crisis", kind)


def test_an_alert_is_sent_once_and_holds_no_word_of_the_chat(timed: Store, webhook: Webhook) -> None:
    outbox.add_channel(timed, webhook.address)
    crisis(timed)
    assert outbox.send_due(timed) == 1
    assert outbox.send_due(timed) == 0
    assert outbox.waiting(timed) == 0
    (sent,) = webhook.got
    assert sent["title"] == WORDS.sending.title
    assert sent["message"] == WORDS.sending.body.format(nickname="豆豆", category=WORDS.categories["self_harm"])
    assert "不想活" not in json.dumps(sent, ensure_ascii=False)


def test_what_is_sent_is_in_the_guardians_language(timed: Store, webhook: Webhook) -> None:
    outbox.add_channel(timed, webhook.address)
    crisis(timed)
    timed.set_language("en")
    ((channel, _),) = outbox.channels(timed)
    outbox.send_due(timed)
    assert outbox.try_channel(timed, channel)
    english = sentences("en")
    about = english.sending.body.format(nickname="豆豆", category=english.categories["self_harm"])
    assert [sent["message"] for sent in webhook.got] == [about, english.sending.trial]
    assert {sent["title"] for sent in webhook.got} == {english.sending.title}


def test_what_is_sent_is_in_an_operators_words(
    timed: Store, webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("zh: {sending: {title: 家里的提醒}, categories: {self_harm: 请马上打 999}}", encoding="utf-8")
    monkeypatch.setenv("MINDPAL_SENTENCES_FILE", str(own))
    outbox.add_channel(timed, webhook.address)
    crisis(timed)
    outbox.send_due(timed)
    (sent,) = webhook.got
    assert sent["title"] == "家里的提醒"
    assert sent["message"] == WORDS.sending.body.format(nickname="豆豆", category="请马上打 999")


def test_a_failure_is_tried_again_later_and_later(timed: Store, webhook: Webhook, clock: list[datetime]) -> None:
    outbox.add_channel(timed, webhook.address)
    crisis(timed)
    webhook.status = 500
    assert outbox.send_due(timed) == 0
    assert outbox.waiting(timed) == 1
    webhook.status = 200
    assert outbox.send_due(timed) == 0, "not before ten seconds have passed"
    clock[0] += timedelta(seconds=10)
    assert outbox.send_due(timed) == 1
    assert [outbox.wait_after(tries).total_seconds() for tries in (1, 2, 3, 99)] == [10, 20, 40, 3600]


def test_a_channel_that_is_dead_holds_up_no_other_and_what_is_new_goes_first(
    timed: Store, webhook: Webhook, clock: list[datetime]
) -> None:
    asked: list[str] = []

    def send(address: str, title: str, body: str) -> bool:
        asked.append(address)
        return outbox.notify(address, title, body)

    with Webhook() as dead:
        dead.status = 500
        for address in (dead.address, webhook.address):
            outbox.add_channel(timed, address)
        for _ in range(4):
            crisis(timed)
            outbox.send_due(timed)
        clock[0] += outbox.LONGEST_WAIT  # each of the four is due again
        crisis(timed)
        assert outbox.send_due(timed, send) == 1
        assert (len(webhook.got), asked.count(dead.address)) == (5, 1)
        dead.status = 200
        clock[0] += outbox.LONGEST_WAIT
        crisis(timed, "abuse")
        assert outbox.send_due(timed, send) == 7
        new = WORDS.sending.body.format(nickname="豆豆", category=WORDS.categories["abuse"])
        assert dead.got[0]["message"] == webhook.got[-1]["message"] == new
        assert len(dead.got) == 6


def test_what_did_not_arrive_in_a_week_is_told_and_waits_no_longer(
    timed: Store, webhook: Webhook, clock: list[datetime]
) -> None:
    outbox.add_channel(timed, webhook.address)
    crisis(timed)
    webhook.status = 500
    outbox.send_due(timed)
    assert (outbox.waiting(timed), outbox.given_up(timed)) == (1, set())
    clock[0] += outbox.GIVE_UP_AFTER
    assert (outbox.waiting(timed), outbox.given_up(timed)) == (0, {timed.alerts()[0].id})


def test_a_restart_between_taking_and_sending_loses_nothing(
    timed: Store, webhook: Webhook, database: Database, clock: list[datetime]
) -> None:
    outbox.add_channel(timed, webhook.address)
    crisis(timed)

    def killed(*_: str) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outbox.send_due(timed, killed)
    again = database.open(lambda: clock[0])
    assert outbox.send_due(again) == 0, "another process may still be sending it"
    clock[0] += outbox.TAKEN_FOR
    assert outbox.send_due(again) == 1
    again.close()
    assert len(webhook.got) == 1


def test_two_senders_send_one_message(
    timed: Store, webhook: Webhook, database: Database, clock: list[datetime]
) -> None:
    outbox.add_channel(timed, webhook.address)
    crisis(timed)
    other = database.open(lambda: clock[0])
    senders = [threading.Thread(target=outbox.send_due, args=(store,)) for store in (timed, other)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    other.close()
    assert len(webhook.got) == 1


def test_what_nobody_has_heard_of_goes_to_a_channel_that_is_added_later(
    timed: Store, webhook: Webhook, clock: list[datetime]
) -> None:
    """A first address that comes after the crisis, and one in the place of a wrong one."""
    crisis(timed, "danger")
    clock[0] += outbox.GIVE_UP_AFTER  # too old
    crisis(timed, "abuse")
    timed.alerts_seen([timed.alerts()[0].id])
    crisis(timed)
    with Webhook() as wrong:
        wrong.status = 404
        outbox.add_channel(timed, wrong.address)
        assert (outbox.send_due(timed), outbox.waiting(timed)) == (0, 1)
    ((wrong_id, _),) = outbox.channels(timed)
    outbox.remove_channel(timed, wrong_id)
    outbox.add_channel(timed, webhook.address)
    assert outbox.send_due(timed) == 1
    told = WORDS.sending.body.format(nickname="豆豆", category=WORDS.categories["self_harm"])
    assert [sent["message"] for sent in webhook.got] == [told]
    outbox.add_channel(timed, webhook.address)
    assert outbox.send_due(timed) == 0, "it has been heard"


@pytest.mark.parametrize(
    "address",
    [
        "json://127.0.0.1:9/ json://127.0.0.1:9/other",
        "mailto://me:secret@example.org,json://127.0.0.1:9/",
        "mailto://me:secret@example.org?to=mum@example.org,dad@example.org",
        "tgram://123456789:abcdefg_hijklmnop/1234567/7654321?retry=2",
    ],
)
def test_an_address_of_several_recipients_is_none(timed: Store, address: str) -> None:
    """One of them that fails would have each alert sent to the others again and again."""
    with pytest.raises(outbox.Several, match="one address for each recipient"):
        outbox.add_channel(timed, address)
    assert outbox.channels(timed) == []


def test_one_recipient_who_is_tried_more_than_once_is_one_and_an_old_channel_of_several_goes_on(
    timed: Store, webhook: Webhook
) -> None:
    outbox.add_channel(timed, f"{webhook.address}&retry=3")
    with timed.writing() as session:
        both = f"{webhook.address} {webhook.address}"
        session.add(Channel(address=timed.sealer.seal(both), created=timed.now()))
    crisis(timed)
    assert outbox.send_due(timed) == 2
    assert len(webhook.got) == 3


def test_a_channel_is_checked_named_without_its_secret_and_removed(timed: Store, webhook: Webhook) -> None:
    with pytest.raises(BadInput, match="not one that apprise knows"):
        outbox.add_channel(timed, "nonsense://x")
    outbox.add_channel(timed, webhook.address)
    outbox.add_channel(timed, "mailto://me:secret@example.org")
    (first, known), (second, name) = outbox.channels(timed)
    assert known == "json://…hook"
    assert "secret" not in name
    assert outbox.try_channel(timed, first)
    assert webhook.got[0]["message"] == WORDS.sending.trial
    outbox.remove_channel(timed, second)
    assert len(outbox.channels(timed)) == 1
