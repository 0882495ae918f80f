"""What every page of the studio is given: the folders, the words, and the jobs as they stand."""

from dataclasses import dataclass

from data.queue import Job
from ui.studio.knobs import Knob
from ui.studio.settings import Settings
from ui.studio.words import Words


@dataclass(frozen=True)
class Studio:
    """One look at the studio: `jobs` are those of this moment, the oldest first."""

    settings: Settings
    words: Words
    knobs: tuple[Knob, ...]
    jobs: tuple[Job, ...]
