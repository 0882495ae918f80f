"""One reply from question to record: asks the model, keeps what it says, and tells the page what to draw.

In: the store, the settings, the child, a waiting question. Out: the text so far, again and again; everything is stored on the way.
The page may walk away at any moment (Stop, another chat, a closed tab): what was said is kept, the server stops.
"""

import logging
import threading
import time
from collections.abc import Callable, Generator
from functools import partial

from ui import visits
from ui.client import Asleep, Ending, Refused, Reply, Settings, Turn
from ui.companion.farewell import is_farewell
from ui.database import Gone, Unreachable
from ui.limits import rule
from ui.locales import sentences
from ui.records import Message
from ui.store import Store
from ui.tables import Child, State

SAVE_S = 1.0  # how often a growing reply is written and the consent looked at; less often where writing is slow
SLOW_S = 5.0  # a page that follows takes a reply that is silent for longer for a lost one
VISIT_S = 20.0  # how often the time of a child who reads a growing reply is counted
JUDGED_S = 2.0  # how long the guard is waited for when a child leaves before the first word
SOON_S = 0.3  # and after a word: a crisis is answered whole, and its end is on its heels
LATER_S = 2.0  # how often an end that could not be written is tried again

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
    before = store.messages(question.conversation_id)
    # After a crisis a goodbye may mean another thing: then the server's guard, which sees the whole talk, answers.
    if is_farewell(question.text) and all(message.action != "crisis" for message in before):
        _answer_here(store, question, sentences(child.language).door.goodbye.format(nickname=child.nickname), "goodbye")
        return
    asked_blocked = blocked_topic(child, question.text) is not None
    started = time.monotonic()
    with Reply(settings, turns(before, question)) as coming:
        answer: Message | None = None
        text, save_at, visit_at = "", started + SAVE_S, started + VISIT_S
        state: State = "stopped"
        ending: Ending | None = None
        try:
            for piece in coming:
                text += piece
                if piece and (asked_blocked or blocked_topic(child, text)):
                    before_it = "" if asked_blocked else _last_sentence(text[: -len(piece)])
                    text += _until_judged(coming, SOON_S)
                    state = "guarded"
                    # The guard is asked about a blocked word too: a crisis may be told with just that word.
                    if coming.ending.action != "crisis":
                        text = f"{before_it}\n\n{sentences(child.language).door.topic}".strip()
                        ending = Ending(action="topic", contract=coming.ending.contract)
                    answer = answer or store.begin_reply(question)
                    return
                if answer is None and piece:
                    answer = store.begin_reply(question)
                    if answer is None:  # another page of the same child has answered it
                        return
                if (now := time.monotonic()) > save_at:
                    counted = here and now > visit_at
                    if not _keep(store, child if counted else None, answer, text):
                        return
                    # Thirty replies that grow at once must not fill the records' time: a slow write makes the next rarer.
                    save_at = time.monotonic() + min(SLOW_S, max(SAVE_S, 4 * (time.monotonic() - now)))
                    visit_at = now + VISIT_S if counted else visit_at
                yield text
            state = "guarded" if coming.ending.guarded else "done" if text else "stopped"
            answer = answer or store.begin_reply(question)  # of an answer without a word, too: it is not asked again
        except Asleep:
            if answer is None:
                raise
        except Refused:
            store.give_up(question)
            raise
        except GeneratorExit:
            late = _until_judged(coming, SOON_S if text else JUDGED_S)
            if coming.ending.guarded:  # a child who presses Stop at once, or closes the page, is heard all the same
                text, state = text + late, "guarded"
            if answer is None:  # stopped before the first word: an empty reply says so, and the question is settled
                answer = store.begin_reply(question)
            raise
        finally:
            if answer is not None:
                ending = ending or coming.ending
                _end(partial(store.end_reply, answer, text, state, ending.action, ending.category, ending.contract))
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


def _keep(store: Store, counted: Child | None, answer: Message | None, text: str) -> bool:
    """Write what has grown, and count the time of this child; whether the consent still holds."""
    try:
        if store.consent() is None:
            return False
        if counted is not None:
            visits.act(store, counted.id)
        if answer is not None:
            store.grow_reply(answer, text)
    except Unreachable as error:  # the reply goes on, and the next second tries again
        log.warning("reply: not written yet: %s", error)
    return True


def _until_judged(coming: Reply, patience_s: float) -> str:
    """What still comes within a moment after the reader has gone."""
    late, until = "", time.monotonic() + patience_s
    try:
        for piece in coming:
            late += piece
            if piece:
                until = min(until, time.monotonic() + SOON_S)
            if time.monotonic() > until:
                break
    except (Asleep, Refused):
        log.info("reply: left, and nobody judged it")
    return late


def _end(write: Callable[[], None]) -> None:
    """Write how a reply ended. Raises `Unreachable`, and goes on trying beside the page: it may hold an alert."""
    try:
        write()
    except Unreachable:
        threading.Thread(target=_write_later, args=(write,), name="reply", daemon=True).start()
        raise


def _write_later(write: Callable[[], None]) -> None:
    while True:
        time.sleep(LATER_S)
        try:
            write()
        except Unreachable as error:
            log.warning("reply: its end is not written yet: %s", error)
        except Gone:
            return
        else:
            log.info("reply: its end is written")
            return


def _answer_here(store: Store, question: Message, text: str, action: str) -> None:
    """Answer at once, without the model."""
    answer = store.begin_reply(question)
    if answer is not None:
        store.end_reply(answer, text, "done", action)


def _last_sentence(text: str) -> str:
    """The text up to its last full stop."""
    return text[: max(text.rfind(stop) for stop in "。！？.!?\n") + 1]
