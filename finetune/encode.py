"""Conversations as token ids with the loss mask: what the model is really trained on.

In: a `Conversation`, a base's tokenizer, thinking on or off. Out: `Example` with unshifted labels, -100 where there
is no loss. The ids are those of LLaMA-Factory's `qwen3` template (v0.9.5, data/template.py), each piece tokenised on
its own, and those that the sealed chat template gives at serving time; both are tests.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from data.conversations import Conversation, Turn
from data.strict import BadInput
from data.template import END, NO_THOUGHT, THOUGHT, THOUGHT_END, TURN, as_text, split_thought

NO_LOSS = -100


@dataclass(frozen=True)
class Example:
    """One conversation as the trainer takes it. Both lists have the same length."""

    input_ids: list[int]
    labels: list[int]
    # Whole exchanges at the end that did not fit into the window.
    left_out: int = 0


class Encoder:
    """Encodes conversations with one tokenizer."""

    def __init__(self, tokenizer: Any, *, thinking: bool):
        self._tokenizer = tokenizer
        self._thinking = thinking
        # The longest first: a token that begins with another one is neutralised whole.
        self._control = sorted(
            (token.content for token in tokenizer.added_tokens_decoder.values()), key=len, reverse=True
        )

    def exchanges(self, conversation: Conversation) -> list[tuple[list[int], list[int]]]:
        """The ids of each exchange: the prompt's, without loss, and the answer's, with loss."""
        pairs = []
        for number in range(0, len(conversation.turns), 2):
            question, answer = conversation.turns[number : number + 2]
            prompt = (self._system(conversation) if number == 0 else "") + self._question(question)
            thought, words = self._answer(answer)
            prompt_ids, answer_ids = self._ids(prompt), self._ids(words + END + "\n")
            if thought is None:
                block = self._ids(NO_THOUGHT)
                if self._thinking:
                    answer_ids = block + answer_ids
                else:
                    prompt_ids += block
            else:
                answer_ids = self._ids(thought + words + END + "\n")
            pairs.append((prompt_ids, answer_ids))
        return pairs

    def encode(self, conversation: Conversation, window: int) -> Example:
        """The first exchanges that fit into `window` ids, whole. Raises `BadInput` where not even one does."""
        input_ids: list[int] = []
        labels: list[int] = []
        pairs = self.exchanges(conversation)
        for kept, (prompt, answer) in enumerate(pairs):
            if len(input_ids) + len(prompt) + len(answer) > window:
                if kept == 0:
                    raise BadInput(
                        f"{conversation.file} record {conversation.row}: its first exchange takes "
                        f"{len(prompt) + len(answer)} tokens, more than max_length ({window}); shorten it or raise max_length."
                    )
                return Example(input_ids, labels, left_out=len(pairs) - kept)
            input_ids += prompt + answer
            labels += [NO_LOSS] * len(prompt) + answer
        return Example(input_ids, labels)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _system(self, conversation: Conversation) -> str:
        # Like LLaMA-Factory, without the contract: a record without a system message teaches without one.
        system = as_text(conversation.system or "", self._control)
        if conversation.tools:
            system += _tools_text(conversation)
        return f"{TURN}system\n{system}{END}\n" if system else ""

    def _question(self, turn: Turn) -> str:
        words = as_text(turn.text, self._control)
        if turn.role == "tool":
            words = f"<tool_response>\n{words}\n</tool_response>"
        return f"{TURN}user\n{words}{END}\n{TURN}assistant\n"

    def _answer(self, turn: Turn) -> tuple[str | None, str]:
        """The thought block of an answer, or None where it gets the empty one; and its words."""
        thought, words = split_thought(turn.text)
        words = _calls_text(turn.text) if turn.role == "call" else as_text(words, self._control)
        if thought and self._thinking:
            return THOUGHT + as_text(thought, self._control) + THOUGHT_END, words
        return None, words


def encode_all(encoder: Encoder, conversations: Iterable[Conversation], window: int) -> list[Example]:
    """Every conversation encoded; the exchanges that were left out are counted in the examples."""
    return [encoder.encode(conversation, window) for conversation in conversations]


def count_tokens(examples: Sequence[Example]) -> tuple[int, int]:
    """All ids, and those with loss."""
    return (
        sum(len(example.input_ids) for example in examples),
        sum(label != NO_LOSS for example in examples for label in example.labels),
    )


def _calls_text(text: str) -> str:
    """A record's function call (a JSON object or a list of them) as Qwen3 writes it."""
    calls = json.loads(text)
    return "\n".join(
        f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>"
        for call in (calls if isinstance(calls, list) else [calls])
    )


def _tools_text(conversation: Conversation) -> str:
    raise BadInput(f"{conversation.file} record {conversation.row}: tools are not supported.")
