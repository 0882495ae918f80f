"""Show what the model is really trained on: the ids and the loss mask of each conversation.

In: a registered data set, a tokenizer, thinking on or off. Out: the tokens in colour, those with loss in green, or one
JSON line per conversation: `{"row": …, "id": …, "input_ids": […], "labels": […]}`. Rows count records from 0; labels
are not shifted, -100 where there is no loss. With `--json` one object for a page: the words of each token, and its loss.

    python -m finetune data inspect child_chat --tokenizer models/current
    python -m finetune data inspect child_chat --thinking on --jsonl -
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from data.contract import read_contract
from data.conversations import DATA_DIR, Conversation, Problem, read_dataset
from data.strict import BadInput
from finetune.base import Base, find_base, load_tokenizer
from finetune.encode import NO_LOSS, Encoder, Example

# In colour for a person: the first few say enough.
SHOWN = 3
_LEARNED, _GIVEN = ("black on green", "black on bright_green"), ("white on grey23", "white on grey35")


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune data inspect`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune data inspect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", help="a set that dataset_info.json registers")
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="the folder of dataset_info.json")
    parser.add_argument(
        "--tokenizer", type=Path, help="a folder with a tokenizer (default: the base of data/contract.yaml)"
    )
    parser.add_argument("--thinking", choices=("on", "off"), help="default: as in data/contract.yaml")
    parser.add_argument("--max-length", type=int, help="tokens of a conversation at most (default: the window)")
    parser.add_argument("--rows", type=int, default=SHOWN, help=f"how many records to show (default: {SHOWN})")
    parser.add_argument("--jsonl", type=Path, metavar="FILE", help="write every conversation here instead (-: stdout)")
    parser.add_argument("--json", action="store_true", help="the same records as one JSON object for programs")
    given = parser.parse_args(words)
    contract = read_contract()
    if given.tokenizer is None:
        base = find_base(contract.base_model, home=environment.get("HF_HUB_CACHE"))
    elif given.tokenizer.is_dir():
        base = Base(str(given.tokenizer), given.tokenizer)
    else:
        raise BadInput(f"{given.tokenizer}: no such folder; --tokenizer names one with a tokenizer.json.")
    thinking = contract.thinking if given.thinking is None else given.thinking == "on"
    max_length = given.max_length or contract.window
    if given.json:
        tokenizer = load_tokenizer(base)
        encoder = Encoder(tokenizer, thinking=thinking)
        found = islice(_examples(given.dataset, given.data_dir, encoder, max_length), given.rows)
        print(json.dumps({"conversations": [_told(one, tokenizer) for one in found]}, ensure_ascii=False))
        return 0
    return inspect(
        given.dataset,
        given.data_dir,
        load_tokenizer(base),
        thinking=thinking,
        max_length=max_length,
        jsonl=given.jsonl,
        rows=given.rows,
    )


def inspect(
    name: str,
    data_dir: Path,
    tokenizer: Any,
    *,
    thinking: bool,
    max_length: int,
    jsonl: Path | None = None,
    rows: int = SHOWN,
) -> int:
    """Show the first `rows` conversations in the terminal, or write all of them to `jsonl` (`-`: standard output).

    Conversations keep the whole exchanges that fit into `max_length` tokens, as in training. A record that cannot be
    learned from is told on standard error, and the others are shown all the same: 0, or 2 where there was one.
    Raises `BadInput`.
    """
    encoder = Encoder(tokenizer, thinking=thinking)
    bad = 0
    if jsonl is None:
        console = Console(highlight=False)
        for number, found in enumerate(_examples(name, data_dir, encoder, max_length)):
            if number == rows:
                print(f"… the first {rows} records; --jsonl FILE writes every one.", file=sys.stderr)
                break
            bad += isinstance(found, str)
            _show(console, found, tokenizer)
        return 2 if bad else 0
    with nullcontext(sys.stdout) if str(jsonl) == "-" else _opened(jsonl) as file:
        for found in _examples(name, data_dir, encoder, max_length):
            if isinstance(found, str):
                bad += 1
                print(found, file=sys.stderr)
                continue
            conversation, example = found
            line = {
                "row": conversation.row,
                "id": conversation.id,
                "input_ids": example.input_ids,
                "labels": example.labels,
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return 2 if bad else 0


def _examples(
    name: str, data_dir: Path, encoder: Encoder, max_length: int
) -> Iterator[tuple[Conversation, Example] | str]:
    """Each record's conversation and example, or the sentence that says why there is none."""
    for record in read_dataset(name, data_dir):
        if isinstance(record, Problem):
            yield str(record)
            continue
        try:
            yield record, encoder.encode(record, max_length)
        except BadInput as error:
            yield str(error)


def _told(found: tuple[Conversation, Example] | str, tokenizer: Any) -> dict[str, Any]:
    """A record for a program: its tokens, or the sentence that says why there are none."""
    if isinstance(found, str):
        return {"wrong": found, "tokens": []}
    conversation, example = found
    tokens = [{"text": word, "loss": learn} for word, learn in _words(example, tokenizer)]
    return {"row": conversation.row, "id": conversation.id, "left_out": example.left_out, "tokens": tokens}


def _opened(path: Path) -> Any:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror}.") from None


def _show(console: Console, found: tuple[Conversation, Example] | str, tokenizer: Any) -> None:
    if isinstance(found, str):
        print(found, file=sys.stderr)
        return
    conversation, example = found
    learned = sum(label != NO_LOSS for label in example.labels)
    left_out = f", {example.left_out} exchanges left out" if example.left_out else ""
    console.rule(f"{conversation.file} record {conversation.row}: {conversation.id}", style="dim")
    for remark in conversation.remarks:
        console.print(remark, style="yellow", markup=False)
    text = Text()
    for place, (word, learn) in enumerate(_words(example, tokenizer)):
        # Neighbours differ in shade, so that the borders between tokens show; a line break is seen and made.
        shade = (_LEARNED if learn else _GIVEN)[place % 2]
        text.append(word.replace("\n", "⏎"), style=shade)
        text.append("\n" * word.count("\n"))
    console.print(text)
    console.print(f"{len(example.input_ids)} tokens, {learned} with loss{left_out}", style="dim")


def _words(example: Example, tokenizer: Any) -> Iterator[tuple[str, bool]]:
    """Text and loss of each token; tokens that are parts of one character stand together."""
    held: list[int] = []
    for token, label in zip(example.input_ids, example.labels, strict=True):
        held.append(token)
        word = tokenizer.decode(held, skip_special_tokens=False)
        # Half a character decodes to U+FFFD; four bytes make any whole one.
        if word.endswith("�") and len(held) < 4:
            continue
        yield word, label != NO_LOSS
        held = []
    if held:
        yield tokenizer.decode(held, skip_special_tokens=False), example.labels[-1] != NO_LOSS
