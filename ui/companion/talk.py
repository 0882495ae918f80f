"""One reply from question to record: asks the model, keeps what it says, and tells the page what to draw.

In: the store, the settings, the child, a waiting question. Out: the text so far, again and again; everything is stored on the way.
The page may walk away at any moment (Stop, another chat, a closed tab): what was said is kept, the server stops.
"""

import json
import time
from collections.abc import Generator
from datetime import timedelta

from ui import exchange
from ui.client import Asleep, Refused, Reply, Settings, Turn
from ui.companion.farewell import is_farewell
from ui.companion.record import Record
from ui.companion.topics import named
from ui.limits import rule
from ui.locales import sentences
from ui.records import Message
from ui.store import Store
from ui.tables import UNREAD, Child

SAVE_S = 1.0  # how often a growing reply is written and the consent looked at; less often where writing is slow
SLOW_S = 5.0  # a page that follows takes a reply that is silent for longer for a lost one
VISIT_S = 20.0  # how often the time of a child who reads a growing reply is counted
# How long after a crisis no goodbye in another chat is an ordinary one, and no day a good one.
GRAVE = timedelta(days=1)
UNANSWERED = Turn("assistant", "…")  # beside a question without an answer: user and assistant take turns
SENT_BYTES = 192 * 1024  # the server takes 256 KiB at once, and its window holds less than this


def turns(messages: list[Message], question: Message) -> list[Turn]:
    """The conversation up to `question`, as the model may see it. Of a long one the newest exchanges, as many as the
    server takes.

    What was stopped at its first word, or nobody has answered yet, is told too: a wish may be spread over messages, and
    the guard reads them together. What the server refused is not: it would refuse that again.
    """
    said: list[Turn] = []
    asked: Message | None = None
    for message in messages:
        if message.id == question.id:
            break
        if message.role == "user" and message.state != "stopped":
            if asked is not None:
                said += [Turn("user", asked.text), UNANSWERED]
            asked = message
        elif message.role == "assistant" and asked is not None and message.text:
            said += [Turn("user", asked.text), Turn("assistant", message.text)]
            asked = None
    if asked is not None:
        said += [Turn("user", asked.text), UNANSWERED]
    start, room = len(said), SENT_BYTES - _bytes(question.text)
    while start and (room := room - _bytes(said[start - 2].text) - _bytes(said[start - 1].text)) >= 0:
        start -= 2
    return [*said[start:], Turn("user", question.text)]


def unanswered(messages: list[Message]) -> Message | None:
    """The question that waits for an answer, if there is one."""
    return next((message for message in messages if message.role == "user" and message.state == "waiting"), None)


def reply_to(
    store: Store, settings: Settings, child: Child, question: Message, *, here: bool = True
) -> Generator[str, None, None]:
    """Yield the text so far whenever it grew, and between times, so that the page can be stopped.

    Nothing is asked without a consent: the question keeps waiting. `here`: the child is there; then the time counts, and
    nothing is asked in quiet hours or beyond the day's time. Raises `Asleep` when nothing was said: the question keeps waiting.
    Raises `Refused`: it waits no longer. Raises `Gone`: somebody has deleted the chat. Raises `Unreachable` when the
    records cannot be written: before the first word the question keeps waiting, after it the end is written later.
    """
    if store.consent() is None or (here and rule(store, child).door != "open"):
        return
    before = _before(store, child, question)
    # Behind these a goodbye may mean another thing: then the server's guard, which sees the whole talk, answers.
    if is_farewell(question.text) and not any(_is_grave(message, question) for message in before):
        goodbye = sentences(child.language).door.goodbye.format(nickname=child.nickname)
        exchange.begin_reply(store, question, goodbye, "done", "goodbye")
        return
    with Reply(settings, turns(before, question)) as coming:
        record = Record(store, question, coming)
        try:
            yield from _ask(record, child, here=here)
        except Asleep:
            if not record.begun:
                raise
        except Refused:
            exchange.give_up(store, question)
            raise
        except GeneratorExit:
            record.leave()
            raise
        finally:
            record.end()


def judge(store: Store, settings: Settings, child: Child, question: Message) -> None:
    """Let the guard read a question of which the child awaits no answer. Raises what `reply_to` raises."""
    if store.consent() is None:
        return
    with Reply(settings, turns(_before(store, child, question), question)) as coming:
        try:
            text = "".join(coming)
        except Refused:
            exchange.give_up(store, question)
            raise
        ending = coming.ending
    exchange.judged(store, question, text, ending.action, ending.category, ending.contract)


def _before(store: Store, child: Child, question: Message) -> list[Message]:
    """The chat of the question. Before a goodbye come the chats in which there was a crisis lately, or may have been: a new one
    is no other day. With what was put aside: the guard may have heard a crisis in just that."""
    here = question.conversation_id
    if not is_farewell(question.text):
        return store.messages(here)
    grave = store.grave_chats(child.id, store.now() - GRAVE, question.id)
    chats = [*(chat for chat in grave if chat != here), here]
    return [message for chat in chats for message in store.messages(chat, replaced=True)]


def _is_grave(message: Message, question: Message) -> bool:
    """Whether there was a crisis, or may have been: what was said before the question, and nobody has read."""
    unread = message.role == "user" and message.state in UNREAD and message.id < question.id
    return unread or message.action == "crisis"


def _ask(record: Record, child: Child, *, here: bool) -> Generator[str, None, None]:
    """Let the reply grow: up to its end, a blocked topic, a withdrawn consent, or a page that was quicker."""
    asked_blocked = named(child.blocked_topics, record.question.text) is not None
    now = time.monotonic()
    save_at, visit_at = now + SAVE_S, now + VISIT_S
    for piece in record.pieces:
        record.text += piece
        # The guard is asked about a blocked word too: a crisis may be told with just that word.
        blocked = piece and (asked_blocked or named(child.blocked_topics, record.text))
        if blocked and record.coming.ending.action != "crisis":
            said = "" if asked_blocked else _last_sentence(record.text[: -len(piece)])
            record.hear_out()
            if record.coming.ending.action != "crisis":
                record.leave_to_parents(said, sentences(child.language).door.topic)
            record.finish()
            return
        if not record.keep_up():
            return
        if (now := time.monotonic()) > save_at:
            counted = here and now > visit_at
            if not record.save(child if counted else None):
                return
            # Thirty replies that grow at once must not fill the records' time: a slow write makes the next rarer.
            save_at = time.monotonic() + min(SLOW_S, max(SAVE_S, 4 * (time.monotonic() - now)))
            visit_at = now + VISIT_S if counted else visit_at
        yield record.text
    record.finish()


def _bytes(text: str) -> int:
    """How much a message takes in a request at most, however its characters are escaped."""
    return len(json.dumps(text)) + 64


def _last_sentence(text: str) -> str:
    """The text up to its last full stop."""
    return text[: max(text.rfind(stop) for stop in "。！？.!?\n") + 1]
