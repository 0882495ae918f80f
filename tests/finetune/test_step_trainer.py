"""The fast step against stock TRL on a real tiny Qwen3: same loss, same gradients, evaluation too."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer
from trl.kernels import chunked_logprob

from finetune.step.trainer import (
    FastTrainer,
    make_trainer,
    obstacle,
    trained_in_fp32,
    without_triton_where_it_cannot_compile,
)
from tests.small_models import make_base

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
    if made.args.gradient_checkpointing:
        # As `train` begins.
        made.model.gradient_checkpointing_enable(made.args.gradient_checkpointing_kwargs)
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


@pytest.mark.parametrize(("shape", "share"), [({}, 0.95), ({"gradient_checkpointing": True}, 0.0)])
def test_what_a_step_keeps_lies_in_the_arena(base: Path, tmp_path: Path, shape: dict[str, Any], share: float) -> None:
    made = trainer(base, tmp_path, "fast", torch.float32, **shape)
    weights = {parameter.untyped_storage().data_ptr() for parameter in made.model.parameters()}
    kept = dict[int, int]()

    def seen(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.nbytes if tensor.untyped_storage().nbytes() == 2**26 else -tensor.nbytes
        return tensor

    made.model.train()
    batch = made._prepare_inputs(next(iter(made.get_train_dataloader())))
    with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        made.compute_loss(made.model, batch)
    inside = sum(size for size in kept.values() if size > 0)
    # The rest are the rotations, and the gradient of the head.
    assert inside >= share * sum(map(abs, kept.values()))
    assert (inside > 0) == (share > 0)


def test_loss_is_trls_in_bf16(base: Path, tmp_path: Path) -> None:
    stock, _ = loss_and_gradients(trainer(base, tmp_path, "trl", torch.bfloat16))
    fast, _ = loss_and_gradients(trainer(base, tmp_path, "fast", torch.bfloat16))
    assert fast == pytest.approx(stock, abs=1e-3)


def test_a_run_with_accumulation_and_evaluation_goes_as_trls(base: Path, tmp_path: Path) -> None:
    told = []
    for step in ("trl", "fast"):
        made = trainer(
            base, tmp_path, step, torch.float32,
            gradient_accumulation_steps=2, max_steps=2, eval_strategy="steps", eval_steps=2,
        )  # fmt: skip
        made.train()
        history = made.state.log_history
        told.append([line[name] for line in history for name in ("loss", "eval_loss", "grad_norm") if name in line])
        assert history[-2]["eval_num_tokens"] > 0
    assert len(told[0]) == 5
    assert told[1] == pytest.approx(told[0], rel=1e-4)


def test_dropout_and_noise_work_in_training_and_not_in_evaluation(base: Path, tmp_path: Path) -> None:
    made = trainer(base, tmp_path, "fast", torch.float32, dropout=0.3, neftune_noise_alpha=5.0)
    plain = trainer(base, tmp_path, "fast", torch.float32)
    batch = next(iter(made.get_train_dataloader()))
    losses = []
    for model in (made, made, plain):
        model.model.train()
        losses.append(model.compute_loss(model.model, batch).item())
    # Each pass draws anew, and both differ from a pass without.
    assert len({round(loss, 6) for loss in losses}) == 3
    for model in (made, plain):
        model.model.eval()
    expected = plain.compute_loss(plain.model, batch).item()
    assert made.compute_loss(made.model, batch).item() == pytest.approx(expected, abs=1e-6)


def test_the_same_seed_gives_the_same_run(base: Path, tmp_path: Path) -> None:
    weights = []
    for _ in range(2):
        made = trainer(base, tmp_path, "fast", torch.bfloat16, dropout=0.3, neftune_noise_alpha=5.0)
        made.train()
        weights.append(torch.cat([p.flatten() for p in made.model.parameters() if p.requires_grad]))
    assert torch.equal(*weights)


def test_what_is_trained_is_in_fp32_and_nothing_else(base: Path) -> None:
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules=TARGETS)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), lora)
    weights = dict(model.named_parameters())
    adapter = {name for name, weight in weights.items() if weight.requires_grad}
    assert len(adapter) == 2 * 2 * len(TARGETS)
    for name in adapter:
        # As TRL leaves them beside a quantised base.
        weights[name].data = weights[name].data.to(torch.bfloat16)
    trained_in_fp32(model)
    assert {name for name, weight in weights.items() if weight.dtype == torch.float32} == adapter
    before = [weight.data_ptr() for weight in model.parameters()]
    trained_in_fp32(model)
    assert [weight.data_ptr() for weight in model.parameters()] == before


def test_the_recipe_can_ask_for_trls_own(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[Any] = []
    monkeypatch.setattr("finetune.step.trainer.without_triton_where_it_cannot_compile", looked_at.append)
    made = trainer(base, tmp_path, "trl", torch.float32)
    assert type(made) is SFTTrainer
    assert looked_at == [made.args]


@pytest.mark.parametrize(
    ("alpha", "noise"), [(None, ""), (5.0, "; its NEFTune goes by a whole row's length, not a conversation's")]
)
def test_where_it_cannot_work_trls_own_step_is_taken_and_one_line_says_why(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, alpha: float | None, noise: str
) -> None:
    args = SFTConfig(
        str(tmp_path), use_cpu=True, report_to=[], max_length=96, prediction_loss_only=True, bf16=False,
        neftune_noise_alpha=alpha,
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, logger="finetune.step.trainer"):
        made = make_trainer(
            "fast",
            AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
            None,
            args,
            rows(1, [30, 40]),
            None,
            AutoTokenizer.from_pretrained(base),
        )
    assert type(made) is SFTTrainer
    (line,) = [record for record in caplog.records if record.name == "finetune.step.trainer"]
    assert line.getMessage() == (
        f"training_step: TRL's own step, because all parameters are trained, and its head has to be frozen{noise}"
    )


@pytest.mark.parametrize(
    ("base_changes", "lora_changes", "argument_changes", "reason"),
    [
        ({}, {}, {}, None),
        ({"model_type": "llama"}, {}, {}, "this one is llama"),
        ({"quantization_config": {"load_in_4bit": True}}, {}, {}, "quantised"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, {}, {}, "sliding windows"),
        ({"attention_bias": True}, {}, {}, "no plain qwen3"),
        ({"hidden_act": "gelu"}, {}, {}, "no plain qwen3"),
        ({}, {"target_modules": ["q_proj", "lm_head"]}, {}, "the head or the embeddings are trained"),
        ({}, {"modules_to_save": ["embed_tokens"]}, {}, "the head or the embeddings are trained"),
        ({}, {"use_dora": True}, {}, "more than plain LoRA"),
        ({}, {}, {"prediction_loss_only": False}, "more than the plain loss"),
        ({}, {}, {"fsdp": True}, "spread over processes (FSDP)"),
    ],
)
def test_obstacles(
    base: Path,
    tmp_path: Path,
    base_changes: dict[str, Any],
    lora_changes: dict[str, Any],
    argument_changes: dict[str, Any],
    reason: str | None,
) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    for name, value in base_changes.items():
        setattr(model.config, name, value)
    lora = LoraConfig(**{"task_type": "CAUSAL_LM", "target_modules": TARGETS, **lora_changes})
    settings = {"use_cpu": True, "report_to": [], "prediction_loss_only": True, **argument_changes}
    found = obstacle(model, lora, SFTConfig(str(tmp_path), **settings))
    assert found is None if reason is None else reason in (found or "")


def test_a_model_spread_by_fsdp_gets_trls_own_step(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    args = SFTConfig(str(tmp_path), use_cpu=True, report_to=[], max_length=96, prediction_loss_only=True, bf16=False)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules=TARGETS)
    with monkeypatch.context() as patch:
        patch.setattr(args.distributed_state, "distributed_type", DistributedType.FSDP)
        assert obstacle(model, lora, args) == "the model is spread over processes (FSDP)"
    assert obstacle(model, lora, args) is None
    # As `accelerate launch --use_fsdp` says it.
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with caplog.at_level(logging.WARNING, logger="finetune.step.trainer"):
        made = make_trainer("fast", model, lora, args, rows(1, [30, 40]), None, AutoTokenizer.from_pretrained(base))
    assert type(made) is SFTTrainer
    (line,) = [record for record in caplog.records if record.name == "finetune.step.trainer"]
    assert line.getMessage() == "training_step: TRL's own step, because the model is spread over processes (FSDP)"


@pytest.mark.parametrize(
    ("compiler", "able"),
    [(None, False), ("exit 1", False), ("grep -q Python.h", True)],
    ids=["none", "no headers", "whole"],
)
def test_where_nothing_compiles_triton_trls_loss_on_a_gpu_is_torchs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, compiler: str | None, able: bool
) -> None:
    # Read at the import, which may have found no Triton here.
    monkeypatch.setattr(chunked_logprob, "_TRITON_AVAILABLE", True)
    monkeypatch.delenv("CC", raising=False)
    if compiler:
        (tmp_path / "gcc").write_text(f"#!/bin/sh\nPATH=/bin:/usr/bin\n{compiler}\n")
        (tmp_path / "gcc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.WARNING, logger="finetune.step.trainer"):
        for device in ("cpu", "cuda"):
            without_triton_where_it_cannot_compile(SimpleNamespace(device=torch.device(device), process_index=0))
    assert chunked_logprob._use_triton(torch.device("cuda")) == able
    line = "training_step: TRL's loss by torch; its faster kernels need a C compiler and Python's headers"
    assert [record.getMessage() for record in caplog.records] == ([] if able else [line])


TWO_PROCESSES = """
import sys, json
from pathlib import Path
import torch
from tests.finetune.test_step_trainer import trainer
made = trainer(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], torch.float32, gradient_accumulation_steps=int(sys.argv[4]))
made.train()
if made.args.process_index == 0:
    print(json.dumps([type(made).__name__, [line["loss"] for line in made.state.log_history if "loss" in line]]))
"""


@pytest.mark.end_to_end
def test_two_processes_learn_as_one_with_the_same_rows_a_step(base: Path, tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES, encoding="utf-8")
    told = []
    for count in (1, 2):
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", str(script),
            str(base), str(tmp_path), "fast", str(2 // count),
        ] if count > 1 else [sys.executable, str(script), str(base), str(tmp_path), "fast", "2"]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
            env={"PATH": "", "PYTHONPATH": ".", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        told.append(json.loads(next(line for line in done.stdout.splitlines() if line.startswith('["'))))
    assert told[0][0] == told[1][0] == "FastTrainer"
    assert told[1][1] == pytest.approx(told[0][1], abs=1e-4)
