"""How fast this core is now: a test on a machine that others share tells a time as a multiple of known work done beside it."""

import json
import time
from collections.abc import Callable
from statistics import median

import numpy as np

_TEXT = json.dumps({"messages": [{"role": "user", "content": "为什么天空是蓝色的？"}] * 40})
_MATRIX = np.random.default_rng(0).standard_normal((96, 96), dtype=np.float32)


def pace() -> float:
    """Seconds of processor time that a fixed piece of work takes on this core now; about a millisecond.

    Half of it is Python and half arithmetic, as in what is measured by it.
    """
    begun = time.process_time()
    for _ in range(8):
        json.dumps(json.loads(_TEXT))
    for _ in range(12):
        _MATRIX @ _MATRIX
    return time.process_time() - begun


def growth(work: Callable[[str], object], text: str, times: int = 5) -> float:
    """How many times as long `work` takes on `text` twice over as on `text`: 2 where it is linear, 4 where it is quadratic.

    The median of `times` pairs. What takes much less than `pace` tells nothing, and is 1.
    """
    ratios = []
    for _ in range(times):
        once, twice = _seconds(work, text), _seconds(work, text + text)
        floor = pace()
        ratios.append((twice + floor) / (once + floor))
    return median(ratios)


def _seconds(work: Callable[[str], object], text: str) -> float:
    begun = time.process_time()
    work(text)
    return time.process_time() - begun


def paces(work: Callable[[], object], times: int) -> float:
    """How many times as long as `pace` one `work` takes: the median of `times` pairs, each measured together."""
    ratios = []
    for _ in range(times):
        begun = time.process_time()
        work()
        ratios.append((time.process_time() - begun) / pace())
    return median(ratios)
