"""What a recipe takes of its sets: training, evaluation and report mean the same conversations.

In: a recipe, the folder of the sets. Out: conversations.
"""

from pathlib import Path

from data.conversations import Conversation, conversations
from finetune.recipe import Recipe


def taken(recipe: Recipe, data_dir: Path, *, skip_bad: bool = False) -> tuple[list[Conversation], int]:
    """The first `max_samples` of all its sets together, and how many bad records were left out (only with `skip_bad`).

    Raises `BadInput` with the first problem otherwise.
    """
    found: list[Conversation] = []
    skipped = 0
    for name in recipe.dataset:
        good, bad = conversations(name, data_dir, skip_bad=skip_bad)
        found += good
        skipped += bad
    return found[: recipe.max_samples], skipped
