"""Make a recipe out of a LLaMA-Factory command or YAML, and say what has no counterpart here.

In: a file (YAML, JSON, a script or notes with the command in it), or the command itself, quoted or not, with its line
continuations, `nohup` and redirections. Out: a recipe on standard output or in `--out FILE`; on standard error a line
for each key that has no place in a recipe, and why.

    python -m finetune import-llamafactory train_lora.yaml > mine.yaml
    python -m finetune import-llamafactory --out mine.yaml nohup llamafactory-cli train --stage sft … > train.log 2>&1 &

What the command leaves open gets the default of LLaMA-Factory 0.9.5 and transformers, not ours; two that differ are told.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.contract import read_contract
from data.runs import write_whole
from data.strict import BadInput, read_json, read_yaml, suggestion
from finetune.recipe import Recipe, dump_recipe

_EVERY_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# LLaMA-Factory's and transformers' defaults, under the recipe's names.
_DEFAULTS: dict[str, Any] = {
    "max_samples": None, "val_size": 0.0, "max_length": 2048, "packing": False,
    "method": "lora", "r": 8, "lora_dropout": 0.0, "target_modules": _EVERY_LINEAR,
    "learning_rate": 5e-5, "lr_scheduler_type": "linear", "warmup_steps": 0, "num_train_epochs": 3.0,
    "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "per_device_eval_batch_size": 8,
    "max_grad_norm": 1.0, "optim": "adamw_torch", "weight_decay": 0.0, "bf16": False, "neftune_noise_alpha": None,
    "logging_steps": 500, "save_steps": 500, "seed": 42,
    # Theirs keeps every checkpoint; a recipe has to name a number. It changes nothing that is learned.
    "save_total_limit": 3,
}  # fmt: skip
_RENAMED = {"cutoff_len": "max_length", "lora_rank": "r", "lora_target": "target_modules"}
_SAME_NAME = (
    "dataset", "max_samples", "val_size", "packing", "lora_alpha", "lora_dropout", "learning_rate",
    "lr_scheduler_type", "warmup_steps", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "per_device_eval_batch_size", "max_grad_norm", "optim", "weight_decay", "bf16",
    "neftune_noise_alpha", "logging_steps", "save_steps", "save_total_limit", "eval_steps", "seed",
)  # fmt: skip
# Read together, or turned around.
_TRANSLATED = ("neat_packing", "finetuning_type", "quantization_bit", "disable_gradient_checkpointing")

# Keys without a place in a recipe, and why.
_ELSEWHERE = {
    "stage": "a recipe is for supervised fine-tuning, and nothing else",
    "do_train": "training is what `finetune train` does",
    "do_eval": "validation takes place wherever val_size is above 0",
    "do_predict": "`finetune compare` and `finetune evaluate` ask the model",
    "template": "the sealed chat template gives the same ids as qwen3, and is not chosen",
    "model_name_or_path": "the base is named when training: --base",
    "adapter_name_or_path": "training starts from the base; --resume goes on with a run",
    "dataset_dir": "the folder is named when training: --data-dir",
    "output_dir": "the run folder is named when training: --run",
    "logging_dir": "TensorBoard's events lie in the run folder",
    "preprocessing_num_workers": "what is packed together does not depend on a number of workers",
    "preprocessing_batch_size": "all conversations are packed together",
    "dataloader_num_workers": "conversations are encoded before the first step",
    "flash_attn": "the training step chooses the attention",
    "enable_liger_kernel": "the training step has a sparse head of its own",
    "use_unsloth": "the training step is ours or TRL's: training_step",
    "report_to": "metrics.jsonl and TensorBoard's events are always written",
    "run_name": "a run is called like its folder: --run",
    "plot_loss": "loss.png is always drawn",
    "include_num_input_tokens_seen": "tokens are always counted",
    "trust_remote_code": "stays off: Qwen3 needs none, and it runs whatever code a download holds",
    "ddp_timeout": "accelerate's own default holds",
    "overwrite_output_dir": "a run is never written over; name another folder",
    "overwrite_cache": "nothing is cached",
    "tokenized_path": "nothing is cached",
    "resume_from_checkpoint": "say it when training: --resume",
    "save_only_model": "a checkpoint holds all that --resume needs",
    "do_sample": "sampling stands in data/contract.yaml",
    "temperature": "sampling stands in data/contract.yaml",
    "top_p": "sampling stands in data/contract.yaml",
    "mix_strategy": "sets are taken one after the other and shuffled together, as by `concat`",
    "eval_dataset": "validation is a share of the same sets: val_size",
    "fp16": "a run is in bf16, or in fp32 with bf16: false",
    "warmup_ratio": "set warmup_steps to this share of the steps, which `finetune train` tells before it starts",
    "resize_vocab": "Qwen3 has every token of its chat",
    "quantization_method": "qlora is bitsandbytes'",
    "double_quantization": "qlora always does",
}
# Where LLaMA-Factory's meaning of the value is also ours, and where not.
_MEANING: dict[str, tuple[str, str]] = {
    "train_on_prompt": ("false", "only answers are learned"),
    "mask_history": ("false", "every answer of a conversation is learned, not only the last"),
    "eval_strategy": ("steps", "validation takes place every eval_steps"),
    "save_strategy": ("steps", "checkpoints are saved every save_steps"),
    "logging_strategy": ("steps", "metrics are logged every logging_steps"),
    "use_rslora": ("false", "LoRA as it was published"),
    "use_dora": ("false", "LoRA as it was published"),
    "pissa_init": ("false", "LoRA as it was published"),
    "streaming": ("false", "a set is read whole"),
}


@dataclass(frozen=True)
class Imported:
    """A recipe, and a sentence for each key that is not in it."""

    recipe: Recipe
    told: list[str]


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune import-llamafactory`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune import-llamafactory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the recipe (default: standard output)")
    parser.add_argument("source", nargs=argparse.REMAINDER, metavar="FILE_OR_COMMAND", help="what to read")
    given = parser.parse_args(words)
    source, out = given.source, given.out
    # Behind the source too, where most people look for it; LLaMA-Factory has no such option.
    if len(source) >= 3 and source[-2] == "--out":
        source, out = source[:-2], Path(source[-1])
    if not source:
        parser.error("a file or a command is missing")
    imported = import_command(source)
    for sentence in imported.told:
        print(sentence, file=sys.stderr)
    text = dump_recipe(imported.recipe)
    if out is None:
        print(text, end="")
    else:
        write_whole(out, text)
    return 0


def import_command(words: Sequence[str]) -> Imported:
    """The recipe that a file, a command in one word or a command in many stands for. Raises `BadInput`."""
    if len(words) > 1:
        return import_keys(_keys(list(words)), "the command")
    path = Path(words[0])
    # A command in one word may be longer than any file name.
    if len(words[0]) < 1024 and "\n" not in words[0] and path.is_file():
        if path.suffix in (".yaml", ".yml", ".json"):
            return import_keys(_content(path), str(path))
        try:
            return import_keys(_keys(_command(path.read_text(encoding="utf-8"))), str(path))
        except UnicodeDecodeError:
            raise BadInput(f"{path}: not UTF-8; a YAML file or a command was expected.") from None
    if not re.search(r"\s", words[0].strip()):
        raise BadInput(f"{words[0]}: no such file, and no command either (llamafactory-cli train …).")
    return import_keys(_keys(_command(words[0])), "the command")


def import_keys(keys: Mapping[str, Any], where: str) -> Imported:
    """The recipe of LLaMA-Factory's arguments; `where` opens the sentence of a `BadInput`."""
    given = {
        key: value for key, value in keys.items() if value is not None and str(value).lower() not in ("null", "none")
    }
    if "dataset" not in given:
        raise BadInput(f'{where}: names no "dataset"; add --dataset NAME.')
    if str(given.get("stage", "sft")) != "sft":
        raise BadInput(f"{where}: stage {given['stage']}: only supervised fine-tuning (sft) can be imported.")
    told: list[str] = []
    found = dict(_DEFAULTS)
    for key in (*_SAME_NAME, *_RENAMED):
        if key in given:
            found[_RENAMED.get(key, key)] = given[key]
    for name in ("dataset", "target_modules"):
        if isinstance(found[name], str):
            found[name] = [word.strip() for word in found[name].split(",")]
    if list(found["target_modules"]) == ["all"]:
        found["target_modules"] = _EVERY_LINEAR
    # LLaMA-Factory's own rule, and transformers'.
    found.setdefault("lora_alpha", 2 * int(found["r"]) if str(found["r"]).isdecimal() else 16)
    found.setdefault("eval_steps", found["logging_steps"])
    if str(found.get("max_steps", -1)).lstrip("-").isdecimal() and int(found.get("max_steps", -1)) <= 0:
        found["max_steps"] = None
    if len(found["dataset"]) > 1 and found["max_samples"] is not None:
        told.append(f"max_samples {found['max_samples']}: there of each set, here of all sets together.")
    _packing(given, found, told)
    _method(given, found, told, where)
    if "disable_gradient_checkpointing" in given:
        found["gradient_checkpointing"] = not _is_true(given["disable_gradient_checkpointing"])
    recipe = Recipe.parse(found, where)
    told += [_no_counterpart(key, given[key]) for key in given if key not in (*_SAME_NAME, *_RENAMED, *_TRANSLATED)]
    told += _other_defaults(given)
    return Imported(recipe, told)


def _other_defaults(given: Mapping[str, Any]) -> Iterator[str]:
    """What the command leaves open, and LLaMA-Factory does by its own default and we do not."""
    if "enable_thinking" not in given:
        contract = "on" if read_contract().thinking else "off"
        yield (
            "enable_thinking is not given: there it is on, and the empty thought before an answer is learned; here "
            f"data/contract.yaml says it, and it is {contract} there."
        )
    if "disable_gradient_checkpointing" not in given:
        yield (
            "disable_gradient_checkpointing is not given: there activations are computed again to save memory; here "
            "only with gradient_checkpointing: true."
        )


def _packing(given: Mapping[str, Any], found: dict[str, Any], told: list[str]) -> None:
    neat = _is_true(given.get("neat_packing", False))
    # As there, neat_packing alone turns packing on.
    found["packing"] = True if neat else found["packing"]
    if _is_true(found["packing"]) and not neat:
        told.append("packing without neat_packing: here conversations of a row never see one another.")


def _method(given: Mapping[str, Any], found: dict[str, Any], told: list[str], where: str) -> None:
    kind = str(given.get("finetuning_type", "lora"))
    if kind not in ("lora", "full"):
        raise BadInput(f'{where}: finetuning_type {kind} has no counterpart; "lora" and "full" have.')
    found["method"] = kind
    bits = given.get("quantization_bit")
    if bits is not None and kind == "lora":
        if str(bits) == "4":
            found["method"] = "qlora"
        else:
            told.append(f"quantization_bit {bits}: qlora holds the base in 4 bits, or it is not quantised at all.")


def _no_counterpart(key: str, value: object) -> str:
    shown = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    if key == "enable_thinking":
        contract = "on" if read_contract().thinking else "off"
        asked = "on" if _is_true(value) else "off"
        same = "the same" if contract == asked else f"edit it there to turn thinking {asked}"
        return f"{key} {shown}: thinking stands in data/contract.yaml; it is {contract} there, {same}."
    if key == "template" and value != "qwen3":
        return f"{key} {shown}: the sealed chat template is that of Qwen3; train a base of that family."
    if key in _ELSEWHERE:
        return f"{key} {shown}: {_ELSEWHERE[key]}."
    if key in _MEANING:
        ours, meaning = _MEANING[key]
        return f"{key} {shown}: {'as here, ' if shown.lower() == ours else 'not so here: '}{meaning}."
    known = [*_SAME_NAME, *_RENAMED, *_TRANSLATED, *_ELSEWHERE, *_MEANING, "enable_thinking"]
    return f"{key} {shown}: has no counterpart{suggestion(key, known) or '.'}"


def _is_true(value: object) -> bool:
    return str(value).lower() in ("true", "1", "yes", "y", "t")


def _content(path: Path) -> dict[str, Any]:
    content = read_json(path) if path.suffix == ".json" else read_yaml(path)
    if not isinstance(content, dict):
        raise BadInput(f"{path}: expected a mapping of LLaMA-Factory's arguments to values.")
    return content


def _command(text: str) -> list[str]:
    """The words of the first LLaMA-Factory command in a script, in notes or alone."""
    # A shell joins lines that end in a backslash; people paste blanks behind it.
    lines = re.sub(r"\\[ \t]*\r?\n", " ", text).splitlines()
    commands = [line for line in lines if _TRAIN.search(line)] or [line for line in lines if "--" in line]
    if not commands:
        raise BadInput("no `llamafactory-cli train …` was found in it.")
    lexer = shlex.shlex(_REDIRECTED.sub(" > ", commands[0]), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise BadInput(f"the command cannot be read: {error}; is a quotation mark missing?") from None
    return words


# `2>` and `&>` are one sign in a shell; the number is no value of the argument before it.
_REDIRECTED = re.compile(r"(?<=\s)[0-9&]>")
_TRAIN = re.compile(r"\b(?:llamafactory-cli|lmf)\s+train\b|\btrain\.py\b")
_ENDS = set(";|&<>()")


def _keys(words: list[str]) -> dict[str, Any]:
    """The arguments in a command's words: `--key value`, `--key=value`, `--flag`; or a file and `key=value`."""
    places = range(len(words))
    begin = next((place + 1 for place in places if _is_train(words, place)), None)
    if begin is None:
        begin = next((place for place in places if words[place].startswith("--")), None)
    if begin is None:
        raise BadInput("no `llamafactory-cli train …` was found in the command.")
    end = next((place for place in places[begin:] if words[place] and set(words[place]) <= _ENDS), len(words))
    behind = [word for word in words[end:] if word.startswith("--")]
    if behind:
        raise BadInput(f"{behind[0]} stands behind the command's redirection; write the arguments before it.")
    return dict(_pairs(words[begin:end]))


def _is_train(words: Sequence[str], place: int) -> bool:
    word = words[place]
    before = Path(words[place - 1]).name if place else ""
    return (word == "train" and before in ("llamafactory-cli", "lmf")) or word.endswith("train.py")


def _pairs(words: list[str]) -> Iterator[tuple[str, Any]]:
    if words and words[0].endswith((".yaml", ".yml", ".json")):
        yield from _content(Path(words[0])).items()
        for word in words[1:]:
            key, equals, value = word.partition("=")
            if not equals:
                raise BadInput(f"{word!r} behind {words[0]}: key=value was expected.")
            yield key.lstrip("-"), value
        return
    place = 0
    while place < len(words):
        option, equals, value = words[place].partition("=")
        if not option.startswith("--"):
            raise BadInput(f"{words[place]!r} stands where an argument (--key value) was expected.")
        values = [value] if equals else []
        place += 1
        while not equals and place < len(words) and not words[place].startswith("--"):
            values.append(words[place])
            place += 1
        key = option.removeprefix("--").replace("-", "_")
        # A flag alone turns its key on; several words are a list.
        yield key, "true" if not values else values[0] if len(values) == 1 else values
