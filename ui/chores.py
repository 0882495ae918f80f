"""What has to be done whether a page is open or not: send alerts, delete what is too old, answer what was left waiting.

In: the store, the settings. Out: nothing. Run: `start(store, settings)`, in the page's process (`ui/__main__.py`).
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from ui import away, exchange, forget
from ui.client import Asleep, Refused, Settings
from ui.companion import talk
from ui.database import Gone, Unreachable
from ui.outbox import send_due
from ui.store import Store

SEND_S = 2.0
AWAY_S = 300.0  # also after the start: a server that starts together with the page is not away
SWEEP_S = 3600.0
LEFT_S = 30.0
AGAIN_S = 30.0  # after the database could not be reached
SCRUB_S = 10.0

log = logging.getLogger("mindpal")


def start(store: Store, settings: Settings) -> threading.Event:
    """Begin to do all of it, until the event that this gives is set.

    Each in a thread of its own: a question may take minutes, and an alert must not wait for it. Daemons, so that Ctrl-C
    waits for no webhook.
    """
    stop = threading.Event()
    for name, first_s, every_s, chore in (
        ("alerts", 0.0, SEND_S, partial(send_due, store)),
        ("left", LEFT_S, LEFT_S, partial(answer_left, store, settings)),
        ("away", AWAY_S, AWAY_S, partial(away.tell, store)),
        ("retention", 0.0, SWEEP_S, partial(delete_old, store)),
        ("scrub", 0.0, SCRUB_S, partial(scrub_owed, store)),
    ):
        threading.Thread(target=_again, args=(stop, first_s, every_s, chore), name=name, daemon=True).start()
    return stop


def answer_left(store: Store, settings: Settings) -> None:
    """Answer each question that a page left waiting for a sleeping server; of one that was taken back, hear the verdict.

    Only the server's guard knows a crisis when it reads one: the guardian must hear of it without the child coming
    back, and also at night and when the day's time is over. The child reads the answer when the page opens again.
    """
    for child, question in exchange.left_behind(store):
        # A server that sleeps does so perhaps because of this question alone: those behind it must not wait for it.
        with suppress(Asleep, Refused, Gone):
            if question.state == "unjudged":
                talk.judge(store, settings, child, question)
                continue
            for _ in talk.reply_to(store, settings, child, question, here=False):
                pass


def delete_old(store: Store) -> None:
    """Delete what is older than the guardian's number of days."""
    gone = forget.expired(store)
    if gone:
        log.info("retention messages=%d", gone)


def scrub_owed(store: Store) -> None:
    """Try again to take what was deleted out of the database's files."""
    if forget.is_owed(store) and forget.scrub(store, patience_s=0):
        log.info("what was deleted is gone from the files, too")


def _again(stop: threading.Event, first_s: float, every_s: float, chore: Callable[[], object]) -> None:
    wait_s = first_s
    while not stop.wait(wait_s):
        wait_s = every_s
        try:
            chore()
        except Unreachable as error:  # a database that restarts is tried again: alerts wait in it
            log.warning("chores: the database cannot be reached: %s", error)
            wait_s = min(every_s, AGAIN_S)
        except Exception:  # one channel's mistake must not end the sending of alerts
            log.exception("chores: failed, and tried again in %d s", every_s)
