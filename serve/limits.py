"""How much one key may ask: so many requests a minute, so many at the same time, and of the guard's threads and the
engine's seats no more than leaves some to others.

In: the limits and who asks. Out: nothing where it may come in, else `TooMany` with the seconds after which to try again;
inside, its turn. `limits` counts the minute as a moving window, in memory: a restart begins anew.
"""

import asyncio
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

Done = TypeVar("Done")
# An answer takes seconds: after this long a place may be free again.
BUSY_RETRY_S = 2


@dataclass(frozen=True)
class Limits:
    """Requests a minute and at the same time, for each key; 0 is no limit."""

    per_minute: int = 240
    at_once: int = 64
    # Of those at the same time so many are the engine's; the others wait.
    answers: int = 0


class TooMany(Exception):
    """Over a limit: try again after `seconds`."""

    def __init__(self, reason: str, seconds: int):
        super().__init__(reason)
        self.seconds = seconds


class Desk:
    """Lets a key's requests in, and counts them out."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._minute = RateLimitItemPerMinute(limits.per_minute) if limits.per_minute else None
        self._window = MovingWindowRateLimiter(MemoryStorage())
        self._inside: Counter[str] = Counter()
        self._seats = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(limits.answers))

    def enter(self, name: str) -> None:
        """Let a request of `name` in; `leave` has to follow. Raises `TooMany`."""
        if self._limits.at_once and self._inside[name] >= self._limits.at_once:
            raise TooMany(f"{self._limits.at_once} requests of this key are being answered", BUSY_RETRY_S)
        if self._minute and not self._window.hit(self._minute, name):
            free = self._window.get_window_stats(self._minute, name).reset_time
            raise TooMany(f"this key has asked {self._limits.per_minute} times in a minute", _whole(free - time.time()))
        self._inside[name] += 1

    def leave(self, name: str) -> None:
        """The request is answered, or its client gone."""
        self._inside[name] -= 1

    def seat(self, name: str) -> AbstractAsyncContextManager[None]:
        """A seat at the engine, when it is the turn of `name`."""
        return self._seats[name] if self._limits.answers else nullcontext()


class Lane:
    """Threads of which a key holds no more than `of_a_key`: what else it has to do waits there, and not before others."""

    def __init__(self, threads: int, of_a_key: int):
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="guard")
        self._turns = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(of_a_key))

    async def run(self, name: str, work: Callable[..., Done], *given: object) -> Done:
        """Do `work` in a thread, when it is the turn of `name`."""
        async with self._turns[name]:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)


def _whole(seconds: float) -> int:
    return min(60, max(1, math.ceil(seconds)))
