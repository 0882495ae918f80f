"""The contract: who 灵伴 is, how it was taught, and the seal that proves that what is served is what was taught.

In: `data/contract.yaml`, or a model folder. Out: a `Contract`, the files derived from it, and `mindpal.json`.

    python -m data.contract                 # the contract in force and its fingerprint
    python -m data.contract models/current  # check a model folder's seal
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from data.strict import BadInput, Strict, read_json, read_yaml
from data.template import chat_template

CONTRACT_FILE = Path(__file__).parent / "contract.yaml"
SEAL_FILE = "mindpal.json"
SUMS_FILE = "SHA256SUMS"
TEMPLATE_FILE = "chat_template.jinja"
GENERATION_FILE = "generation_config.json"
SEAL_FORMAT = 1

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Sampling(Strict):
    """How the next token is drawn, under the names of the OpenAI API and vLLM."""

    temperature: Annotated[float, Field(ge=0, le=2)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    top_k: Annotated[int, Field(ge=0)]
    min_p: Annotated[float, Field(ge=0, le=1)]
    repetition_penalty: Annotated[float, Field(gt=0, le=2)]
    presence_penalty: Annotated[float, Field(ge=-2, le=2)]
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)]
    max_tokens: Annotated[int, Field(ge=16)]


class Contract(Strict):
    """Everything that changes what a child hears."""

    base_model: Text
    persona: Text
    thinking: bool
    sampling: Sampling
    window: Annotated[int, Field(ge=128)]

    @field_validator("window")
    @classmethod
    def _an_answer_fits(cls, window: int, others: ValidationInfo) -> int:
        sampling = others.data.get("sampling")
        if sampling and sampling.max_tokens >= window:
            raise ValueError(f"larger than sampling.max_tokens ({sampling.max_tokens}), which has to fit into it")
        return window

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the contract's canonical JSON (sorted keys, no blanks, UTF-8)."""
        canonical = json.dumps(self.model_dump(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def derived_files(self, stop_token_ids: list[int], pad_token_id: int) -> dict[str, str]:
        """Name and text of each file of a model folder that says the same as the contract in Hugging Face's words."""
        sampling = self.sampling
        generation = {
            "do_sample": sampling.temperature > 0,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
            "max_new_tokens": sampling.max_tokens,
            "eos_token_id": stop_token_ids,
            "pad_token_id": pad_token_id,
        }
        return {
            TEMPLATE_FILE: chat_template(self.persona, thinking=self.thinking),
            GENERATION_FILE: json.dumps(generation, indent=2) + "\n",
        }


class Seal(Strict):
    """`mindpal.json`: the frozen contract, and what the model folder was made from."""

    format: int
    fingerprint: str
    contract: Contract
    stop_token_ids: list[int]
    pad_token_id: int
    # SHA-256 of every other file of the folder.
    files: dict[str, str]
    # For people and reports; nothing is decided by it: recipe, data and code hashes, versions, the date.
    provenance: dict[str, Any]


def read_contract(path: Path = CONTRACT_FILE, *, base_model: str | None = None) -> Contract:
    """The contract in `path`, with its base replaced where a run was started with `BASE=`."""
    contract = Contract.parse(read_yaml(path), str(path))
    return contract.model_copy(update={"base_model": base_model}) if base_model else contract


def seal(
    folder: Path, contract: Contract, provenance: dict[str, Any], stop_token_ids: list[int], pad_token_id: int
) -> None:
    """Write the derived files and `mindpal.json` into a model folder that is otherwise complete."""
    for name, text in contract.derived_files(stop_token_ids, pad_token_id).items():
        (folder / name).write_text(text, encoding="utf-8")
    frozen = Seal(
        format=SEAL_FORMAT,
        fingerprint=contract.fingerprint,
        contract=contract,
        stop_token_ids=stop_token_ids,
        pad_token_id=pad_token_id,
        files={name: sha256(folder / name) for name in _sealed_names(folder)},
        provenance=provenance,
    )
    text = json.dumps(frozen.model_dump(), ensure_ascii=False, indent=2) + "\n"
    (folder / SEAL_FILE).write_text(text, encoding="utf-8")


def open_sealed(folder: Path) -> Seal:
    """The seal of a model folder, after checking that every file in the folder agrees with it.

    Raises `BadInput` at the first difference, naming it.
    """
    if not folder.is_dir():
        raise BadInput(
            f"{folder}: no such model folder; `make train merge` makes models/current, `make demo` a small one."
        )
    if not (folder / SEAL_FILE).is_file():
        raise BadInput(f"{folder}: no {SEAL_FILE}: not a sealed model folder; make one with `make merge`.")
    again = f"{folder} was changed after it was sealed; merge again with `make merge`"
    found = Seal.parse(read_json(folder / SEAL_FILE), str(folder / SEAL_FILE))
    if found.format != SEAL_FORMAT:
        raise BadInput(
            f"{folder / SEAL_FILE}: format {found.format}, but this version reads {SEAL_FORMAT}; merge again."
        )
    if found.fingerprint != found.contract.fingerprint:
        raise BadInput(
            f"{folder / SEAL_FILE}: the contract's fingerprint is {found.contract.fingerprint[:8]}, "
            f"but {found.fingerprint[:8]} was sealed: {again}."
        )
    names = _sealed_names(folder)
    for name in sorted(set(found.files) - set(names)):
        raise BadInput(f"{folder / name}: the file is gone: {again}.")
    for name in sorted(set(names) - set(found.files)):
        raise BadInput(f"{folder / name}: the file was not there when the folder was sealed: {again}.")
    for name, text in found.contract.derived_files(found.stop_token_ids, found.pad_token_id).items():
        if (folder / name).read_text(encoding="utf-8") != text:
            raise BadInput(f"{folder / name}: says something else than the contract in {SEAL_FILE}: {again}.")
    for name in names:
        if sha256(folder / name) != found.files[name]:
            raise BadInput(f"{folder / name}: its content differs from what {SEAL_FILE} sealed: {again}.")
    return found


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sealed_names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        # Documents (the model card, a report) and an archive's sums tell of the folder and may be written later.
        if path.is_file()
        and path.name not in (SEAL_FILE, SUMS_FILE)
        and path.suffix not in (".md", ".html")
        and path.name[0] != "."
    )


def main() -> int:
    """Print the contract in force, or check a model folder."""
    try:
        contract = open_sealed(Path(sys.argv[1])).contract if len(sys.argv) > 1 else read_contract()
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps({"fingerprint": contract.fingerprint, **contract.model_dump()}, ensure_ascii=False, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
