"""Let `current` mean a model folder: what the server serves from its next start on.

In: a sealed model folder. Out: the link `current` beside it, changed in one step.

    python -m finetune promote models/try
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from finetune.merge import CURRENT, check_sealed, point_current


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune promote`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune promote", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a sealed model folder, as `merge` makes it")
    given = parser.parse_args(words)
    folder = given.model
    # What the server would refuse is refused here.
    check_sealed(folder)
    point_current(folder)
    print(
        f"{folder.parent / CURRENT} -> {folder.name}; a server that runs serves the model before it until it is started "
        "again: `docker compose restart serve`, or `make serve` anew."
    )
    return 0
