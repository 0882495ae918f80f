"""Train: from encoded conversations and a base to the run's last checkpoint, by TRL's trainer or our own step.

In: a recipe, a base, `Prepared` data, the plan, and a checkpoint to go on from. Out: checkpoints in the run folder.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.runs import CHECKPOINTS, RunRecord
from finetune.base import Base
from finetune.checkpoints import checkpoints_in
from finetune.encode import Example
from finetune.plan import Machine, Plan, matmul_speed, work_a_token
from finetune.progress import Advance, progress
from finetune.recipe import Recipe
from finetune.run_folder import Stopped


@dataclass(frozen=True)
class Prepared:
    """The data of a run, encoded. `names` are the ids of the training conversations, in their order."""

    train: list[Example]
    validation: list[Example]
    names: list[str]
    record: RunRecord
    # What is unusual about the data, in sentences.
    remarks: list[str]
    tokenizer: Any


@dataclass(frozen=True)
class Processes:
    """How many processes train together (`accelerate launch`), and which one this is. Number 0 writes."""

    count: int = 1
    rank: int = 0
    # Each holds a part of every weight (FSDP2), instead of all of them (DDP).
    sharded: bool = False


ALONE = Processes()


def fit(
    recipe: Recipe,
    base: Base,
    run: Path,
    prepared: Prepared,
    plan: Plan,
    machine: Machine,
    checkpoint: Path | None,
    processes: Processes,
) -> Path | None:
    """Train to the end from a checkpoint or from the beginning; the last checkpoint. Raises `Stopped`."""
    import datasets
    import pyarrow
    from transformers import PrinterCallback
    from transformers.utils import logging as transformers_log

    from finetune.step.trainer import make_trainer
    from finetune.watch import Watch, stopping

    transformers_log.set_verbosity_error()
    transformers_log.disable_progress_bar()
    datasets.disable_progress_bars()
    with stopping() as stop:
        # Before the model is loaded: they choose this process' GPU, and bitsandbytes loads onto the one that is chosen.
        arguments = _arguments(recipe, run, validate=bool(prepared.validation), sharded=processes.sharded)
        trainer = make_trainer(
            recipe.training_step,
            _load_model(recipe, base),
            _lora(recipe),
            arguments,
            datasets.Dataset.from_list([_columns(example) for example in prepared.train]),
            datasets.Dataset.from_list([_columns(example) for example in prepared.validation])
            if prepared.validation
            else None,
            prepared.tokenizer,
        )
        # It prints a dictionary for each logged step; Watch tells the same in words.
        trainer.remove_callback(PrinterCallback)
        named = zip(prepared.train, prepared.names, strict=True)
        records = {hash(tuple(example.input_ids)): name for example, name in named}
        # The trainer has its own.
        prepared.train.clear()
        prepared.validation.clear()
        # Packing is over, and Arrow would hold its memory for the next table.
        pyarrow.default_memory_pool().release_unused()
        peak = matmul_speed(machine, bf16=recipe.bf16) * processes.count
        fastest = peak / work_a_token(recipe, plan.parameters)
        with _bar(prepared.record.steps, processes) as advance:
            watch = Watch(run, trainer, records, advance, stop, keep=recipe.save_total_limit, fastest=fastest)
            trainer.add_callback(watch)
            stop.patient = True
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            stop.patient = False
        # Several processes part in good order: a group that is still open aborts one of them at its end.
        trainer.accelerator.end_training()
        if stop.asked and trainer.state.global_step < trainer.state.max_steps:
            raise Stopped(stop.asked)
    return checkpoints_in(run / CHECKPOINTS)[0][1]


def _load_model(recipe: Recipe, base: Base) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    if recipe.method == "qlora":
        # What is not quantised computes in the same dtype, whatever the base is saved in.
        dtype = torch.bfloat16 if recipe.bf16 else torch.float32
        # NF4 with doubly quantised constants, as in the paper (https://arxiv.org/abs/2305.14314).
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        return AutoModelForCausalLM.from_pretrained(
            base.folder, dtype=dtype, quantization_config=quantization, local_files_only=True
        )
    # Trained in bf16 a weight would lose most of its updates: they are smaller than its last bit. So fp32 where all are
    # trained, and bf16 only to compute in.
    half = recipe.bf16 and recipe.method != "full"
    return AutoModelForCausalLM.from_pretrained(
        base.folder, dtype=torch.bfloat16 if half else torch.float32, local_files_only=True
    )


def _lora(recipe: Recipe) -> Any:
    from peft import LoraConfig

    if recipe.method == "full":
        return None
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=list(recipe.target_modules),
    )


def _arguments(recipe: Recipe, run: Path, *, validate: bool, sharded: bool) -> Any:
    import torch
    from accelerate.utils import DistributedType
    from trl import SFTConfig

    cuda = torch.cuda.is_available()
    arguments = SFTConfig(
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
        eval_strategy="steps" if validate else "no",
        eval_steps=recipe.eval_steps,
        prediction_loss_only=True,
        seed=recipe.seed,
        # Watch writes the events, into the run folder itself, and removes old checkpoints when the new one is whole.
        report_to=[],
        save_total_limit=None,
        disable_tqdm=True,
        dataloader_pin_memory=cuda,
        # Every trained weight takes part in every step; looking for others costs time, and a warning.
        ddp_find_unused_parameters=False,
        # NaN is to be seen where it arises.
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen="non_padding",
        # FSDP2, with whole weights in a checkpoint: an adapter in parts is of no use.
        fsdp=sharded,
    )
    on_one_gpu(arguments)
    if sharded and not cuda:
        # torch shards on a CPU as well, but accelerate would train by DDP there, without a word.
        arguments.distributed_state.distributed_type = DistributedType.MULTI_GPU
    return arguments


def on_one_gpu(arguments: Any) -> Any:
    """The arguments themselves: a process that trains alone takes one GPU of many. transformers would take them all by
    nn.DataParallel, which TRL refuses."""
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _columns(example: Example) -> dict[str, list[int]]:
    return {"input_ids": example.input_ids, "labels": example.labels}


@contextmanager
def _bar(steps: int, processes: Processes) -> Iterator[Advance]:
    """The bar in a terminal. Elsewhere nothing: each logged step is a line."""
    if processes.rank or not sys.stderr.isatty():
        yield lambda done, note="": None
        return
    with progress("training", steps) as advance:
        yield advance
