"""How many tokens a conversation takes.

In: a tokenizer's folder, where there is one. Out: a `Ruler`. Without a tokenizer the ruler counts UTF-8 bytes: a
byte-level tokenizer such as Qwen3's never makes more tokens than there are bytes, so what fits by bytes fits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data.contract import Contract
from data.conversations import DATA_DIR, Conversation
from data.strict import BadInput
from data.template import END, NO_THOUGHT, TURN
from finetune.base import Base, find_base, load_tokenizer
from finetune.encode import Encoder

# No tokenizer packs a turn of ordinary text tighter than this many characters a token.
_CHARACTERS_A_TOKEN = 8


@dataclass(frozen=True)
class Ruler:
    """Measures conversations; `exact` where it does so with a tokenizer, and not by an upper bound in bytes."""

    name: str
    encoder: Encoder | None

    @property
    def exact(self) -> bool:
        return self.encoder is not None

    def exchanges(self, conversation: Conversation) -> list[tuple[int, int]]:
        """Tokens of each exchange: without loss and with loss. Raises `BadInput` for what training cannot encode."""
        if self.encoder:
            return [(len(prompt), len(answer)) for prompt, answer in self.encoder.exchanges(conversation)]
        return at_most(conversation)

    def surely_fits(self, conversation: Conversation, window: int) -> bool:
        """Whether the bytes alone tell that it fits, as for nearly every conversation: they are counted in no time."""
        return not conversation.tools and sum(map(sum, at_most(conversation))) <= window

    def cannot_fit(self, conversation: Conversation, window: int) -> bool:
        """Whether even a lower bound of the first exchange's length is above the window."""
        return sum(len(turn.text) for turn in conversation.turns[:2]) > window * _CHARACTERS_A_TOKEN


def find_ruler(tokenizer: Path | None, contract: Contract, environment: Mapping[str, str]) -> Ruler:
    """A ruler with the tokenizer of a folder; or of the contract's base, if it is on this machine; or of the stand-in.

    Raises `BadInput` where a folder is named and holds no tokenizer of the Qwen3 family.
    """
    if tokenizer is not None:
        if not tokenizer.is_dir():
            raise BadInput(f"{tokenizer}: no such folder; --tokenizer names a base's folder.")
        return _with_tokenizer(Base(str(tokenizer), tokenizer), contract)
    standin = DATA_DIR / "standin"
    for name in (contract.base_model, str(standin)):
        try:
            return _with_tokenizer(find_base(name, home=environment.get("HF_HUB_CACHE")), contract)
        except BadInput:
            # Not here: the next one may be, and the ruler's name tells which one counted.
            continue
    return Ruler("bytes (no tokenizer on this machine)", None)


def at_most(conversation: Conversation) -> list[tuple[int, int]]:
    """Bytes of each exchange, without loss and with loss: no exchange has more tokens."""
    texts = [turn.text for turn in conversation.turns]
    front = (conversation.system or "") + conversation.tools
    pairs = []
    for number in range(0, len(texts), 2):
        prompt = f"{TURN}system\n{front}{END}\n" if number == 0 and front else ""
        prompt += f"{TURN}user\n{texts[number]}{END}\n{TURN}assistant\n{NO_THOUGHT}"
        pairs.append((_bytes(prompt), _bytes(f"{texts[number + 1]}{END}\n")))
    return pairs


def _with_tokenizer(base: Base, contract: Contract) -> Ruler:
    return Ruler(f"the tokenizer of {base.name}", Encoder(load_tokenizer(base), thinking=contract.thinking))


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
