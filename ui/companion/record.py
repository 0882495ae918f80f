"""What is written down of a reply, whatever ends it. In: the store, a question, the reply on its way. Out: rows.

Run: `record = Record(store, question, coming)`; `record.keep_up()` with each piece, then `finish()` or `leave()`, and
`end()` in any case, as `ui/companion/talk.py` does.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from ui import exchange, visits
from ui.client import Asleep, Ending, Refused, Reply
from ui.companion.topics import whole_words
from ui.database import Gone, Unreachable
from ui.records import Message
from ui.store import Store
from ui.tables import Child, State

JUDGED_S = 2.0  # how long the guard is waited for when a child leaves before the first word
SOON_S = 0.3  # and after a word: a crisis is answered whole, and its end is on its heels
LATER_S = 2.0  # how often an end that could not be written is tried again

log = logging.getLogger("mindpal")


class Record:
    """What is written down of a reply: begun with its first word, saved while it grows, ended once.

    Of a crisis everything is written, with its alert, as soon as the guard has told it: a kill must not lose it.
    """

    def __init__(self, store: Store, question: Message, coming: Reply) -> None:
        self.question, self.coming = question, coming
        self.pieces = whole_words(coming)
        self.text = ""
        self._store = store
        self._started = time.monotonic()
        self._answer: Message | None = None
        self._topic: Ending | None = None
        self._state: State = "stopped"
        self._written: str | None = None  # the words beside which the ending has been written

    @property
    def begun(self) -> bool:
        """Whether there is a reply in the records."""
        return self._answer is not None

    def keep_up(self) -> bool:
        """Begin with the first word, and write a crisis at once; False when another page has answered the question."""
        if self.coming.ending.action == "crisis" and self._written is None:
            self._write()
            return self.begun
        if self.text and not self.begun:
            self._answer = exchange.begin_reply(self._store, self.question)
            return self.begun
        return True

    def save(self, counted: Child | None) -> bool:
        """Write what has grown, and count the time of this child; whether the consent still holds."""
        try:
            if self._store.consent() is None:
                return False
            if counted is not None:
                visits.act(self._store, counted.id)
            if self._answer is not None:
                exchange.grow_reply(self._store, self._answer, self.text)
        except Unreachable as error:  # the reply goes on, and the next second tries again
            log.warning("reply: not written yet: %s", error)
        return True

    def hear_out(self) -> None:
        """Take what comes within a moment: a server may tell its verdict only at the end of a fixed answer."""
        self.text += _until_judged(self.pieces, SOON_S)

    def leave_to_parents(self, said: str, topic: str) -> None:
        """The guardian blocked what this is about: the reply is what was said before it, and that sentence."""
        self.text = f"{said}\n\n{topic}".strip()
        self._topic = Ending(action="topic", contract=self.coming.ending.contract)

    def finish(self) -> None:
        """The reply has come to its end. One without a word is kept, too: it is not asked again."""
        self._state = "done" if self.text else "stopped"
        if not self.begun:
            self._write()

    def leave(self) -> None:
        """The reader has gone. A child who presses Stop at once, or closes the page, is heard all the same."""
        late = _until_judged(self.pieces, SOON_S if self.text else JUDGED_S)
        ending = self.coming.ending
        if ending.guarded:
            self.text += late
        if not self.begun:  # an empty reply says that it was stopped; who has not read the question reads it later
            self._write(judged=ending.guarded or ending.finish_reason is not None)

    def end(self) -> None:
        """Write how a reply that was begun has ended."""
        if self._answer is None:
            return
        known = self._known()
        if self._written is None:
            _end(partial(exchange.end_reply, self._store, self._answer, *known))
        elif self._written != self.text:
            _end(partial(exchange.grow_reply, self._store, self._answer, self.text))
        log.info(
            "reply chars=%d ms=%d state=%s contract=%.8s",
            len(self.text),
            1000 * (time.monotonic() - self._started),
            known[1],
            known[-1],
        )

    def _known(self) -> tuple[str, State, str | None, str | None, str | None]:
        ending = self._topic or self.coming.ending
        state: State = "guarded" if ending.guarded else self._state
        return self.text, state, ending.action, ending.category, ending.contract

    def _write(self, *, judged: bool = True) -> None:
        """Write all that is known in one transaction."""
        if self._answer is None:
            self._answer = exchange.begin_reply(self._store, self.question, *self._known(), judged=judged)
        else:
            exchange.end_reply(self._store, self._answer, *self._known())
        self._written = self.text


def _until_judged(pieces: Iterator[str], patience_s: float) -> str:
    """What still comes within a moment after the reader has gone."""
    late, until = "", time.monotonic() + patience_s
    try:
        for piece in pieces:
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
