"""Tune a base on the conversations of a recipe.

In: a recipe, the contract, a base, `data/`. Out: a run folder `runs/<id>/` (see data/runs.py) with `adapter/`.

    python -m finetune train mindpal                        # finetune/recipes/mindpal.yaml
    python -m finetune train tiny num_train_epochs=2 --base data/standin --run runs/try
    python -m finetune train mindpal --plan                 # what it would do and need, and what is wrong
    python -m finetune train mindpal --run runs/try --resume
    accelerate launch --multi_gpu --num_processes 2 -m finetune train mindpal --run runs/try
    accelerate launch --use_fsdp --fsdp_version 2 --num_processes 2 -m finetune train mindpal --run runs/try

Ctrl-C, SIGTERM or the end of its terminal (but for nohup) ends it after the step, with a checkpoint. Whatever ended a run,
--resume goes on from its last whole checkpoint; on one CPU the result is the same bit for bit.
"""

import argparse
import importlib.util
import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from data.contract import Contract, read_contract, sha256
from data.conversations import DATA_DIR, find_dataset, split
from data.queue import BY_WORKER
from data.runs import (
    ADAPTER,
    CHECKPOINTS,
    MODEL,
    RECIPE_FILE,
    RUN_FILE,
    STATUS_FILE,
    RunRecord,
    Status,
    cut_metrics,
    now,
    read_record,
    read_status,
    write_record,
    write_status,
    write_whole,
)
from data.strict import BadInput, read_json
from finetune.base import Base, find_base, load_tokenizer, same_base, stored_tensors
from finetune.checkpoints import close_folder, newest_good
from finetune.encode import Encoder, count_tokens, encode_all
from finetune.fit import ALONE, Prepared, Processes, fit
from finetune.plan import (
    Machine,
    Plan,
    check_base,
    check_disk,
    check_method,
    lines,
    make_plan,
    matmul_speed,
    on_machine,
    seconds,
    this_machine,
    unusual,
)
from finetune.provenance import code_commit, versions
from finetune.recipe import Recipe, dump_recipe, read_recipe
from finetune.run_folder import Stopped, locked, logged, told_at_the_end
from finetune.sets import taken
from finetune.weights import rewrite, taken_from

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")

log = logging.getLogger(__name__)


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune train`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a name in finetune/recipes, or a file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values laid over the recipe's")
    parser.add_argument("--base", help="a hub id or a folder (default: base_model of data/contract.yaml)")
    parser.add_argument("--run", type=Path, help="the run folder to make (default: runs/DATE-RECIPE)")
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="the folder of dataset_info.json")
    parser.add_argument(
        "--skip-bad", action="store_true", help="go on without records that cannot be learned from, and count them"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the run's last whole checkpoint")
    parser.add_argument("--plan", action="store_true", help="tell what the run would do and need, and end")
    parser.add_argument("--json", action="store_true", help="with --plan: as one JSON object")
    given = parser.parse_intermixed_args(words)
    if given.json and not given.plan:
        raise BadInput("--json tells the plan; add --plan.")
    processes = Processes(
        int(environment.get("WORLD_SIZE", "1")),
        int(environment.get("RANK", "0")),
        sharded=environment.get("ACCELERATE_USE_FSDP") == "true",
    )
    try:
        recipe = read_recipe(given.recipe, given.overrides)
        contract = read_contract(base_model=given.base)
        if processes.count > 1 and not given.run:
            raise BadInput("Several processes need one run folder; name it with --run.")
        run = given.run or Path("runs") / f"{datetime.now().strftime('%Y%m%d-%H%M%S')}-{Path(given.recipe).stem}"
        base = find_base(contract.base_model, home=environment.get("HF_HUB_CACHE"))
        if given.plan:
            recipe, prepared, plan, machine = look_ahead(
                recipe, contract, base, run, given.data_dir, skip_bad=given.skip_bad, environment=environment
            )
            if given.json:
                print(json.dumps(_plan_told(recipe, base, prepared, plan, machine), ensure_ascii=False))
            else:
                print("\n".join(_told(recipe, base, prepared, plan, machine)))
            return 0
        train(
            recipe, contract, base, run, given.data_dir,
            skip_bad=given.skip_bad, resume=given.resume, environment=environment, processes=processes,
        )  # fmt: skip
    except BadInput:
        if processes.rank:
            # Before training process 0 finds the same, and says it; what was found while training is said already.
            return 2
        raise
    except Stopped as stopped:
        if not processes.rank:
            # Its terminal may be gone.
            with suppress(OSError):
                print(f"{run}: stopped; the same command with --resume --run {run} goes on.", file=sys.stderr)
        return 128 + stopped.signal
    if not processes.rank:
        made = run / (MODEL if recipe.method == "full" else ADAPTER)
        print(f"{made}: trained; `python -m finetune merge {run}` makes a model folder of it.")
    return 0


def train(
    recipe: Recipe,
    contract: Contract,
    base: Base,
    run: Path,
    data_dir: Path = DATA_DIR,
    *,
    skip_bad: bool = False,
    resume: bool = False,
    environment: Mapping[str, str] | None = None,
    processes: Processes = ALONE,
) -> None:
    """Run the recipe. Raises `BadInput` before any weight is loaded where something is wrong, and `Stopped`."""
    if not processes.rank:
        _check_run(run, resume=resume)
    recipe, prepared, plan, machine = look_ahead(
        recipe, contract, base, run, data_dir, skip_bad=skip_bad, environment=environment or {}, processes=processes
    )
    if processes.rank:
        checkpoint = newest_good(run / CHECKPOINTS)[0] if resume else None
        try:
            # As process 0 decides it below: one that trains alone would wait for the other for ever.
            if step_of(checkpoint) < plan.steps:
                fit(recipe, base, run, prepared, plan, machine, checkpoint, processes)
        except BadInput as error:
            # The launcher ends the others as soon as one has ended, process 0 perhaps before it has said anything.
            print(f"process {processes.rank}: {error}", file=sys.stderr, flush=True)
            raise
        return
    if resume:
        _check_same(run, recipe, prepared.record)
    run.mkdir(parents=True, exist_ok=True)
    with locked(run), logged(run), told_at_the_end(run, is_told=BY_WORKER in (environment or {})):
        for line in _told(recipe, base, prepared, plan, machine):
            log.info("%s", line)
        checkpoint = _find_checkpoint(run) if resume else None
        write_whole(run / RECIPE_FILE, dump_recipe(recipe))
        write_record(run, prepared.record)
        cut_metrics(run, step_of(checkpoint))
        write_status(
            run,
            Status(
                state="running", step=step_of(checkpoint), steps=plan.steps, pid=os.getpid(), message="loading the base"
            ),
        )
        if step_of(checkpoint) < plan.steps:
            checkpoint = fit(recipe, base, run, prepared, plan, machine, checkpoint, processes)
        if checkpoint is None:
            raise RuntimeError("the trainer ended without a checkpoint")
        write_trained(recipe, base, run, checkpoint)
        write_status(run, Status(state="done", step=plan.steps, steps=plan.steps, message="trained"))


def look_ahead(
    recipe: Recipe,
    contract: Contract,
    base: Base,
    run: Path,
    data_dir: Path,
    *,
    skip_bad: bool,
    environment: Mapping[str, str],
    processes: Processes = ALONE,
) -> tuple[Recipe, Prepared, Plan, Machine]:
    """Everything that can be known without loading a weight, and the recipe as this machine computes it.

    Raises `BadInput` at the first thing that is wrong.
    """
    if recipe.max_length > contract.window:
        raise BadInput(
            f"max_length ({recipe.max_length}) is above the contract's window ({contract.window}); lower it."
        )
    machine = this_machine(environment)
    wanted, recipe = recipe, on_machine(recipe, machine)
    check_method(recipe, machine, bitsandbytes=importlib.util.find_spec("bitsandbytes") is not None)
    prepared = prepare(recipe, contract, base, data_dir, skip_bad=skip_bad)
    check_base(recipe, base, len(prepared.tokenizer))
    lengths = [len(example.input_ids) for example in prepared.train]
    longest = max(len(example.input_ids) for example in (*prepared.train, *prepared.validation))
    plan = make_plan(recipe, base, lengths, longest, machine, processes.count)
    check_disk(plan, run)
    record = prepared.record.model_copy(
        update={"rows": plan.rows, "steps": plan.steps, "device": machine.name, "processes": processes.count}
    )
    if wanted != recipe:
        prepared.remarks.insert(0, f"{machine.name} has no bf16: this run computes in fp32")
    return recipe, replace(prepared, record=record), plan, machine


def prepare(recipe: Recipe, contract: Contract, base: Base, data_dir: Path, *, skip_bad: bool) -> Prepared:
    """Read, split and encode the conversations."""
    found, skipped = taken(recipe, data_dir, skip_bad=skip_bad)
    files = [find_dataset(name, data_dir).file_name for name in recipe.dataset]
    tokenizer = load_tokenizer(base)
    encoder = Encoder(tokenizer, thinking=contract.thinking)
    (training, examples), (held_out, validation) = (
        encode_all(encoder, side, recipe.max_length, skip_bad=skip_bad) for side in split(found, recipe.val_size)
    )
    if not training:
        raise BadInput(f"No conversation is left to train on; val_size is {recipe.val_size}.")
    learned = [*training, *held_out]
    tokens, with_loss = count_tokens(examples)
    record = RunRecord(
        base=base.name,
        base_files=base.hashes(),
        contract=contract.fingerprint,
        dataset=list(recipe.dataset),
        data_files={file: sha256(data_dir / file) for file in files},
        conversations=len(examples),
        validation=len(validation),
        skipped=skipped + len(found) - len(learned),
        left_out=sum(example.left_out for example in (*examples, *validation)),
        tokens=tokens,
        tokens_with_loss=with_loss,
        versions=versions(),
        commit=code_commit(),
        started=now(),
    )
    remarks = [f"{one.file} record {one.row}: {remark}" for one in learned for remark in one.remarks]
    if without := sum(one.system != contract.persona for one in learned):
        # As LLaMA-Factory trains them; the model is served with the persona in any case.
        told = f"{without:,} of {len(learned):,} conversations do not begin with the contract's persona, with which the model is served"
        remarks.insert(0, told)
    return Prepared(examples, validation, [one.id for one in training], record, remarks, tokenizer)


def write_trained(recipe: Recipe, base: Base, run: Path, checkpoint: Path) -> None:
    """What comes out, from a checkpoint: whole or not at all."""
    folder = run / (MODEL if recipe.method == "full" else ADAPTER)
    partial = run / f".{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    if recipe.method == "full":
        _full_model(base, checkpoint, partial)
    else:
        for name in ADAPTER_FILES:
            shutil.copyfile(checkpoint / name, partial / name)
    close_folder(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _full_model(base: Base, checkpoint: Path, folder: Path) -> None:
    """The base's files with the trained weights in the base's dtype: a folder that can be loaded."""
    for name in ("config.json", "model.safetensors.index.json"):
        if (base.folder / name).is_file():
            shutil.copyfile(base.folder / name, folder / name)
    trained = {
        name: stored for path in checkpoint.glob("model*.safetensors") for name, stored in stored_tensors(path).items()
    }
    # Where both are one matrix the trainer writes it once, and a base may hold it twice.
    if "model.embed_tokens.weight" in trained:
        trained.setdefault("lm_head.weight", trained["model.embed_tokens.weight"])
    changes = {name: taken_from(stored) for name, stored in trained.items()}
    for path in base.weight_files():
        rewrite(path, folder / path.name, changes)


def _check_run(run: Path, *, resume: bool) -> None:
    # The record says that a run has begun: before it there may be a request that waits, and a status of the worker's.
    begun = (run / RUN_FILE).is_file()
    state = read_status(run).state if begun and (run / STATUS_FILE).is_file() else None
    if resume and not begun:
        raise BadInput(f"{run}: no run to resume; leave --resume out to start one.")
    if resume and state == "done":
        raise BadInput(f"{run}: has finished; there is nothing to resume.")
    if begun and not resume:
        raise BadInput(f"{run}: holds a run already ({state}); name another with --run, or add --resume.")


def _check_same(run: Path, recipe: Recipe, record: RunRecord) -> None:
    """A resumed run has to see what it saw before."""
    if (run / RECIPE_FILE).read_text(encoding="utf-8") != dump_recipe(recipe):
        raise BadInput(f"{run}: was started with another recipe ({run / RECIPE_FILE}); resume it with that one.")
    before = read_record(run)
    for what, same in (
        ("base", same_base(before.base_files, record.base_files)),
        ("contract", before.contract == record.contract),
        ("data", before.data_files == record.data_files),
        ("dataset_info.json or tokenizer", _amounts(before) == _amounts(record)),
        ("number of processes", before.processes == record.processes),
    ):
        if not same:
            raise BadInput(f"{run}: was started with another {what}; bring that back, or start a new run.")


def _amounts(record: RunRecord) -> tuple[int, ...]:
    """What the files were read as: a set's definition can change while its file does not."""
    return (record.conversations, record.validation, record.tokens, record.tokens_with_loss, record.rows)


def _find_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint. Those after it are told, and removed: training comes by there again."""
    checkpoint, passed = newest_good(run / CHECKPOINTS)
    for path, wrong in passed.items():
        log.warning("%s %s: passed over", path, wrong)
        shutil.rmtree(path)
    log.info("going on from %s", checkpoint.name if checkpoint else "the beginning: no whole checkpoint is there")
    return checkpoint


def step_of(checkpoint: Path | None) -> int:
    """The step that a checkpoint was written after; 0 without one."""
    if checkpoint is None:
        return 0
    state = read_json(checkpoint / "trainer_state.json")
    if not isinstance(state, dict):
        raise BadInput(f"{checkpoint / 'trainer_state.json'}: expected a mapping; remove {checkpoint}.")
    return int(state["global_step"])


def _told(recipe: Recipe, base: Base, prepared: Prepared, plan: Plan, machine: Machine) -> list[str]:
    record = prepared.record
    few = 3
    more = len(prepared.remarks) - few
    return [
        f"plan: {record.conversations:,} conversations to train on, {record.validation:,} to validate with; "
        f"{record.tokens:,} tokens an epoch, {record.tokens_with_loss:,} of them with loss",
        *(
            [f"plan: {record.left_out:,} exchanges are left out: they do not fit into max_length"]
            if record.left_out
            else []
        ),
        *([f"plan: {record.skipped:,} bad records are left out"] if record.skipped else []),
        *(f"plan: {remark}" for remark in prepared.remarks[:few]),
        *([f"plan: and {more:,} more such remarks"] if more > 0 else []),
        *lines(recipe, base, plan, machine),
    ]


def _plan_told(recipe: Recipe, base: Base, prepared: Prepared, plan: Plan, machine: Machine) -> dict[str, Any]:
    """The plan for a program. Memory and disk in bytes, time in seconds; `remarks` are what is unusual, in sentences."""
    record = prepared.record
    return {
        "base": base.name,
        "machine": asdict(machine),
        "plan": asdict(plan),
        "conversations": record.conversations,
        "validation": record.validation,
        "skipped": record.skipped,
        "left_out": record.left_out,
        "tokens_an_epoch": record.tokens,
        "tokens_with_loss": record.tokens_with_loss,
        "seconds": float(f"{seconds(recipe, plan, record.tokens, matmul_speed(machine, bf16=recipe.bf16)):.3g}"),
        "remarks": [*unusual(recipe, plan, machine), *prepared.remarks],
        "lines": [line.removeprefix("plan: ") for line in _told(recipe, base, prepared, plan, machine)],
    }
