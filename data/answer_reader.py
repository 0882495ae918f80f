"""The screen's reader as a file: a small encoder that tells whether what a model says would harm a child.

In: `screen.onnx` (written by `python -m finetune screen`, read by the server), in which its labels and the danger to act
from stand as well. Out: what of an answer is read, how dangerous it is, and the category that fits it best.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from data.classifier import DANGER, dangers, pieces, width
from data.encoder import Encoder, read_encoder
from data.forms import legible
from data.safety import ANSWER_LABELS
from data.strict import BadInput

# Where the ONNX file keeps the labels, and the danger to act from.
LABELS_ENTRY, LEVEL_ENTRY = "labels", "level"
# One logit each.
IN_ORDER = (DANGER, *ANSWER_LABELS)
MEND = "make it with `python -m finetune screen`."
# A full stop ends a sentence only before a blank: 3.14 and www.example.org have none.
SENTENCE_END = re.compile(r"[。！？!?\n…]|\.(?=\s)")
# A sentence up to this wide, as `width` tells it, may be a bit of one ("Don't. Tell. Your. Mom."); of such bits the last
# characters, so many, are read as one.
_BIT, _BITS = 30, 40


@dataclass(frozen=True)
class AnswerReader:
    """An opened file."""

    encoder: Encoder
    # The danger, in 0 … 1, from which on an answer has to end.
    level: float

    def danger_of(self, text: str) -> tuple[float, str]:
        """How dangerous the most dangerous piece of `text` is, and the category of danger that fits it best."""
        read = []
        # As it is read, which may be longer than what was written: nothing is pushed out of the encoder's reach.
        for piece in pieces(legible(text)):
            danger, number = dangers(self.encoder.logits(piece)[None, :], IN_ORDER, ANSWER_LABELS)
            # The harmful categories come first.
            read.append((float(danger[0]), IN_ORDER[1 + int(number[0])]))
        return max(read)

    def most_dangerous(self, texts: Sequence[str]) -> tuple[float, str]:
        """The same of several; no danger where there are none."""
        return max(map(self.danger_of, texts), default=(0.0, ""))


class Spoken:
    """What is to be read of an answer, sentence after sentence: each alone, since a kind opening hides what follows it."""

    def __init__(self) -> None:
        self._bits = ""

    def next(self, sentence: str) -> list[str]:
        """Of the next sentence: itself, and where it is but a bit, the bits up to it as one; nothing where it has no letter.

        A bit that was there before adds nothing: a text that turns in circles means nothing, and reads as anything.
        """
        if not re.search(r"\w", legible(sentence)):
            return []
        if width(sentence) > _BIT:
            self._bits = ""
            return [sentence]
        bit = sentence.strip(" \n。！？!?….")
        if len(bit) > 1 and bit in self._bits:
            return [sentence]
        between = " " if bit[:1].isascii() else ""
        self._bits = f"{self._bits}{between}{bit}".strip()[-_BITS:]
        return [sentence] if self._bits == bit else [sentence, self._bits]


def spoken(answer: str) -> list[str]:
    """What is to be read of a whole answer; what it says twice, once."""
    ends = [*(match.end() for match in SENTENCE_END.finditer(answer)), len(answer)]
    told = Spoken()
    return list(dict.fromkeys(text for start, end in pairwise([0, *ends]) for text in told.next(answer[start:end])))


def read_answer_reader(path: Path) -> AnswerReader:
    """Open a file. Raises `BadInput` where it is missing, cut short or of another kind."""
    encoder = read_encoder(path, MEND)
    try:
        labels, level = (json.loads(encoder.told[name]) for name in (LABELS_ENTRY, LEVEL_ENTRY))
        belongs = labels == list(IN_ORDER) and 0 < level < 1
    except (KeyError, ValueError, TypeError):
        belongs = False
    if not belongs:
        raise BadInput(f"{path}: is no reader of answers, or has other categories; {MEND}")
    return AnswerReader(encoder, level)
