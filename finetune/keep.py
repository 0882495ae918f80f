"""Make the adapter of a run that was stopped, from its last whole checkpoint: what it has learned so far is not lost.

In: `runs/<id>/checkpoints`. Out: `runs/<id>/adapter` (or `model`, where every weight is trained), as at a run's end.

    python -m finetune keep runs/try

The run can still go on with `train … --resume`; it writes the adapter again at its end.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from data.runs import ADAPTER, CHECKPOINTS, MODEL, RECIPE_FILE, RUN_FILE, read_record, read_status, write_status
from data.strict import BadInput
from finetune.base import Base, find_base
from finetune.checkpoints import newest_good
from finetune.recipe import read_recipe
from finetune.run_folder import locked
from finetune.train import step_of, write_trained


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune keep`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune keep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the folder of a run that does not train now")
    parser.add_argument("--base", help="where the run's base lies now, if it moved since")
    given = parser.parse_args(words)
    made, checkpoint = keep(given.run, base_name=given.base, home=environment.get("HF_HUB_CACHE"))
    print(f"{made}: made from {checkpoint.name}; `python -m finetune merge {given.run}` makes a model folder of it.")
    return 0


def keep(run: Path, *, base_name: str | None = None, home: str | None = None) -> tuple[Path, Path]:
    """The folder that was made, and the checkpoint it was made from. Raises `BadInput` where there is none to make."""
    if not (run / RUN_FILE).is_file():
        raise BadInput(f"{run}: no run that has begun; there is nothing to keep.")
    if read_status(run).state == "done":
        raise BadInput(f"{run}: has finished; what it learned is there already.")
    with locked(run):
        checkpoint, _ = newest_good(run / CHECKPOINTS)
        if checkpoint is None:
            raise BadInput(f"{run}: no whole checkpoint yet, so there is nothing to keep.")
        recipe = read_recipe(str(run / RECIPE_FILE))
        name = base_name or read_record(run).base
        # An adapter is the checkpoint's own; only all of the weights need the base's files beside them.
        base = find_base(name, home=home) if recipe.method == "full" else Base(name, Path(name))
        write_trained(recipe, base, run, checkpoint)
        # A run that was killed had told of later steps.
        write_status(run, read_status(run).model_copy(update={"step": step_of(checkpoint)}))
    return run / (MODEL if recipe.method == "full" else ADAPTER), checkpoint
