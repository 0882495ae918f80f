"""What has to be done whether a page is open or not: send alerts, delete what is too old, answer what was left waiting.

In: the store, the settings. Out: nothing. Run: `run(store, settings)`, in a thread of the page's process
(`ui/__main__.py`).
"""

import logging
import time
from collections.abc import Iterator
from contextlib import suppress

from ui import forget
from ui.client import Asleep, Refused, Settings
from ui.companion.talk import reply_to
from ui.database import Gone, Unreachable
from ui.outbox import send_due
from ui.store import Store

SEND_S = 2.0
SWEEP_S = 3600.0
LEFT_S = 30.0
SCRUB_S = 10.0

log = logging.getLogger("mindpal")


def answer_left(store: Store, settings: Settings) -> Iterator[None]:
    """Answer each question that a page left waiting for a sleeping server, and stop after each: alerts may be due.

    Only the server's guard knows a crisis when it reads one: the guardian must hear of it without the child coming
    back, and also at night and when the day's time is over. The child reads the answer when the page opens again.
    """
    for child, question in store.left_behind():
        # A server that sleeps does so perhaps because of this question alone: those behind it must not wait for it.
        with suppress(Asleep, Refused, Gone):
            for _ in reply_to(store, settings, child, question, here=False):
                pass
        yield


def run(store: Store, settings: Settings) -> None:
    """Do all of it, for ever."""
    began = time.monotonic()
    swept, scrubbed, looked = began - SWEEP_S, began - SCRUB_S, began
    while True:
        try:
            send_due(store)
            if time.monotonic() - looked >= LEFT_S:
                for _ in answer_left(store, settings):
                    send_due(store)
                looked = time.monotonic()
            if time.monotonic() - swept >= SWEEP_S:
                swept = time.monotonic()
                gone = forget.expired(store)
                if gone:
                    log.info("retention messages=%d", gone)
            if time.monotonic() - scrubbed >= SCRUB_S:
                scrubbed = time.monotonic()
                if forget.is_owed(store) and forget.scrub(store, patience_s=0):
                    log.info("what was deleted is gone from the files, too")
        except Unreachable as error:  # a database that restarts is tried again: alerts wait in it
            log.warning("chores: the database cannot be reached: %s", error)
        except Exception:  # one channel's mistake must not end the sending of alerts
            log.exception("chores: failed, and tried again in %d s", SEND_S)
        time.sleep(SEND_S)
