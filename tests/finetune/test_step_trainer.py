"""The fast step against stock TRL on a real tiny Qwen3: same loss, same gradients, evaluation too."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig

from finetune.step.trainer import FastTrainer, make_trainer
from tests.small_models import make_base

# TRL is told that its own attention may mix packed conversations; it builds the mask that keeps them apart.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


def rows(seed: int, lengths: list[int]) -> Dataset:
    """Conversations of these lengths: about a third of each, at its beginning, without loss."""
    draw = torch.Generator().manual_seed(seed)
    examples = []
    for length in lengths:
        ids = torch.randint(0, 300, (length,), generator=draw).tolist()
        examples.append({"input_ids": ids, "labels": [-100] * (length // 3) + ids[length // 3 :]})
    return Dataset.from_list(examples)


def trainer(base: Path, folder: Path, step: str, dtype: torch.dtype, **changes: Any) -> Any:
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=8, lora_dropout=changes.pop("dropout", 0.0), target_modules=TARGETS
    )
    args = {
        "output_dir": str(folder), "use_cpu": True, "max_length": 96, "packing": True, "max_steps": 3,
        "per_device_train_batch_size": 1, "per_device_eval_batch_size": 2, "learning_rate": 1e-2,
        "bf16": dtype == torch.bfloat16, "gradient_checkpointing": False, "prediction_loss_only": True,
        "report_to": [], "disable_tqdm": True, "logging_steps": 1, "save_strategy": "no", "seed": 3,
        "max_grad_norm": 1.0, "dataloader_pin_memory": False,
    }  # fmt: skip
    made = make_trainer(
        step,  # type: ignore[arg-type]
        AutoModelForCausalLM.from_pretrained(base, dtype=dtype),
        lora,
        SFTConfig(**{**args, **changes}),
        rows(1, [30, 41, 25, 60, 36, 90, 20, 20, 20, 33]),
        rows(2, [50, 30, 70]),
        AutoTokenizer.from_pretrained(base),
    )
    torch.manual_seed(5)
    for name, parameter in made.model.named_parameters():
        if "lora_B" in name:
            # An adapter starts at zero, where half of its gradients are.
            parameter.data.normal_(std=0.05)
    return made


def loss_and_gradients(made: Any) -> tuple[float, dict[str, torch.Tensor]]:
    made.model.train()
    batch = next(iter(made.get_train_dataloader()))
    loss = made.compute_loss(made.model, made._prepare_inputs(batch))
    loss.backward()
    return loss.item(), {name: p.grad for name, p in made.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"per_device_train_batch_size": 3},
        {"packing": False, "per_device_train_batch_size": 4},
        {"gradient_checkpointing": True},
    ],
    ids=["packed row", "flattened rows", "no packing", "checkpointing"],
)
def test_loss_and_gradients_are_trls_in_fp32(base: Path, tmp_path: Path, shape: dict[str, Any]) -> None:
    stock = loss_and_gradients(trainer(base, tmp_path, "trl", torch.float32, **shape))
    made = trainer(base, tmp_path, "fast", torch.float32, **shape)
    assert type(made) is FastTrainer
    fast = loss_and_gradients(made)
    assert fast[0] == pytest.approx(stock[0], abs=1e-5)
    assert fast[1].keys() == stock[1].keys()
    assert len(fast[1]) == 2 * 2 * len(TARGETS)
    for name, expected in stock[1].items():
        assert (fast[1][name] - expected).norm() <= 1e-5 * expected.norm(), name
