"""The guard's encoder as a file: a small pretrained transformer, tuned to read what a message means.

In: `encoder.onnx` (written by `python -m finetune guard`, read by the server), which carries its tokenizer with it.
Out: the logits of a text. ONNX Runtime reads it on one core: three milliseconds for a message of a line.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.forms import legible
from data.strict import BadInput

# Where the ONNX file keeps its tokenizer, as the JSON of Hugging Face's `tokenizers`.
TOKENIZER = "tokenizer"
# Token ids in, logits out: 1 × tokens, 1 × labels.
IDS, LOGITS = "ids", "logits"
# A piece of 160 characters that are `legible` is never longer.
LONGEST = 192


def plain(text: str) -> str:
    """`text` as the encoder sees it: as it is `legible`, with one blank where there are several."""
    return re.sub(r"\s+", " ", legible(text)).strip()


@dataclass(frozen=True)
class Encoder:
    """An opened file."""

    session: Any  # onnxruntime.InferenceSession
    tokenizer: Any  # tokenizers.Tokenizer
    # SHA-256 of the file.
    digest: str
    # What else stands in the file, by its name.
    told: Mapping[str, str]

    def logits(self, text: str) -> NDArray[np.float32]:
        """One logit for each label, in the order of the classifier that the encoder was trained with."""
        ids = self.tokenizer.encode(plain(text)).ids[:LONGEST]
        told: NDArray[np.float32] = self.session.run([LOGITS], {IDS: np.array([ids], dtype=np.int64)})[0][0]
        return told


def read_encoder(path: Path, mend: str = "make it with `python -m finetune guard`.") -> Encoder:
    """Open an encoder. Raises `BadInput`, ending in `mend`, where the file is missing, cut short or of another kind."""
    # Late: the trainer's command line answers without them.
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    # The engine needs the other cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Without this a CPU that has no VNNI instructions adds pairs of products in 16 bits, which overflow: the same file gave
    # other verdicts there, its logits half a unit away. It costs such a CPU a tenth of the time, and others nothing.
    options.add_session_config_entry("session.x64quantprecision", "1")
    # 3: errors only.
    options.log_severity_level = 3
    try:
        raw = path.read_bytes()
        session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
        told = session.get_modelmeta().custom_metadata_map
        tokenizer = Tokenizer.from_str(told[TOKENIZER])
    # ONNX Runtime's own errors have no class in common but this.
    except Exception as error:  # noqa: BLE001
        raise BadInput(f"{path}: cannot be read as an encoder ({type(error).__name__}); {mend}") from None
    return Encoder(session, tokenizer, hashlib.sha256(raw).hexdigest(), told)
