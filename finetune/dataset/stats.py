"""Count what is in the sets: conversations, exchanges, tokens of each split, topics by age, lengths.

In: sets of `dataset_info.json`. Out: tables, a PNG and an HTML page.

    python -m finetune data stats                              # every registered set
    python -m finetune data stats child_chat --out /tmp/counted
    python -m finetune data stats child_chat --json              # the numbers for a program, and no pictures
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data.contract import read_contract
from data.conversations import DATA_DIR, Conversation, conversations, datasets_in
from finetune.dataset.counts import PERCENTILES, Counts, count
from finetune.dataset.lengths import find_ruler
from finetune.recipe import read_recipe

OUT = Path("artifacts/data")


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune data stats`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune data stats", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", metavar="SET", help="names in dataset_info.json (default: all)")
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="the folder of dataset_info.json")
    parser.add_argument("--recipe", default="mindpal", help="whose val_size splits the sets (default: mindpal)")
    parser.add_argument("--tokenizer", type=Path, help="a base's folder; as for `data check`")
    parser.add_argument(
        "--skip-bad", action="store_true", help="go on without records that are no conversation, and count them"
    )
    parser.add_argument("--out", type=Path, default=OUT, help=f"where the pictures go (default: {OUT})")
    parser.add_argument("--json", action="store_true", help="one JSON object for programs, and no pictures")
    given = parser.parse_args(words)
    names = given.sets or datasets_in(given.data_dir)
    found: list[Conversation] = []
    skipped = 0
    for name in names:
        good, bad = conversations(name, given.data_dir, skip_bad=given.skip_bad)
        found += good
        skipped += bad
    ruler = find_ruler(given.tokenizer, read_contract(), environment)
    counts = count(names, found, ruler, read_recipe(given.recipe).val_size, skipped)
    if given.json:
        print(json.dumps(told(counts), ensure_ascii=False))
        return 0
    console = Console()
    for table in tables(counts):
        console.print(table)
    # matplotlib takes a second: only when there is something to draw.
    from finetune.dataset.picture import write

    for path in write(counts, given.out):
        print(path)
    return 0


def told(counts: Counts) -> dict[str, Any]:
    """The same numbers for a program; `lengths` are at `percentiles`."""
    return {
        "conversations": counts.conversations,
        "skipped": counts.skipped,
        "languages": dict(counts.languages),
        "measured_by": counts.measured_by,
        "unit": counts.unit,
        "splits": [
            {
                "name": split.name,
                "conversations": len(split.lengths),
                "exchanges": split.exchanges,
                "tokens": split.tokens,
                "with_loss": split.with_loss,
            }
            for split in counts.splits.values()
        ],
        "percentiles": PERCENTILES,
        "lengths": counts.percentiles(),
        "topics": {topic: dict(ages) for topic, ages in counts.topics()},
    }


def tables(counts: Counts) -> list[Table]:
    """The splits, the lengths, the topics by age."""
    languages = ", ".join(f"{number} {name}" for name, number in counts.languages.most_common())
    left_out = f"; {counts.skipped} bad records left out" if counts.skipped else ""
    splits = Table(title=f"{counts.conversations} conversations ({languages}){left_out}")
    splits.add_column("split")
    for name in ("conversations", "exchanges", counts.unit, "with loss"):
        splits.add_column(name, justify="right")
    for split in counts.splits.values():
        numbers = (len(split.lengths), split.exchanges, split.tokens, split.with_loss)
        splits.add_row(split.name, *(f"{number:,}" for number in numbers))
    lengths = Table(title=f"lengths by {counts.measured_by}: so many per cent are at most")
    lengths.add_column("length of")
    for share in PERCENTILES:
        lengths.add_column(f"{share}%", justify="right")
    for name, values in counts.percentiles().items():
        lengths.add_row(name, *map(str, values))
    topics = Table(title=f"{len(counts.topic_age)} topics by age")
    topics.add_column("topic")
    ages = counts.ages()
    for age in ages:
        topics.add_column(age, justify="right")
    topics.add_column("all", justify="right")
    for topic, found in counts.topics():
        topics.add_row(topic, *(str(found[age]) for age in ages), str(found.total()))
    return [splits, lengths, topics]
