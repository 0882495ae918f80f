"""One reply from question to record, against a real HTTP server. Run: `pytest tests/ui/test_talk.py`."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import uvicorn

from data.contract import read_contract, seal
from data.conversations import DATA_DIR
from serve import policy
from serve.guard.guard import read_guard
from serve.request import BODY_LIMIT
from tests.demo import free_port
from tests.ui.databases import ALLOWED, Database, family
from tests.ui.model_server import CRISIS, SKY, ModelServer
from tests.ui.serving import Serving
from ui import away, chores, exchange, forget
from ui.client import Asleep, Settings, settings_from
from ui.companion import talk, topics
from ui.companion.farewell import is_farewell
from ui.database import Gone, Unreachable, url_for
from ui.exchange import SAID_CHARS, TYPED_CHARS
from ui.locales import sentences
from ui.records import Message, Profile
from ui.store import Store
from ui.tables import Child

WORDS = sentences("zh")


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
    next_one = exchange.say(store, child.id, None, "你好")
    with ModelServer() as server:
        for text in talk.reply_to(store, settings(server.url), child, question):
            if text:
                store.withdraw()
        assert server.hung_up.wait(5)
        assert list(talk.reply_to(store, settings(server.url), child, next_one)) == []
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


@contextmanager
def guarded(folder: Path) -> Iterator[str]:
    """The server's own policy and guard, and no engine behind them; gives the address. Of a model folder they read the seal
    and the tokenizer."""
    folder.mkdir()
    shutil.copy(DATA_DIR / "standin" / "tokenizer.json", folder)
    seal(folder, read_contract(), {"made by": "tests"}, [0], 0)

    async def no_engine(*_: object) -> None:
        raise AssertionError("nothing here may reach the model")

    port = free_port()
    guard = policy.Policy(no_engine, policy.Settings(folder, None))
    server = uvicorn.Server(uvicorn.Config(guard, port=port, lifespan="off", ws="none", log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/v1"
    server.should_exit = True
    thread.join(60)


def test_what_a_failing_guard_could_not_read_is_kept_told_and_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause_s = 0.0

    def fail(*_: object) -> None:
        time.sleep(pause_s)
        raise MemoryError

    store = Store(url_for(tmp_path / "family", None), tmp_path / "key")
    child = family(store)
    with guarded(tmp_path / "model") as url:
        monkeypatch.setattr("data.classifier.Reader.read", fail)
        heard = exchange.say(store, child.id, None, "我不想活了")
        list(talk.reply_to(store, settings(url), child, heard))
        assert [found.action for found in store.messages(heard.conversation_id)] == [None, "crisis"]
        assert len(store.alerts()) == 1, "the rules have heard it"

        monkeypatch.setattr("serve.guard.guard.judge_conversation", fail)
        waits, left = (exchange.say(store, child.id, None, "我不想活了") for _ in range(2))
        with pytest.raises(Asleep):
            list(talk.reply_to(store, settings(url), child, waits))
        pause_s = 1.0
        growing = talk.reply_to(store, settings(url), child, left)
        assert next(growing) == ""
        growing.close()
        pause_s = 0.0
        states = [store.messages(question.conversation_id)[0].state for question in (waits, left)]
        assert states == ["waiting", "unjudged"]
        later = datetime.now(UTC) + timedelta(hours=2)
        store.now = lambda: later
        assert away.since(store) is not None, "the guardian hears that nobody judges"
        chores.answer_left(store, settings(url))
        assert len(exchange.left_behind(store)) == 2

        monkeypatch.undo()
        chores.answer_left(store, settings(url))
    assert (exchange.left_behind(store), away.since(store)) == ([], None)
    assert [alert.category for alert in store.alerts()] == ["self_harm"] * 3
    for question in (waits, left):
        assert store.messages(question.conversation_id)[1].action == "crisis"
    store.close()


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
        # These come where the deleted rows were, under numbers of their own.
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


def test_for_a_day_after_a_crisis_a_goodbye_in_another_chat_is_read_with_it(store: Store, child: Child) -> None:
    sibling = store.add_child(Profile("果果"))
    with ModelServer() as server:

        def say(whose: Child, words: str) -> str | None:
            question = exchange.say(store, whose.id, None, words)
            list(talk.reply_to(store, settings(server.url), whose, question))
            return store.messages(question.conversation_id)[1].action

        assert say(child, "我不想活了") == "crisis"
        store.set_limits(sibling.id, ALLOWED)
        assert say(store.children()[1], "再见") == "goodbye", "another child's"
        assert len(server.requests) == 1
        assert say(child, "再见了") is None, "the server answers"
        asked = server.requests[1]["messages"]
        assert [said["content"] for said in asked] == ["我不想活了", CRISIS, "再见了"]
        verdict = read_guard().judge([said["content"] for said in asked if said["role"] == "user"])
        assert verdict is not None
        assert verdict.action == "crisis"
        left = exchange.say(store, child.id, None, "晚安")  # and stopped before anybody had read it
        assert exchange.begin_reply(store, left, "", "stopped", judged=False) is not None
        chores.answer_left(store, settings(server.url))
        assert [said["content"] for said in server.requests[2]["messages"]] == ["我不想活了", CRISIS, "晚安"]
        later = datetime.now(UTC) + timedelta(hours=25)
        store.now = lambda: later
        assert say(child, "再见") == "goodbye"
        assert len(server.requests) == 3


@pytest.mark.parametrize("apart", [False, True], ids=["in the same chat", "in a new chat"])
def test_a_goodbye_behind_what_nobody_has_read_yet_is_for_the_guard(store: Store, child: Child, *, apart: bool) -> None:
    sibling = store.add_child(Profile("果果"))
    cry = exchange.say(store, child.id, None, "我不想活了")
    goodbye = exchange.say(store, child.id, None if apart else cry.conversation_id, "我走了")
    another = exchange.say(store, sibling.id, None, "再见")
    began = datetime.now(UTC)
    store.now = lambda: began + timedelta(minutes=3)
    port = free_port()
    asleep = settings(f"http://127.0.0.1:{port}/v1")
    chores.answer_left(store, asleep)
    assert [left.id for _, left in exchange.left_behind(store)] == [cry.id, goodbye.id]
    assert store.messages(another.conversation_id)[1].action == "goodbye", "another child's"
    store.now = lambda: began + timedelta(days=3)
    with ModelServer(port) as server:
        list(talk.reply_to(store, asleep, child, goodbye, here=False))  # its page is quicker
        assert [said["content"] for said in server.requests[0]["messages"]] == ["我不想活了", "…", "我走了"]
        chores.answer_left(store, asleep)
        later = exchange.say(store, child.id, None, "晚安")
        list(talk.reply_to(store, asleep, child, later, here=False))
        assert len(server.requests) == 3
    assert [alert.category for alert in store.alerts()] == ["self_harm"]


@pytest.mark.parametrize("apart", [False, True], ids=["in the same chat", "in a new chat"])
def test_a_goodbye_after_a_crisis_that_was_put_aside_before_anybody_heard_it_is_for_the_guard(
    store: Store, child: Child, *, apart: bool
) -> None:
    cry = exchange.say(store, child.id, None, "我不想活了")
    assert exchange.begin_reply(store, cry, "", "stopped", judged=False) is not None
    again = exchange.ask_again(store, cry, "你好")
    with ModelServer() as server:
        list(talk.reply_to(store, settings(server.url), child, again))
        began = datetime.now(UTC)
        store.now = lambda: began + timedelta(days=3)  # the server was off
        chores.answer_left(store, settings(server.url))
        assert [alert.category for alert in store.alerts()] == ["self_harm"]
        goodbye = exchange.say(store, child.id, None if apart else cry.conversation_id, "再见")
        list(talk.reply_to(store, settings(server.url), child, goodbye))
        asked = [said["content"] for said in server.requests[-1]["messages"]]
        assert asked == ["我不想活了", CRISIS, "你好", SKY, "再见"]
        store.now = lambda: began + timedelta(days=3, hours=25)
        another_day = exchange.say(store, child.id, None, "再见")
        list(talk.reply_to(store, settings(server.url), child, another_day))
    assert store.messages(goodbye.conversation_id)[-1].action is None, "the server answers"
    assert store.messages(another_day.conversation_id)[1].action == "goodbye"


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


@pytest.mark.parametrize("said", ["拜", "拜拜", "白白", "我走了"])
def test_no_row_of_farewells_takes_long_to_read(said: str) -> None:
    # As far as a message may go; eighty of 拜 and something else would never have ended.
    assert is_farewell(said * 40)
    assert not is_farewell(said * (SAID_CHARS // len(said)) + "老师")


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


@pytest.mark.parametrize(
    ("blocked", "text", "found"),
    [
        ("war", "It is warm, said the steward, and no software.", None),
        ("war", "A WAR.", "war"),
        ("war", "many wars", "war"),
        ("war", "我们聊war吧", "war"),
        ("war", "what he wares", None),
        ("die", "The soldier put in a diet.", None),
        ("die", "does it die?", "die"),
        ("war", "a warning, said the warder", None),
        ("kill", "no killing, said the killers", "kill"),
        ("kill", "I lost my skill and the killjoy laughed", None),
        ("dance", "she was dancing", "dance"),
        ("dance", "a dandelion", None),
        ("witch\nbaby", "two Babies", "baby"),
        ("witch\nbaby", "the witches", "witch"),
        ("ghost story", "tell me ghost stories!", "ghost story"),
        ("18", "180 + 1800", None),
        ("c++", "I like C++code", "c++"),
        ("\n恐怖片", "讲个恐怖片吧", "恐怖片"),
        ("iPad游戏", "玩ipad游戏机", "iPad游戏"),
    ],
)
def test_an_english_topic_is_a_word_and_no_part_of_one(blocked: str, text: str, found: str | None) -> None:
    assert topics.named(blocked, text) == found


def test_pieces_cut_no_word_and_lose_none() -> None:
    pieces = ["It is", " wa", "r", "m", "", "，天", "空 4", "0 ok"]
    assert list(topics.whole_words(pieces)) == ["It ", "is ", "", "", "", "warm，天", "空 ", "40 ", "ok"]


@pytest.mark.parametrize(("topic", "stops"), [("lamb", False), ("prop", False), ("lambda", True), ("蓝光", True)])
@pytest.mark.parametrize("signs", [1, 7])
def test_a_word_is_shown_when_it_is_known_to_be_no_blocked_one(
    store: Store, topic: str, signs: int, *, stops: bool
) -> None:
    made = family(store)
    store.set_limits(made.id, replace(ALLOWED, blocked_topics=topic))
    child = store.child(made.id)
    assert child is not None
    question = exchange.say(store, child.id, None, "为什么天空是蓝色的？")
    with ModelServer(signs=signs) as server:
        seen = list(talk.reply_to(store, settings(server.url), child, question))
    kept = store.messages(question.conversation_id)[1]
    assert all(SKY.startswith(text) for text in seen)
    if stops:
        assert all(topic not in text for text in seen)
        assert kept.text.endswith(WORDS.door.topic)
        assert topic not in kept.text
    else:
        assert (seen[-1], kept.text, kept.state, kept.action) == (SKY, SKY, "done", None)


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


def seen_by_the_model(store: Store, question: Message) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in talk.turns(store.messages(question.conversation_id), question)]


def test_the_model_sees_the_conversation_by_turns(store: Store, child: Child) -> None:
    first = exchange.say(store, child.id, None, "一")
    assert exchange.begin_reply(store, first, "壹", "done") is not None
    here = first.conversation_id
    assert (
        exchange.begin_reply(store, exchange.say(store, child.id, here, "二"), "", "stopped", judged=False) is not None
    )
    exchange.give_up(store, exchange.say(store, child.id, here, "三"))
    waiting = [exchange.say(store, child.id, here, words) for words in ("四", "五")]
    before = [("user", "一"), ("assistant", "壹"), ("user", "二"), ("assistant", "…")]
    assert seen_by_the_model(store, waiting[0]) == [*before, ("user", "四")], (
        "what the server refused is not asked again"
    )
    assert seen_by_the_model(store, waiting[1]) == [*before, ("user", "四"), ("assistant", "…"), ("user", "五")]


@pytest.mark.parametrize("parts", [("i want to", "die"), ("我想要", "结束", "这一切")])
def test_a_wish_in_parts_is_read_together_though_each_was_stopped_at_once(
    store: Store, child: Child, parts: tuple[str, ...]
) -> None:
    guard = read_guard()
    here, asked = None, list[str]()
    for part in parts:
        question = exchange.say(store, child.id, here, part)
        here = question.conversation_id
        asked = [words for role, words in seen_by_the_model(store, question) if role == "user"]
        assert guard.judge([part]) is None, "alone it says nothing"
        exchange.begin_reply(store, question, "", "stopped", judged=False)
    verdict = guard.judge(asked)
    assert verdict is not None
    assert (verdict.action, verdict.category) == ("crisis", "self_harm")


@pytest.mark.parametrize("words", ["好", "a", "🦄", "\x01"])
def test_of_five_hundred_long_messages_the_newest_are_sent_and_the_server_takes_them(words: str) -> None:
    at = datetime.now(UTC)
    said = [
        Message(number, 1, ("assistant", "user")[number % 2], words * TYPED_CHARS, "done", None, None, None, None, at)
        for number in range(1, 501)
    ]
    question = Message(501, 1, "user", "最后一句", "waiting", None, None, None, None, at)
    sent = talk.turns([*said, question], question)
    body = {"messages": [{"role": turn.role, "content": turn.text} for turn in sent]}
    assert len(json.dumps(body).encode()) < BODY_LIMIT
    assert [turn.role for turn in sent] == [*(["user", "assistant"] * (len(sent) // 2)), "user"]
    assert 5 <= len(sent) < 500
    assert sent[-1].text == "最后一句"


@pytest.mark.parametrize("words", ["好", "🦄"])
def test_the_longest_message_is_sent_to_its_end_with_what_fits_beside_it(words: str) -> None:
    at = datetime.now(UTC)
    said = [
        Message(1, 1, "user", "你好", "done", None, None, None, None, at),
        Message(2, 1, "assistant", "嗨", "done", None, None, None, None, at),
    ]
    question = Message(3, 1, "user", words * SAID_CHARS, "waiting", None, None, None, None, at)
    sent = talk.turns([*said, question], question)
    assert [turn.text for turn in sent] == ["你好", "嗨", question.text]
    body = {"messages": [{"role": turn.role, "content": turn.text} for turn in sent]}
    assert len(json.dumps(body).encode()) < BODY_LIMIT
