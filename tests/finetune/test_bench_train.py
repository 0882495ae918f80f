"""The bench's parts that can be told right from wrong without an hour of training."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from data.conversations import DATA_DIR
from data.strict import BadInput
from finetune import bench_train, train
from finetune.base import Base, find_base
from finetune.bench_results import read_bench
from finetune.bench_train import (
    Watched,
    flops_per_token,
    llamafactory_arguments,
    loss_check,
    main,
    our_words,
    watch,
)
from finetune.encode import Example
from finetune.recipe import read_recipe
from tests.small_models import make_base

# Burns processor time, takes 50 MiB, and writes a step every time.
TRAINING = """
import json, sys, time
held = bytearray(50 * 2**20)
for step in range(1, 4):
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    with open(sys.argv[1], "a") as out:
        out.write(json.dumps({"step": step, "num_input_tokens_seen": 100 * step}) + "\\n")
        out.write(json.dumps({"step": step, "eval_loss": 1.0}) + "\\n")
    time.sleep(0.1)
sys.exit(int(sys.argv[2]))
"""


def test_a_training_is_watched_from_its_first_step_to_its_last(tmp_path: Path) -> None:
    lines = tmp_path / "steps.jsonl"
    seen = watch([sys.executable, "-c", TRAINING, str(lines), "0"], {}, lines, tmp_path / "log", cuda=False)
    assert seen.tokens == 200
    assert 0.15 < seen.cpu_seconds < 0.35
    assert seen.seconds >= 0.35
    assert seen.peak_mib > 50
    assert seen.cpu_speed == pytest.approx(200 / seen.cpu_seconds)


def test_a_training_that_fails_is_told_with_its_log(tmp_path: Path) -> None:
    lines = tmp_path / "steps.jsonl"
    with pytest.raises(BadInput, match=r"code 3 after 3 steps; .*log says why"):
        watch([sys.executable, "-c", TRAINING, str(lines), "3"], {}, lines, tmp_path / "log", cuda=False)


def test_rounds_add_up() -> None:
    sum_ = Watched()
    sum_.add(Watched(tokens=100, seconds=1, cpu_seconds=2, peak_mib=900))
    sum_.add(Watched(tokens=300, seconds=1, cpu_seconds=2, peak_mib=700))
    assert (sum_.speed, sum_.cpu_speed, sum_.peak_mib) == (200, 100, 900)


def test_flops_count_weights_attention_and_labels() -> None:
    config = {
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 3, "vocab_size": 100,
    }  # fmt: skip
    example = Example(input_ids=[1] * 10, labels=[-100] * 5 + [1] * 5)
    # q and o 8x8 each, k and v 8x4 each, three of 8x16.
    weights = 3 * (2 * 64 + 2 * 32 + 3 * 128)
    # Half of the tokens have a label; a token meets five others in the mean, over 8 numbers, in 12 FLOPs.
    assert flops_per_token(config, [example]) == 4 * (weights + 800 / 2) + 3 * 12 * 8 * 5


def test_both_sides_get_the_same_numbers() -> None:
    recipe = read_recipe("mindpal", ["gradient_accumulation_steps=3"])
    base = Base("x", Path("/models/x"))
    theirs = llamafactory_arguments(recipe, base, Path("data"), Path("run"), 4)
    given = dict(zip(theirs[::2], theirs[1::2], strict=True))
    ours = our_words(recipe, base, Path("data"), Path("run"), 3, step="fast")
    assert given["--max_steps"] == "4"
    assert "max_steps=4" in ours
    assert given["--gradient_accumulation_steps"] == "3"
    assert "gradient_accumulation_steps=3" in ours
    assert (given["--lora_rank"], given["--cutoff_len"], given["--neftune_noise_alpha"]) == ("8", "2048", "5.0")
    assert given["--dataset"] == "child_chat,child_chat_en"
    assert "dataset=child_chat,child_chat_en" in ours


def test_our_side_is_a_command_that_train_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = Base("x", make_base(tmp_path / "base"))
    recipe = read_recipe("mindpal", ["dataset=child_chat_en", "logging_steps=1"])
    words = our_words(recipe, base, DATA_DIR, tmp_path / "run", 2, step="trl")
    assert train.main([*words[1:], "--plan"], {}) == 0
    assert "3 steps" in capsys.readouterr().out


@pytest.mark.parametrize(("ours", "code", "verdict"), [(2.0005, 0, "equal"), (2.1, 1, "NOT EQUAL")])
def test_losses_that_differ_end_it_with_1(
    ours: float,
    code: int,
    verdict: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # What takes minutes is left out; what is made of its figures is not.
    monkeypatch.setattr(bench_train, "install_llamafactory", lambda folder: folder / "bin" / "python")
    monkeypatch.setattr(bench_train, "matmul_peak", lambda device, threads: 1e12)
    monkeypatch.setattr(bench_train, "watch", lambda *_: Watched(100, 1.0, 1.0, 10.0))
    # The first model differs, the second does not.
    losses = iter([(ours, 2.0), (2.0, 2.0)])
    monkeypatch.setattr(bench_train, "loss_check", lambda *_: next(losses))
    folder = str(make_base(tmp_path / "base"))
    words = ["--q06", folder, "--small", folder, "--dataset", "child_chat_en", "--work", str(tmp_path / "work")]
    assert main([*words, "--out", str(tmp_path / "results" / "bench.json")], {}) == code
    told = capsys.readouterr().out
    assert f"q06 loss of one batch: ours {ours:.5f}, TRL 2.00000: {verdict}\n" in told
    assert "bench-train: q06 1.00x small 1.00x\n" in told
    # The same in a file, with where it comes from.
    found = read_bench(tmp_path / "results" / "bench.json")
    assert [line for line in found.lines() if line in told.splitlines()] == found.lines()
    assert (found.models["q06"].loss, found.models["small"].ours.peak_mib) == (ours, 10)
    assert found.versions["llamafactory"] == "0.9.5"
    assert found.date.startswith("20")
    assert "cores" in found.machine


def test_losses_are_compared_on_one_gpu_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(*given: Any) -> None:
        raise RuntimeError(f"{given[3].n_gpu} GPU, {given[3].device}")

    for name, value in {"is_available": True, "is_bf16_supported": True, "device_count": 2, "set_device": None}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr("finetune.step.trainer.make_trainer", told)
    example = Example([1, 2], [1, 2])
    try:
        # TRL refuses more than one.
        with pytest.raises(RuntimeError, match="1 GPU, cuda:0"):
            loss_check(find_base(str(make_base(tmp_path / "base"))), read_recipe("mindpal"), [example], tmp_path)
    finally:
        # accelerate remembers the device for whoever comes next.
        AcceleratorState._reset_state(reset_partial_state=True)


def test_results_of_another_format_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text(
        json.dumps(
            {
                "format": 2, "date": "", "machine": "", "device": "cpu", "threads": 2, "versions": {}, "commit": "",
                "models": {},
            }
        )
    )  # fmt: skip
    with pytest.raises(BadInput, match="format 2, but this version reads 1; measure again"):
        read_bench(tmp_path / "bench.json")


def test_a_gpu_that_is_not_there_is_told_at_once() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(BadInput, match="no CUDA device"):
        main(["--device", "cuda"], {})
