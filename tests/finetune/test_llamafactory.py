"""A LLaMA-Factory command or YAML becomes a recipe, and what has no counterpart is told."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from data.strict import BadInput
from finetune.llamafactory import Imported, import_command, main
from finetune.recipe import Recipe, read_recipe

# The tutorial's command, to the letter (LLaMA-Factory, fine-tuning Qwen3-0.6B, step 10).
TUTORIAL = r"""
  nohup llamafactory-cli train \
      --stage sft \
      --do_train True \
      --model_name_or_path /home/king/projects/LLM/fine_tuning/qwen3_0_6b \
      --preprocessing_num_workers 16 \
      --finetuning_type lora \
      --template qwen3 \
      --flash_attn auto \
      --dataset_dir data \
      --dataset child_chat_5k_sharegpt \
      --cutoff_len 2048 \
      --learning_rate 5e-05 \
      --num_train_epochs 3.0 \
      --max_samples 100000 \
      --per_device_train_batch_size 1 \
      --gradient_accumulation_steps 8 \
      --lr_scheduler_type cosine \
      --max_grad_norm 1.0 \
      --logging_steps 10 \
      --save_steps 100 \
      --warmup_steps 100 \
      --neftune_noise_alpha 5 \
      --packing True \
      --neat_packing True \
      --enable_thinking False \
      --report_to tensorboard \
      --logging_dir saves/Qwen3-0.6B-Thinking/lora/runs \
      --output_dir saves/Qwen3-0.6B-Thinking/lora/train_2025-08-15-17-58-52 \
      --bf16 True \
      --plot_loss True \
      --trust_remote_code True \
      --ddp_timeout 180000000 \
      --include_num_input_tokens_seen True \
      --optim adamw_torch \
      --lora_rank 8 \
      --lora_alpha 16 \
      --lora_dropout 0.05 \
      --lora_target q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj \
      --val_size 0.1 \
      --eval_strategy steps \
      --eval_steps 100 \
      --per_device_eval_batch_size 1 \
      > logs/training_$(date +%Y%m%d_%H%M%S).log 2>&1 &
"""
# What stays LLaMA-Factory's default in every case below.
LEAST = {"dataset": "child_chat"}


def imported(**keys: object) -> Imported:
    words = [word for key, value in {**LEAST, **keys}.items() for word in (f"--{key}", str(value))]
    return import_command(["llamafactory-cli", "train", *words])


def test_the_tutorials_command_gives_the_values_of_mindpal_yaml() -> None:
    found = import_command([TUTORIAL])
    ours = read_recipe("mindpal")
    assert found.recipe.dataset == ("child_chat_5k_sharegpt",)
    assert found.recipe == ours.model_copy(update={"dataset": found.recipe.dataset})


def test_every_key_of_the_tutorials_command_is_in_the_recipe_or_told() -> None:
    told = [sentence.split()[0] for sentence in import_command([TUTORIAL]).told]
    assert told == [
        "stage", "do_train", "model_name_or_path", "preprocessing_num_workers", "template", "flash_attn", "dataset_dir",
        "enable_thinking", "report_to", "logging_dir", "output_dir", "plot_loss", "trust_remote_code", "ddp_timeout",
        "include_num_input_tokens_seen", "eval_strategy", "disable_gradient_checkpointing",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".sh", ".md"])
def test_a_script_or_notes_with_the_command_in_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"notes{suffix}"
    path.write_text(
        f"# How to train\nmkdir -p logs # it's a comment\n{TUTORIAL}\ntail -f logs/x.log\n", encoding="utf-8"
    )
    assert import_command([str(path)]) == import_command([TUTORIAL])


def test_a_yaml_a_json_and_an_unquoted_command_say_the_same(tmp_path: Path) -> None:
    keys = {"dataset": "a, b", "learning_rate": "1.0e-4", "lora_target": "all", "bf16": True, "lora_rank": 16}
    (tmp_path / "train.yaml").write_text("### model\n" + "".join(f"{key}: {value}\n" for key, value in keys.items()))
    (tmp_path / "train.json").write_text(
        '{"dataset": ["a", "b"], "learning_rate": 1e-4, "lora_target": ["all"], "bf16": true, "lora_rank": 16}'
    )
    words = ["CUDA_VISIBLE_DEVICES=0", "llamafactory-cli", "train"]
    for command in (
        [str(tmp_path / "train.yaml")],
        [str(tmp_path / "train.json")],
        [*words, "--dataset=a,b", "--learning-rate", "1e-4", "--lora_target", "all", "--bf16", "--lora_rank=16"],
        [*words, str(tmp_path / "train.yaml")],
    ):
        recipe = import_command(command).recipe
        assert (recipe.dataset, recipe.learning_rate, recipe.r, recipe.lora_alpha) == (("a", "b"), 1e-4, 16, 32)
        assert recipe.bf16
        assert len(recipe.target_modules) == 7
    assert import_command([*words, str(tmp_path / "train.yaml"), "lora_rank=4"]).recipe.r == 4


def test_what_is_left_open_gets_llama_factorys_defaults() -> None:
    recipe = imported().recipe
    assert (recipe.per_device_train_batch_size, recipe.gradient_accumulation_steps) == (8, 1)
    assert (recipe.lr_scheduler_type, recipe.warmup_steps, recipe.learning_rate) == ("linear", 0, 5e-5)
    assert (recipe.val_size, recipe.packing, recipe.bf16, recipe.neftune_noise_alpha) == (0, False, False, None)
    assert (recipe.r, recipe.lora_alpha, recipe.lora_dropout, recipe.max_length) == (8, 16, 0, 2048)
    assert (recipe.max_steps, recipe.eval_steps, recipe.max_samples) == (None, 500, None)


def test_a_default_that_is_not_ours_is_told_where_the_key_is_not_given() -> None:
    thinking, checkpointing = imported().told
    assert thinking.startswith("enable_thinking is not given: there it is on, and the empty thought")
    assert "it is off there" in thinking
    assert checkpointing.startswith("disable_gradient_checkpointing is not given: there activations are computed again")
    assert not imported().recipe.gradient_checkpointing
    given = imported(enable_thinking="false", disable_gradient_checkpointing="true").told
    assert [sentence.split(":")[0] for sentence in given] == ["enable_thinking false"]


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"enable_thinking": "true"}, "enable_thinking true: thinking stands in data/contract.yaml; it is off there"),
        ({"template": "llama3"}, "template llama3: the sealed chat template is that of Qwen3"),
        ({"packing": "true"}, "packing without neat_packing: here conversations of a row never see one another."),
        ({"mask_history": "true"}, "mask_history true: not so here: every answer of a conversation is learned"),
        ({"warmup_ratio": 0.1}, "warmup_ratio 0.1: set warmup_steps"),
        ({"quantization_bit": 8}, "quantization_bit 8: qlora holds the base in 4 bits"),
        ({"larning_rate": 1}, 'larning_rate 1: has no counterpart; did you mean "learning_rate"?'),
        ({"galore_rank": 1}, "galore_rank 1: has no counterpart"),
        ({"dataset": "a,b", "max_samples": 5}, "max_samples 5: there of each set, here of all sets together."),
    ],
)
def test_what_has_no_counterpart_is_told(keys: dict[str, object], sentence: str) -> None:
    assert any(told.startswith(sentence) for told in imported(**keys).told)


@pytest.mark.parametrize(
    ("keys", "field", "value"),
    [
        ({"neat_packing": "true"}, "packing", True),
        ({"finetuning_type": "full"}, "method", "full"),
        ({"quantization_bit": 4}, "method", "qlora"),
        ({"disable_gradient_checkpointing": "false"}, "gradient_checkpointing", True),
        ({"max_steps": -1}, "max_steps", None),
        ({"max_steps": 7}, "max_steps", 7),
        ({"logging_steps": 5}, "eval_steps", 5),
        ({"neftune_noise_alpha": "null"}, "neftune_noise_alpha", None),
    ],
)
def test_what_is_translated(keys: dict[str, object], field: str, value: object) -> None:
    found = imported(**keys)
    assert found.recipe.model_dump()[field] == value
    # Nothing but what is told where nothing is given.
    assert set(found.told) <= set(imported().told)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing.yaml"], "nothing.yaml: no such file, and no command either"),
        (["echo hello"], "no `llamafactory-cli train …` was found"),
        (["llamafactory-cli train --stage sft"], 'names no "dataset"'),
        (["llamafactory-cli train --dataset a --stage dpo"], "stage dpo: only supervised"),
        (["llamafactory-cli train --dataset a --lora_rank eight"], "\"r\" is 'eight': it should be a valid integer"),
        (["llamafactory-cli train --dataset a --lora_rank --bf16"], "\"r\" is 'true'"),
        (["llamafactory-cli train --dataset a --val_size 500"], '"val_size" is'),
        (["llamafactory-cli train --dataset a --optim adamw_8bit"], "\"optim\" is 'adamw_8bit'"),
        (["llamafactory-cli train --dataset a --finetuning_type freeze"], "finetuning_type freeze has no counterpart"),
        (["llamafactory-cli train --dataset 'a"], "is a quotation mark missing"),
        (["llamafactory-cli train --dataset a > log --bf16 True"], "--bf16 stands behind the command's redirection"),
        (["llamafactory-cli train dataset=a b"], "stands where an argument"),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(BadInput) as error:
        import_command(words)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_the_recipe_goes_to_a_file_or_to_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.yaml"
    for words in (["--out", str(out), TUTORIAL], [TUTORIAL, "--out", str(out)]):
        assert main(words, {}) == 0
        assert read_recipe(str(out)) == import_command([TUTORIAL]).recipe
        out.unlink()
    told = capsys.readouterr()
    assert not told.out
    assert "trust_remote_code True: stays off" in told.err


def test_the_command_line_answers_without_torch() -> None:
    code = (
        "import sys; from finetune.__main__ import main; sys.argv[1:] = ['import-llamafactory', sys.argv[1]]; main(); "
    )
    code += "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, TUTORIAL], capture_output=True, text=True, check=True)
    assert Recipe.parse(yaml.safe_load(done.stdout), "stdout") == import_command([TUTORIAL]).recipe
