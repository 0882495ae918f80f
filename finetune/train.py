"""Tune a base with LoRA on the conversations of a recipe.

In: a recipe, the contract, a base, `data/`. Out: a run folder `runs/<id>/` (see data/runs.py) with `adapter/`.

    python -m finetune train mindpal                        # finetune/recipes/mindpal.yaml
    python -m finetune train tiny num_train_epochs=2 --base data/standin --run runs/try
"""

import argparse
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from data.contract import Contract, read_contract, sha256
from data.conversations import DATA_DIR, Conversation, conversations, find_dataset, split
from data.runs import (
    ADAPTER,
    CHECKPOINTS,
    RECIPE_FILE,
    STATUS_FILE,
    RunRecord,
    Status,
    append_metrics,
    now,
    read_status,
    write_record,
    write_status,
)
from data.strict import BadInput
from finetune.base import Base, find_base, load_tokenizer
from finetune.encode import Encoder, Example, count_tokens, encode_all
from finetune.progress import Advance, progress
from finetune.recipe import Recipe, dump_recipe, read_recipe

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


@dataclass(frozen=True)
class Prepared:
    """The data of a run, encoded."""

    train: list[Example]
    validation: list[Example]
    record: RunRecord


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
        "--skip-bad", action="store_true", help="go on without records that are no conversation, and count them"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    given = parser.parse_args(words)
    recipe = read_recipe(given.recipe, given.overrides)
    contract = read_contract(base_model=given.base)
    run = given.run or Path("runs") / f"{datetime.now().strftime('%Y%m%d-%H%M%S')}-{Path(given.recipe).stem}"
    base = find_base(contract.base_model, home=environment.get("HF_HUB_CACHE"))
    train(recipe, contract, base, run, given.data_dir, skip_bad=given.skip_bad, resume=given.resume)
    print(f"{run / ADAPTER}: trained; `python -m finetune merge {run}` makes a model folder of it.")
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
) -> None:
    """Run the recipe. Raises `BadInput` before any weight is loaded where something is wrong."""
    _check_device(recipe)
    _check_run(run, recipe, resume=resume)
    prepared = prepare(recipe, contract, base, data_dir, skip_bad=skip_bad)
    run.mkdir(parents=True, exist_ok=True)
    (run / RECIPE_FILE).write_text(dump_recipe(recipe), encoding="utf-8")
    write_record(run, prepared.record)
    write_status(run, Status(state="running", pid=os.getpid(), message="loading the base"))
    try:
        _fit(recipe, contract, base, run, prepared, resume=resume)
    except KeyboardInterrupt:
        write_status(run, Status(state="stopped", message="stopped by a person; --resume goes on"))
        raise
    except BaseException as error:
        write_status(run, Status(state="failed", message=str(error) or type(error).__name__))
        raise


def prepare(recipe: Recipe, contract: Contract, base: Base, data_dir: Path, *, skip_bad: bool) -> Prepared:
    """Read, split and encode the conversations."""
    found: list[Conversation] = []
    skipped, files = 0, {}
    for name in recipe.dataset:
        good, bad = conversations(name, data_dir, skip_bad=skip_bad)
        found += good
        skipped += bad
        path = data_dir / find_dataset(name, data_dir).file_name
        files[path.name] = sha256(path)
    found = found[: recipe.max_samples]
    training, held_out = split(found, recipe.val_size)
    if not training:
        raise BadInput(f"No conversation is left to train on; val_size is {recipe.val_size}.")
    if recipe.max_length > contract.window:
        raise BadInput(
            f"max_length ({recipe.max_length}) is above the contract's window ({contract.window}); lower it."
        )
    encoder = Encoder(load_tokenizer(base), thinking=contract.thinking)
    examples = encode_all(encoder, training, recipe.max_length)
    validation = encode_all(encoder, held_out, recipe.max_length)
    tokens, with_loss = count_tokens(examples)
    record = RunRecord(
        base=base.name,
        base_files=base.hashes(),
        contract=contract.fingerprint,
        dataset=list(recipe.dataset),
        data_files=files,
        conversations=len(examples),
        validation=len(validation),
        skipped=skipped,
        tokens=tokens,
        tokens_with_loss=with_loss,
        versions={"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
        commit=_commit(),
        started=now(),
    )
    return Prepared(examples, validation, record)


def _fit(recipe: Recipe, contract: Contract, base: Base, run: Path, prepared: Prepared, *, resume: bool) -> None:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_log
    from trl import SFTConfig

    from finetune.step.trainer import make_trainer

    transformers_log.set_verbosity_error()
    transformers_log.disable_progress_bar()
    tokenizer = load_tokenizer(base)
    cuda = torch.cuda.is_available()
    model = AutoModelForCausalLM.from_pretrained(
        base.folder, dtype=torch.bfloat16 if recipe.bf16 else torch.float32, local_files_only=True
    )
    config = SFTConfig(
        output_dir=str(run / CHECKPOINTS),
        use_cpu=not cuda,
        max_length=recipe.max_length,
        packing=recipe.packing,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler_type,
        warmup_steps=recipe.warmup_steps,
        num_train_epochs=recipe.num_train_epochs,
        max_steps=recipe.max_steps or -1,
        per_device_train_batch_size=recipe.per_device_train_batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        per_device_eval_batch_size=recipe.per_device_eval_batch_size,
        max_grad_norm=recipe.max_grad_norm,
        optim=recipe.optim,
        weight_decay=recipe.weight_decay,
        bf16=recipe.bf16,
        neftune_noise_alpha=recipe.neftune_noise_alpha,
        gradient_checkpointing=recipe.gradient_checkpointing,
        logging_steps=recipe.logging_steps,
        save_steps=recipe.save_steps,
        save_total_limit=recipe.save_total_limit,
        eval_strategy="steps" if prepared.validation else "no",
        eval_steps=recipe.eval_steps,
        prediction_loss_only=True,
        seed=recipe.seed,
        report_to=["tensorboard"],
        disable_tqdm=True,
        dataloader_pin_memory=cuda,
    )
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=list(recipe.target_modules),
    )
    trainer = make_trainer(
        recipe.training_step,
        model,
        lora,
        config,
        Dataset.from_list([_columns(example) for example in prepared.train]),
        Dataset.from_list([_columns(example) for example in prepared.validation]) if prepared.validation else None,
        tokenizer,
    )
    with progress("training", 1) as advance:
        trainer.add_callback(_reporter(run, advance))
        trainer.train(resume_from_checkpoint=resume or None)
    trainer.save_model(str(run / ADAPTER))
    state = trainer.state
    write_status(run, Status(state="done", step=state.global_step, steps=state.max_steps, message="trained"))


def _columns(example: Example) -> dict[str, list[int]]:
    return {"input_ids": example.input_ids, "labels": example.labels}


def _reporter(run: Path, advance: Advance) -> Any:
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):  # type: ignore[misc]
        """Writes metrics and status, and moves the bar."""

        note = ""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            advance(state.global_step / max(1, state.max_steps), self.note)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            append_metrics(run, {"step": state.global_step, "time": now(), **logs})
            if "loss" in logs:
                self.note = f"loss {float(logs['loss']):.3f}"
            write_status(
                run,
                Status(
                    state="running", step=state.global_step, steps=state.max_steps, pid=os.getpid(), message=self.note
                ),
            )

    return Reporter()


def _check_device(recipe: Recipe) -> None:
    import torch

    if recipe.bf16 and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        raise BadInput("bf16: this GPU has none; add bf16=false.")


def _check_run(run: Path, recipe: Recipe, *, resume: bool) -> None:
    exists = (run / STATUS_FILE).is_file()
    if resume and not exists:
        raise BadInput(f"{run}: no run to resume; leave --resume out to start one.")
    if exists and not resume:
        raise BadInput(
            f"{run}: holds a run already ({read_status(run).state}); name another with --run, or add --resume."
        )
    if resume and (run / RECIPE_FILE).read_text(encoding="utf-8") != dump_recipe(recipe):
        raise BadInput(f"{run}: was started with another recipe ({run / RECIPE_FILE}); resume it with that one.")


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return done.stdout.strip() if done.returncode == 0 else "unknown"
