"""How long `data check` takes for 10,000 conversations.

In: the shipped sets. Out: a set of that size made of them, checked; the last line tells the time.

    python -m tests.bench_data                 # or: make bench-data

Each copy's letters are changed by a fixed rule, so that it is as long as its original and no near-duplicate of it.
"""

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data.conversations import DATA_DIR
from finetune.dataset.house import HAN

ROOT = Path(__file__).resolve().parents[1]
CONVERSATIONS = 10_000
_LETTERS = re.compile(r"[a-z]")
# Numbers and signs stay, so every pattern for personal data has as much to look at.


def make(folder: Path, count: int) -> None:
    """Write a data folder with one set of `count` conversations."""
    shipped = [
        record
        for name in ("child_chat.json", "child_chat_en.json")
        for record in json.loads((DATA_DIR / name).read_text(encoding="utf-8"))
    ]
    texts = "".join(turn["value"] for record in shipped for turn in record["conversations"])
    alphabets = [sorted(set(pattern.findall(texts))) for pattern in (HAN, _LETTERS)]
    records = []
    for copy in range(-(-count // len(shipped))):
        moved: dict[int, str] = {}
        for alphabet in alphabets if copy else []:
            other = random.Random(copy).sample(alphabet, len(alphabet))
            moved |= {ord(sign): replaced for sign, replaced in zip(alphabet, other, strict=True)}
        for record in shipped:
            turns = [{**turn, "value": turn["value"].translate(moved)} for turn in record["conversations"]]
            records.append({**record, "id": f"{record['id']}-{copy}", "conversations": turns})
    (folder / "many.json").write_text(json.dumps(records[:count], ensure_ascii=False), encoding="utf-8")
    entry = {
        "file_name": "many.json",
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system"},
    }
    (folder / "dataset_info.json").write_text(json.dumps({"many": entry}), encoding="utf-8")


def main() -> int:
    """Make the set, check it in a process of its own, tell the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", help="a base's folder; as for `data check`")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), CONVERSATIONS)
        command = [sys.executable, "-m", "finetune", "data", "check", "many", "--data-dir", folder]
        command += ["--tokenizer", given.tokenizer] if given.tokenizer else []
        began = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        seconds = time.monotonic() - began
    print(*done.stdout.splitlines()[-2:], sep="\n")
    # 1: the letters of the copies make no sense, and some are found out; 2 would be a set that was not read.
    if done.returncode not in (0, 1) or f"{CONVERSATIONS} records" not in done.stdout:
        print("bench-data: the check itself failed", file=sys.stderr)
        return 1
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{used.ru_utime + used.ru_stime:.1f} s of one processor")
    print(f"bench-data: {CONVERSATIONS} conversations {seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
