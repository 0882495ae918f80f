"""What has to be done whether a page is open or not: send alerts, delete what is too old.

In: the store. Out: nothing. Run: `run(store)`, in a thread of the page's process (`ui/__main__.py`).
"""

import logging
import time

from sqlalchemy.exc import OperationalError

from ui.outbox import send_due
from ui.store import Store

SEND_S = 2.0
SWEEP_S = 3600.0

log = logging.getLogger("mindpal")


def run(store: Store) -> None:
    """Do both, for ever."""
    swept = -SWEEP_S
    while True:
        try:
            send_due(store)
            if time.monotonic() - swept >= SWEEP_S:
                swept = time.monotonic()
                gone = store.enforce_retention()
                if gone:
                    log.info("retention conversations=%d", gone)
        except OperationalError as error:  # a database that restarts is tried again: alerts wait in it
            log.warning("chores: the database cannot be reached: %s", type(error.orig).__name__)
        except Exception:  # one channel's mistake must not end the sending of alerts
            log.exception("chores: failed, and tried again in %d s", SEND_S)
        time.sleep(SEND_S)
