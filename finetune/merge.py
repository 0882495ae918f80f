"""Fold an adapter into its base and seal the result as a model folder.

In: `runs/<id>/adapter` (or `model`, where every weight was trained) and the base it was trained on. Out:
`models/<name>`, and `models/current` that points to it.

    python -m finetune merge                       # the newest finished run -> models/<run's id>
    python -m finetune merge runs/try --out models/try
    python -m finetune merge --prove               # and prove it (finetune/proof.py); exit code 1 where that fails

The base's files are copied and the tuned tensors in them replaced one after the other, so memory holds one tensor and not
the model: W + (alpha / r) B A is computed in fp32 and rounded once into the base's dtype, as PEFT's merge_and_unload does.
"""

import argparse
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.contract import CONTRACT_FILE, SEAL_FILE, Contract, open_sealed, read_contract, seal, sha256
from data.runs import (
    ADAPTER,
    MODEL,
    RECIPE_FILE,
    RunRecord,
    is_disk_full,
    newest_finished,
    now,
    read_record,
    read_status,
)
from data.strict import BadInput, read_json
from finetune.base import PAD, TOKENIZER, Base, find_base, load_tokenizer, same_base, stored_tensors
from finetune.checkpoints import FILES_FILE, damage
from finetune.progress import progress
from finetune.template_check import check_sealed_template
from finetune.weights import Change, read_tensor, rewrite, taken_from

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
    parser.add_argument(
        "--prove",
        action="store_true",
        help="compare its logits with the adapter's; models/current stays where they differ",
    )
    given = parser.parse_args(words)
    run = given.run or newest_finished(Path("runs"))
    out = given.out or Path("models") / run.resolve().name
    if given.keep_current and is_current(out):
        raise BadInput(
            f"{out}: is what {CURRENT} means, and --keep-current leaves that as it is; name another with --out."
        )
    merge(run, out, base_name=given.base, home=environment.get("HF_HUB_CACHE"))
    print(f"{out}: sealed; `python -m serve {out}` serves it.")
    if given.prove:
        # Its module needs this one.
        from finetune.proof import prove

        proof = prove(run, out, base_name=given.base, home=environment.get("HF_HUB_CACHE"))
        print(proof)
        if not proof.holds:
            return 1
    if not given.keep_current:
        point_current(out)
        print(
            f"{out.parent / CURRENT} -> {out.name}; a running server serves it after `make up`, or when it is started anew."
        )
    return 0


def merge(run: Path, out: Path, *, base_name: str | None = None, home: str | None = None) -> None:
    """Make the model folder whole or not at all, anew where it was made from this run.

    Raises `BadInput` where adapter, base and contract do not belong together, or the folder is another run's.
    """
    if not run.is_dir():
        raise BadInput(f"{run}: no such run folder; `make train` makes one.")
    record = read_record(run)
    if out.exists() and not (out / SEAL_FILE).is_file():
        raise BadInput(f"{out}: exists and is no model folder; name another with --out.")
    trained = find_trained(run)
    base = find_base_of(run, record, base_name, home)
    contract = taught_contract(run, record)
    # All that can be wrong with the two is known before a byte is written.
    changes = lora_changes(trained, base) if trained.name == ADAPTER else full_changes(trained, base)
    partial, old = out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.old")
    shutil.rmtree(partial, ignore_errors=True)
    # A merge that was killed between its last two steps has moved the old folder away.
    if old.exists() and not out.exists():
        old.rename(out)
    made_from = _run_sealed_in(out)
    if made_from is not None and made_from != run.resolve().name:
        raise BadInput(
            f"{out}: was made from {made_from or 'something else'}, and not from this run; name another with --out."
        )
    partial.mkdir(parents=True)
    needed, free = sum(path.stat().st_size for path in base.weight_files()), shutil.disk_usage(partial).free
    try:
        if needed > free:
            raise BadInput(f"{out}: takes {needed / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free; make room.")
        _write(run, trained, changes, base, contract, record, partial)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if is_disk_full(error):
            raise BadInput(f"{out}: the disk is full; make room and merge again.") from None
        raise
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    # The old folder stands until the new one is whole.
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def taught_contract(run: Path, record: RunRecord) -> Contract:
    """The contract that a run was taught. Raises `BadInput` where the file says something else by now."""
    contract = read_contract(base_model=record.base)
    if contract.fingerprint != record.contract:
        raise BadInput(
            f"{run}: was taught the contract {record.contract[:8]}, but {CONTRACT_FILE.name} now says "
            f"{contract.fingerprint[:8]}; undo the change there, or train again."
        )
    return contract


def is_current(folder: Path) -> bool:
    """Whether a model folder is the one that `current` beside it means."""
    return (folder / SEAL_FILE).is_file() and (folder.parent / CURRENT).resolve() == folder.resolve()


def check_sealed(folder: Path) -> None:
    """Raises `BadInput` where a folder is no sealed model folder, or one that was changed."""
    if not (folder / SEAL_FILE).is_file():
        raise BadInput(f"{folder}: no sealed model folder; `python -m finetune merge` makes one.")
    open_sealed(folder)


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


def find_base_of(run: Path, record: RunRecord, name: str | None, home: str | None) -> Base:
    """The base that a run was trained on, where `name` says that it lies now. Raises `BadInput` where that is another one."""
    base = find_base(name or record.base, home=home)
    found = base.hashes()
    if same_base(record.base_files, found):
        return base
    if same_base({name: digest for name, digest in record.base_files.items() if name != TOKENIZER}, found):
        raise BadInput(
            f"{run}: was trained with another tokenizer than that in {base.folder}; name its base with --base."
        )
    raise BadInput(f"{run}: was trained on other weights than those in {base.folder}; name its base with --base.")


def find_trained(run: Path) -> Path:
    """The folder with what the run made. Raises `BadInput` where there is none, or it is damaged."""
    for folder in (run / ADAPTER, run / MODEL):
        if not folder.is_dir():
            continue
        if folder.name == ADAPTER and not (folder / ADAPTER_WEIGHTS).is_file():
            raise BadInput(f"{folder}: no {ADAPTER_WEIGHTS}; train again.")
        if (folder / FILES_FILE).is_file() and (wrong := damage(folder)):
            raise BadInput(f"{folder}: {wrong}; bring it back, or train again.")
        return folder
    raise BadInput(
        f"{run / ADAPTER}: is not there: the run has not finished; `python -m finetune train … --resume` goes on."
    )


def lora_changes(adapter: Path, base: Base) -> dict[str, Change]:
    """By the name of each tuned weight, how it becomes another. Raises `BadInput` where the adapter does not fit."""
    config = read_json(adapter / "adapter_config.json")
    if not isinstance(config, dict):
        raise BadInput(f"{adapter / 'adapter_config.json'}: expected a mapping; train again.")
    scaling = _scaling(config, adapter)
    tensors = base.tensors()
    changes: dict[str, Change] = {}
    for name, (a, b) in _pairs(adapter).items():
        if name not in tensors:
            raise BadInput(f"{adapter}: tunes {name}, which {base.name} does not have; name its base with --base.")
        if tensors[name].shape != (b.shape[0], a.shape[1]) or a.shape[0] != b.shape[1]:
            raise BadInput(
                f"{adapter}: {name} is {tensors[name].shape} in {base.name}, but {(b.shape[0], a.shape[1])} in the "
                "adapter; name its base with --base."
            )
        changes[name] = _folding(a, b, scaling)
    return changes


def full_changes(model: Path, base: Base) -> dict[str, Change]:
    """The same for a run that trained every weight: each tensor is read from the run's own file."""
    found = {name: stored for path in model.glob("*.safetensors") for name, stored in stored_tensors(path).items()}
    expected = base.tensors()
    for name, stored in expected.items():
        if name not in found or (found[name].shape, found[name].dtype) != (stored.shape, stored.dtype):
            raise BadInput(f"{model}: its {name} does not fit {base.name}; name its base with --base.")
    return {name: taken_from(found[name]) for name in expected}


def _run_sealed_in(folder: Path) -> str | None:
    """The id of the run that a model folder was made from, empty where it is none's; None where no seal can be read."""
    try:
        content = read_json(folder / SEAL_FILE)
    except BadInput:
        # A damaged folder is mended by merging again.
        return None
    provenance = content.get("provenance") if isinstance(content, dict) else None
    return str(provenance.get("run", "")) if isinstance(provenance, dict) else None


def _write(
    run: Path,
    trained: Path,
    changes: dict[str, Change],
    base: Base,
    contract: Contract,
    record: RunRecord,
    folder: Path,
) -> None:
    for name in _COPIED:
        if (base.folder / name).is_file():
            shutil.copyfile(base.folder / name, folder / name)
    _without_template(folder / "tokenizer_config.json")
    files = base.weight_files()
    with progress("merging", len(files)) as advance:
        for number, path in enumerate(files):
            rewrite(path, folder / path.name, changes)
            advance(number + 1, path.name)
    tokenizer = load_tokenizer(base)
    stop = [tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", PAD)]
    provenance = _provenance(run, trained, record)
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


def _pairs(adapter: Path) -> dict[str, tuple[Any, Any]]:
    """The adapter's (A, B) by the name of the base's weight. A is [r, in], B is [out, r]."""
    weights = {name: read_tensor(stored) for name, stored in stored_tensors(adapter / ADAPTER_WEIGHTS).items()}
    pairs = {}
    for name, a in weights.items():
        if not a.isfinite().all():
            raise BadInput(
                f"{adapter}: {name} holds a value that is no number; train again with a lower learning_rate."
            )
        if name.endswith(".lora_B.weight"):
            continue
        if not name.endswith(".lora_A.weight"):
            raise BadInput(
                f"{adapter}: {name} is no LoRA weight of a linear layer, and no other is merged here; train it with a "
                "recipe of ours."
            )
        b = weights.get(name.replace(".lora_A.", ".lora_B."))
        if b is None:
            raise BadInput(f"{adapter}: {name} has no partner; the adapter is damaged, train again.")
        pairs[name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")] = (a, b)
    if not pairs:
        raise BadInput(f"{adapter}: holds no LoRA weights.")
    return pairs


def _folding(a: Any, b: Any, scaling: float) -> Change:
    def fold(weight: Any) -> Any:
        # In place: a matrix of a large model takes hundreds of megabytes in fp32.
        return (b.float() @ a.float()).mul_(scaling).add_(weight).to(weight.dtype)

    return fold


def _without_template(path: Path) -> None:
    """A template in the tokenizer's own file would be a second one beside the sealed one."""
    config = read_json(path)
    if isinstance(config, dict) and config.pop("chat_template", None) is not None:
        path.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _provenance(run: Path, trained: Path, record: RunRecord) -> dict[str, Any]:
    return {
        "run": run.resolve().name,
        "merged": now(),
        "recipe": (run / RECIPE_FILE).read_text(encoding="utf-8"),
        trained.name: {path.name: sha256(path) for path in sorted(trained.glob("*.safetensors"))},
        **record.model_dump(),
        # Of the `steps` that the record tells: fewer where what was learned so far was kept.
        "step": read_status(run).step,
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

A companion for children: {contract.base_model}, tuned on conversations. Made by `finetune merge`; the folder is
sealed, and `python -m serve FOLDER` refuses it where a file was changed.

- contract: `{contract.fingerprint}`
- persona: {contract.persona}
- thinking: {"on" if contract.thinking else "off"}
- run: `{provenance["run"]}`, code `{provenance["commit"][:12]}`
- conversations: {provenance["conversations"]} for training, {provenance["validation"]} for validation; {provenance["tokens"]} tokens
- data:
{data}
- measured: [report.html](report.html), once `python -m finetune report` has written it beside this file

## For whom, and what not to do with it

It talks with children under the eyes of adults, behind MindPal's server, whose guard is part of what makes it safe: the
bare model has no guard. It is no doctor, no teacher and no emergency service, and it can be wrong.

## The recipe

```yaml
{provenance["recipe"].strip()}
```
"""
