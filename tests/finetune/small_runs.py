"""A data set and a recipe so small that a run takes a second or two, with everything random in it that a run can have."""

import json
from pathlib import Path
from typing import Any

import yaml

from data.runs import read_metrics
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


def curve(run: Path) -> list[dict[str, Any]]:
    """What a run logged, without what depends on the clock."""
    return [
        {name: value for name, value in line.items() if name not in ("time", "tokens_per_second")}
        for line in read_metrics(run)
    ]
