"""Register a file as a data set.

In: a ShareGPT, Alpaca or OpenAI file, `.json` or `.jsonl`. Out: a copy of it in the data folder and its entry in
dataset_info.json; or, where anything in it must not be trained on, a sentence, and nothing has changed.

    python -m finetune data add conversations.json --name mine
    python -m finetune data add conversations.json --name mine --data-dir sets

A data folder of one's own that is not there yet begins with the project's sets: a recipe that names them works there too.
"""

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from data.contract import read_contract
from data.conversations import DATA_DIR, INDEX_FILE, SET_NAME, Problem, records
from data.runs import dump, is_disk_full, write_whole
from data.strict import BadInput
from finetune.dataset.check import Checker, Finding, check
from finetune.dataset.folder import locked, make_data_folder, read_index
from finetune.dataset.lengths import find_ruler
from finetune.recipe import read_recipe

Formatting = Literal["sharegpt", "alpaca", "openai"]

# The key of a record that tells its formatting.
_TOLD_BY: dict[str, Formatting] = {"conversations": "sharegpt", "messages": "openai", "instruction": "alpaca"}
_COLUMNS: dict[Formatting, dict[str, str]] = {
    "sharegpt": {"messages": "conversations"},
    "openai": {},
    "alpaca": {"prompt": "instruction", "query": "input", "response": "output"},
}
_SUFFIXES = (".json", ".jsonl")
_SHOWN = 20


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune data add`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune data add", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="a .json or .jsonl file of conversations")
    parser.add_argument("--name", help="the set's name (default: the file's, without its ending)")
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="the folder of dataset_info.json")
    parser.add_argument(
        "--formatting", choices=get_args(Formatting), help="default: told by the keys of the first record"
    )
    given = parser.parse_args(words)
    records = add(given.file, given.name or given.file.stem, given.data_dir, given.formatting, environment)
    print(f"{given.name or given.file.stem}: registered in {given.data_dir / INDEX_FILE}, {records:,} conversations")
    return 0


def add(file: Path, name: str, data_dir: Path, formatting: Formatting | None, environment: Mapping[str, str]) -> int:
    """Check and register a file; how many conversations it holds. Raises `BadInput`, and nothing has changed then."""
    if not SET_NAME.fullmatch(name):
        raise BadInput(
            f'"{name}": a set\'s name is letters, digits, "_" and "-", 64 at most, a letter or a digit first; give one with '
            "--name."
        )
    if file.suffix not in _SUFFIXES:
        raise BadInput(f"{file}: a .json or .jsonl file was expected.")
    if not file.is_file():
        raise BadInput(f"{file}: no such file.")
    if not (data_dir / INDEX_FILE).is_file():
        make_data_folder(data_dir)
    with locked(data_dir):
        index = read_index(data_dir)
        if name in index:
            raise BadInput(f'{data_dir / INDEX_FILE}: "{name}" is registered already; give another --name.')
        target, partial = data_dir / f"{name}{file.suffix}", data_dir / f".adding-{name}"
        if target.exists():
            raise BadInput(f"{target}: is there already and belongs to another set; give another --name.")
        try:
            partial.mkdir()
            shutil.copyfile(file, partial / target.name)
            entry = _entry(partial / target.name, formatting)
            write_whole(partial / INDEX_FILE, dump({name: entry}))
            records = _checked(name, partial, environment)
            (partial / target.name).replace(target)
            write_whole(data_dir / INDEX_FILE, dump({**index, name: entry}))
        except OSError as error:
            target.unlink(missing_ok=True)
            if is_disk_full(error):
                raise BadInput(f"{data_dir}: the disk is full; make room and add {file} again.") from None
            raise BadInput(f"{data_dir}: cannot be written: {error.strerror}; name another with --data-dir.") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return records


def _checked(name: str, data_dir: Path, environment: Mapping[str, str]) -> int:
    """How many records there are. Raises `BadInput` with the first of the errors; all of them are printed."""
    contract = read_contract()
    checker = Checker(contract, read_recipe("mindpal").max_length, find_ruler(None, contract, environment))
    errors: list[Finding] = []
    records = 0
    for told in check([name], data_dir, checker):
        if not isinstance(told, Finding):
            records += told.records
        elif told.level == "error":
            errors.append(told)
            if len(errors) <= _SHOWN:
                print(told)
    if errors:
        more = f"and {len(errors) - 1:,} more errors; " if len(errors) > 1 else ""
        where = str(errors[0]).removeprefix("error: ").rpartition(" [")[0].rstrip(".")
        raise BadInput(f"{where}; {more}nothing was registered.")
    return records


def _entry(copy: Path, formatting: Formatting | None) -> dict[str, Any]:
    """The entry of dataset_info.json that fits the file's records. Raises `BadInput`."""
    nothing = Problem(copy.name, None, None, "holds no record.")
    # What is wrong with the others is the check's to say.
    first = next(records(copy), nothing) if copy.read_bytes().strip() else nothing
    if isinstance(first, Problem):
        raise BadInput(str(first))
    keys = first if isinstance(first, dict) else {}
    found = formatting or next((kind for key, kind in _TOLD_BY.items() if key in keys), None)
    if found is None:
        raise BadInput(
            f"{copy.name}: its first record has none of the keys {', '.join(_TOLD_BY)}; write it as ShareGPT, OpenAI "
            "messages or Alpaca."
        )
    text = copy.read_text(encoding="utf-8", errors="replace")
    # A column that only some records have is empty in the others.
    more = ("system", "tools", *(["history"] if found == "alpaca" else []))
    columns = {**_COLUMNS[found], **{key: key for key in more if f'"{key}"' in text}}
    return {"file_name": copy.name, "formatting": found, "columns": columns}
