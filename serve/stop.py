"""How the server ends when it is asked to: the answers under way are given to their end, new requests are not let in.

In: uvicorn's server, vLLM's engine and the seconds that answers may still take. Out: what SIGTERM (`docker stop`) and SIGINT do.

vLLM's own handlers stop the engine first, and every answer with it; with its `--shutdown-timeout` the engine ends its
work, but nothing there waits until the server has passed the last words on. uvicorn waits for its answers, so it ends
first here, and vLLM stops the engine after it, as it does whenever its server ends.
"""

import asyncio
import logging
import signal
from typing import Any

import uvicorn

log = logging.getLogger("mindpal")


class Stop:
    """Takes the place of vLLM's handlers. The first signal stops gracefully, a second one at once."""

    def __init__(self, server: uvicorn.Server, engine: Any, grace_s: int):
        self._server = server
        self._engine = engine
        self._wanted = False
        server.config.timeout_graceful_shutdown = grace_s
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, self._signalled)

    @property
    def engine_died(self) -> bool:
        """Whether the server ends because its engine did. After Ctrl-C in a terminal both end, since both were told."""
        return not self._wanted and bool(self._engine.errored)

    def _signalled(self) -> None:
        tasks = self._server.server_state.tasks
        if self._wanted:
            log.warning("stopping at once: answers given up=%d", len(tasks))
            for task in tasks:
                task.cancel()
        else:
            log.info("stopping: answers under way=%d", len(tasks))
        self._wanted = self._server.should_exit = True
