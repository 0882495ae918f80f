"""The plan: the rows TRL packs, the steps transformers counts, and what a device cannot do."""

import bisect
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset, disable_progress_bars
from safetensors.torch import load_file, save_file
from trl import pack_dataset
from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE
from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

from data.contract import read_contract
from data.conversations import DATA_DIR
from data.runs import CHECKPOINTS
from data.strict import BadInput
from finetune.base import find_base
from finetune.plan import (
    TRL_TILE,
    Machine,
    check_disk,
    check_method,
    free_memory,
    lines,
    make_plan,
    rows_after_packing,
    this_machine,
    unusual,
)
from finetune.pretrain import STANDIN
from finetune.recipe import read_recipe
from finetune.train import prepare
from tests.demo import ROOT
from tests.finetune.small_runs import make_data, make_recipe
from tests.small_models import make_base, make_talker

CPU = Machine("cpu", "CPU (2 threads)", 8 * 10**9, bf16=True)


@pytest.mark.parametrize("count", [1, 7, 400, 1700])
def test_rows_are_those_of_trl(count: int) -> None:
    disable_progress_bars()
    draw = random.Random(count)
    lengths = [draw.choice([draw.randint(1, 40), draw.randint(1, 128)]) for _ in range(count)]
    packed = pack_dataset(Dataset.from_list([{"input_ids": [1] * length} for length in lengths]), 128, "bfd")
    assert rows_after_packing(lengths, 128) == len(packed)


@pytest.mark.parametrize(("processes", "batch", "accumulation"), [(1, 1, 2), (1, 4, 3), (2, 2, 2)])
def test_steps_are_those_of_transformers(tmp_path: Path, processes: int, batch: int, accumulation: int) -> None:
    import math

    from transformers import Trainer, TrainingArguments

    recipe = read_recipe(
        str(make_recipe(tmp_path / "r.yaml", packing=False, num_train_epochs=2.5)),
        [f"per_device_train_batch_size={batch}", f"gradient_accumulation_steps={accumulation}"],
    )
    base = find_base(str(make_base(tmp_path / "base")))
    plan = make_plan(recipe, base, [50] * 37, 50, CPU, processes)
    assert plan.rows == 37
    assert plan.rows_a_step == processes * batch * accumulation
    args = TrainingArguments(
        str(tmp_path), use_cpu=True, num_train_epochs=2.5, gradient_accumulation_steps=accumulation, report_to=[]
    )
    from transformers import AutoModelForCausalLM

    trainer = Trainer(AutoModelForCausalLM.from_pretrained(base.folder), args)
    loader = range(math.ceil(math.ceil(37 / batch) / processes))
    trainer.num_examples = lambda _: 37
    values = trainer.set_initial_training_values(args, loader)
    assert (plan.steps_an_epoch, plan.steps) == (values[1], values[6])


def test_the_trained_numbers_are_pefts(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    recipe = read_recipe(str(make_recipe(tmp_path / "r.yaml")))
    base = find_base(str(make_base(tmp_path / "base")))
    model = AutoModelForCausalLM.from_pretrained(base.folder)
    lora = LoraConfig(r=recipe.r, target_modules=list(recipe.target_modules))
    numbers, _ = get_peft_model(model, lora).get_nb_trainable_parameters()
    assert make_plan(recipe, base, [10], 10, CPU).trained == numbers
    full = recipe.model_copy(update={"method": "full"})
    assert make_plan(full, base, [10], 10, CPU).trained == find_numbers(model)


def find_numbers(model: object) -> int:
    names = {name for name, _ in model.named_parameters() if "lora" not in name}  # type: ignore[attr-defined]
    return sum(weight.numel() for name, weight in model.named_parameters() if name in names)  # type: ignore[attr-defined]


def test_what_a_device_cannot_do_is_one_sentence(tmp_path: Path) -> None:
    recipe = read_recipe(str(make_recipe(tmp_path / "r.yaml")))
    old = Machine("cuda", "Tesla T4", 10**10, bf16=False)
    qlora = recipe.model_copy(update={"method": "qlora", "bf16": False})
    with pytest.raises(BadInput, match="need an NVIDIA GPU, and there is none"):
        check_method(qlora, CPU, bitsandbytes=True)
    with pytest.raises(
        BadInput, match=r"bitsandbytes is not installed; .*pip install bitsandbytes.*WHERE=local DEVICE=cuda"
    ):
        check_method(qlora, old, bitsandbytes=False)
    check_method(qlora, old, bitsandbytes=True)


def test_what_is_unusual_is_told(tmp_path: Path) -> None:
    recipe = read_recipe(str(make_recipe(tmp_path / "r.yaml", warmup_steps=50)))
    base = find_base(str(make_base(tmp_path / "base")))
    plan = make_plan(recipe, base, [100] * 10, 100, CPU)
    told = lines(recipe, base, plan, Machine("cpu", "CPU", 10**6, bf16=True))
    assert any("may not fit into memory" in line for line in told)
    assert any("never reaches its full value" in line for line in told)
    assert len(lines(recipe.model_copy(update={"warmup_steps": 1}), base, plan, CPU)) == 3


def test_a_warm_up_that_has_no_effect_is_told(tmp_path: Path) -> None:
    base = find_base(str(make_base(tmp_path / "base")))
    for warmup, expected in ((0, 0), (2, 1)):
        recipe = read_recipe(str(make_recipe(tmp_path / "r.yaml", lr_scheduler_type="constant", warmup_steps=warmup)))
        told = unusual(recipe, make_plan(recipe, base, [100] * 10, 100, CPU), CPU)
        assert len(told) == expected
        assert all("constant_with_warmup" in remark for remark in told)


@pytest.mark.parametrize(("environment", "idle"), [({}, 1), ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, 0)])
def test_a_gpu_that_nothing_trains_on_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], idle: int
) -> None:
    for name, value in {
        "is_available": True, "device_count": 2, "mem_get_info": (10**10, 10**10), "get_device_name": "A GPU",
        "is_bf16_supported": True,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    machine = this_machine(environment)
    assert (machine.kind, machine.idle) == ("cuda", idle)
    recipe = read_recipe(str(make_recipe(tmp_path / "r.yaml")))
    plan = make_plan(recipe, find_base(str(make_base(tmp_path / "base"))), [100] * 10, 100, CPU)
    told = ["2 GPUs are here and one trains; `accelerate launch --multi_gpu …` uses all"]
    assert unusual(recipe, plan, machine) == told * idle


def test_a_driver_that_is_too_old_for_torch_does_not_mean_days_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = tmp_path / "version"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert this_machine({}, driver).kind == "cpu"
    driver.touch()
    for given in ({}, {"CUDA_VISIBLE_DEVICES": "0"}):
        with pytest.raises(
            BadInput, match=r"version: .*torch for CUDA 13\.0 finds no GPU; .*TORCH_BACKEND=cu126 in \.env"
        ):
            this_machine(given, driver)
    # Whoever hides the GPU means the CPU, and so does a build without CUDA.
    for hidden in ("", "-1"):
        assert this_machine({"CUDA_VISIBLE_DEVICES": hidden}, driver).kind == "cpu"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert this_machine({}, driver).kind == "cpu"


@pytest.mark.parametrize("name", ["embed_tokens", "lm_head"])
def test_embeddings_and_head_get_no_adapter(tmp_path: Path, name: str) -> None:
    base = find_base(str(make_talker(tmp_path / "base")))
    assert f"{'model.' * (name == 'embed_tokens')}{name}.weight" in base.tensors()
    for targets, sentence in (
        (["q_proj", name], rf'target_modules: "{name}" gets no adapter: only the layers between'),
        (
            ["q_porj"],
            r'did you mean "q_proj"\? Its layers: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj',
        ),
    ):
        recipe = read_recipe(str(make_recipe(tmp_path / "r.yaml", target_modules=targets)))
        with pytest.raises(BadInput, match=sentence):
            make_plan(recipe, base, [10], 10, CPU)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_head_that_the_file_holds_beside_the_same_embeddings_counts_once(tmp_path: Path, method: str) -> None:
    recipe = read_recipe(str(make_recipe(tmp_path / "r.yaml", method=method)))
    base = find_base(str(make_base(tmp_path / "base")))
    once = make_plan(recipe, base, [10], 10, CPU)
    weights = load_file(base.folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, base.folder / "model.safetensors")
    assert make_plan(recipe, base, [10], 10, CPU) == once
    # Two matrices where they are not tied.
    config = json.loads((base.folder / "config.json").read_text())
    (base.folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    untied = make_plan(recipe, base, [10], 10, CPU)
    assert untied.parameters - once.parameters == weights["lm_head.weight"].numel()


def test_trls_logits_take_the_memory_of_a_tile(tmp_path: Path) -> None:
    assert TRL_TILE == (TOKEN_CHUNK_SIZE, _CHUNKED_LOGPROB_CHUNK_SIZE)
    recipe, base = read_recipe("mindpal", ["training_step=trl"]), find_base(str(make_base(tmp_path / "base")))
    config = json.loads((base.folder / "config.json").read_text())
    planned = []
    for rows, vocabulary in ((1, 151_936), (1, 32_768), (2, 32_768), (4, 32_768)):
        (base.folder / "config.json").write_text(json.dumps({**config, "vocab_size": vocabulary}))
        asked = recipe.model_copy(update={"per_device_train_batch_size": rows})
        planned.append(make_plan(asked, base, [100], 100, CPU).memory)
    assert planned[0] == planned[1]
    # A third and a fourth row bring hidden states alone.
    assert planned[3] - planned[2] < planned[2] - planned[1]


def test_too_little_room_on_the_disk_is_one_sentence(tmp_path: Path) -> None:
    recipe = read_recipe(str(make_recipe(tmp_path / "r.yaml")))
    base = find_base(str(make_base(tmp_path / "base")))
    plan = make_plan(recipe, base, [100], 100, CPU)
    check_disk(plan, tmp_path / "run")
    huge = type(plan)(**{**vars(plan), "disk": 10**18})
    with pytest.raises(BadInput, match=r"its checkpoints take 1000000000\.0 GB"):
        check_disk(huge, tmp_path / "run")


def test_a_run_that_goes_on_needs_room_only_for_what_is_not_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_recipe(str(make_recipe(tmp_path / "r.yaml")))
    plan = make_plan(recipe, find_base(str(make_base(tmp_path / "base"))), [100], 100, CPU)
    free = plan.disk // 2
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    run = tmp_path / "run"
    with pytest.raises(BadInput, match=r"free; make room, lower save_total_limit, or put"):
        check_disk(plan, run)
    part = run / CHECKPOINTS / "checkpoint-2" / "optimizer.pt"
    part.parent.mkdir(parents=True)
    part.touch()
    os.truncate(part, plan.disk - free)
    check_disk(plan, run)
    os.truncate(part, 1000)
    # With another limit it would not go on.
    with pytest.raises(BadInput, match=r"its checkpoints take \d+ MB more and .* free; make room\.$"):
        check_disk(plan, run)


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    assert free_memory() > 0
    (tmp_path / "meminfo").write_text("MemTotal: 8000 kB\nMemAvailable: 5000 kB\n")
    assert free_memory(tmp_path, tmp_path) == 5000 * 1024
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert free_memory(tmp_path, tmp_path) == 2_000_000


def rows_of_llamafactory(lengths: list[int], max_length: int) -> int:
    """Rows that LLaMA-Factory 0.9.5 packs of one batch (`greedy_knapsack`), one position of each kept free."""
    left, rows = sorted(lengths), 0
    while left:
        rows, room = rows + 1, max_length - 1
        while found := bisect.bisect(left, room):
            room -= left.pop(found - 1)
    return rows


def test_the_tutorials_settings_give_the_steps_that_are_told() -> None:
    (told,) = re.findall(
        r"settings give (\d+) steps here, (\d+) there with one worker and (\d+) with the tutorial's sixteen",
        " ".join((ROOT / "DECISIONS.md").read_text(encoding="utf-8").split()),
    )
    recipe, base = read_recipe("mindpal"), find_base(str(STANDIN))
    prepared = prepare(recipe, read_contract(base_model=str(base.folder)), base, DATA_DIR, skip_bad=False)
    lengths = [len(example.input_ids) for example in prepared.train]
    found = [make_plan(recipe, base, lengths, max(lengths), CPU).steps]
    for workers in (1, 16):
        # Each worker has a run of the conversations, and packs a thousand of them at a time.
        each = math.ceil(len(lengths) / workers)
        shares = [lengths[start : start + each] for start in range(0, len(lengths), each)]
        rows = sum(
            rows_of_llamafactory(share[start : start + 1000], recipe.max_length)
            for share in shares
            for start in range(0, len(share), 1000)
        )
        found.append(3 * math.ceil(rows / recipe.gradient_accumulation_steps))
    assert found == [int(steps) for steps in told]


# Trains one recipe after the other, and tells what was planned and what was the most that it held, in bytes.
TRAININGS = """
import json, sys
from pathlib import Path
from data.contract import read_contract
from finetune.base import find_base
from finetune.recipe import read_recipe
from finetune.train import look_ahead, train

for number, (recipe, base, data, words) in enumerate(json.loads(sys.argv[1])):
    given = read_recipe(recipe, words), read_contract(base_model=base), find_base(base)
    run, data = Path(sys.argv[2]) / str(number), Path(data)
    _, _, plan, _ = look_ahead(*given, run, data, skip_bad=False, environment={})
    # The most that was held is forgotten (proc(5)).
    Path("/proc/self/clear_refs").write_text("5")
    train(*given, run, data)
    told = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in told if line.startswith("VmHWM"))
    print("measured", plan.memory, peak)
"""


def test_the_memory_that_is_told_is_about_what_is_taken(tmp_path: Path) -> None:
    """In a process of its own: what a forked one shares is not counted."""
    few = ["max_samples=60", "val_size=0", "max_steps=3", "gradient_accumulation_steps=1", "logging_steps=1"]
    trainings = [
        (str(make_recipe(tmp_path / "small.yaml")), str(make_base(tmp_path / "base")), str(make_data(tmp_path / "data")), []),
        ("mindpal", str(STANDIN), str(DATA_DIR), few),
        ("mindpal", str(STANDIN), str(DATA_DIR), [*few, "training_step=trl"]),
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", TRAININGS, json.dumps(trainings), str(tmp_path / "runs")],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "2"}, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    measured = [tuple(map(int, line.split()[1:])) for line in done.stdout.splitlines() if line.startswith("measured")]
    assert len(measured) == len(trainings)
    for planned, peak in measured:
        assert peak / 1.3 < planned < peak * 1.5, measured
