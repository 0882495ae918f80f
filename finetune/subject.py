"""What a person names to be asked or measured: a run, a model folder, or a base.

In: a path or a hub id. Out: a `Subject`: where its weights lie, and the contract that it answers under.
"""

from dataclasses import dataclass
from pathlib import Path

from data.contract import SEAL_FILE, Contract, open_sealed, read_contract
from data.runs import ADAPTER, RUN_FILE, read_record
from finetune.base import Base, find_base
from finetune.merge import find_base_of, find_trained, lora_changes, taught_contract


@dataclass(frozen=True)
class Subject:
    """A model that can be loaded: `adapter` lies on `weights` where a LoRA was trained and is not merged yet."""

    name: str
    # Whose tokenizer it speaks with.
    base: Base
    weights: Path
    adapter: Path | None
    contract: Contract

    def without_adapter(self) -> "Subject":
        """The same before it was tuned."""
        return Subject(self.base.name, self.base, self.base.folder, None, self.contract)


def find_subject(what: str, *, base_name: str | None = None, home: str | None = None) -> Subject:
    """The subject that `what` means, every file checked. Raises `BadInput` before any weight is loaded.

    `base_name` tells where a run's base lies now, if it moved since; `home` replaces the hub's cache folder.
    """
    folder = Path(what).expanduser()
    if (folder / RUN_FILE).is_file():
        record = read_record(folder)
        contract = taught_contract(folder, record)
        base = find_base_of(folder, record, base_name, home)
        trained = find_trained(folder)
        if trained.name != ADAPTER:
            return Subject(what, base, trained, None, contract)
        lora_changes(trained, base)
        return Subject(what, base, base.folder, trained, contract)
    if (folder / SEAL_FILE).is_file():
        return Subject(what, Base(what, folder), folder, None, open_sealed(folder).contract)
    base = find_base(what, home=home)
    return Subject(what, base, base.folder, None, read_contract(base_model=what))
