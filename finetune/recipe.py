"""A recipe: every knob of a fine-tuning run that we turn, under TRL's, PEFT's and transformers' own names.

In: a YAML file of `finetune/recipes/` and `key=value` words. Out: a frozen `Recipe`, or `BadInput`.

What 灵伴 is (persona, thinking, window) is the contract's and not a knob of a run.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from data.strict import BadInput, Strict, read_yaml, suggestion

RECIPES = Path(__file__).parent / "recipes"

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
# How the knobs stand together on a page.
Group = Literal["data", "method", "rate", "batch", "memory", "record"]


def knob(group: Group, told: str, unit: str = "") -> Any:
    """What a page tells of a knob, in a sentence. `python -m finetune recipe schema` writes it where pages read it."""
    return Field(description=told, json_schema_extra={"group": group, "unit": unit})


class Recipe(Strict):
    """The run. Lengths are in tokens, rates per optimizer step."""

    dataset: Annotated[
        tuple[str, ...], Field(min_length=1), knob("data", "The sets of dataset_info.json to learn from, in order.")
    ]
    max_samples: Annotated[
        Count | None,
        knob("data", "The first so many conversations of all sets together; empty: every one.", "conversations"),
    ] = None
    val_size: Annotated[
        Share, knob("data", "The share of conversations held out for validation, chosen by a stable hash.", "share")
    ]
    max_length: Annotated[
        int,
        Field(ge=32),
        knob("data", "Tokens of a packed row; a longer conversation keeps the whole exchanges that fit.", "tokens"),
    ]
    packing: Annotated[
        bool, knob("data", "Fill each row with whole conversations that do not see one another: far less is wasted.")
    ]

    method: Annotated[
        Literal["lora", "qlora", "full"],
        knob(
            "method",
            "lora: an adapter beside the base. qlora: the same beside a base in 4 bits, on NVIDIA GPUs only. "
            "full: every weight.",
        ),
    ] = "lora"
    # peft.LoraConfig; of no effect where every weight is trained.
    r: Annotated[Count, knob("method", "The adapter's rank: how much it can learn, and how large it is.", "rank")]
    lora_alpha: Annotated[Count, knob("method", "The adapter's strength; it is scaled by lora_alpha / r.")]
    lora_dropout: Annotated[
        Share, knob("method", "The share of the adapter's input that is dropped, against learning by heart.", "share")
    ]
    target_modules: Annotated[
        tuple[str, ...], Field(min_length=1), knob("method", "The linear layers that get an adapter.")
    ]

    # trl.SFTConfig.
    learning_rate: Annotated[
        float, Field(gt=0, lt=1), knob("rate", "How far one step moves the weights, at its highest.", "per step")
    ]
    lr_scheduler_type: Annotated[
        Literal["cosine", "linear", "constant", "constant_with_warmup"],
        knob("rate", "How the learning rate falls from there to the end."),
    ]
    warmup_steps: Annotated[
        int, Field(ge=0), knob("rate", "The learning rate rises from zero over so many steps.", "steps")
    ]
    num_train_epochs: Annotated[float, Field(gt=0), knob("rate", "How often every conversation is seen.", "epochs")]
    max_steps: Annotated[
        Count | None, knob("rate", "Ends the run before its epochs do; empty: it does not.", "steps")
    ] = None
    per_device_train_batch_size: Annotated[
        Count, knob("batch", "Rows computed at a time: memory grows with it.", "rows")
    ]
    gradient_accumulation_steps: Annotated[
        Count, knob("batch", "Batches that make one optimizer step: as a larger batch, without its memory.", "batches")
    ]
    per_device_eval_batch_size: Annotated[Count, knob("batch", "Rows computed at a time in validation.", "rows")]
    max_grad_norm: Annotated[
        float,
        Field(gt=0),
        knob("rate", "A longer gradient is shortened to this length, so that no batch upsets the rest."),
    ]
    optim: Annotated[
        Literal["adamw_torch", "adamw_torch_fused"],
        knob("rate", "The optimizer; fused is the same in fewer GPU kernels."),
    ]
    weight_decay: Annotated[float, Field(ge=0), knob("rate", "Pulls weights towards zero at each step.")] = 0.0
    bf16: Annotated[
        bool,
        knob(
            "memory",
            "Compute in bf16: half the memory, and fast on any GPU since 2020. Off, or on a machine without it: in fp32.",
        ),
    ]
    neftune_noise_alpha: Annotated[
        Annotated[float, Field(gt=0)] | None,
        knob("rate", "Noise on the embeddings in training: longer, more varied answers on small sets; empty: none."),
    ]
    gradient_checkpointing: Annotated[
        bool, knob("memory", "Compute activations again instead of keeping them: much less memory, a third slower.")
    ] = False
    training_step: Annotated[
        Literal["fast", "trl"],
        knob("memory", "How a step is computed: ours (finetune/step), or TRL's own; the same loss either way."),
    ] = "fast"
    logging_steps: Annotated[Count, knob("record", "A line of metrics every so many steps.", "steps")]
    save_steps: Annotated[Count, knob("record", "A checkpoint to go on from every so many steps.", "steps")]
    save_total_limit: Annotated[Count, knob("record", "Older checkpoints than these are removed.", "checkpoints")]
    eval_steps: Annotated[Count, knob("record", "Validation every so many steps.", "steps")]
    seed: Annotated[int, Field(ge=0, lt=2**32), knob("record", "The same seed and data give the same run.")]

    @model_validator(mode="after")
    def _rows_need_packing(self) -> "Recipe":
        if not self.packing and self.per_device_train_batch_size > 64:
            raise ValueError(
                f"per_device_train_batch_size is {self.per_device_train_batch_size}, and above 64 it needs packing; lower "
                "it, or set packing=true"
            )
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
