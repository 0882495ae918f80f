"""What a run will do and need, told before any weight is loaded.

In: a recipe, a base's file headers, the lengths of the conversations, the machine. Out: a `Plan`, or `BadInput` where the
run could not work.
"""

import bisect
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.runs import CHECKPOINTS
from data.strict import BadInput, suggestion
from finetune.base import Base, Stored
from finetune.recipe import Recipe

# TRL packs so many conversations at a time (the batch of datasets.map).
_PACKED_AT_ONCE = 1000
_GB = 1e9
# Bytes of a trained number: itself, its gradient and AdamW's two moments, all in fp32.
_TRAINED = 16
# What Python, torch and the trainer take before any tensor.
_PROGRAM = {"cpu": 0.65 * _GB, "cuda": 0.6 * _GB}
# How much of the matrix product's peak training reaches; what a run logs as share_of_peak.
_SHARE_OF_PEAK = 0.4
# Bytes of a logit of those that are there at once. The fast step has them in bf16 and fp32; TRL's backward has, by torch, seven
# copies in fp32 (31 were measured in bf16, 33 in fp32; its Triton kernels take next to nothing).
_LOGIT = {"fast": 6, "trl": 32}
# TRL projects so many tokens onto so many entries of the vocabulary at once.
TRL_TILE = (4096, 32768)
# What a layer keeps, by what was measured, against the count in `_memory`. Told and measured on 2 CPU cores in GB: 6.1 and 6.2
# for Qwen3-0.6B's shape, 0.8 and 1.0 for the small one of `make bench-train`, 1.8 and 1.9 for the stand-in with TRL's step.
_KEPT = {"fast": 0.65, "trl": 2.0}
# PEFT's adapter for embeddings has a form of its own, which is not merged here, and TRL trains none on the head.
_WITHOUT_ADAPTER = ("embed_tokens", "lm_head")


@dataclass(frozen=True)
class Machine:
    """Where the run computes. `memory` is what is free, in bytes."""

    kind: Literal["cpu", "cuda"]
    name: str
    memory: int
    bf16: bool
    # GPUs beside it that no process trains on.
    idle: int = 0


@dataclass(frozen=True)
class Plan:
    """What the run will do. Memory and disk are estimates, in bytes."""

    rows: int
    # The share of the rows that is filled.
    filled: float
    rows_a_step: int
    steps_an_epoch: int
    steps: int
    parameters: int
    trained: int
    memory: int
    disk: int


def make_plan(
    recipe: Recipe, base: Base, lengths: Sequence[int], longest: int, machine: Machine, processes: int = 1
) -> Plan:
    """The plan for conversations of these lengths, in tokens, the validation's `longest` one too. Raises `BadInput`."""
    tensors = {name: stored for name, stored in base.tensors().items() if len(stored.shape) > 0}
    if base.config().get("tie_word_embeddings") and "model.embed_tokens.weight" in tensors:
        # One matrix, which some files hold twice: Qwen3-0.6B's does.
        tensors.pop("lm_head.weight", None)
    trained = sum(_trained(recipe, base, tensors).values())
    rows = rows_after_packing(lengths, recipe.max_length) if recipe.packing else len(lengths)
    rows_a_step = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps * processes
    # As transformers counts: whole batches for every process, then whole accumulations.
    batches = math.ceil(math.ceil(rows / recipe.per_device_train_batch_size) / processes)
    an_epoch = math.ceil(batches / recipe.gradient_accumulation_steps)
    numbers = sum(_numbers(stored) for stored in tensors.values())
    return Plan(
        rows=rows,
        filled=sum(lengths) / (rows * recipe.max_length) if recipe.packing else 1.0,
        rows_a_step=rows_a_step,
        steps_an_epoch=an_epoch,
        steps=recipe.max_steps or math.ceil(recipe.num_train_epochs * an_epoch),
        parameters=numbers,
        trained=trained,
        memory=round(_memory(recipe, base, numbers, trained, longest, machine)),
        # Weights and moments of each checkpoint that is kept and of the one being written, and what comes out.
        disk=round(trained * 12 * (recipe.save_total_limit + 1) + trained * 4),
    )


def rows_after_packing(lengths: Sequence[int], max_length: int) -> int:
    """How many rows TRL's packing ("bfd": the longest first, each into the fullest row that has room) makes."""
    rows = 0
    for start in range(0, len(lengths), _PACKED_AT_ONCE):
        room: list[int] = []
        for length in sorted(lengths[start : start + _PACKED_AT_ONCE], reverse=True):
            place = bisect.bisect_left(room, length)
            left = room.pop(place) - length if place < len(room) else max_length - length
            bisect.insort(room, left)
        rows += len(room)
    return rows


def check_method(recipe: Recipe, machine: Machine, *, bitsandbytes: bool) -> None:
    """Whether this machine can do what the recipe wants. Raises `BadInput`."""
    if recipe.method == "qlora" and machine.kind != "cuda":
        raise BadInput("method=qlora: bitsandbytes' 4 bits need an NVIDIA GPU, and there is none; use method=lora.")
    if recipe.method == "qlora" and not bitsandbytes:
        raise BadInput(
            "method=qlora: bitsandbytes is not installed; `.venv/bin/python -m pip install bitsandbytes` and train with "
            "WHERE=local DEVICE=cuda, or use method=lora."
        )


def on_machine(recipe: Recipe, machine: Machine) -> Recipe:
    """The recipe as this machine computes it: in fp32 where it has no bf16."""
    return recipe if machine.bf16 or not recipe.bf16 else recipe.model_copy(update={"bf16": False})


def check_base(recipe: Recipe, base: Base, tokenizer_size: int) -> None:
    """Whether the base can take the recipe's rows and the tokenizer's ids. Raises `BadInput`."""
    config = base.config()
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and recipe.max_length > positions:
        raise BadInput(f"max_length ({recipe.max_length}) is above what {base.name} can read ({positions}); lower it.")
    vocabulary = config.get("vocab_size")
    if isinstance(vocabulary, int) and tokenizer_size > vocabulary:
        raise BadInput(
            f"{base.folder}: its tokenizer knows {tokenizer_size} tokens, its model {vocabulary}: they do not belong "
            "together; download the base again."
        )


def check_disk(plan: Plan, run: Path) -> None:
    """Whether the run's files have room beside the checkpoints that it has already. Raises `BadInput`."""
    folder = next(path for path in (run.absolute(), *run.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    there = sum(path.stat().st_size for path in (run / CHECKPOINTS).rglob("*") if path.is_file())
    if free >= plan.disk - there:
        return
    if there:
        raise BadInput(
            f"{run}: its checkpoints take {_told(plan.disk - there)} more and the disk has {_told(free)} free; make room."
        )
    raise BadInput(
        f"{run}: its checkpoints take {_told(plan.disk)} and the disk has {_told(free)} free; make room, "
        "lower save_total_limit, or put the run elsewhere with --run."
    )


def lines(recipe: Recipe, base: Base, plan: Plan, machine: Machine) -> list[str]:
    """The plan in words, and what is unusual about it."""
    dtype = "bf16" if recipe.bf16 else "fp32"
    told = [
        f"plan: {base.name}, {plan.parameters / 1e6:,.4g} M parameters, {recipe.method} trains "
        f"{plan.trained / 1e6:,.3g} M of them in {dtype} on {machine.name}"
        if recipe.method == "full"
        else f"plan: {base.name}, {plan.parameters / 1e6:,.4g} M parameters in {dtype} on {machine.name}; "
        f"{recipe.method} trains {plan.trained / 1e6:,.3g} M beside them",
        f"plan: {plan.rows:,} rows of {recipe.max_length} tokens, {plan.filled:.0%} full; "
        if recipe.packing
        else f"plan: {plan.rows:,} rows; ",
        f"plan: memory about {_told(plan.memory)}, free {_told(machine.memory)}; checkpoints about {_told(plan.disk)}",
    ]
    told[1] += f"{plan.rows_a_step} a step, {plan.steps_an_epoch} steps an epoch, {plan.steps} steps in all"
    return told + [f"plan: {remark}" for remark in unusual(recipe, plan, machine)]


def unusual(recipe: Recipe, plan: Plan, machine: Machine) -> list[str]:
    """What a person should know before the start, in sentences."""
    told = []
    if plan.memory > machine.memory:
        told.append(
            "this may not fit into memory; lower max_length or per_device_train_batch_size, or set "
            "gradient_checkpointing=true"
        )
    if recipe.lr_scheduler_type != "constant" and recipe.warmup_steps >= plan.steps:
        told.append(
            f"warmup_steps ({recipe.warmup_steps}) is not below the number of steps ({plan.steps}): the learning "
            "rate never reaches its full value"
        )
    if recipe.lr_scheduler_type == "constant" and recipe.warmup_steps:
        told.append(
            f"warmup_steps ({recipe.warmup_steps}) has no effect with lr_scheduler_type=constant; constant_with_warmup "
            "warms up"
        )
    if machine.idle:
        told.append(f"{machine.idle + 1} GPUs are here and one trains; `accelerate launch --multi_gpu …` uses all")
    return told


def work_a_token(recipe: Recipe, parameters: int) -> float:
    """Floating-point operations of training per token: two for each weight forward, two backward through the
    activations, and two more for the weights' own gradients where all of them are trained (arXiv:2001.08361, 2.1).
    Attention's own part is left out: it is small at the lengths that are trained on."""
    return (6.0 if recipe.method == "full" else 4.0) * parameters


def seconds(recipe: Recipe, plan: Plan, tokens_an_epoch: int, peak: float) -> float:
    """About how long the steps take, from the peak of the machine's matrix product in operations a second."""
    tokens = tokens_an_epoch * plan.steps / plan.steps_an_epoch
    return tokens * work_a_token(recipe, plan.parameters) / (peak * _SHARE_OF_PEAK)


def matmul_speed(machine: Machine, *, bf16: bool) -> float:
    """Operations a second of a matrix product here, the best of a few short ones."""
    import torch

    size = 4096 if machine.kind == "cuda" else 768
    dtype = torch.bfloat16 if bf16 else torch.float32
    # No random numbers: those of a run are counted.
    one = torch.full((size, size), 0.5, device=machine.kind, dtype=dtype)
    best = math.inf
    for _ in range(5):
        began = time.perf_counter()
        torch.mm(one, one)
        if machine.kind == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best


def this_machine(environment: Mapping[str, str], nvidia_driver: Path = Path("/proc/driver/nvidia/version")) -> Machine:
    """The device that training would use, and its free memory. Raises `BadInput` where that would be a CPU by mistake."""
    import torch

    if torch.cuda.is_available():
        device = int(environment.get("LOCAL_RANK", "0"))
        free, _ = torch.cuda.mem_get_info(device)
        # What torch emulates is no bf16 to train in.
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        # A launcher names the number of its processes.
        idle = 0 if "WORLD_SIZE" in environment else torch.cuda.device_count() - 1
        return Machine("cuda", torch.cuda.get_device_name(device), free, able, idle)
    hidden = environment.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if torch.version.cuda and nvidia_driver.exists() and not hidden:
        # torch itself warns, and then computes for days what takes a GPU an hour.
        raise BadInput(
            f"{nvidia_driver}: an NVIDIA driver is loaded, and torch for CUDA {torch.version.cuda} finds no GPU; install a "
            "newer driver, or set TORCH_BACKEND=cu126 in .env (without containers `make clean` as well); "
            "CUDA_VISIBLE_DEVICES= trains on the CPU."
        )
    return Machine("cpu", f"CPU ({torch.get_num_threads()} threads)", free_memory(), cpu_has_bf16())


def cpu_has_bf16() -> bool:
    """Whether this CPU computes in bf16. Without AVX-512 or its like it does so value by value: a matrix product took 20 to 30
    times as long as in fp32."""
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def free_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that a process may still take here: the machine's, or a container's where that is less."""
    page = os.sysconf("SC_PAGE_SIZE")
    found = [os.sysconf("SC_PHYS_PAGES") * page]
    if (proc / "meminfo").is_file():
        rows = dict(line.split(":", 1) for line in (proc / "meminfo").read_text().splitlines())
        found.append(int(rows["MemAvailable"].split()[0]) * 1024)
    limit = cgroup / "memory.max"
    if limit.is_file() and limit.read_text().strip() != "max":
        found.append(int(limit.read_text()) - int((cgroup / "memory.current").read_text()))
    return min(found)


def _trained(recipe: Recipe, base: Base, tensors: dict[str, Stored]) -> dict[str, int]:
    """The number of trained numbers by weight: all, or those of A [r, in] and B [out, r]."""
    if recipe.method == "full":
        return {name: _numbers(stored) for name, stored in tensors.items()}
    found: dict[str, int] = {}
    layers = {name.split(".")[-2]: name for name, stored in tensors.items() if len(stored.shape) == 2}
    layers = {layer: name for layer, name in layers.items() if layer not in _WITHOUT_ADAPTER}
    for target in recipe.target_modules:
        if target in _WITHOUT_ADAPTER:
            raise BadInput(
                f'target_modules: "{target}" gets no adapter: only the layers between embeddings and head do; leave it out.'
            )
        fitting = {
            name: recipe.r * sum(stored.shape)
            for name, stored in tensors.items()
            if name.endswith(f".{target}.weight") and len(stored.shape) == 2
        }
        if not fitting:
            raise BadInput(
                f'target_modules: {base.name} has no layer "{target}"{suggestion(target, list(layers)) or "."} '
                f"Its layers: {', '.join(sorted(layers))}."
            )
        found |= fitting
    return found


def _memory(recipe: Recipe, base: Base, numbers: int, trained: int, longest: int, machine: Machine) -> float:
    """Peak bytes: program, weights, trained numbers, and what the backward pass needs of one batch.

    The last is counted from Qwen3's layer: per token the norms and their fp32 copies (20 bytes a hidden entry), the
    attention's states (12 an entry), the MLP's (10) and one byte for each dropped entry; and scaled by `_KEPT`.
    """
    # Late: torch takes seconds.
    from finetune.step.head import LOGITS

    config = base.config()
    hidden, layers = int(config.get("hidden_size", 0)), int(config.get("num_hidden_layers", 0))
    inner, heads = int(config.get("intermediate_size", 0)), int(config.get("num_attention_heads", 0))
    width = int(config.get("head_dim") or hidden // max(1, heads))
    attention = width * (heads + 2 * int(config.get("num_key_value_heads", heads)))
    wide = 1 if recipe.bf16 else 2
    layer: float = wide * (20 * hidden + 12 * attention + 10 * inner) + (
        5 * hidden + inner if recipe.lora_dropout else 0
    )
    step: Literal["fast", "trl"] = "fast" if recipe.training_step == "fast" and recipe.method == "lora" else "trl"
    layer *= _KEPT[step]
    kept = layer + 2 * wide * hidden * layers if recipe.gradient_checkpointing else layer * layers
    tokens = recipe.per_device_train_batch_size * (recipe.max_length if recipe.packing else longest)
    a_number = {"lora": 2 * wide, "qlora": 0.6, "full": 0}[recipe.method]
    vocabulary = int(config.get("vocab_size", 0))
    logits = (
        min(tokens * vocabulary, LOGITS) if step == "fast" else min(tokens, TRL_TILE[0]) * min(vocabulary, TRL_TILE[1])
    )
    return _PROGRAM[machine.kind] + a_number * numbers + _TRAINED * trained + tokens * kept + _LOGIT[step] * logits


def _numbers(stored: Stored) -> int:
    return math.prod(stored.shape)


def _told(size: float) -> str:
    return f"{size / _GB:.1f} GB" if size >= 0.1 * _GB else f"{size / 1e6:.0f} MB"
