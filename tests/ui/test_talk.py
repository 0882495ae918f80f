"""One reply from question to record, against a real HTTP server. Run: `pytest tests/ui/test_talk.py`."""

import json
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler

import pytest

from serve.request import BODY_LIMIT
from tests.demo import free_port
from tests.ui.databases import Database, family
from tests.ui.model_server import CRISIS, SKY, ModelServer
from tests.ui.serving import Serving
from ui import chores, exchange, forget
from ui.client import Asleep, Settings, settings_from
from ui.companion import talk
from ui.companion.farewell import is_farewell
from ui.database import Gone, Unreachable
from ui.exchange import SAID_CHARS
from ui.locales import sentences
from ui.records import Limits, Message, Profile
from ui.store import Store
from ui.tables import Child

WORDS = sentences("zh")
ALLOWED = Limits(60, "00:00", "00:00", 30, "", read_aloud=True, voice=True)


@pytest.fixture
def child(store: Store) -> Child:
    return family(store)


def settings(url: str) -> Settings:
    return settings_from({"MINDPAL_API_URL": url})


def test_a_reply_left_in_the_middle_is_kept_and_the_server_sees_it(store: Store, child: Child) -> None:
    question = exchange.say(store, child.id, None, "讲一个很长的故事")
    with ModelServer() as server:
        growing = talk.reply_to(store, settings(server.url), child, question)
        seen = next(text for text in growing if text)
        growing.close()
        assert server.hung_up.wait(5)
    asked, kept = store.messages(question.conversation_id)
    assert (asked.state, kept.state, kept.text) == ("done", "stopped", seen)


def test_a_withdrawn_consent_ends_a_reply_and_forbids_the_next(store: Store, child: Child) -> None:
    question = exchange.say(store, child.id, None, "讲一个很长的故事")
    with ModelServer() as server:
        for text in talk.reply_to(store, settings(server.url), child, question):
            if text:
                store.withdraw()
        assert server.hung_up.wait(5)
        question = exchange.say(store, child.id, None, "你好")
        assert list(talk.reply_to(store, settings(server.url), child, question)) == []
        assert len(server.requests) == 1
    assert store.messages(question.conversation_id)[1].state == "stopped"


def test_a_reply_to_a_question_of_which_something_was_masked_is_an_ordinary_one(store: Store, child: Child) -> None:
    question = exchange.say(store, child.id, None, "我的电话是13800000000，天空为什么蓝？")
    with ModelServer() as server:
        list(talk.reply_to(store, settings(server.url), child, question))
    kept = store.messages(question.conversation_id)[1]
    assert (kept.text, kept.state, kept.action) == (SKY, "done", "masked")


def test_a_crisis_reaches_the_guardian_though_the_child_leaves_at_once(store: Store, child: Child) -> None:
    """Stop, or a closed tab, between the words of the card and the end that names it."""
    question = exchange.say(store, child.id, None, "我不想活了")
    with ModelServer(pause_s=0.2) as server:
        growing = talk.reply_to(store, settings(server.url), child, question)
        next(growing)
        growing.close()
    kept = store.messages(question.conversation_id)[1]
    assert (kept.text, kept.state, kept.action) == (CRISIS, "guarded", "crisis")
    assert [alert.category for alert in store.alerts()] == ["self_harm"]


def test_a_crisis_is_written_with_its_first_words(store: Store, child: Child) -> None:
    """A kill of the page between the words of the card and their end loses neither card nor alert."""
    question = exchange.say(store, child.id, None, "我不想活了")
    with ModelServer(pause_s=0.5, at_once=True) as server:
        growing = talk.reply_to(store, settings(server.url), child, question)
        assert next(text for text in growing if text) == CRISIS
        asked, kept = store.messages(question.conversation_id)
        assert (asked.state, kept.text, kept.state, kept.action) == ("done", CRISIS, "guarded", "crisis")
        assert [alert.category for alert in store.alerts()] == ["self_harm"]
        list(growing)
    assert [alert.category for alert in store.alerts()] == ["self_harm"]
    assert store.messages(question.conversation_id) == [asked, kept]


def test_a_crisis_taken_back_before_anybody_read_it_is_read_later(store: Store, child: Child) -> None:
    """Stop, or a closed tab, while the server says nothing at all."""
    question = exchange.say(store, child.id, None, "我不想活了")
    released = threading.Event()

    def hang(_: BaseHTTPRequestHandler, __: bytes) -> None:
        released.wait(60)

    with Serving(hang) as hung:
        growing = talk.reply_to(store, settings(f"http://127.0.0.1:{hung.port}/v1"), child, question)
        assert next(growing) == ""
        growing.close()
        released.set()
    said = store.messages(question.conversation_id)
    assert [(message.text, message.state) for message in said] == [("我不想活了", "unjudged"), ("", "stopped")]
    assert talk.unanswered(said) is None
    with ModelServer() as server:
        for _ in range(2):
            chores.answer_left(store, settings(server.url))
        assert len(server.requests) == 1
    asked, kept = store.messages(question.conversation_id)
    assert (asked.state, kept.text, kept.state, kept.action) == ("done", CRISIS, "guarded", "crisis")
    assert [alert.category for alert in store.alerts()] == ["self_harm"]


def test_a_wrong_key_or_address_leaves_the_question_waiting(store: Store, child: Child) -> None:
    with ModelServer() as server, ModelServer(ours=False) as other:
        for words, url in (("[401]", server.url), ("[404]", server.url), ("我不想活了", other.url)):
            question = exchange.say(store, child.id, None, words)
            with pytest.raises(Asleep):
                list(talk.reply_to(store, settings(url), child, question))
            assert [found.state for found in store.messages(question.conversation_id)] == ["waiting"]


def test_a_crisis_whose_end_cannot_be_written_is_written_as_soon_as_it_can_be(database: Database) -> None:
    store = database.open(patience_s=0.2)
    child = family(store)
    question = exchange.say(store, child.id, None, "我不想活了")
    with ModelServer(pause_s=0.5) as server:
        growing = talk.reply_to(store, settings(server.url), child, question)
        assert CRISIS in growing, "the reply is begun"
        with database.held(), pytest.raises(Unreachable):
            list(growing)
    assert store.alerts() == []
    until = time.monotonic() + 20
    while not store.alerts() and time.monotonic() < until:
        time.sleep(0.1)
    assert [alert.category for alert in store.alerts()] == ["self_harm"]
    assert store.messages(question.conversation_id)[1].text == CRISIS
    store.close()


def test_a_second_without_the_records_does_not_end_a_reply(database: Database) -> None:
    store = database.open(patience_s=0.2)
    child = family(store)
    question = exchange.say(store, child.id, None, "为什么天空是蓝色的？")
    with ModelServer(pause_s=0.1) as server:
        growing = talk.reply_to(store, settings(server.url), child, question)
        next(text for text in growing if text)
        with database.held():
            next(text for text in growing if len(text) > len(SKY) // 2)
        list(growing)
    assert [(found.text, found.state) for found in store.messages(question.conversation_id)][1] == (SKY, "done")
    store.close()


def test_a_chat_that_is_deleted_while_its_reply_grows_ends_it_and_hurts_no_other(store: Store, child: Child) -> None:
    sibling = store.add_child(Profile("果果"))
    question = exchange.say(store, child.id, None, "讲一个很长的故事")
    with ModelServer() as server:
        growing = talk.reply_to(store, settings(server.url), child, question)
        next(text for text in growing if text)
        forget.child(store, child.id)
        # SQLite gives the numbers of the deleted rows to these.
        other = exchange.say(store, sibling.id, None, "果果的话")
        answer = exchange.begin_reply(store, other)
        assert answer is not None
        exchange.end_reply(store, answer, "给果果的话", "done")
        with pytest.raises(Gone):
            list(growing)
        assert server.hung_up.wait(5)
    assert [found.text for found in store.messages(other.conversation_id)] == ["果果的话", "给果果的话"]


def test_nothing_is_asked_in_quiet_hours_or_beyond_the_days_time(store: Store, child: Child) -> None:
    with ModelServer() as server:
        for limits in (replace(ALLOWED, minutes_a_day=0), replace(ALLOWED, quiet_to="23:59")):
            store.set_limits(child.id, limits)
            limited = store.child(child.id)
            assert limited is not None
            question = exchange.say(store, child.id, None, "你好")
            assert list(talk.reply_to(store, settings(server.url), limited, question)) == []
            assert talk.unanswered(store.messages(question.conversation_id)) is not None
        assert server.requests == []


def test_a_sleeping_server_leaves_the_question_waiting_and_a_later_try_answers_it(store: Store, child: Child) -> None:
    question = exchange.say(store, child.id, None, "为什么天空是蓝色的？")
    port = free_port()
    asleep = settings(f"http://127.0.0.1:{port}/v1")
    with pytest.raises(Asleep):
        list(talk.reply_to(store, asleep, child, question))
    messages = store.messages(question.conversation_id)
    assert len(messages) == 1
    waiting = talk.unanswered(messages)
    assert waiting is not None
    with ModelServer(port):
        list(talk.reply_to(store, asleep, child, waiting))
    asked, kept = store.messages(question.conversation_id)
    assert (asked.state, kept.state, kept.text) == ("done", "done", SKY)


def test_a_goodbye_is_answered_here_but_not_after_a_crisis(store: Store, child: Child) -> None:
    with ModelServer() as server:
        for words, requests in (("再见", 0), ("我不想活了", 1), ("再见", 2)):
            here = store.conversations(child.id)[0].id if requests else None
            list(talk.reply_to(store, settings(server.url), child, exchange.say(store, child.id, here, words)))
            assert len(server.requests) == requests
    first = store.messages(store.conversations(child.id)[0].id)[1]
    assert (first.text, first.action) == (WORDS.door.goodbye.format(nickname="豆豆"), "goodbye")


@pytest.mark.parametrize(
    "said", ["再见", "拜拜啦！", "灵伴再见～", "我走了", "晚安", "Bye!", "good night", "Bye bye, MindPal", "exit"]
)
def test_a_farewell_is_known(said: str) -> None:
    assert is_farewell(said)


@pytest.mark.parametrize(
    "said",
    ["再见是什么意思？", "他和我说再见了我很难过", "再见了世界", "晚安故事", "讲个晚安故事", "what is bye", "你好"],
)
def test_a_sentence_with_a_farewell_in_it_is_none(said: str) -> None:
    assert not is_farewell(said)


def test_a_blocked_topic_is_left_to_the_parents_in_questions_and_in_answers(store: Store, database: Database) -> None:
    made = family(store)
    store.set_limits(made.id, replace(ALLOWED, blocked_topics="恐怖片\n阳光"))
    child = store.child(made.id)
    assert child is not None
    with ModelServer() as server:
        asked = exchange.say(store, child.id, None, "讲个恐怖片")
        assert not any(talk.reply_to(store, settings(server.url), child, asked))
        question = exchange.say(store, child.id, None, "为什么天空是蓝色的？")
        seen = list(talk.reply_to(store, settings(server.url), child, question))
        assert all("阳光" not in text for text in seen)
    for conversation in (asked, question):
        reply = store.messages(conversation.conversation_id)[1]
        assert (reply.text, reply.action) == (WORDS.door.topic, "topic")


@pytest.mark.parametrize("pause_s", [0.01, 1], ids=["told at the end", "told with the first words, slowly"])
@pytest.mark.parametrize("topic", ["不想活", "难受"], ids=["in what the child says", "in the card"])
def test_a_blocked_topic_hides_no_crisis(store: Store, topic: str, pause_s: float) -> None:
    made = family(store)
    store.set_limits(made.id, replace(ALLOWED, blocked_topics=topic))
    child = store.child(made.id)
    assert child is not None
    with ModelServer(pause_s=pause_s, at_once=pause_s == 1) as server:
        question = exchange.say(store, child.id, None, "我不想活了")
        list(talk.reply_to(store, settings(server.url), child, question))
    kept = store.messages(question.conversation_id)[1]
    assert (kept.text, kept.action) == (CRISIS, "crisis")
    assert [alert.category for alert in store.alerts()] == ["self_harm"]


@pytest.mark.parametrize(
    ("words", "topic"), [("[empty]", ""), ("说点很怪的", "别的")], ids=["empty", "blocked at once"]
)
def test_an_answer_without_a_word_is_asked_once(store: Store, words: str, topic: str) -> None:
    made = family(store)
    store.set_limits(made.id, replace(ALLOWED, blocked_topics=topic))
    child = store.child(made.id)
    assert child is not None
    question = exchange.say(store, child.id, None, words)
    with ModelServer() as server:
        list(talk.reply_to(store, settings(server.url), child, question))
    asked, kept = store.messages(question.conversation_id)
    assert (asked.state, kept.role) == ("done", "assistant")
    assert kept.text == (WORDS.door.topic if topic else "")


def test_the_model_sees_answered_questions_only_and_by_turns(store: Store, child: Child) -> None:
    first = exchange.say(store, child.id, None, "一")
    reply = exchange.begin_reply(store, first)
    assert reply is not None
    exchange.end_reply(store, reply, "壹", "done")
    unsaid = exchange.say(store, child.id, first.conversation_id, "二")
    empty = exchange.begin_reply(store, unsaid)
    assert empty is not None
    exchange.end_reply(store, empty, "", "stopped")
    question = exchange.say(store, child.id, first.conversation_id, "三")
    seen = talk.turns(store.messages(first.conversation_id), question)
    assert [(turn.role, turn.text) for turn in seen] == [("user", "一"), ("assistant", "壹"), ("user", "三")]


@pytest.mark.parametrize("words", ["好", "a", "🦄", "\x01"])
def test_of_five_hundred_long_messages_the_newest_are_sent_and_the_server_takes_them(words: str) -> None:
    at = datetime.now(UTC)
    said = [
        Message(number, 1, ("assistant", "user")[number % 2], words * SAID_CHARS, "done", None, None, None, None, at)
        for number in range(1, 501)
    ]
    question = Message(501, 1, "user", "最后一句", "waiting", None, None, None, None, at)
    sent = talk.turns([*said, question], question)
    body = {"messages": [{"role": turn.role, "content": turn.text} for turn in sent]}
    assert len(json.dumps(body).encode()) < BODY_LIMIT
    assert [turn.role for turn in sent] == [*(["user", "assistant"] * (len(sent) // 2)), "user"]
    assert 5 <= len(sent) < 500
    assert sent[-1].text == "最后一句"
