"""Training speed, measured: ours against LLaMA-Factory on a CPU, against TRL's own step on a GPU.

In: nothing but this checkout; LLaMA-Factory comes from the Python registry into an environment of its own. Out: tokens
a second, CPU-seconds, the share of the machine's matmul peak, peak memory and the equal-loss check; the last line is
`bench-train: q06 3.41x small 3.72x`, and `--out` keeps it all in a file. The exit code is 1 where the losses are not equal.

    python -m finetune bench-train                          # both models, 2 threads
    python -m finetune bench-train --models small --rounds 3
    python -m finetune bench-train --device cuda

Both sides train the same model folder on the same conversations by the same recipe (finetune/recipes/mindpal.yaml, the
tutorial's command), one after the other, and are watched from outside in the same way. The first step of each is left
out. A busy machine spoils seconds; CPU-seconds at `--threads 1` bear it best.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from data.conversations import DATA_DIR, conversations
from data.runs import now
from data.strict import BadInput
from finetune.base import Base, find_base, load_tokenizer
from finetune.bench_results import Bench, Compared, Side, write_bench
from finetune.encode import Encoder, Example, encode_all
from finetune.provenance import code_commit, versions
from finetune.recipe import Recipe, read_recipe
from finetune.sets import taken

LLAMAFACTORY = "0.9.5"
# A step is looked for this often: a hundredth of the shortest one, at next to no cost.
_POLL_SECONDS = 0.005
_MIB = 2**20


@dataclass(frozen=True)
class Shape:
    """A model to measure: Qwen3 with random weights."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    head_dim: int
    # None: as many as the tokenizer has.
    vocabulary: int | None
    # Steps measured in a round, after the first one.
    steps: int


SHAPES = {
    # Qwen3-0.6B's (https://huggingface.co/Qwen/Qwen3-0.6B/blob/main/config.json).
    "q06": Shape(28, 1024, 3072, 16, 8, 128, 151_936, steps=2),
    "small": Shape(4, 256, 768, 8, 4, 32, None, steps=20),
}


@dataclass
class Watched:
    """What one side did between the end of its first step and the end of its last."""

    tokens: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mib: float = 0.0

    def add(self, other: "Watched") -> None:
        """Add a round."""
        self.tokens += other.tokens
        self.seconds += other.seconds
        self.cpu_seconds += other.cpu_seconds
        self.peak_mib = max(self.peak_mib, other.peak_mib)

    @property
    def speed(self) -> float:
        """Real tokens a second."""
        return self.tokens / self.seconds

    @property
    def cpu_speed(self) -> float:
        """Real tokens a CPU-second."""
        return self.tokens / max(self.cpu_seconds, 1e-9)


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune bench-train`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune bench-train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="threads of each side on a CPU (default: 2)")
    parser.add_argument("--rounds", type=int, default=1, help="how often both sides take turns (default: 1)")
    parser.add_argument("--steps", type=int, help="steps measured in a round (default: 2 for q06, 20 for small)")
    parser.add_argument("--accumulation", type=int, default=1, help="gradient_accumulation_steps of both sides")
    parser.add_argument("--q06", type=Path, help="a model folder instead of a made one")
    parser.add_argument("--small", type=Path, help="a model folder instead of a made one")
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="the folder of dataset_info.json")
    parser.add_argument("--dataset", nargs="+", help="sets of it (default: the recipe's)")
    home = Path(environment.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "mindpal-bench"
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--work", type=Path, default=home, help="where environments, models and logs are kept")
    given = parser.parse_args(words)

    overrides = [f"gradient_accumulation_steps={given.accumulation}", "logging_steps=1", "val_size=0"]
    if given.dataset:
        overrides.append(f"dataset={','.join(given.dataset)}")
    cuda = given.device == "cuda"
    if cuda:
        # The same eight rows a step; a GPU takes them at once.
        overrides += ["per_device_train_batch_size=8", "gradient_accumulation_steps=1", "optim=adamw_torch_fused"]
    recipe = read_recipe("mindpal", overrides)
    environment = {**environment, "OMP_NUM_THREADS": str(given.threads), "HF_HUB_OFFLINE": "1"}
    environment["CUDA_VISIBLE_DEVICES"] = environment.get("CUDA_VISIBLE_DEVICES", "0") if cuda else ""
    python = None if cuda else install_llamafactory(given.work / "llamafactory")
    peak = matmul_peak(given.device, given.threads)
    unit = "FLOP/s in bf16"
    here = machine()
    print(f"machine: {here}, {given.threads} threads, matmul peak {peak / 1e9:,.0f} G{unit}")

    found: dict[str, Compared] = {}
    all_equal = True
    for name in given.models:
        shape = SHAPES[name]
        folder = (given.q06 if name == "q06" else given.small) or made_model(given.work / "models" / name, shape)
        base, steps = find_base(str(folder)), given.steps or shape.steps
        logs = given.work / "runs" / name
        examples = _examples(base, recipe, given.data_dir)
        flops = flops_per_token(base.config(), examples)
        other = "trl" if cuda else "llamafactory"
        sides = {other: Watched(), "ours": Watched()}
        for number in range(given.rounds):
            for side, sum_ in sides.items():
                run = fresh(logs / f"{side}-{number}")
                if side == "llamafactory":
                    # -P: the modules beside the driver are ours, and one is called like one of Python's own.
                    command = [str(python), "-P", str(Path(__file__).with_name("bench_driver.py"))]
                    command += llamafactory_arguments(recipe, base, given.data_dir, run, steps + 1)
                else:
                    step = "fast" if side == "ours" else "trl"
                    ours_words = our_words(recipe, base, given.data_dir, run, steps, step=step)
                    command = [sys.executable, "-m", "finetune", *ours_words]
                lines = run / ("steps.jsonl" if side == "llamafactory" else "metrics.jsonl")
                once = watch(command, {**environment, "BENCH_STEPS": str(lines)}, lines, run.with_suffix(".log"), cuda)
                sum_.add(once)
                print(f"{name} {side}: {_told(once, flops, peak)}", flush=True)
        ours, theirs = sides["ours"], sides[other]
        fast, stock = loss_check(base, recipe, examples, logs / "loss")
        equal = abs(fast - stock) <= 1e-3
        all_equal = all_equal and equal
        print(f"{name} loss of one batch: ours {fast:.5f}, TRL {stock:.5f}: {'equal' if equal else 'NOT EQUAL'}")
        found[name] = _compared(ours, theirs, other, fast, stock)
        print(found[name].told(name))
    bench = Bench(
        date=now(),
        machine=here,
        device=given.device,
        threads=given.threads,
        versions=versions() if cuda else {**versions(), "llamafactory": LLAMAFACTORY},
        commit=code_commit(),
        models=found,
    )
    if given.out:
        write_bench(given.out, bench)
    print(bench.lines()[-1])
    return 0 if all_equal else 1


def watch(command: list[str], environment: Mapping[str, str], lines: Path, log: Path, cuda: bool) -> Watched:
    """Run a training and look at its process whenever `lines` has a new line; between the first line and the last.

    Peak memory is the process's own (VmHWM), or on a GPU what the device holds above what it held before.
    """
    held_before = _device_used() if cuda else 0.0
    marks: list[tuple[float, float, int]] = []
    peak = 0.0
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=dict(environment))
        while process.poll() is None:
            time.sleep(_POLL_SECONDS)
            told = _lines(lines)
            if len(told) > len(marks):
                seconds, cpu = time.perf_counter(), _cpu_seconds(process.pid)
                marks += [(seconds, cpu, line["num_input_tokens_seen"]) for line in told[len(marks) :]]
                peak = max(peak, _device_used() - held_before if cuda else _peak_mib(process.pid))
    if process.returncode or len(marks) < 2:
        raise BadInput(f"The training ended with code {process.returncode} after {len(marks)} steps; {log} says why.")
    (first, first_cpu, first_tokens), (last, last_cpu, last_tokens) = marks[0], marks[-1]
    return Watched(last_tokens - first_tokens, last - first, last_cpu - first_cpu, peak)


def our_words(recipe: Recipe, base: Base, data_dir: Path, run: Path, steps: int, *, step: str) -> list[str]:
    """`python -m finetune …` for the first `steps + 1` steps of the recipe with that `training_step`."""
    changed = ("gradient_accumulation_steps", "per_device_train_batch_size", "optim", "logging_steps", "val_size")
    values = recipe.model_dump()
    return [
        "train", "mindpal", *(f"{key}={values[key]}" for key in changed), f"max_steps={steps + 1}",
        f"dataset={','.join(recipe.dataset)}", f"training_step={step}",
        "--base", str(base.folder), "--data-dir", str(data_dir), "--run", str(run),
    ]  # fmt: skip


def llamafactory_arguments(recipe: Recipe, base: Base, data_dir: Path, run: Path, steps: int) -> list[str]:
    """The tutorial's command with the recipe's numbers, ended after `steps`, without saving and evaluating."""
    values: dict[str, object] = {
        "stage": "sft", "do_train": True, "model_name_or_path": base.folder, "template": "qwen3",
        "enable_thinking": False, "finetuning_type": "lora", "flash_attn": "auto", "trust_remote_code": False,
        "dataset_dir": data_dir, "dataset": ",".join(recipe.dataset), "cutoff_len": recipe.max_length,
        "packing": True, "neat_packing": True, "val_size": recipe.val_size, "preprocessing_num_workers": 1,
        "lora_rank": recipe.r, "lora_alpha": recipe.lora_alpha, "lora_dropout": recipe.lora_dropout,
        "lora_target": ",".join(recipe.target_modules), "neftune_noise_alpha": recipe.neftune_noise_alpha,
        "learning_rate": recipe.learning_rate, "lr_scheduler_type": recipe.lr_scheduler_type,
        "warmup_steps": recipe.warmup_steps, "num_train_epochs": recipe.num_train_epochs, "max_steps": steps,
        "per_device_train_batch_size": recipe.per_device_train_batch_size,
        "gradient_accumulation_steps": recipe.gradient_accumulation_steps, "max_grad_norm": recipe.max_grad_norm,
        "optim": recipe.optim, "bf16": recipe.bf16, "use_cpu": True, "logging_steps": 1, "save_strategy": "no",
        "eval_strategy": "no", "report_to": "none", "plot_loss": False, "output_dir": run,
        "include_num_input_tokens_seen": True, "overwrite_cache": True,
    }  # fmt: skip
    return [word for key, value in values.items() for word in (f"--{key}", str(value))]


def install_llamafactory(venv: Path) -> Path:
    """The Python of an environment with LLaMA-Factory in it, made on the first call (some minutes, 2 GB)."""
    python = venv / "bin" / "python"
    if not (venv / "bin" / "llamafactory-cli").is_file():
        print(f"{venv}: installing llamafactory {LLAMAFACTORY}", flush=True)
        torch = f"torch=={metadata.version('torch').split('+')[0]}"
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        # torch first: where pip knows a folder with a CPU build, that one is taken.
        for packages in ([torch], [torch, "torchaudio", f"llamafactory=={LLAMAFACTORY}", "tensorboard"]):
            subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
    # Published torchvision and torchaudio are linked with CUDA and do not load beside a CPU torch. LLaMA-Factory
    # can do without the first, and needs of the second no more than that its import succeeds.
    if subprocess.run([str(python), "-c", "import torchvision"], capture_output=True, check=False).returncode:
        subprocess.run(
            [str(python), "-m", "pip", "uninstall", "-q", "-y", "torchvision"], capture_output=True, check=True
        )
    if subprocess.run([str(python), "-c", "import torchaudio"], capture_output=True, check=False).returncode:
        for library in venv.glob("lib/python*/site-packages/torchaudio/lib/*.so"):
            library.rename(library.with_suffix(".so.off"))
    return python


def made_model(folder: Path, shape: Shape) -> Path:
    """A model folder of that shape with random bf16 weights and a tokenizer of 4,096 entries; kept."""
    if (folder / "config.json").is_file():
        return folder
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from finetune.tokenizer import train_tokenizer

    texts = (turn.text for name in ("child_chat",) for talk in conversations(name)[0] for turn in talk.turns)
    tokenizer = train_tokenizer(texts, vocab_size=4096)
    torch.manual_seed(7)
    config = Qwen3Config(
        vocab_size=shape.vocabulary or -(-len(tokenizer) // 128) * 128,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        intermediate_size=shape.intermediate,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=40960,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    tokenizer.save_pretrained(folder)
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def flops_per_token(config: Mapping[str, Any], examples: list[Example]) -> float:
    """FLOPs that a real token needs, a multiplication and an addition being two.

    Frozen weights: two for each on the way forth and two on the way back. Attention meets half a square of its
    conversation, with two matmuls forth and four back. The head only where there is a label. LoRA is left out.
    """
    heads = config["num_attention_heads"] * config["head_dim"]
    key_values = config["num_key_value_heads"] * config["head_dim"]
    layer = config["hidden_size"] * (2 * heads + 2 * key_values + 3 * config["intermediate_size"])
    tokens = sum(len(example.input_ids) for example in examples)
    met = sum(len(example.input_ids) ** 2 / 2 for example in examples) / tokens
    with_loss = sum(label >= 0 for example in examples for label in example.labels) / tokens
    head = config["hidden_size"] * config["vocab_size"] * with_loss
    return float(4 * (config["num_hidden_layers"] * layer + head) + 12 * config["num_hidden_layers"] * heads * met)


def matmul_peak(device: str, threads: int) -> float:
    """The best of many bf16 matmuls of the 0.6B model's MLP (2048 x 1024 x 3072), in FLOP/s."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: this machine has no CUDA device; leave it out to measure on the CPU.")
    torch.set_num_threads(threads)
    # A GPU needs more rows to show what it can do.
    rows, times = (2048 * 8, 50) if device == "cuda" else (2048, 60)
    a = torch.randn(rows, 1024, device=device).bfloat16()
    b = torch.randn(1024, 3072, device=device).bfloat16()
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * rows * 1024 * 3072 / best


def loss_check(base: Base, recipe: Recipe, examples: list[Example], work: Path) -> tuple[float, float]:
    """The loss of one packed row by our step and by TRL's, in bf16, without dropout and noise."""
    import torch
    from datasets import Dataset, disable_progress_bars
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_log
    from trl import SFTConfig

    from finetune.fit import on_one_gpu
    from finetune.step.trainer import make_trainer

    transformers_log.set_verbosity_error()
    transformers_log.disable_progress_bar()
    disable_progress_bars()
    row = Dataset.from_list([{"input_ids": example.input_ids, "labels": example.labels} for example in examples[:4]])
    losses = []
    for step in ("fast", "trl"):
        trainer = make_trainer(
            step,
            AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.bfloat16),
            LoraConfig(task_type="CAUSAL_LM", target_modules=list(recipe.target_modules)),
            on_one_gpu(SFTConfig(
                output_dir=str(work), max_length=recipe.max_length, packing=True, bf16=True, report_to=[],
                use_cpu=not torch.cuda.is_available(), prediction_loss_only=True, disable_tqdm=True,
                gradient_checkpointing=False, per_device_train_batch_size=1, dataloader_pin_memory=False,
            )),
            row, None, load_tokenizer(base),
        )  # fmt: skip
        trainer.model.eval()
        batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
        with torch.no_grad():
            losses.append(float(trainer.compute_loss(trainer.model, batch)))
    return losses[0], losses[1]


def machine() -> str:
    """The processor's name, how many of them, and how busy."""
    words = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = next((line.split(":")[1].strip() for line in words.splitlines() if line.startswith("model name")), "CPU")
    bf16 = " with avx512_bf16" if "avx512_bf16" in words else " with amx_bf16" if "amx_bf16" in words else ""
    return f"{os.cpu_count()} cores of {name}{bf16}, load {os.getloadavg()[0]:.1f}"


def fresh(run: Path) -> Path:
    """A folder's path with nothing there; its parent is made."""
    import shutil

    shutil.rmtree(run, ignore_errors=True)
    run.parent.mkdir(parents=True, exist_ok=True)
    return run


def _examples(base: Base, recipe: Recipe, data_dir: Path) -> list[Example]:
    encoder = Encoder(load_tokenizer(base), thinking=False)
    return encode_all(encoder, taken(recipe, data_dir)[0], recipe.max_length)[1]


def _compared(ours: Watched, theirs: Watched, other: str, loss: float, loss_trl: float) -> Compared:
    sides = [
        Side(
            tokens_per_second=round(side.speed, 1),
            tokens_per_cpu_second=round(side.cpu_speed, 1),
            peak_mib=round(side.peak_mib),
        )
        for side in (ours, theirs)
    ]
    return Compared(
        other=other,
        by_the_clock=round(ours.speed / theirs.speed, 3),
        by_cpu_seconds=round(ours.cpu_speed / theirs.cpu_speed, 3),
        peak_memory=round(ours.peak_mib / theirs.peak_mib, 3),
        ours=sides[0],
        theirs=sides[1],
        loss=round(loss, 5),
        loss_trl=round(loss_trl, 5),
    )


def _told(side: Watched, flops: float, peak: float) -> str:
    return (
        f"{side.speed:,.1f} tokens/s, {side.cpu_speed:,.1f} tokens per CPU-second "
        f"({side.tokens:,} tokens, {side.seconds:.1f} s, {side.cpu_seconds:.1f} CPU-s), "
        f"{side.speed * flops / peak:.0%} of the matmul peak, peak memory {side.peak_mib:,.0f} MiB"
    )


def _lines(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    # A line that is being written has no end yet.
    told = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
    return [line for line in told if "num_input_tokens_seen" in line]


def _cpu_seconds(process: int) -> float:
    # Fields 14 and 15 of proc(5)'s stat, counted behind the name in brackets, which may hold blanks.
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mib(process: int) -> float:
    words = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return next((int(line.split()[1]) / 1024 for line in words.splitlines() if line.startswith("VmHWM")), 0.0)


def _device_used() -> float:
    import torch

    free, total = torch.cuda.mem_get_info()
    return float(total - free) / _MIB
