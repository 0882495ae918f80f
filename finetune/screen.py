"""Train the screen's reader: a small encoder that tells whether what a model says would harm a child.

In: the labelled answers of data/safety/answers, the replies that data/child_chat*.json teach, which are right, and before
them the guard's messages: what a harm is about is learned from them, and they are many. Out: serve/guard/screen.onnx, its
hash beside it, and how it does on answers that it was not trained on.

    python -m finetune screen      # a quarter of an hour on two cores; `make bench-guard` then measures the whole screen

A fifth of the answers is never looked at here, as with the guard's messages; the danger to act from comes from one in eight
of the others.
"""

import argparse
import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np

from data.answer_reader import IN_ORDER, LABELS_ENTRY, LEVEL_ENTRY, MEND, AnswerReader, spoken
from data.encoder import read_encoder
from data.safety import ANSWER_LABELS, ANSWERS_DIR, Message, read_messages
from data.strict import BadInput
from finetune.guard import split, turns
from finetune.progress import progress

OUT = Path("serve/guard/screen.onnx")
# Every sentence of an answer is read: fewer than the guard's layers.
LAYERS = 6
EPOCHS = 5
# How often a taught reply is learned an epoch, each time by any of its sentences: they are the most of what is read.
TIMES_TAUGHT = 3
# The guard's categories as those of an answer. What is done to a child, and what it gives away, is nothing that is said to it.
TOPICS = {
    "self_harm": "self_harm", "violence": "violence", "crime": "crime", "sexual": "sexual", "substances": "substances",
    "hate": "insult", "profanity": "insult", "jailbreak": "jailbreak", "roles": "kin", "dependence": "secrecy",
    "near_miss": "near_miss", "plain": "plain",
}  # fmt: skip
# So many of them are read, once.
MESSAGES = 16_000
# Of the right answers on what is delicate, and of ordinary ones, so many may be stopped: with half as many, a tenth less of the
# wrong ones is heard.
MOST_STOPPED = 0.02
LEVELS = np.linspace(0.5, 0.995, 100)


def main(words: Sequence[str], environment: dict[str, str]) -> int:
    """Train, choose the danger to act from, write."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune screen", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=ANSWERS_DIR, metavar="FOLDER", help=f"labelled answers ({ANSWERS_DIR})"
    )
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help=f"the reader ({OUT})")
    parser.add_argument("--layers", type=int, default=LAYERS, metavar="N", help=f"its layers, 1 to 12 ({LAYERS})")
    parser.add_argument("--epochs", type=int, default=EPOCHS, metavar="N", help=f"how often it sees each ({EPOCHS})")
    given = parser.parse_args(words)
    if not given.out.parent.is_dir():
        raise BadInput(f"{given.out.parent}: no such folder; name another file with --out.")
    answers = [answer for answer in read_messages(given.data, ANSWER_LABELS) if not answer.is_test]
    replies, asked = (taught(), topics(read_messages())) if given.data == ANSWERS_DIR else ([], [])
    # Late: torch takes seconds, and `--help` needs none.
    from finetune.guard_encoder import EncoderTrainer, from_pretrained, tell, write_encoder

    learned, kept = split([*answers, *replies])
    learned += (TIMES_TAUGHT - 1) * split(replies)[0]
    seen = [*learned, *asked]
    begin = from_pretrained(seen, given.layers, len(ANSWER_LABELS))
    trainer = EncoderTrainer(begin, seen, ANSWER_LABELS, said)
    if asked:
        trainer.fit(1, Random(0).sample(asked, min(MESSAGES, len(asked))))
    trainer.fit(given.epochs, learned)
    with tempfile.TemporaryDirectory(dir=given.out.parent) as folder:
        made = Path(folder) / given.out.name
        write_encoder(trainer, made)
        level, shares = calibrated(AnswerReader(read_encoder(made, MEND), 1.0), kept)
        tell(made, {LABELS_ENTRY: json.dumps(IN_ORDER), LEVEL_ENTRY: json.dumps(level)})
        digest = hashlib.sha256(made.read_bytes()).hexdigest()
        shutil.move(made, given.out)
    given.out.with_suffix(".sha256").write_text(digest + "\n", encoding="ascii")
    print(f"on answers kept apart, from a danger of {level:.3f} on: {shares}")
    size = given.out.stat().st_size / 2**20
    print(f"{given.out}: {size:.1f} MiB, from {len(learned)} answers, sha256 {digest[:8]}")
    return 0


def topics(messages: Sequence[Message]) -> list[Message]:
    """The guard's messages that are learned from, in the categories of answers."""
    found = [message for message in messages if message.category in TOPICS and not message.is_test]
    return [
        message.model_copy(
            update={"category": TOPICS[message.category], "label": ANSWER_LABELS[TOPICS[message.category]]}
        )
        for message in found
    ]


def taught() -> list[Message]:
    """The replies of the shipped conversations: each of them has to leave."""
    return turns("gpt", "model")


def said(answer: Message, random: Random) -> str:
    """An answer as it is learned: a right one by any part that is read, a wrong one whole."""
    parts = spoken(answer.text) if ANSWER_LABELS[answer.category] == "benign" else []
    return random.choice(parts or [answer.text])


def calibrated(reader: AnswerReader, answers: Sequence[Message]) -> tuple[float, str]:
    """The least danger to act from that stops few enough right answers, and in words what it stops.

    Raises `BadInput` where none does: a reader that never acts is no reader.
    """
    found = []
    with progress("reading answers", len(answers)) as advance:
        for number, answer in enumerate(answers, start=1):
            found.append(reader.most_dangerous(spoken(answer.text))[0])
            advance(number)
    danger = np.array(found)
    of = {
        name: danger[[name in (answer.label, answer.category) for answer in answers]]
        for name in ("disallowed", "near_miss", "plain")
    }
    right = [of["near_miss"], of["plain"]]
    fit = (float(level) for level in LEVELS if all((one > level).sum() <= MOST_STOPPED * len(one) for one in right))
    level = next(fit, None)
    if level is None:
        raise BadInput(
            f"{reader.encoder.digest[:8]}: no danger to act from lets enough right answers pass; write more of them, and train again."
        )
    return level, " ".join(f"{name} {(found > level).mean():.3f}" for name, found in of.items() if len(found))
