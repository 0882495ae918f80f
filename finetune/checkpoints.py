"""Folders that are whole or not there: checkpoints, and the adapter that a run ends with.

In: a folder that has just been written. Out: `files.json` in it, the SHA-256 of every file, written last. A process that
is killed while it writes leaves a folder without one; a disk that lies leaves a file that is another than it says.
"""

import re
import shutil
from pathlib import Path

from data.contract import sha256
from data.runs import dump, write_whole
from data.strict import BadInput, read_json

FILES_FILE = "files.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
# What trainers write beside it and a resumed run never reads: the base's own files, arguments, TRL's model card.
_NEEDLESS = (
    "README.md", "training_args.bin", "chat_template.jinja", "tokenizer.json", "tokenizer_config.json", "vocab.json",
    "merges.txt", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip


def close_folder(folder: Path) -> None:
    """Remove what is not needed and write down what the rest is."""
    for name in _NEEDLESS:
        (folder / name).unlink(missing_ok=True)
    write_whole(folder / FILES_FILE, dump({name: sha256(folder / name) for name in _names(folder)}))


def damage(folder: Path) -> str | None:
    """What is wrong with a closed folder, as the end of a sentence; None where every file is what was written."""
    if not (folder / FILES_FILE).is_file():
        return "was not written to its end"
    try:
        files = read_json(folder / FILES_FILE)
    except BadInput:
        return f"has a damaged {FILES_FILE}"
    if not isinstance(files, dict):
        return f"has a damaged {FILES_FILE}"
    for name, digest in files.items():
        if not (folder / name).is_file():
            return f"has lost {name}"
        if sha256(folder / name) != digest:
            return f"has a damaged {name}"
    return None


def checkpoints_in(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints in a folder, good or not, with their steps, the newest first."""
    found = [(int(match[1]), path) for path in folder.glob("*") if (match := _CHECKPOINT.fullmatch(path.name))]
    return sorted(found, reverse=True)


def newest_good(folder: Path) -> tuple[Path | None, dict[Path, str]]:
    """The newest checkpoint that is whole, and what is wrong with each one after it."""
    passed: dict[Path, str] = {}
    for _, path in checkpoints_in(folder):
        wrong = damage(path)
        if wrong is None:
            return path, passed
        passed[path] = wrong
    return None, passed


def remove_old(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints: only now, when the newest is known to be whole."""
    for _, path in checkpoints_in(folder)[keep:]:
        shutil.rmtree(path)


def remove_unfinished(folder: Path) -> None:
    """Remove a checkpoint in the middle of which the writing ended."""
    for _, path in checkpoints_in(folder):
        if not (path / FILES_FILE).is_file():
            shutil.rmtree(path, ignore_errors=True)


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
