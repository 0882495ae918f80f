"""Merging: PEFT's result bit for bit, little memory, whole or not at all, and nothing that does not belong together."""

import json
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from data.contract import SEAL_FILE, open_sealed, read_contract
from data.runs import ADAPTER, read_record, write_record
from data.strict import BadInput
from finetune.base import TOKENIZER
from finetune.checkpoints import FILES_FILE
from finetune.merge import CURRENT, merge, point_current
from tests.commands import CONTEXT, Command, finetune, fork
from tests.finetune.small_runs import make_run
from tests.small_models import make_base

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merge")
    return make_run(folder / "run", make_base(folder / "base"))


def base_of(run: Path) -> Path:
    return Path(read_record(run).base)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shard", ["5GB", "60KB"], ids=["one file", "shards"])
def test_equals_pefts_merge_bit_for_bit(tmp_path: Path, dtype: torch.dtype, shard: str) -> None:
    base = make_base(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    for path in base.glob("*.safetensors"):
        path.unlink()
    model.save_pretrained(base, max_shard_size=shard)
    run = make_run(tmp_path / "run", base)
    merge(run, tmp_path / "out")
    expected = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=dtype), run / ADAPTER
    ).merge_and_unload()
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(files) == len(list(base.glob("*.safetensors"))) == (1 if shard == "5GB" else len(files))
    merged = {name: tensor for path in files for name, tensor in load_file(path).items()}
    state = expected.state_dict()
    assert len(merged) == len(state) - 1  # the head is the embedding
    for name, tensor in merged.items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, state[name]), name
    assert not torch.equal(
        merged["model.layers.0.self_attn.q_proj.weight"], model.state_dict()["model.layers.0.self_attn.q_proj.weight"]
    )
    assert open_sealed(tmp_path / "out").contract.base_model == str(base)


def _peak(small: str, run: str, out: str, answer: Any) -> None:
    # What a merge imports is not what it holds.
    merge(Path(small), Path(out).with_name("small"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    merge(Path(run), Path(out))
    answer.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)


def test_memory_holds_a_tensor_and_not_the_model(run: Path, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    config = Qwen3Config.from_pretrained(base)
    # 12 layers of 14 MB each.
    config.update({"hidden_size": 768, "intermediate_size": 2304, "num_hidden_layers": 12, "layer_types": None})
    for path in base.glob("*.safetensors"):
        path.unlink()
    config = Qwen3Config(**{**config.to_dict(), "layer_types": None})
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(base, max_shard_size="40MB")
    size = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    assert size > 120e6
    assert len(list(base.glob("*.safetensors"))) > 2
    large = make_run(tmp_path / "run", base)
    answer = CONTEXT.Queue()
    process = fork(_peak, str(run), str(large), str(tmp_path / "out"), answer)
    grown = answer.get(timeout=240)
    process.join()
    # A tuned tensor is 3.5 MB, its fp32 copies are 14.
    assert grown < min(size / 2, 60e6), grown


def _forget(run: Path) -> None:
    (run / ADAPTER / FILES_FILE).unlink()


def _cut(run: Path) -> None:
    path = run / ADAPTER / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def _flip(run: Path) -> None:
    path = run / ADAPTER / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)


def _cut_and_forget(run: Path) -> None:
    _cut(run)
    _forget(run)


def _other_shape(run: Path) -> None:
    wide = make_run(run.parent / "wide", base_of(run), rank=4)
    path = wide / ADAPTER / "adapter_config.json"
    weights = load_file(wide / ADAPTER / WEIGHTS)
    weights = {name: torch.cat([tensor, tensor]) if "lora_B" in name else tensor for name, tensor in weights.items()}
    save_file(weights, run / ADAPTER / WEIGHTS)
    shutil.copyfile(path, run / ADAPTER / "adapter_config.json")
    _forget(run)


def _on_embeddings(run: Path) -> None:
    weights = load_file(run / ADAPTER / WEIGHTS)
    weights["base_model.model.model.embed_tokens.lora_embedding_A"] = torch.zeros(4, 600)
    save_file(weights, run / ADAPTER / WEIGHTS)
    _forget(run)


def _other_contract(run: Path) -> None:
    write_record(run, read_record(run).model_copy(update={"contract": "f" * 64}))


def _no_adapter(run: Path) -> None:
    shutil.rmtree(run / ADAPTER)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_cut, "has a damaged adapter_model.safetensors"),
        (_flip, "has a damaged adapter_model.safetensors"),
        (_cut_and_forget, "cut short"),
        (_other_shape, "in the adapter; name its base with --base"),
        (_on_embeddings, "embed_tokens.lora_embedding_A is no LoRA weight of a linear layer"),
        (_other_contract, "was taught the contract ffffffff"),
        (_no_adapter, "the run has not finished"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    run: Path, tmp_path: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoilt = tmp_path / "run"
    shutil.copytree(run, spoilt)
    spoil(spoilt)
    out = tmp_path / "models" / "good"
    merge(run, out)
    before = open_sealed(out)
    done = finetune(tmp_path / "told", "merge", str(spoilt), "--out", str(out), "--keep-current")
    assert (done.code, done.err.count("\n"), done.out) == (2, 1, ""), done.err
    assert sentence in done.err
    # The good folder is as it was.
    assert open_sealed(out) == before
    assert [path.name for path in out.parent.iterdir()] == ["good"]


def test_another_base_is_refused(run: Path, tmp_path: Path) -> None:
    other = make_base(tmp_path / "other", seed=1)
    done = finetune(tmp_path / "told", "merge", str(run), "--out", str(tmp_path / "out"), "--base", str(other))
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert "was trained on other weights" in done.err
    assert not (tmp_path / "out").exists()


def test_another_tokenizer_is_refused_where_the_run_has_recorded_its_own(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "base"
    shutil.copytree(base_of(run), moved)
    (moved / TOKENIZER).write_text((moved / TOKENIZER).read_text() + "\n")
    with pytest.raises(BadInput, match=r"with another tokenizer than that in .*base; name its base with --base"):
        merge(run, tmp_path / "out", base_name=str(moved))
    # As runs were recorded before.
    old = tmp_path / "run"
    shutil.copytree(run, old)
    record = read_record(old)
    weights = {name: digest for name, digest in record.base_files.items() if name != TOKENIZER}
    assert len(weights) == len(record.base_files) - 1
    write_record(old, record.model_copy(update={"base_files": weights}))
    merge(old, tmp_path / "out", base_name=str(moved))


def test_killed_while_merging_the_old_folder_stands(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "models" / "mine"
    merge(run, out)
    before = open_sealed(out)
    command = Command(tmp_path / "told", "merge", str(run), "--out", str(out))
    command.wait_for((out.parent / ".mine.partial").is_dir)
    command.send(signal.SIGKILL)
    command.wait()
    assert open_sealed(out) == before
    # Killed between the last two renames: the next merge finds the old one, and makes the new one.
    out.rename(out.with_name(".mine.old"))
    with pytest.raises(BadInput, match="no such model folder"):
        open_sealed(out)
    merge(run, out)
    assert open_sealed(out).fingerprint == before.fingerprint
    assert [path.name for path in out.parent.iterdir()] == ["mine"]


def test_a_full_disk_is_one_sentence_and_the_old_folder_stands(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "models" / "mine"
    merge(run, out)
    before = open_sealed(out)
    done = finetune(tmp_path / "told", "merge", str(run), "--out", str(out), "--keep-current", limit=100_000)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1] == f"{out}: the disk is full; make room and merge again."
    assert open_sealed(out) == before
    assert [path.name for path in out.parent.iterdir()] == ["mine"]


def test_current_points_to_the_last_merge(run: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        done = finetune(tmp_path / "told", "merge", str(run), "--out", str(tmp_path / "models" / name))
        assert done.code == 0, done.err
        assert (tmp_path / "models" / CURRENT).resolve().name == name
    (tmp_path / "own" / CURRENT).mkdir(parents=True)
    with pytest.raises(BadInput, match="a folder of its own"):
        point_current(tmp_path / "own" / "third")


def test_another_runs_model_is_not_replaced(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "models" / "first"
    other = make_run(tmp_path / "other", base_of(run), seed=1)
    merge(run, out)
    before = open_sealed(out)
    with pytest.raises(BadInput, match="was made from run, and not from this run; name another with --out"):
        merge(other, out)
    assert open_sealed(out) == before
    assert [path.name for path in out.parent.iterdir()] == ["first"]
    # Nor where a merge was killed in the middle, and the folder stands aside.
    out.rename(out.with_name(".first.old"))
    with pytest.raises(BadInput, match="was made from run"):
        merge(other, out)
    assert open_sealed(out) == before
    # Its own run makes it anew, and a folder with a damaged seal is mended.
    merge(run, out)
    assert open_sealed(out).fingerprint == before.fingerprint
    (out / SEAL_FILE).write_text("{")
    merge(run, out)
    assert open_sealed(out).fingerprint == before.fingerprint


def test_what_is_served_is_not_replaced_where_current_is_to_be_kept(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "models" / "mine"
    words = ("merge", str(run), "--out", str(out))
    # As it always was: the run's own folder, made anew, is current again.
    for folder in ("first", "again"):
        assert finetune(tmp_path / folder, *words).code == 0
        assert (out.parent / CURRENT).resolve() == out
    before = open_sealed(out)
    done = finetune(tmp_path / "told", *words, "--keep-current")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert "is what current means" in done.err
    assert open_sealed(out) == before
    beside = finetune(tmp_path / "beside", *words[:2], "--out", str(out.with_name("beside")), "--keep-current")
    assert beside.code == 0, beside.err
    assert finetune(tmp_path / "once", *words[:2], "--out", str(out.with_name("beside")), "--keep-current").code == 0
    # Nothing is served where the folder is gone.
    shutil.rmtree(out)
    assert finetune(tmp_path / "gone", *words, "--keep-current").code == 0


def test_a_folder_that_is_no_model_is_not_replaced(run: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(BadInput, match="is no model folder"):
        merge(run, tmp_path / "photos")


def test_the_card_and_the_seal_say_where_it_comes_from(run: Path, tmp_path: Path) -> None:
    merge(run, tmp_path / "out")
    seal = open_sealed(tmp_path / "out")
    assert seal.fingerprint == read_contract(base_model=str(base_of(run))).fingerprint
    assert list(seal.provenance["adapter"]) == [WEIGHTS]
    assert seal.provenance["recipe"] in (tmp_path / "out" / "README.md").read_text()
    assert "chat_template" not in json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
