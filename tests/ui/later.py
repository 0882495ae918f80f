"""`python -m ui`, with the clocks of the parents' door moved on by as many seconds as a file says.

Run: `python -m tests.ui.later FILE --port PORT`; whoever writes the file moves the clocks, at any moment.
"""

import runpy
import sys
import time
from pathlib import Path

from ui.companion import gate


class Later:
    """What the door takes for `time`."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def monotonic(self) -> float:
        """Seconds, as `time.monotonic` counts them, and those of the file."""
        return time.monotonic() + self._later()

    def time(self) -> float:
        """Seconds, as `time.time` counts them, and those of the file."""
        return time.time() + self._later()

    def _later(self) -> float:
        return float(self._file.read_text() or 0)


def main() -> None:
    """Move the clocks, then be the page."""
    vars(gate)["time"] = Later(Path(sys.argv.pop(1)))
    runpy.run_module("ui", run_name="__main__")


if __name__ == "__main__":
    main()
