"""One reply from question to record: asks the model, keeps what it says, and tells the page what to draw.

In: the store, the settings, the child, a waiting question. Out: the text so far, again and again; everything is stored on the way.
The page may walk away at any moment (Stop, another chat, a closed tab): what was said is kept, the server stops.
"""

import logging
import time
from collections.abc import Generator

from ui.client import Asleep, Ending, Refused, Reply, Settings, Turn
from ui.companion.farewell import is_farewell
from ui.limits import rule
from ui.locales import sentences
from ui.store import Message, Store
from ui.tables import Child, State

SAVE_S = 1.0  # how often a growing reply is written, the time counted, and the consent looked at

log = logging.getLogger("mindpal")


def turns(messages: list[Message], question: Message) -> list[Turn]:
    """The conversation up to `question`, as the model may see it: answered questions, their answers, the question."""
    said: list[Turn] = []
    asked: Message | None = None
    for message in messages:
        if message.id == question.id:
            break
        if message.role == "user":
            asked = message
        elif asked is not None and message.text:
            said += [Turn("user", asked.text), Turn("assistant", message.text)]
            asked = None
    return [*said, Turn("user", question.text)]


def unanswered(messages: list[Message]) -> Message | None:
    """The question that waits for an answer, if there is one."""
    return next((message for message in messages if message.role == "user" and message.state == "waiting"), None)


def reply_to(store: Store, settings: Settings, child: Child, question: Message) -> Generator[str, None, None]:
    """Yield the text so far whenever it grew, and between times, so that the page can be stopped.

    Nothing is asked without a consent, in quiet hours or beyond the day's time: the question keeps waiting.
    Raises `Asleep` when nothing was said: the question keeps waiting. Raises `Refused`: it waits no longer.
    """
    if store.consent() is None or rule(store, child).door != "open":
        return
    before = store.messages(question.conversation_id)
    # After a crisis a goodbye may mean another thing: then the server's guard, which sees the whole talk, answers.
    if is_farewell(question.text) and all(message.action != "crisis" for message in before):
        _answer_here(store, question, sentences(child.language).door.goodbye.format(nickname=child.nickname), "goodbye")
        return
    if blocked_topic(child, question.text):
        _answer_here(store, question, sentences(child.language).door.topic, "topic")
        return
    started = time.monotonic()
    with Reply(settings, turns(before, question)) as coming:
        answer: Message | None = None
        text, saved = "", started
        state: State = "stopped"
        ending: Ending | None = None
        try:
            for piece in coming:
                text += piece
                if blocked_topic(child, text):
                    text = f"{_last_sentence(text[: -len(piece)])}\n\n{sentences(child.language).door.topic}".strip()
                    state, ending = "guarded", Ending(action="topic", contract=coming.ending.contract)
                    return
                if answer is None and piece:
                    answer = store.begin_reply(question)
                    if answer is None:  # another page of the same child has answered it
                        return
                if time.monotonic() - saved > SAVE_S:
                    saved = time.monotonic()
                    if store.consent() is None:
                        return
                    store.visit(child.id)
                    if answer is not None:
                        store.grow_reply(answer, text)
                yield text
            state = "guarded" if coming.ending.action else "done"
        except Asleep:
            if answer is None:
                raise
        except Refused:
            store.give_up(question)
            raise
        except GeneratorExit:
            if answer is None:  # stopped before the first word: an empty reply says so, and the question is settled
                answer = store.begin_reply(question)
            raise
        finally:
            if answer is not None:
                ending = ending or coming.ending
                store.end_reply(answer, text, state, ending.action, ending.category, ending.contract)
                log.info(
                    "reply chars=%d ms=%d state=%s contract=%.8s",
                    len(text),
                    1000 * (time.monotonic() - started),
                    state,
                    ending.contract,
                )


def blocked_topic(child: Child, text: str) -> str | None:
    """The first of the guardian's blocked topics that the text names, or None."""
    plain = text.casefold()
    return next((topic for topic in child.blocked_topics.splitlines() if topic and topic.casefold() in plain), None)


def _answer_here(store: Store, question: Message, text: str, action: str) -> None:
    """Answer at once, without the model."""
    answer = store.begin_reply(question)
    if answer is not None:
        store.end_reply(answer, text, "done", action)


def _last_sentence(text: str) -> str:
    """The text up to its last full stop."""
    return text[: max(text.rfind(stop) for stop in "。！？.!?\n") + 1]
