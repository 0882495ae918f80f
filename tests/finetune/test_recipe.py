"""Recipes: every value of the tutorial, names that are TRL's, and one sentence for what is wrong."""

from pathlib import Path

import pytest

from data.strict import BadInput
from finetune.recipe import RECIPES, Recipe, dump_recipe, read_recipe
from tests.commands import finetune
from tests.finetune.small_runs import make_data, make_recipe
from tests.small_models import TEXTS, make_base


def test_every_shipped_recipe_is_one() -> None:
    names = [path.stem for path in RECIPES.glob("*.yaml")]
    assert {"mindpal", "tiny"} <= set(names)
    for name in names:
        recipe = read_recipe(name)
        assert Recipe.parse(__import__("yaml").safe_load(dump_recipe(recipe)), name) == recipe


def test_mindpal_is_the_tutorials_run() -> None:
    recipe = read_recipe("mindpal")
    assert (recipe.method, recipe.r, recipe.lora_alpha, recipe.lora_dropout) == ("lora", 8, 16, 0.05)
    assert (recipe.max_length, recipe.learning_rate, recipe.warmup_steps) == (2048, 5e-5, 100)
    assert (recipe.per_device_train_batch_size, recipe.gradient_accumulation_steps) == (1, 8)
    assert (recipe.num_train_epochs, recipe.val_size, recipe.neftune_noise_alpha) == (3, 0.1, 5)
    assert (recipe.logging_steps, recipe.save_steps, recipe.eval_steps) == (10, 100, 100)


def test_names_are_those_of_trl_and_peft() -> None:
    import dataclasses

    from peft import LoraConfig
    from trl import SFTConfig

    theirs = {field.name for kind in (SFTConfig, LoraConfig) for field in dataclasses.fields(kind)}
    ours = set(Recipe.model_fields) - {"dataset", "max_samples", "val_size", "method", "training_step"}
    assert ours <= theirs


def test_words_are_laid_over_the_file() -> None:
    recipe = read_recipe("tiny", ["learning_rate=1e-4", "dataset=a,b", "max_samples=null", "bf16=false"])
    assert (recipe.learning_rate, recipe.dataset, recipe.max_samples, recipe.bf16) == (1e-4, ("a", "b"), None, False)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["learing_rate=1e-4"], 'unknown key "learing_rate"; did you mean "learning_rate"?'),
        (["learning_rate=-1"], '"learning_rate" is -1: it should be greater than 0.'),
        (["max_length=8"], '"max_length" is 8: it should be greater than or equal to 32.'),
        (
            ["packing=false", "per_device_train_batch_size=65"],
            "r.yaml: per_device_train_batch_size is 65, and above 64 it needs packing; lower it, or set packing=true.",
        ),
        (["method=lore"], "\"method\" is 'lore': it should be"),
        (["learning_rate"], "is no override"),
        (["dataset=small,smal"], 'no data set "smal"; did you mean "small"?'),
        (["max_length=100000"], "is above the contract's window"),
        (["target_modules=q_prj"], 'has no layer "q_prj"; did you mean "q_proj"?'),
        (["max_length=32"], "its first exchange takes"),
        (["method=qlora"], "bitsandbytes' 4 bits need an NVIDIA GPU, and there is none"),
    ],
)
def test_a_bad_value_is_one_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    told(tmp_path, sentence, words, None)


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ([{"from": "human", "value": "你好"}], 'ends with a "human" turn; add its answer or remove it.'),
        ([{"from": "human", "value": "a"}, {"from": "human", "value": "b"}], 'two "human" turns in a row'),
    ],
)
def test_data_without_an_answer_is_one_sentence(tmp_path: Path, record: list[dict[str, str]], sentence: str) -> None:
    told(tmp_path, sentence, [], [{"conversations": record}])
    told(tmp_path / "skip", "holds no conversation to learn from", ["--skip-bad"], [{"conversations": record}])


def test_a_system_prompt_longer_than_the_window_is_one_sentence(tmp_path: Path) -> None:
    turns = [{"from": "system", "value": TEXTS[0] * 20}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    told(tmp_path, "record 0: its first exchange takes", [], [{"conversations": turns}])


def told(folder: Path, sentence: str, words: list[str], records: list[object] | None) -> None:
    """Exit code 2, one line, nothing made."""
    folder.mkdir(exist_ok=True)
    done = finetune(
        folder / "told", "train", str(make_recipe(folder / "r.yaml")), *words, "--base", str(make_base(folder / "base")),
        "--data-dir", str(make_data(folder / "data", records)), "--run", str(folder / "run"),
    )  # fmt: skip
    assert (done.code, done.err.count("\n"), done.out) == (2, 1, ""), done.err
    assert sentence in done.err
    assert not (folder / "run").exists()


def test_no_recipe_of_that_name() -> None:
    with pytest.raises(BadInput, match='No recipe "mindpl"; did you mean "mindpal"'):
        read_recipe("mindpl")
