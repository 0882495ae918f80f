"""A recipe: every knob of a fine-tuning run that we turn, under TRL's, PEFT's and transformers' own names.

In: a YAML file of `finetune/recipes/` and `key=value` words. Out: a frozen `Recipe`, or `BadInput`.

What 灵伴 is (persona, thinking, window) is the contract's and not a knob of a run.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, model_validator

from data.strict import BadInput, Strict, read_yaml, suggestion

RECIPES = Path(__file__).parent / "recipes"

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Recipe(Strict):
    """The run. Lengths are in tokens, rates per optimizer step."""

    # The data: sets of dataset_info.json, in order.
    dataset: Annotated[tuple[str, ...], Field(min_length=1)]
    # The first so many conversations of all; none: every one.
    max_samples: Count | None = None
    # The share of conversations held out for validation, by a stable hash.
    val_size: Share
    # Tokens of a packed row; a longer conversation keeps the whole exchanges that fit.
    max_length: Annotated[int, Field(ge=32)]
    packing: bool

    # What is trained: an adapter beside the base, an adapter beside the base in 4 bits (CUDA only), or every weight.
    method: Literal["lora", "qlora", "full"] = "lora"
    # peft.LoraConfig; of no effect where every weight is trained.
    r: Count
    lora_alpha: Count
    lora_dropout: Share
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)]

    # trl.SFTConfig.
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup"]
    warmup_steps: Annotated[int, Field(ge=0)]
    num_train_epochs: Annotated[float, Field(gt=0)]
    # Ends the run before its epochs do; none: it does not.
    max_steps: Count | None = None
    per_device_train_batch_size: Count
    gradient_accumulation_steps: Count
    per_device_eval_batch_size: Count
    max_grad_norm: Annotated[float, Field(gt=0)]
    optim: Literal["adamw_torch", "adamw_torch_fused"]
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    bf16: bool
    neftune_noise_alpha: Annotated[float, Field(gt=0)] | None
    gradient_checkpointing: bool = False
    # How a step is computed: ours (finetune/step), or TRL's own; the same loss either way.
    training_step: Literal["fast", "trl"] = "fast"
    logging_steps: Count
    save_steps: Count
    save_total_limit: Count
    eval_steps: Count
    seed: Annotated[int, Field(ge=0, lt=2**32)]

    @model_validator(mode="after")
    def _rows_need_packing(self) -> "Recipe":
        if not self.packing and self.per_device_train_batch_size > 64:
            raise ValueError("per_device_train_batch_size above 64 needs packing")
        return self


def read_recipe(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe in a file, or of that name in `finetune/recipes/`, with `key=value` words laid over it."""
    path = Path(name)
    if not path.suffix and not path.is_file():
        path = RECIPES / f"{name}.yaml"
        if not path.is_file():
            known = sorted(file.stem for file in RECIPES.glob("*.yaml"))
            raise BadInput(
                f'No recipe "{name}"{suggestion(name, known) or "."} Known: {", ".join(known)}; or give a file.'
            )
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise BadInput(f"{path}: expected a mapping of keys to values.")
    where = str(path)
    for word in overrides:
        key, equals, value = word.partition("=")
        if not equals:
            raise BadInput(f"{word!r} is no override; write key=value, as in learning_rate=1e-4.")
        try:
            raw = {**raw, key: yaml.safe_load(value) if not _is_float(value) else float(value)}
        except yaml.YAMLError:
            raise BadInput(f"{word!r}: the value is not valid YAML.") from None
        if isinstance(raw[key], str) and key in ("dataset", "target_modules"):
            raw[key] = raw[key].split(",")
        where = f"{path} with {word}" if key not in Recipe.model_fields else where
    return Recipe.parse(raw, where)


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML with every value, defaults included."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), allow_unicode=True, sort_keys=False)


def _is_float(words: str) -> bool:
    # YAML 1.1 reads 1e-4 as text; a whole number stays one.
    try:
        float(words)
    except ValueError:
        return False
    return not words.lstrip("+-").isdecimal()
