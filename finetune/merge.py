"""Fold an adapter into its base and seal the result as a model folder.

In: `runs/<id>/adapter` and the base it was trained on. Out: `models/<name>`, and `models/current` that points to it.

    python -m finetune merge                       # the newest finished run -> models/<run's id>
    python -m finetune merge runs/try --out models/try

Weight files are merged one after the other, so memory holds one of them and not the model: W + (alpha / r) B A is
computed in fp32 and rounded once into the base's dtype, as PEFT's merge_and_unload does.
"""

import argparse
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.contract import CONTRACT_FILE, SEAL_FILE, Contract, read_contract, seal, sha256
from data.runs import ADAPTER, RECIPE_FILE, RunRecord, newest_finished, now, read_record
from data.strict import BadInput, read_json
from finetune.base import PAD, Base, find_base, load_tokenizer
from finetune.progress import progress
from finetune.template_check import check_sealed_template

CURRENT = "current"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
# The base's files that a model folder needs beside the weights and the derived ones.
_COPIED = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", "model.safetensors.index.json", "LICENSE",
)  # fmt: skip


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune merge`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune merge", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", type=Path, help="the run folder (default: the newest finished one in runs/)")
    parser.add_argument("--out", type=Path, help="the model folder to make (default: models/<run's id>)")
    parser.add_argument("--base", help="where the base lies now, if it moved since the run")
    parser.add_argument("--keep-current", action="store_true", help="leave models/current as it is")
    given = parser.parse_args(words)
    run = given.run or newest_finished(Path("runs"))
    out = given.out or Path("models") / run.resolve().name
    merge(run, out, base_name=given.base, home=environment.get("HF_HUB_CACHE"))
    print(f"{out}: sealed; `python -m serve {out}` serves it.")
    if not given.keep_current:
        point_current(out)
        print(f"{out.parent / CURRENT} -> {out.name}")
    return 0


def merge(run: Path, out: Path, *, base_name: str | None = None, home: str | None = None) -> None:
    """Make the model folder whole or not at all. Raises `BadInput` where adapter, base and contract do not belong together."""
    if not run.is_dir():
        raise BadInput(f"{run}: no such run folder; `make train` makes one.")
    record = read_record(run)
    adapter = run / ADAPTER
    if not (adapter / ADAPTER_WEIGHTS).is_file():
        raise BadInput(
            f"{adapter}: no {ADAPTER_WEIGHTS}: the run has not finished; `python -m finetune train … --resume` goes on."
        )
    if out.exists() and not (out / SEAL_FILE).is_file():
        raise BadInput(f"{out}: exists and is no model folder; name another with --out.")
    base = find_base(base_name or record.base, home=home)
    if base.hashes() != record.base_files:
        raise BadInput(f"{run}: was trained on other weights than those in {base.folder}; name its base with --base.")
    contract = read_contract(base_model=record.base)
    if contract.fingerprint != record.contract:
        raise BadInput(
            f"{run}: was taught the contract {record.contract[:8]}, but {CONTRACT_FILE.name} now says "
            f"{contract.fingerprint[:8]}; undo the change there, or train again."
        )
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write(run, adapter, base, contract, record, partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    # The old folder stands until the new one is whole.
    if out.exists():
        old = out.with_name(f".{out.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
        partial.rename(out)
        shutil.rmtree(old)
    else:
        partial.rename(out)


def point_current(folder: Path) -> None:
    """Let `current`, beside a model folder, mean it; in one step, so that it always means something."""
    link = folder.parent / CURRENT
    if folder.name == CURRENT:
        return
    if link.exists() and not link.is_symlink():
        raise BadInput(f"{link}: is a folder of its own and no link; move it away first.")
    partial = folder.parent / f".{CURRENT}.{os.getpid()}"
    partial.unlink(missing_ok=True)
    partial.symlink_to(folder.name)
    partial.replace(link)


def _write(run: Path, adapter: Path, base: Base, contract: Contract, record: RunRecord, folder: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    config = read_json(adapter / "adapter_config.json")
    if not isinstance(config, dict):
        raise BadInput(f"{adapter / 'adapter_config.json'}: expected a mapping; train again.")
    scaling = _scaling(config, adapter)
    deltas = _pairs(load_file(adapter / ADAPTER_WEIGHTS), adapter)
    for name in _COPIED:
        if (base.folder / name).is_file():
            shutil.copyfile(base.folder / name, folder / name)
    _without_template(folder / "tokenizer_config.json")
    files = base.weight_files()
    with progress("merging", len(files)) as advance:
        for number, path in enumerate(files):
            with safe_open(path, framework="pt") as weights:
                tensors = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118 - not a dict
                about = weights.metadata()
            for name in list(tensors):
                if pair := deltas.pop(name, None):
                    tensors[name] = _folded(name, tensors[name], *pair, scaling, adapter)
            save_file(tensors, folder / path.name, metadata=about or {"format": "pt"})
            advance(number + 1, path.name)
    if deltas:
        raise BadInput(
            f"{adapter}: tunes {min(deltas)}, which the base {base.name} does not have; name its base with --base."
        )
    tokenizer = load_tokenizer(base)
    stop = [tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", PAD)]
    provenance = _provenance(run, adapter, record)
    (folder / "README.md").write_text(_card(contract, provenance), encoding="utf-8")
    seal(folder, contract, provenance, stop, stop[1])
    check_sealed_template(folder, contract)


def _scaling(config: dict[str, Any], adapter: Path) -> float:
    for key in ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern"):
        if config.get(key):
            raise BadInput(
                f"{adapter}: was trained with {key}, which is not merged here; train it with a recipe of ours."
            )
    rank = config["r"] ** 0.5 if config.get("use_rslora") else config["r"]
    return float(config["lora_alpha"] / rank)


def _pairs(weights: dict[str, Any], adapter: Path) -> dict[str, tuple[Any, Any]]:
    """The adapter's (A, B) by the name of the base's weight. A is [r, in], B is [out, r]."""
    pairs = {}
    for name, a in weights.items():
        if not name.endswith(".lora_A.weight"):
            continue
        b = weights.get(name.replace(".lora_A.", ".lora_B."))
        if b is None:
            raise BadInput(f"{adapter}: {name} has no partner; the adapter is damaged, train again.")
        pairs[name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")] = (a, b)
    if not pairs:
        raise BadInput(f"{adapter}: holds no LoRA weights.")
    return pairs


def _folded(name: str, weight: Any, a: Any, b: Any, scaling: float, adapter: Path) -> Any:
    if weight.shape != (b.shape[0], a.shape[1]):
        raise BadInput(
            f"{adapter}: {name} is {tuple(weight.shape)} in the base, but {(b.shape[0], a.shape[1])} in the adapter; "
            "name its base with --base."
        )
    return (weight.float() + (b.float() @ a.float()) * scaling).to(weight.dtype)


def _without_template(path: Path) -> None:
    """A template in the tokenizer's own file would be a second one beside the sealed one."""
    config = read_json(path)
    if isinstance(config, dict) and config.pop("chat_template", None) is not None:
        path.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _provenance(run: Path, adapter: Path, record: RunRecord) -> dict[str, Any]:
    return {
        "run": run.resolve().name,
        "merged": now(),
        "recipe": (run / RECIPE_FILE).read_text(encoding="utf-8"),
        "adapter": sha256(adapter / ADAPTER_WEIGHTS),
        **record.model_dump(),
    }


def _card(contract: Contract, provenance: dict[str, Any]) -> str:
    data = "\n".join(f"  - `{name}`: `{digest[:16]}…`" for name, digest in provenance["data_files"].items())
    return f"""---
base_model: {contract.base_model}
library_name: transformers
pipeline_tag: text-generation
language: [zh, en]
tags: [mindpal, companion, children, lora]
---

# MindPal (灵伴)

A companion for children: {contract.base_model} with a LoRA adapter folded in. Made by `finetune merge`; the folder is
sealed, and `python -m serve FOLDER` refuses it where a file was changed.

- contract: `{contract.fingerprint}`
- persona: {contract.persona}
- thinking: {"on" if contract.thinking else "off"}
- run: `{provenance["run"]}`, code `{provenance["commit"][:12]}`
- conversations: {provenance["conversations"]} for training, {provenance["validation"]} for validation; {provenance["tokens"]} tokens
- data:
{data}

## For whom, and what not to do with it

It talks with children under the eyes of adults, behind MindPal's server, whose guard is part of what makes it safe: the
bare model has no guard. It is no doctor, no teacher and no emergency service, and it can be wrong.

## The recipe

```yaml
{provenance["recipe"].strip()}
```
"""
