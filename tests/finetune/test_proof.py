"""The proof of a merge: a right one holds, in the dtype it is saved in, and wrong ones are caught."""

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from data.contract import open_sealed, seal
from data.strict import BadInput
from finetune import merge as merging
from finetune.merge import CURRENT, merge
from finetune.proof import LEAST_SAME, PROMPTS, Proof, main, prove
from finetune.weights import Change, rewrite, taken_from
from tests.demo import Demo
from tests.finetune.small_runs import make_run
from tests.small_models import make_talker

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proof")
    return make_run(folder / "run", make_talker(folder / "base", ends=True))


@pytest.fixture(scope="module")
def model(run: Path) -> Path:
    merge(run, run.parent / "model")
    return run.parent / "model"


def otherwise(model: Path, folder: Path, changes: dict[str, Change]) -> Path:
    """The model folder with some of its tensors changed, and sealed again."""
    shutil.copytree(model, folder)
    rewrite(model / "model.safetensors", folder / "model.safetensors", changes)
    sealed = open_sealed(model)
    seal(folder, sealed.contract, sealed.provenance, sealed.stop_token_ids, sealed.pad_token_id)
    return folder


def test_a_right_merge_is_proven(run: Path, model: Path) -> None:
    proof = prove(run, model)
    assert proof.holds, proof
    assert (proof.dtype, proof.answers) == ("bfloat16", PROMPTS)
    assert 0 < proof.difference <= proof.bound
    assert proof.same_tokens >= LEAST_SAME * proof.tokens >= PROMPTS
    assert str(proof).endswith("\nmerge proven")


def test_in_fp32_the_bound_is_fp32s(tmp_path: Path) -> None:
    base = make_talker(tmp_path / "base", ends=True)
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).save_pretrained(base)
    run = make_run(tmp_path / "run", base)
    merge(run, tmp_path / "model")
    proof = prove(run, tmp_path / "model")
    assert proof.holds, proof
    assert proof.dtype == "float32"
    assert proof.bound < 1e-4 * proof.largest


@pytest.mark.end_to_end
def test_one_matrix_of_the_demo_left_out_is_caught(trained_demo: Demo, tmp_path: Path) -> None:
    proof = prove(trained_demo.run, trained_demo.model)
    assert proof.holds, proof
    assert proof.tokens > 1000
    name = "model.layers.0.mlp.down_proj.weight"
    left_out = {name: taken_from(trained_demo.base.tensors()[name])}
    wrong = prove(trained_demo.run, otherwise(trained_demo.model, tmp_path / "wrong", left_out))
    assert not wrong.holds, wrong


def test_a_value_that_is_no_number_is_caught(run: Path, model: Path, tmp_path: Path) -> None:
    def spoil(weight: Any) -> Any:
        weight[0] = float("nan")
        return weight

    proof = prove(run, otherwise(model, tmp_path / "wrong", {"model.norm.weight": spoil}))
    assert math.isnan(proof.difference)
    assert not proof.holds


def test_a_wrong_scale_ends_with_1_and_leaves_current(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run), "--out", str(tmp_path / "models" / "try"), "--prove"]
    assert merging.main(words, {}) == 0
    assert "merge proven" in capsys.readouterr().out
    assert (tmp_path / "models" / CURRENT).resolve().name == "try"
    (tmp_path / "models" / CURRENT).unlink()

    def unscaled(config: dict[str, Any], adapter: Path) -> float:
        return 1.0

    monkeypatch.setattr(merging, "_scaling", unscaled)
    assert merging.main(words, {}) == 1
    assert "merge NOT proven" in capsys.readouterr().out
    assert not (tmp_path / "models" / CURRENT).exists()


def test_another_runs_model_is_caught_by_the_verb(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", run.parent / "base", seed=1)
    merge(other, tmp_path / "model")
    assert main([str(run), str(tmp_path / "model")], {}) == 1


def test_what_is_not_there_is_one_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such run folder"):
        prove(tmp_path / "nothing", tmp_path)
    with pytest.raises(BadInput, match="no model folder"):
        prove(run, tmp_path)


@pytest.mark.parametrize(
    ("difference", "same", "holds"), [(1.0, 98, True), (1.01, 100, False), (0.0, 97, False), (float("nan"), 100, False)]
)
def test_both_bounds_count(difference: float, same: int, *, holds: bool) -> None:
    assert Proof("bfloat16", 1, 0, 100, same, difference, 20.0, 1.0).holds is holds
