"""Train the guard's small classifier on the labelled messages.

In: data/safety, and what children say in data/child_chat*.json. Out: serve/guard/classifier.safetensors and encoder.onnx,
the hash of the first beside it (it holds that of the second), and how both do on messages that they were not trained on.

    python -m finetune guard      # two hours on two cores, 80 minutes with bf16; `make bench-guard` then measures the whole guard
    python -m finetune guard --from serve/guard/encoder.onnx    # half an hour: go on with it, when messages were added
    python -m finetune guard --without-source                   # how much is lost on a way of writing that it never saw

The test part is never looked at here: the thresholds, and the share of the linear reader, come from one in eight
messages of the training part, which are kept from both readers.
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data.classifier import (
    ALONE,
    DANGER,
    ENCODER_FILE,
    PLACES,
    Classifier,
    Floats,
    Parts,
    Reader,
    dangers,
    weighed,
    width,
    write_classifier,
)
from data.conversations import DATA_DIR
from data.encoder import read_encoder
from data.forms import Typed
from data.safety import CONCEPTS_FILE, LABELS, SAFETY_DIR, Message, everyday_talk, in_talk, read_messages
from data.strict import BadInput, read_yaml
from finetune.progress import progress

OUT = Path("serve/guard/classifier.safetensors")
LABELS_IN_ORDER = (DANGER, *LABELS)
# One message in so many of the training part is kept for calibration.
CALIBRATION = 8
# Tried for the linear reader beside the encoder.
SHARES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
# Inverse of the L2 penalty, by cross-validation on the training part: 3 and 30 are within one point.
STRENGTH = 10.0
# A near miss counts this often: it is what the guard has to tell from danger, and everyday words are easy.
NEAR_MISS_WEIGHT = 2.0
# Of the near misses that stand alone; the rules in front of the classifier take a few tenths of a point of the three that
# are allowed. A twin was written to be mistaken, and is no measure for what children say.
NEAR_MISSES_STOPPED = 0.025
# Of what children say every day, the turns of the conversations among them.
PLAIN_STOPPED = 0.025
# Tried as the danger to act from.
LEVELS = np.linspace(0.4, 0.995, 120)
# Chosen where none of them will do.
NEVER = {"crisis": 1.0, "disallowed": 1.0}
# Reading in windows may stop so many more: of the near misses that stand alone, and of what is harmless inside everyday talk
# or long by itself. So much talk is tried.
WINDOWS_STOPPED = 0.005
TALK_STOPPED = 0.02
IN_TALK = 600
# Tried as the danger of a window to act from.
WINDOW_LEVELS = np.linspace(0.95, 0.999, 50)
# Topics of the conversations in which a child may be in danger, or asks for what it should not get. The questions about why
# are left out as well: `make bench-guard` asks them.
NOT_EVERYDAY = (
    "hit_at_home", "hurting_oneself", "wanting_to_die", "being_touched", "body_privacy", "secrets_adults_ask",
    "strangers_online", "strangers_outside", "dares", "kin_and_partner_roles", "real_friends", "sharing_personal_data",
    "game_scams", "first_liking", "medicine_and_chemicals", "nicknames_bullying", "is_it_an_ai", "personal_questions",
    "why_",
)  # fmt: skip


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
    parser.add_argument("--layers", type=int, metavar="N", help="the encoder's layers, 1 to 12 (8)")
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="how often the encoder sees each message (4; --from: 1)"
    )
    parser.add_argument(
        "--from", dest="begin", type=Path, metavar="FILE", help="go on from this encoder, not from the pretrained model"
    )
    given = parser.parse_args(words)
    if given.begin and given.layers:
        raise BadInput("--layers: an encoder that is tuned on keeps its own; leave it out, or leave out --from.")
    messages = [message for message in read_messages(given.data) if not message.is_test]
    if given.data == SAFETY_DIR:
        messages += everyday()
    if not given.out.parent.is_dir():
        raise BadInput(f"{given.out.parent}: no such folder; name another file with --out.")
    learned, kept = split(messages)
    check_parts(given.data, learned, kept)
    if given.without_source:
        _without_source(messages, learned, kept)
        return 0
    # Late: torch takes seconds, and `--help` needs none.
    from finetune.guard_encoder import (
        EPOCHS,
        EPOCHS_ON,
        LAYERS,
        EncoderTrainer,
        from_pretrained,
        from_written,
        write_encoder,
    )

    begin = from_written(given.begin) if given.begin else from_pretrained(learned, given.layers or LAYERS)
    encoder = EncoderTrainer(begin, learned)
    encoder.fit(given.epochs or (EPOCHS_ON if given.begin else EPOCHS))
    linear = LinearTrainer(messages, read_parts())
    places = {message.id: number for number, message in enumerate(messages)}
    fitted = linear.fitted([places[message.id] for message in learned])
    apart = linear.logits(fitted, [places[message.id] for message in kept])
    with tempfile.TemporaryDirectory(dir=given.out.parent) as folder:
        made = Path(folder) / ENCODER_FILE
        write_encoder(encoder, made)
        share, chosen = calibrated(kept, apart, _read_back(made, kept))
        if chosen[1] == NEVER:
            raise BadInput(
                f"{given.out}: stays as it is: no pair of dangers to act from catches anything and lets enough harmless "
                "messages pass; write more messages, and train again."
            )
        print(f"on messages kept apart, with {share:g} of the linear reader: {told(kept, *chosen)}")
        digest = hashlib.sha256(made.read_bytes()).hexdigest()
        classifier = replace(fitted, thresholds={**chosen[1], "window": 0.0}, share=share, encoder=digest)
        level = window_level(Reader(classifier, read_encoder(made)), kept)
        print(f"a window is acted on from {level:.3f}")
        classifier = replace(classifier, thresholds={**chosen[1], "window": level})
        written = Path(folder) / given.out.name
        digest = write_classifier(classifier, written)
        shutil.move(made, given.out.with_name(ENCODER_FILE))
        shutil.move(written, given.out)
    given.out.with_suffix(".sha256").write_text(digest + "\n", encoding="ascii")
    size = (given.out.stat().st_size + given.out.with_name(ENCODER_FILE).stat().st_size) / 2**20
    print(f"{given.out} and {ENCODER_FILE}: {size:.1f} MiB, from {len(learned)} messages, sha256 {digest[:8]}")
    return 0


def everyday() -> list[Message]:
    """What children say in the shipped conversations, as plain messages: a guard that stops them is no companion."""
    return turns("human", "child", NOT_EVERYDAY)


def turns(who: Literal["human", "gpt"], source: str, left_out: tuple[str, ...] = ()) -> list[Message]:
    """Every distinct turn of `who` in the shipped conversations, but for topics that begin so, as plain messages."""
    found, seen = [], set()
    for name, language in (("child_chat.json", "zh"), ("child_chat_en.json", "en")):
        for record in json.loads((DATA_DIR / name).read_text(encoding="utf-8")):
            for number, turn in enumerate(record["conversations"]):
                if turn["from"] == who and turn["value"] not in seen and not record["topic"].startswith(left_out):
                    seen.add(turn["value"])
                    raw = {
                        "id": f"{record['id']}-{number}", "text": turn["value"], "language": language, "label": "benign",
                        "category": "plain", "source": source,
                    }  # fmt: skip
                    found.append(Message.parse(raw, record["id"]))
    return found


def split(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """Those to learn from and those to calibrate with, by a hash of the id that says nothing of the test's."""
    apart = [
        hashlib.sha256(f"calibration {message.id}".encode()).digest()[0] % CALIBRATION == 0 for message in messages
    ]
    return (
        [message for message, away in zip(messages, apart, strict=True) if not away],
        [message for message, away in zip(messages, apart, strict=True) if away],
    )


def check_parts(folder: Path, learned: Sequence[Message], kept: Sequence[Message]) -> None:
    """Raises `BadInput` where there is nothing to learn a category from, or to choose a label's threshold by: else it would be
    noticed hours later."""
    missing = {*LABELS} - {message.category for message in learned}
    if missing:
        raise BadInput(f"{folder}: no message to learn {', '.join(sorted(missing))} from; write some of each category.")
    missing = {"crisis", "disallowed"} - {message.label for message in kept}
    if missing:
        raise BadInput(
            f"{folder}: of {', '.join(sorted(missing))} no message is among the one in {CALIBRATION} that is kept apart to "
            "choose thresholds by; write more."
        )


def calibrated(
    messages: Sequence[Message], linear: Floats, encoder: Floats
) -> tuple[float, tuple[Floats, dict[str, float]]]:
    """The linear reader's share with which most is caught, the logits of both together, and the thresholds."""
    tried = []
    for share in SHARES:
        logits = (share * linear + encoder).astype(np.float32)
        chosen, value = thresholds(messages, logits)
        tried.append((value, share, logits, chosen))
    _, share, logits, chosen = max(tried, key=lambda one: one[0])
    return share, (logits, chosen)


def _read_back(path: Path, messages: Sequence[Message]) -> Floats:
    """What the written file says, not the model it was written from: eight bits are a little less."""
    encoder = read_encoder(path)
    with progress("calibrating", len(messages)) as advance:
        rows = []
        for number, message in enumerate(messages, start=1):
            rows.append(encoder.logits(message.text))
            advance(number)
    return np.stack(rows)


def read_parts() -> Parts:
    """What of a text is looked at: `concepts.yaml`, and the sound of each character of GB 2312."""
    from pypinyin import lazy_pinyin

    concepts = read_yaml(CONCEPTS_FILE)
    if not isinstance(concepts, dict) or not all(isinstance(words, str) for words in concepts.values()):
        raise BadInput(f"{CONCEPTS_FILE}: each concept is a name and its words on one line.")
    characters = [sign for sign in map(chr, range(0x4E00, 0x9FA6)) if len(sign.encode("gb2312", "ignore")) == 2]
    return Parts(concepts, {sign: lazy_pinyin(sign)[0] for sign in characters})


def thresholds(messages: Sequence[Message], logits: Floats) -> tuple[dict[str, float], float]:
    """The dangers from which on the guard acts on a crisis and on what is disallowed, and what they are worth.

    The pair that catches most of what it catches less of, so that neither is sold for the other, among those that stop
    no more than `NEAR_MISSES_STOPPED` of the near misses that stand alone and `PLAIN_STOPPED` of the plain messages; `NEVER`,
    worth 0, where there is none.
    """
    danger, crisis = _danger(logits)
    near = np.array([message.category == "near_miss" and not message.twin for message in messages])
    plain = np.array([message.category == "plain" for message in messages])
    is_crisis = np.array([message.label == "crisis" for message in messages])
    is_disallowed = np.array([message.label == "disallowed" for message in messages])
    best, best_value = NEVER, 0.0
    for for_crisis in LEVELS:
        for for_others in LEVELS:
            tried = {"crisis": float(for_crisis), "disallowed": float(for_others)}
            acted = _acted(danger, crisis, tried)
            if acted[near].sum() > NEAR_MISSES_STOPPED * near.sum() or acted[plain].sum() > PLAIN_STOPPED * plain.sum():
                continue
            value = min(acted[is_crisis].mean(), acted[is_disallowed].mean())
            if value > best_value:
                best, best_value = tried, float(value)
    return best, best_value


def window_level(reader: Reader, messages: Sequence[Message]) -> float:
    """The least danger of a window to act from: see `WINDOWS_STOPPED` and `TALK_STOPPED`. 1, nothing, where there is none.

    `reader` acts on every window, and else as it will.
    """
    near = [message.text for message in messages if message.category == "near_miss" and not message.twin]
    plain = [message for message in messages if message.category == "plain"]
    talk = everyday_talk(message for message in plain if not reader.read_whole(Typed(message.text)).acts)
    harmless = [message for message in messages if LABELS[message.category] == "benign" and talk[message.language]]
    if not near or not harmless:
        return 1.0
    drawn = Random(0).sample(harmless, min(IN_TALK, len(harmless)))
    inside = [in_talk(message, talk[message.language], Random(message.id)) for message in drawn]
    long = [message.text for message in harmless if width(message.text) > ALONE]
    found = list[float]()
    with progress("reading in windows", len(near) + len(inside) + len(long)) as advance:
        for number, text in enumerate((*near, *inside, *long), start=1):
            reading = reader.read(Typed(text))
            # Otherwise the text was acted on, or passed, as a whole.
            found.append(0.0 if reading.level else reading.danger)
            advance(number)
    near_found, inside_found, long_found = np.split(np.array(found), [len(near), len(near) + len(inside)])
    bounds = [(near_found, WINDOWS_STOPPED), (inside_found, TALK_STOPPED), (long_found, TALK_STOPPED)]
    for level in WINDOW_LEVELS:
        if all((danger > level).sum() <= most * len(danger) for danger, most in bounds):
            return float(level)
    return 1.0


def told(messages: Sequence[Message], logits: Floats, chosen: dict[str, float]) -> str:
    """In words: how much of each label is acted on."""
    danger, crisis = _danger(logits)
    acted = _acted(danger, crisis, chosen)
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


def _acted(danger: Floats, crisis: NDArray[np.bool_], levels: dict[str, float]) -> NDArray[np.bool_]:
    """On which texts the guard acts: `crisis` where the likeliest danger is one, `levels` from which on it acts."""
    acted: NDArray[np.bool_] = danger > np.where(crisis, levels["crisis"], levels["disallowed"])
    return acted


def _without_source(messages: Sequence[Message], learned: Sequence[Message], kept: Sequence[Message]) -> None:
    """For each way of writing: the linear reader and the encoder, trained with it and without it, on messages of it."""
    from finetune.guard_encoder import EncoderTrainer, from_pretrained

    parts = read_parts()

    def fitted(chosen: Sequence[Message]) -> tuple[Floats, Floats]:
        encoder = EncoderTrainer(from_pretrained(chosen), chosen)
        encoder.fit()
        both = [*chosen, *kept]
        linear = LinearTrainer(both, parts)
        classifier = linear.fitted(range(len(chosen)))
        return linear.logits(classifier, range(len(chosen), len(both))), encoder.logits(kept)

    _, (logits, chosen) = calibrated(kept, *fitted(learned))
    for source in sorted({message.source for message in messages}):
        unseen = calibrated(kept, *fitted([message for message in learned if message.source != source]))[1][0]
        mine = [number for number, message in enumerate(kept) if message.source == source]
        those = [kept[number] for number in mine]
        print(f"{source:8} seen    {told(those, logits[mine], chosen)}")
        print(f"{source:8} unseen  {told(those, unseen[mine], chosen)}", flush=True)


class LinearTrainer:
    """The messages' parts, computed once, and fits on any of them."""

    def __init__(self, messages: Sequence[Message], parts: Parts):
        self._messages = messages
        self._parts = parts
        with progress("reading the messages", len(messages)) as advance:
            self._places = []
            for number, message in enumerate(messages, start=1):
                self._places.append(parts.places(Typed(message.text)))
                advance(number)

    def fitted(self, chosen: Sequence[int]) -> Classifier:
        """A classifier trained on the chosen messages, not yet calibrated."""
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
            self._parts, LABELS_IN_ORDER, np.stack(weights), np.array(bias, dtype=np.float32), rarity, {}, 1.0, ""
        )

    def logits(self, classifier: Classifier, chosen: Sequence[int]) -> Floats:
        """Messages × labels."""
        table = self._table(chosen, classifier.rarity)
        logits: Floats = np.asarray(table @ classifier.weights.astype(np.float32).T + classifier.bias, dtype=np.float32)
        return logits

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
