"""Put a model folder into one file, to be carried elsewhere.

In: a sealed model folder. Out: a `.tar` with the folder in it, and `SHA256SUMS` beside the model's files.

    python -m finetune archive models/try                    # models/try.tar
    tar xf try.tar && cd try && sha256sum -c SHA256SUMS      # there
"""

import argparse
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from data.contract import SUMS_FILE, sha256
from data.runs import is_disk_full
from data.strict import BadInput
from finetune.merge import check_sealed
from finetune.progress import progress


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune archive`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune archive", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a sealed model folder")
    parser.add_argument("--out", type=Path, help="the .tar to make (default: beside the folder)")
    given = parser.parse_args(words)
    folder = given.model.resolve()
    out = given.out or folder.with_name(f"{folder.name}.tar")
    archive(folder, out)
    print(f"{out}: {out.stat().st_size / 1e6:,.1f} MB, SHA-256 {sha256(out)}")
    return 0


def archive(folder: Path, out: Path) -> None:
    """Make the archive whole or not at all. Raises `BadInput`."""
    check_sealed(folder)
    if out.suffix != ".tar":
        raise BadInput(f"{out}: an archive's name ends in .tar.")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    partial = out.with_name(f".{out.name}.partial")
    try:
        with progress("archiving", len(files)) as advance, tarfile.open(partial, "w") as tar:
            sums = ""
            for number, path in enumerate(files, 1):
                tar.add(path, f"{folder.name}/{path.name}", filter=_nobodys)
                sums += f"{sha256(path)}  {path.name}\n"
                advance(number, path.name)
            about = tarfile.TarInfo(f"{folder.name}/{SUMS_FILE}")
            about.size = len(sums)
            tar.addfile(about, io.BytesIO(sums.encode()))
        partial.replace(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if is_disk_full(error):
            raise BadInput(f"{out}: the disk is full; make room and archive again.") from None
        raise BadInput(f"{out}: cannot be written: {error.strerror}; name another with --out.") from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _nobodys(about: tarfile.TarInfo) -> tarfile.TarInfo:
    """Who made it is nobody's business."""
    about.uid = about.gid = 0
    about.uname = about.gname = ""
    return about
