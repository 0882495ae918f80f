"""A data set and a recipe so small that a run takes a second or two, with everything random in it that a run can have."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from data.contract import read_contract
from data.runs import ADAPTER, RECIPE_FILE, RunRecord, Status, now, read_metrics, write_record, write_status
from finetune.base import find_base
from finetune.checkpoints import close_folder
from tests.small_models import TEXTS

RECIPE = {
    "dataset": ["small"], "val_size": 0.2, "max_length": 128, "packing": True,
    "r": 4, "lora_alpha": 8, "lora_dropout": 0.1,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "learning_rate": 1e-3, "lr_scheduler_type": "cosine", "warmup_steps": 2, "num_train_epochs": 2,
    "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "per_device_eval_batch_size": 1,
    "max_grad_norm": 1.0, "optim": "adamw_torch", "bf16": False, "neftune_noise_alpha": 5,
    "logging_steps": 3, "save_steps": 2, "save_total_limit": 2, "eval_steps": 4, "seed": 7,
}  # fmt: skip


def make_data(folder: Path, records: list[Any] | None = None) -> Path:
    """A data folder with the set `small`: twenty short conversations, or these records."""
    folder.mkdir(parents=True)
    made = [
        {
            "id": f"small-{number:02}",
            "conversations": [
                {"from": "human", "value": f"{number}. {TEXTS[number % 3][: 8 + number]}"},
                {"from": "gpt", "value": TEXTS[(number + 1) % 3][: 20 + number % 7]},
            ],
        }
        for number in range(20)
    ]
    (folder / "small.json").write_text(json.dumps(made if records is None else records, ensure_ascii=False))
    entry = {"file_name": "small.json", "formatting": "sharegpt"}
    (folder / "dataset_info.json").write_text(json.dumps({"small": entry}))
    return folder


def make_recipe(path: Path, **changes: Any) -> Path:
    """The recipe above with other values."""
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return path


# What a run logs about the clock and the machine, which no two runs share.
_OF_THE_MACHINE = (
    "time", "tokens_per_second", "share_of_peak", "seconds_left", "memory", "memory_free", "cpu_percent", "gpu_memory",
    "gpu_memory_free", "gpu_memory_peak", "gpu_percent",
)  # fmt: skip


def curve(run: Path) -> list[dict[str, Any]]:
    """What a run logged, without what depends on the clock."""
    return [{name: value for name, value in line.items() if name not in _OF_THE_MACHINE} for line in read_metrics(run)]


def make_run(run: Path, base: Path, *, seed: int = 0, rank: int = 4) -> Path:
    """A finished run's folder without its training: a random adapter on `base`, with everything a merge looks at."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    torch.manual_seed(seed)
    lora = LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules=RECIPE["target_modules"])
    tuned = get_peft_model(model, lora)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            # An adapter starts at zero.
            weight.data.normal_(std=0.02)
    tuned.save_pretrained(run / ADAPTER)
    close_folder(run / ADAPTER)
    made = find_base(str(base))
    write_record(
        run,
        RunRecord(
            base=str(base), base_files=made.hashes(), contract=read_contract(base_model=str(base)).fingerprint,
            dataset=["small"], data_files={}, conversations=1, validation=0, skipped=0, tokens=1, tokens_with_loss=1,
            versions={}, commit="0" * 40, started=now(),
        ),
    )  # fmt: skip
    (run / RECIPE_FILE).write_text("dataset: [small]\n")
    write_status(run, Status(state="done"))
    return run
