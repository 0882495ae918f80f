"""Make the stand-in base of the demo from scratch: Qwen3's architecture and rules, a hundredth of its size.

In: the conversations, without those that the demo tunes it on. Out: a base folder (`data/standin`) with `standin.json`.

    python -m finetune pretrain --out data/standin      # three quarters of an hour on two idle CPU cores

It is a stand-in: it shows that the pipeline works and speaks in the manner of the conversations that it has read, but it
knows nothing. The real base is Qwen/Qwen3-0.6B.
"""

import argparse
import json
import random
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.contract import read_contract, sha256
from data.conversations import DATA_DIR, Conversation, conversations, find_dataset
from data.runs import dump, now
from data.strict import BadInput
from finetune.encode import NO_LOSS, Encoder, Example
from finetune.plan import cpu_has_bf16
from finetune.progress import progress
from finetune.recipe import read_recipe
from finetune.tokenizer import train_tokenizer

STANDIN = DATA_DIR / "standin"
STANDIN_FILE = "standin.json"
DATASETS = ("child_chat", "child_chat_en")
VOCABULARY = 6000
# 8.0 million parameters: 16 MB in bf16, small enough to travel with the code.
SHAPE = {
    "hidden_size": 256, "num_hidden_layers": 8, "intermediate_size": 768, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 32,
}  # fmt: skip
LEARNING_RATE = 1e-3
WARMUP = 100
TOKENS_A_STEP = 2048
WINDOW = 1024


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune pretrain`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune pretrain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=STANDIN, help="the base folder to make (default: data/standin)")
    parser.add_argument("--epochs", type=float, default=12.0, help="passes over the conversations (default: 12)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words)
    if given.epochs <= 0:
        raise BadInput(f"--epochs {given.epochs}: has to be above 0.")
    pretrain(given.out, epochs=given.epochs, seed=given.seed)
    print(f"{given.out}: a stand-in base; `python -m finetune train tiny --base {given.out}` tunes it.")
    return 0


def pretrain(out: Path, *, epochs: float, seed: int = 0) -> None:
    """Train the tokenizer and the model, and write the base folder whole."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    found = _conversations()
    tokenizer = train_tokenizer((turn.text for one in found for turn in one.turns), VOCABULARY)
    encoder = Encoder(tokenizer, thinking=read_contract().thinking)
    batches = _batches([encoder.encode(one, WINDOW) for one in found], random.Random(seed))
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **SHAPE,
    )
    model = Qwen3ForCausalLM(config)
    began = time.monotonic()
    loss = _fit(model, batches, epochs, tokenizer.pad_token_id, random.Random(seed))
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model.to(torch.bfloat16).save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    about = {
        "what": "A stand-in base for the demo, pretrained on MindPal's own conversations; not Qwen3-0.6B.",
        "made": now(),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "epochs": epochs,
        "loss": round(loss, 3),
        "minutes": round((time.monotonic() - began) / 60),
        "data": {name: sha256(DATA_DIR / find_dataset(name).file_name) for name in DATASETS},
        "files": {path.name: sha256(path) for path in sorted(partial.iterdir())},
    }
    (partial / STANDIN_FILE).write_text(dump(about), encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)


def check_standin(folder: Path = STANDIN) -> None:
    """Compare the shipped stand-in with its hashes. Raises `BadInput` at the first file that differs."""
    again = "`git checkout` brings it back, `make pretrain` makes it again"
    if not (folder / STANDIN_FILE).is_file():
        raise BadInput(f"{folder}: no {STANDIN_FILE}; {again}.")
    about = json.loads((folder / STANDIN_FILE).read_text(encoding="utf-8"))
    for name, digest in about["files"].items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            raise BadInput(f"{folder / name}: is not the file that was shipped; {again}.")


def _conversations() -> list[Conversation]:
    demo = read_recipe("tiny")
    found: list[Conversation] = []
    for name in DATASETS:
        good, _ = conversations(name)
        found += good[demo.max_samples :] if name in demo.dataset else good
    return found


def _batches(examples: list[Example], chance: random.Random) -> list[list[Example]]:
    """Conversations of similar length together, about `TOKENS_A_STEP` ids a batch."""
    batches: list[list[Example]] = []
    batch: list[Example] = []
    chance.shuffle(examples)
    for example in sorted(examples, key=lambda one: len(one.input_ids)):
        if batch and len(example.input_ids) * (len(batch) + 1) > TOKENS_A_STEP:
            batches.append(batch)
            batch = []
        batch.append(example)
    return [*batches, batch]


def _fit(model: Any, batches: list[list[Example]], epochs: float, pad: int, chance: random.Random) -> float:
    """Plain full-parameter training, AdamW with a cosine; the mean loss of the last epoch."""
    import torch
    from transformers import get_cosine_schedule_with_warmup

    steps = max(1, round(epochs * len(batches)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    schedule = get_cosine_schedule_with_warmup(optimizer, min(WARMUP, steps // 4), steps)
    order: list[int] = []
    losses: list[float] = []
    bf16 = cpu_has_bf16()
    model.train()
    with progress("pretraining", steps) as advance:
        for step in range(steps):
            if not order:
                order = list(range(len(batches)))
                chance.shuffle(order)
            input_ids, labels = _tensors(batches[order.pop()], pad)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = model(input_ids=input_ids, labels=labels, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses = [*losses[-len(batches) :], loss.item()]
            advance(step + 1, f"loss {sum(losses[-20:]) / len(losses[-20:]):.3f}")
    return sum(losses) / len(losses)


def _tensors(batch: list[Example], pad: int) -> tuple[Any, Any]:
    """Ids and labels [batch, longest]. A base reads everything, so questions carry loss too; padding does not.

    Padding stands at the end and is never attended to from before it.
    """
    import torch

    longest = max(len(example.input_ids) for example in batch)
    input_ids = torch.full((len(batch), longest), pad)
    labels = torch.full((len(batch), longest), NO_LOSS)
    for row, example in enumerate(batch):
        ids = torch.tensor(example.input_ids)
        input_ids[row, : len(ids)] = ids
        labels[row, : len(ids)] = ids
    return input_ids, labels
