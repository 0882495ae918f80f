"""What can be wrong with a base, told through the command line before anything is loaded."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data.strict import BadInput
from finetune.base import find_base, load_tokenizer, stored_tensors
from tests.commands import finetune
from tests.finetune.small_runs import make_data, make_recipe
from tests.small_models import make_base


def config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def classifier(base: Path) -> None:
    config(base, architectures=["Qwen3ForSequenceClassification"])


def no_config(base: Path) -> None:
    (base / "config.json").unlink()


def cut(base: Path) -> None:
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def no_weights(base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")


def shard_missing(base: Path) -> None:
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "model-00002.safetensors"}}))


def no_tokenizer(base: Path) -> None:
    for path in base.glob("tokenizer*"):
        path.unlink()


def small_vocabulary(base: Path) -> None:
    config(base, vocab_size=100)


def short(base: Path) -> None:
    config(base, max_position_embeddings=64)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (classifier, "is not a causal language model"),
        (no_config, "this is not a model folder"),
        (cut, "cut short or no safetensors file"),
        (no_weights, "pickles can run code"),
        (shard_missing, "model-00002.safetensors is missing"),
        (no_tokenizer, "no tokenizer.json; download the base again"),
        (small_vocabulary, "they do not belong together"),
        (short, "above what"),
    ],
)
def test_a_bad_base_is_one_sentence(tmp_path: Path, spoil: Callable[[Path], None], sentence: str) -> None:
    base = make_base(tmp_path / "base")
    spoil(base)
    words = [
        "train", str(make_recipe(tmp_path / "r.yaml")), "--base", str(base),
        "--data-dir", str(make_data(tmp_path / "data")), "--run", str(tmp_path / "run"),
    ]  # fmt: skip
    done = finetune(tmp_path / "told", *words)
    assert (done.code, done.err.count("\n"), done.out) == (2, 1, ""), done.err
    assert sentence in done.err
    assert not (tmp_path / "run").exists()


def test_a_name_that_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder, and no hub id either"):
        find_base("nowhere at all")
    with pytest.raises(BadInput, match="not on this machine yet; `make download"):
        find_base("Qwen/Qwen3-0.6B", home=str(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is a file"):
        find_base(str(tmp_path / "file"))


def test_a_hub_cache_folder_stands_for_its_main_snapshot(tmp_path: Path) -> None:
    cache = tmp_path / "models--a--b"
    for name in ("one", "two"):
        make_base(cache / "snapshots" / name)
    with pytest.raises(BadInput, match="holds 2 snapshots"):
        find_base(str(cache))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("two\n")
    assert find_base(str(cache)).folder == cache / "snapshots" / "two"


def test_headers_say_what_safetensors_says(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from finetune.weights import read_tensor

    path = make_base(tmp_path / "base") / "model.safetensors"
    loaded = load_file(path)
    stored = stored_tensors(path)
    assert stored.keys() == loaded.keys()
    for name, tensor in loaded.items():
        assert stored[name].shape == tuple(tensor.shape)
        assert read_tensor(stored[name]).equal(tensor)


@pytest.mark.parametrize("name", ["TokenizersBackend", "Qwen2Tokenizer", "Qwen2TokenizerFast", "GPT2Tokenizer", None])
def test_the_tokenizer_is_the_one_that_autotokenizer_chooses(tmp_path: Path, name: str | None) -> None:
    from transformers import AutoTokenizer

    folder = make_base(tmp_path / "base")
    told = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**told, "tokenizer_class": name}))
    chosen, ours = AutoTokenizer.from_pretrained(folder), load_tokenizer(find_base(str(folder)))
    assert type(ours) is type(chosen)
    text = "你好<|im_end|>\n<think> Why is the sky blue? １２３ ﬁ"
    assert ours.encode(text) == chosen.encode(text)
    assert ours.get_vocab() == chosen.get_vocab()


def test_a_tokenizer_is_read_without_torch_and_a_training_reads_neither_scikit_learn_nor_scipy(tmp_path: Path) -> None:
    make_base(tmp_path / "base")
    program = (
        "import sys; from pathlib import Path; from finetune.base import find_base, load_tokenizer; "
        "load_tokenizer(find_base(sys.argv[1])); print('torch' in sys.modules); "
        "import finetune.step.trainer, finetune.watch; "
        "print([name for name in ('sklearn', 'scipy', 'peft') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "base")], capture_output=True, text=True)
    assert done.stdout == "False\n['peft']\n", done.stderr
