"""Take a data set out of a data folder, and remove its file.

python -m finetune data remove mine --data-dir sets
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from data.conversations import DATA_DIR, INDEX_FILE, find_dataset
from data.runs import dump, write_whole
from data.strict import BadInput
from finetune.dataset.folder import locked, read_index


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune data remove`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune data remove", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="a registered set; its file is removed with it")
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="the folder of dataset_info.json")
    given = parser.parse_args(words)
    remove(given.name, given.data_dir)
    print(f"{given.name}: taken out of {given.data_dir / INDEX_FILE}")
    return 0


def remove(name: str, data_dir: Path) -> None:
    """Take a set out of the index, and remove its file. Raises `BadInput`."""
    with locked(data_dir):
        file = data_dir / find_dataset(name, data_dir).file_name
        if file.resolve().parent != data_dir.resolve():
            raise BadInput(f"{file}: does not lie in {data_dir}; take it out of {INDEX_FILE} by hand.")
        index = read_index(data_dir)
        del index[name]
        # First the entry: an index never names a file that is not there.
        write_whole(data_dir / INDEX_FILE, dump(index))
        file.unlink(missing_ok=True)
