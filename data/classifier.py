"""The guard's small classifier as files: what of a text it looks at, its weights, and its thresholds.

In: `classifier.safetensors` and `encoder.onnx` (written by `python -m finetune guard`, read by the server). Out: a
`Reading` of a text.

Two readers add their logits. The encoder (`data.encoder`) reads what a text means. The linear one knows how children
spell: it sees runs of characters, words, pinyin syllables, and the concepts of `concepts.yaml` with their order, each
hashed into one of 65,536 places (Weinberger et al. 2009), so that no vocabulary is kept. They take some three
milliseconds and half a one.
"""

import hashlib
import json
import re
import shlex
import unicodedata
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.encoder import Encoder, read_encoder
from data.forms import LEET, Typed
from data.safety import LABELS
from data.strict import BadInput

PLACES = 2**16
DANGER = "danger"
FORMAT = "mindpal-guard-3"
HEADER = "guard"
# Beside the classifier's file.
ENCODER_FILE = "encoder.onnx"
# A longer text is read in pieces, so that one sentence is not lost among many.
PIECE = 160
# What follows is told in Latin letters; a Chinese character is as wide as three, and says as much. A text wider than this,
# or less wide and as dangerous as `DOUBT`, is read in windows, too: among talk about the day one clause about a danger
# says little. Shorter ones mean what they say as a whole: nine in ten of children's messages are read once.
ALONE = 90
DOUBT = 0.4
WINDOW = 75
# A clause up to this is a part of a window; in a wider one, since many a child types no marks, a smaller window is moved in
# steps: where its matter begins and ends is not known.
_CLAUSE_WIDTH, _MARKLESS_WINDOW, _STEP = 60, 54, 18
# What is less wide is read only with what follows it, and not at a text's end.
_SHORTEST = 12
# A longer text is no message to the model, whose window it overfills, and is read in pieces alone.
WINDOWED = 12_000
_WIDE = re.compile(r"[\u2e80-\U0010ffff]")
# Up to a mark, or a blank behind a Chinese character.
_CLAUSE = re.compile(r".+?(?:[,，;；、:：。!！?？.…\n~～]+\s*|(?<=[\u4e00-\u9fff])\s+|$)", re.DOTALL)
# Words stay whole.
_WORD = re.compile(r"[!-~]{1,30}\s{0,9}|.", re.DOTALL)
# Looked for only where such a row of letters and signs begins: else a long one takes its length squared.
_AMONG_LETTERS = re.compile(
    r"(?<![a-z0-9@$!])[a-z0-9@$!]*[a-z][0-9@$!]+[a-z][a-z0-9@$!]*|(?<![0-9@$])[0-9@$]+[a-z]{2,}[a-z0-9@$]*"
)
_TOKEN = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_ENDINGS = ("", "s", "es", "ed", "d", "ing", "er", "y")
_LONGEST_SYLLABLE = 6
_LONGEST_CONCEPT = 8
# How many concepts on a concept's order is noted.
_REACH = 4

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Parts:
    """What of a text is looked at."""

    # Concept: its words as `concepts.yaml` has them.
    concepts: Mapping[str, str]
    # Character: its commonest pinyin syllable without the tone.
    pinyin: Mapping[str, str]

    def places(self, typed: Typed) -> list[int]:
        """The place of each part of a text, in 0 … `PLACES`; a part that occurs twice is there twice."""
        return [zlib.crc32(part.encode()) % PLACES for part in self.of(typed)]

    def of(self, typed: Typed) -> list[str]:
        """The parts, in words: for `places`, and to explain a verdict."""
        seen = typed.forms
        words = self._plain_letters(typed.legible, seen.words)
        tokens = _TOKEN.findall(words)
        parts = _runs(list(re.sub(r"[a-z0-9]+", " ", seen.squashed)), 4, "c", "")
        parts += _runs(tokens, 3, "w", " ")
        for token in tokens:
            if token.isascii() and len(token) > 2:
                edged = f"<{token}>"
                parts += [f"b{edged[i : i + n]}" for n in (3, 4, 5) for i in range(len(edged) - n + 1)]
        parts += _runs(self._syllables(tokens), 4, "p", " ")
        parts += self._concepts(tokens)
        parts += [f"e{sign}" for sign in typed.text if unicodedata.category(sign) == "So"]
        return parts

    def is_pinyin(self, typed: Typed) -> bool:
        """Whether a text is Chinese in Latin letters: at least three syllables and nothing else."""
        words = typed.forms.words.split()
        spelled = [self._spelled(word) for word in words if word.isascii() and word.isalpha()]
        return len(spelled) == len(words) and all(spelled) and sum(map(len, spelled)) > 2

    def _plain_letters(self, legible: str, words: str) -> str:
        """`words` with the letters that digits and signs stand for, where they stand among letters."""
        disguised = _AMONG_LETTERS.findall(legible)
        return " ".join([words, *(word.translate(LEET) for word in disguised)])

    def _syllables(self, tokens: Sequence[str]) -> list[str]:
        """The text as it sounds; `|` where a word is no Chinese."""
        syllables: list[str] = []
        for token in tokens:
            if token in self.pinyin:
                syllables.append(self.pinyin[token])
            elif token.isascii():
                syllables += self._spelled(token) or ["|"]
        return syllables

    def _spelled(self, word: str) -> list[str]:
        """A word in Latin letters cut into pinyin syllables, the longest first; empty where it is none."""
        found, start = [], 0
        while start < len(word):
            for end in range(min(len(word), start + _LONGEST_SYLLABLE), start, -1):
                if word[start:end] in self._known_syllables:
                    found.append(word[start:end])
                    start = end
                    break
            else:
                return []
        return found

    @cached_property
    def _known_syllables(self) -> frozenset[str]:
        return frozenset(self.pinyin.values())

    @cached_property
    def _entries(self) -> dict[tuple[str, ...], list[str]]:
        entries: dict[tuple[str, ...], list[str]] = {}
        for concept, words in self.concepts.items():
            for word in shlex.split(words):
                spelled = [tuple(_TOKEN.findall(word))]
                if len(_HAN.findall(word)) > 1 and all(sign in self.pinyin for sign in word):
                    spelled.append(tuple(self.pinyin[sign] for sign in word))
                elif word.isascii() and word.isalpha() and len(word) > 2:
                    stems = {word, word.removesuffix("e")} if word.endswith("e") else {word, word + word[-1]}
                    spelled += [(stem + ending,) for stem in stems for ending in _ENDINGS if stem + ending != word]
                for one in spelled:
                    entries.setdefault(one, []).append(concept)
        return entries

    def _concepts(self, tokens: Sequence[str]) -> list[str]:
        # Pinyin is read beside the words: `woxiangsi` is one token and three syllables.
        cut = [part for token in tokens for part in ((self._spelled(token) if token.isascii() else None) or [token])]
        found: list[list[str]] = []
        for line in (tokens, cut) if len(cut) != len(tokens) else (tokens,):
            start = 0
            while start < len(line):
                for end in range(min(len(line), start + _LONGEST_CONCEPT), start, -1):
                    if names := self._entries.get(tuple(line[start:end])):
                        found.append(names)
                        start = end
                        break
                else:
                    start += 1
        parts = [f"k{name}" for names in found for name in names]
        for number, names in enumerate(found):
            for later in found[number + 1 : number + 1 + _REACH]:
                parts += [f"k{one}>{other}" for one in names for other in later]
        for first, second, third in zip(found, found[1:], found[2:], strict=False):
            parts += [f"k{one}>{two}>{three}" for one in first for two in second for three in third]
        return parts


@dataclass(frozen=True)
class Reading:
    """How dangerous a text is, in 0 … 1, the category of danger that fits best, and the danger to act from."""

    danger: float
    category: str
    level: float

    @property
    def acts(self) -> bool:
        """Whether the guard acts on it."""
        return self.danger > self.level


@dataclass(frozen=True)
class Classifier:
    """The linear reader. `labels`: first `DANGER`, then the dangerous categories, then the harmless ones."""

    parts: Parts
    labels: tuple[str, ...]
    weights: NDArray[np.float16]  # labels × PLACES
    bias: Floats  # labels
    rarity: NDArray[np.float16]  # PLACES: how much a part tells, as it is rare
    # `crisis`, `disallowed`: the danger from which on the guard acts on a text of such a category; `window`: on a window.
    thresholds: Mapping[str, float]
    # What its logits are multiplied with before the encoder's are added.
    share: float
    # SHA-256 of the encoder that it was calibrated with.
    encoder: str

    def logits(self, typed: Typed) -> Floats:
        """One for each label."""
        places, values = weighed(self.parts.places(typed), self.rarity)
        told: Floats = (self.weights[:, places].astype(np.float32) @ values + self.bias).astype(np.float32)
        return told


@dataclass(frozen=True)
class Reader:
    """Both readers together."""

    linear: Classifier
    encoder: Encoder

    def read(self, typed: Typed) -> Reading:
        """What the most dangerous piece or window of a text is about: one on which the guard acts, if there is one."""
        whole = self.read_whole(typed)
        text = typed.legible
        if whole.acts or len(text) > WINDOWED or (width(text) <= ALONE and whole.danger <= DOUBT):
            return whole
        return max((whole, *map(self.read_window, windows(text))), key=_weight)

    def read_whole(self, typed: Typed) -> Reading:
        """What the most dangerous piece of a text is about."""
        # As it is read, which may be longer than what was typed: nothing is pushed out of the encoder's reach.
        cut = pieces(typed.legible)
        return (
            max((self._reading(Typed(piece)) for piece in cut), key=_weight) if len(cut) > 1 else self._reading(typed)
        )

    def read_window(self, text: str) -> Reading:
        """What a part of a text is about, out of what stands around it: only a danger beyond doubt is one."""
        return replace(self._reading(Typed(text)), level=self.linear.thresholds["window"])

    def _reading(self, typed: Typed) -> Reading:
        logits = self.linear.share * self.linear.logits(typed) + self.encoder.logits(typed.text)
        danger, number = dangers(logits[None, :], self.linear.labels)
        category = self.linear.labels[1 + int(number[0])]
        return Reading(float(danger[0]), category, self.linear.thresholds[LABELS[category]])


def _weight(reading: Reading) -> tuple[bool, float]:
    return reading.acts, reading.danger


def dangers(
    logits: Floats, labels: Sequence[str], known: Mapping[str, str] = LABELS
) -> tuple[Floats, NDArray[np.int64]]:
    """Danger, and index of the category among the dangerous ones, for each row of logits (texts × labels).

    Two readers are averaged in log-odds: one that tells danger from everything else, and the categories together.
    """
    dangerous = [number for number, label in enumerate(labels) if known.get(label) in ("crisis", "disallowed")]
    each = np.exp(logits[:, 1:] - logits[:, 1:].max(axis=1, keepdims=True))
    inside = np.clip(each[:, [number - 1 for number in dangerous]].sum(axis=1) / each.sum(axis=1), 1e-6, 1 - 1e-6)
    odds = (np.log(inside / (1 - inside)) + logits[:, 0]) / 2
    return (1 / (1 + np.exp(-odds))).astype(np.float32), logits[:, dangerous].argmax(axis=1)


def weighed(places: Sequence[int], rarity: NDArray[Any]) -> tuple[NDArray[np.int64], Floats]:
    """The distinct places and their values: (1 + ln count) × rarity, of length 1 together (tf-idf)."""
    counts = Counter(places)
    where = np.fromiter(counts.keys(), dtype=np.int64, count=len(counts))
    values = (1 + np.log(np.fromiter(counts.values(), dtype=np.float32, count=len(counts)))) * rarity[where]
    length = float(np.linalg.norm(values))
    return where, (values / length if length else values).astype(np.float32)


def pieces(text: str) -> list[str]:
    """`text`, cut behind sentences where it is longer than `PIECE`."""
    if len(text) <= PIECE:
        return [text]
    cut: list[str] = [""]
    for sentence in re.findall(rf"[^。！？!?.\n]{{1,{PIECE}}}[。！？!?.\n]*|[。！？!?.\n]+", text):
        if len(cut[-1]) + len(sentence) > PIECE:
            cut.append("")
        cut[-1] += sentence
    return cut


def width(text: str) -> int:
    """How wide `text` is, in Latin letters."""
    return len(text) + 2 * len(_WIDE.findall(text))


def windows(text: str) -> list[str]:
    """The clauses of `text`, and from each on as many as fit into a window; a wide clause counts as several."""
    # A part, its width, and the width of the window that begins with it.
    parts, found = list[tuple[str, int, int]](), list[str]()
    for clause in _CLAUSE.findall(text):
        wide = width(clause)
        if wide > _CLAUSE_WIDTH:
            parts += [(step, width(step), _MARKLESS_WINDOW) for step in _steps(clause)]
            continue
        parts.append((clause, wide, WINDOW))
        if wide >= _SHORTEST:
            found.append(clause)
    for start, (_, wide, limit) in enumerate(parts):
        end, room = start + 1, limit - wide
        while end < len(parts) and parts[end][1] <= room:
            room -= parts[end][1]
            end += 1
        if limit - room >= _SHORTEST or not found:
            found.append("".join(part for part, _, _ in parts[start:end]))
    return list(dict.fromkeys(found))


def _steps(clause: str) -> list[str]:
    """A clause in parts of about `_STEP`, cut between words."""
    steps, filled = [""], 0
    for word in _WORD.findall(clause):
        if steps[-1] and filled + width(word) > _STEP:
            steps.append("")
            filled = 0
        steps[-1] += word
        filled += width(word)
    return steps


def write_classifier(classifier: Classifier, path: Path) -> str:
    """Write the file; gives its SHA-256."""
    from safetensors.numpy import save

    told = {
        "format": FORMAT,
        "labels": classifier.labels,
        "thresholds": dict(classifier.thresholds),
        "share": classifier.share,
        "encoder": classifier.encoder,
        "concepts": dict(classifier.parts.concepts),
        "pinyin": dict(classifier.parts.pinyin),
    }
    tensors = {"weights": classifier.weights, "bias": classifier.bias, "rarity": classifier.rarity}
    # One entry: safetensors writes several in any order, and the same classifier has to be the same file.
    raw = save(tensors, {HEADER: json.dumps(told, ensure_ascii=False)})
    path.write_bytes(raw)
    return hashlib.sha256(raw).hexdigest()


def read_classifier(path: Path) -> Classifier:
    """The classifier in `path`. Raises `BadInput` where the file is missing, cut short or of another format."""
    from safetensors import SafetensorError, safe_open

    mend = "make it with `python -m finetune guard`."
    try:
        with safe_open(path, framework="np") as file:
            told = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            if told.get("format") != FORMAT:
                raise BadInput(f"{path}: is no classifier of the guard ({FORMAT}); {mend}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, ValueError, SafetensorError) as error:
        raise BadInput(f"{path}: cannot be read as a classifier ({type(error).__name__}); {mend}") from None
    return Classifier(
        parts=Parts(told["concepts"], told["pinyin"]),
        labels=tuple(told["labels"]),
        weights=tensors["weights"],
        bias=tensors["bias"],
        rarity=tensors["rarity"],
        thresholds=told["thresholds"],
        share=told["share"],
        encoder=told["encoder"],
    )


def read_reader(path: Path) -> Reader:
    """The classifier in `path` with the encoder beside it. Raises `BadInput` also where the two do not belong together."""
    linear, beside = read_classifier(path), path.with_name(ENCODER_FILE)
    encoder = read_encoder(beside)
    if encoder.digest != linear.encoder:
        raise BadInput(
            f"{beside}: its hash is {encoder.digest[:8]}, but {path.name} belongs to {linear.encoder[:8]}; make both again with `python -m finetune guard`."
        )
    return Reader(linear, encoder)


def _runs(sequence: Sequence[str], longest: int, kind: str, between: str) -> list[str]:
    """Every run of 1 … `longest` neighbours, marked with its kind."""
    return [
        kind + between.join(sequence[start : start + length])
        for length in range(1, longest + 1)
        for start in range(len(sequence) - length + 1)
    ]
