"""Train the guard's small classifier on the labelled messages.

In: data/safety. Out: serve/guard/classifier.safetensors and its hash beside it, and how it does on messages that it
was not trained on.

    python -m finetune guard                     # a minute; `make bench-guard` then measures the whole guard
    python -m finetune guard --without-source    # how much is lost on a way of writing that it never saw

The test part is never looked at here: the thresholds come from a five-fold cross-validation of the training part.
"""

import argparse
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.classifier import DANGER, PLACES, Classifier, Floats, Parts, dangers, weighed, write_classifier
from data.safety import CONCEPTS_FILE, LABELS, SAFETY_DIR, Message, read_messages
from data.strict import BadInput, read_yaml
from finetune.progress import progress

OUT = Path("serve/guard/classifier.safetensors")
LABELS_IN_ORDER = (DANGER, *LABELS)
FOLDS = 5
# Inverse of the L2 penalty, by cross-validation on the training part: 3 and 30 are within one point.
STRENGTH = 10.0
# A near miss counts this often: it is what the guard has to tell from danger, and everyday words are easy.
NEAR_MISS_WEIGHT = 2.0
# The rules in front of the classifier take a few tenths of a point of the three that are allowed.
NEAR_MISSES_STOPPED = 0.025


def main(words: Sequence[str], environment: dict[str, str]) -> int:
    """Train, choose the thresholds, write."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune guard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=SAFETY_DIR, metavar="FOLDER", help="labelled messages (data/safety)"
    )
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help=f"the classifier ({OUT})")
    parser.add_argument(
        "--without-source", action="store_true", help="write nothing; for each source, train without it and test on it"
    )
    given = parser.parse_args(words)
    messages = [message for message in read_messages(given.data) if not message.is_test]
    if not given.out.parent.is_dir():
        raise BadInput(f"{given.out.parent}: no such folder; name another file with --out.")
    trainer = _Trainer(messages, read_parts())
    logits = trainer.cross_validated()
    chosen = thresholds(messages, logits)
    print(f"cross-validated: {recalls(messages, logits, chosen)}")
    if given.without_source:
        _without_source(trainer, messages, chosen)
        return 0
    classifier = trainer.fitted(range(len(messages)), chosen)
    partial = given.out.with_suffix(".partial")
    digest = write_classifier(classifier, partial)
    shutil.move(partial, given.out)
    given.out.with_suffix(".sha256").write_text(digest + "\n", encoding="ascii")
    print(
        f"{given.out}: {given.out.stat().st_size / 2**20:.1f} MiB, from {len(messages)} messages, sha256 {digest[:8]}"
    )
    return 0


def read_parts() -> Parts:
    """What of a text is looked at: `concepts.yaml`, and the sound of each character of GB 2312."""
    from pypinyin import lazy_pinyin

    concepts = read_yaml(CONCEPTS_FILE)
    if not isinstance(concepts, dict) or not all(isinstance(words, str) for words in concepts.values()):
        raise BadInput(f"{CONCEPTS_FILE}: each concept is a name and its words on one line.")
    characters = [sign for sign in map(chr, range(0x4E00, 0x9FA6)) if len(sign.encode("gb2312", "ignore")) == 2]
    return Parts(concepts, {sign: lazy_pinyin(sign)[0] for sign in characters})


def thresholds(messages: Sequence[Message], logits: Floats) -> dict[str, float]:
    """The dangers from which on the guard acts: the most that is caught where `NEAR_MISSES_STOPPED` of the near misses are.

    Crisis and disallowed have thresholds of their own; a missed crisis counts twice.
    """
    danger, crisis = _danger(logits)
    near = np.array([message.category == "near_miss" for message in messages])
    label = np.array([message.label for message in messages])
    allowed = math.floor(NEAR_MISSES_STOPPED * near.sum())
    best, best_value = {"crisis": 1.0, "disallowed": 1.0}, -1.0
    highest = np.sort(danger[near & crisis])[::-1]
    others = np.sort(danger[near & ~crisis])[::-1]
    for spent in range(min(allowed, len(highest) - 1) + 1):
        rest = min(allowed - spent, len(others) - 1)
        tried = {"crisis": float(highest[spent]), "disallowed": float(others[rest])}
        acted = np.where(crisis, danger > tried["crisis"], danger > tried["disallowed"])
        value = 2 * acted[label == "crisis"].mean() + acted[label == "disallowed"].mean()
        if value > best_value:
            best, best_value = tried, float(value)
    return best


def recalls(messages: Sequence[Message], logits: Floats, chosen: dict[str, float]) -> str:
    """In words: how much of each label is acted on."""
    danger, crisis = _danger(logits)
    acted = np.where(crisis, danger > chosen["crisis"], danger > chosen["disallowed"])
    parts = {}
    for name in ("crisis", "disallowed", "near_miss", "plain"):
        mine = np.array([name in (message.label, message.category) for message in messages])
        if mine.any():
            parts[name] = acted[mine].mean()
    return " ".join(f"{name} {share:.3f}" for name, share in parts.items())


def _danger(logits: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    danger, category = dangers(logits, LABELS_IN_ORDER)
    labels = np.array([LABELS[name] for name in LABELS_IN_ORDER[1:]])
    return danger, labels[category] == "crisis"


def _without_source(trainer: "_Trainer", messages: Sequence[Message], chosen: dict[str, float]) -> None:
    for source in sorted({message.source for message in messages}):
        kept = [number for number, message in enumerate(messages) if message.source != source]
        apart = [number for number, message in enumerate(messages) if message.source == source]
        seen = trainer.cross_validated()[apart]
        unseen = trainer.logits(trainer.fitted(kept, chosen), apart)
        mine = [messages[number] for number in apart]
        print(f"{source:8} seen    {recalls(mine, seen, chosen)}")
        print(f"{source:8} unseen  {recalls(mine, unseen, chosen)}")


class _Trainer:
    """The messages' parts, computed once, and fits on any of them."""

    def __init__(self, messages: Sequence[Message], parts: Parts):
        self._messages = messages
        self._parts = parts
        with progress("reading the messages", len(messages)) as advance:
            self._places = []
            for number, message in enumerate(messages, start=1):
                self._places.append(parts.places(message.text))
                advance(number)
        self._crossed: Floats | None = None

    def fitted(self, chosen: Sequence[int], levels: dict[str, float]) -> Classifier:
        """A classifier trained on the chosen messages."""
        from sklearn.linear_model import LogisticRegression

        rarity = self._rarity(chosen)
        table = self._table(chosen, rarity)
        category = np.array([self._messages[number].category for number in chosen])
        dangerous = np.array([LABELS[name] in ("crisis", "disallowed") for name in category])
        weight = np.where(category == "near_miss", NEAR_MISS_WEIGHT, 1.0)
        weights, bias = [], []
        for label in LABELS_IN_ORDER:
            target = dangerous if label == DANGER else category == label
            # liblinear's dual solver: sixteen fits in seconds where a joint one takes minutes; the seed is its order.
            model = LogisticRegression(
                C=STRENGTH, solver="liblinear", dual=True, tol=1e-3, max_iter=500, random_state=0
            )
            model.fit(table, target, sample_weight=weight)
            weights.append(model.coef_[0].astype(np.float16))
            bias.append(float(model.intercept_[0]))
        return Classifier(
            self._parts, LABELS_IN_ORDER, np.stack(weights), np.array(bias, dtype=np.float32), rarity, levels
        )

    def logits(self, classifier: Classifier, chosen: Sequence[int]) -> Floats:
        """Messages × labels."""
        table = self._table(chosen, classifier.rarity)
        told: Floats = np.asarray(table @ classifier.weights.astype(np.float32).T + classifier.bias, dtype=np.float32)
        return told

    def cross_validated(self) -> Floats:
        """The logits of every message from a classifier that was trained without it."""
        if self._crossed is not None:
            return self._crossed
        from sklearn.model_selection import StratifiedKFold

        category = [message.category for message in self._messages]
        together = np.zeros((len(category), len(LABELS_IN_ORDER)), dtype=np.float32)
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        with progress("cross-validating", FOLDS) as advance:
            for number, (kept, apart) in enumerate(folds.split(category, category), start=1):
                together[apart] = self.logits(self.fitted(kept, {}), apart)
                advance(number)
        self._crossed = together
        return together

    def _rarity(self, chosen: Sequence[int]) -> NDArray[np.float16]:
        """ln((1 + messages) / (1 + messages with the part)) + 1, for each place."""
        seen = np.zeros(PLACES)
        for number in chosen:
            seen[list(set(self._places[number]))] += 1
        rarity: NDArray[np.float16] = (np.log((1 + len(chosen)) / (1 + seen)) + 1).astype(np.float16)
        return rarity

    def _table(self, chosen: Sequence[int], rarity: NDArray[np.float16]) -> Any:
        from scipy.sparse import csr_matrix

        rows = [weighed(self._places[number], rarity) for number in chosen]
        starts = np.cumsum([0, *(len(where) for where, _ in rows)])
        where, values = (np.concatenate(column) for column in zip(*rows, strict=True))
        return csr_matrix((values, where, starts), shape=(len(rows), PLACES))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], {}))
