"""A data folder that sets are added to and taken out of.

In: a folder with `dataset_info.json`, or one that is to be made. Out: its index, a lock on it.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.conversations import DATA_DIR, INDEX_FILE, find_dataset
from data.runs import dump, write_whole
from data.strict import BadInput, read_json


def make_data_folder(data_dir: Path) -> None:
    """Make a data folder of one's own that begins with the project's sets. The index comes last."""
    data_dir.mkdir(parents=True, exist_ok=True)
    for name in read_index(DATA_DIR):
        file = find_dataset(name).file_name
        shutil.copyfile(DATA_DIR / file, data_dir / file)
    write_whole(data_dir / INDEX_FILE, dump(read_index(DATA_DIR)))


def read_index(data_dir: Path) -> dict[str, Any]:
    """What is registered, as it stands in the file. Raises `BadInput`."""
    index = read_json(data_dir / INDEX_FILE)
    if not isinstance(index, dict):
        raise BadInput(f"{data_dir / INDEX_FILE}: expected a mapping of names to data sets.")
    return index


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Two that register at once would forget one another."""
    try:
        descriptor = os.open(data_dir, os.O_RDONLY)
    except OSError as error:
        raise BadInput(f"{data_dir}: cannot be opened: {error.strerror}.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
