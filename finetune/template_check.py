"""Prove on a finished model folder that what it serves is what was trained.

In: a model folder. Out: nothing, or `BadInput`: the folder's chat template, rendered and tokenised as an engine does it,
has to give the ids that training gave, and the prompt of each turn has to be a prefix of the next one.
"""

from pathlib import Path

from data.contract import Contract
from data.conversations import Conversation, Turn
from data.strict import BadInput
from finetune.encode import Encoder

_PROBE = ("你好", "你好呀！", "为什么天空是蓝色的？\n\n(1+1=2)", "  Good question: light scatters.", "再见", "再见！")


def check_sealed_template(folder: Path, contract: Contract) -> None:
    """Compare training's ids with the template's, turn by turn."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    turns = tuple(Turn("assistant" if place % 2 else "user", text) for place, text in enumerate(_PROBE))
    conversation = Conversation("probe", 0, turns, system=contract.persona)
    trained: list[int] = []
    messages: list[dict[str, str]] = []
    for number, (prompt, answer) in enumerate(Encoder(tokenizer, thinking=contract.thinking).exchanges(conversation)):
        trained += prompt
        messages.append({"role": "user", "content": _PROBE[2 * number]})
        # With thinking on the model opens its thought itself: the empty block is then the answer's.
        served = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        if served != trained:
            raise BadInput(
                f"{folder}: its tokenizer renders turn {number} otherwise than training did; the base is not supported."
            )
        trained += answer
        messages.append({"role": "assistant", "content": _PROBE[2 * number + 1]})
