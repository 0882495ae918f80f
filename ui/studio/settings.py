"""Where the studio finds things. In: the environment, read once. Out: a frozen `Settings`.

MINDPAL_RUNS, MINDPAL_MODELS, MINDPAL_DATA, MINDPAL_RECIPES name folders; HF_HUB_CACHE or HF_HOME the hub's cache, as for
the trainer; MINDPAL_STUDIO_PASSWORD_FILE the file that holds the password's hash. The page and the worker have to see the
folders under the same names: a command that the page shows holds them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# The trainer's own defaults: a command need not name them.
DATA = Path("data")
RUNS = Path("runs")
MODELS = Path("models")
RECIPES = Path("finetune/recipes")


@dataclass(frozen=True)
class Settings:
    """The folders, and the file of the password."""

    runs: Path
    models: Path
    data: Path
    recipes: Path
    hub: Path
    secret: Path

    @property
    def uploads(self) -> Path:
        """Files that came through the page and are no data set yet."""
        return self.runs / "uploads"

    @property
    def saved(self) -> Path:
        """Recipes that a person saved in the page."""
        return self.runs / "recipes"

    @property
    def data_words(self) -> tuple[str, ...]:
        """`--data-dir …` where the sets do not lie in the trainer's own folder."""
        return () if self.data == DATA else ("--data-dir", str(self.data))

    def is_own(self, name: str, path: Path) -> bool:
        """Whether a recipe is one of the trainer's own, which a command names by its name."""
        return path == RECIPES / f"{name}.yaml"


def settings_from(environment: Mapping[str, str]) -> Settings:
    """The settings that the environment names."""
    home = Path(environment.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    return Settings(
        runs=Path(environment.get("MINDPAL_RUNS") or RUNS),
        models=Path(environment.get("MINDPAL_MODELS") or MODELS),
        data=Path(environment.get("MINDPAL_DATA") or DATA),
        recipes=Path(environment.get("MINDPAL_RECIPES") or RECIPES),
        hub=Path(environment.get("HF_HUB_CACHE") or home / "hub"),
        secret=Path(environment.get("MINDPAL_STUDIO_PASSWORD_FILE") or "secrets/studio/password.json"),
    )
