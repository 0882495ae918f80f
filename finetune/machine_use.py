"""How much of the machine a run uses right now.

In: the device that it computes on. Out: numbers for a line of metrics.jsonl.
"""

from collections.abc import Callable
from pathlib import Path

import psutil
import pynvml
import torch

from finetune.plan import free_memory


class MachineUse:
    """Asked from time to time; the CPU's share is that since the last question."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()

    def now(self) -> dict[str, float]:
        """Bytes of memory in use and free (the GPU's where there is one), and shares of use from 0 to 100.

        `cpu_percent` is this process's, of all cores together.
        """
        found: dict[str, float] = {
            "memory": self._process.memory_info().rss,
            "memory_free": free_memory(Path("/proc")),
            # Between two questions in a row the grain of the clock tells more than there is.
            "cpu_percent": min(100.0, round(self._process.cpu_percent() / (psutil.cpu_count() or 1), 1)),
        }
        if torch.cuda.is_available():
            free, total = torch.cuda.mem_get_info()
            found |= {"gpu_memory": total - free, "gpu_memory_free": free}
            found |= {"gpu_memory_peak": torch.cuda.max_memory_allocated()}
            found |= gpu_percent()
        return found


def gpu_percent(ask: Callable[[], int] = torch.cuda.utilization) -> dict[str, float]:
    """The share of time in which the GPU computed, from 0 to 100; nothing where its driver does not tell.

    A slice of a GPU (MIG) and some virtual machines have no such number; a run goes on without it.
    """
    try:
        return {"gpu_percent": float(ask())}
    except (pynvml.NVMLError, RuntimeError, ImportError):
        return {}
