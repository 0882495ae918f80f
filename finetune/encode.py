"""Conversations as token ids with the loss mask: what the model is really trained on.

In: a `Conversation`, a base's tokenizer, thinking on or off. Out: `Example` with unshifted labels, -100 where there
is no loss. The ids are those of LLaMA-Factory's `qwen3` template (v0.9.5, data/template.py), each piece tokenised on
its own, and those that the sealed chat template gives at serving time; both are tests.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from data.conversations import Conversation, Problem, Turn, read_calls
from data.strict import BadInput
from data.template import (
    END,
    NO_THOUGHT,
    RESPONSE,
    RESPONSE_END,
    RESPONSES_BETWEEN,
    THOUGHT,
    THOUGHT_END,
    TURN,
    as_text,
    call_text,
    split_at_thoughts,
    split_thought,
    tools_text,
)

NO_LOSS = -100
# What is wrong with an answer of which nothing would be learned but its end.
THOUGHT_ALONE = "is a thought alone, and the contract's thinking is off; write what is said or remove the exchange."


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
        block = self._ids(NO_THOUGHT)
        for number in range(0, len(conversation.turns), 2):
            question, answer = conversation.turns[number : number + 2]
            prompt = self._ids(self._system(conversation)) if number == 0 else []
            prompt += self._ids(self._question(question))
            thought, words = self._answer(answer)
            spoken = self._ids(words + END + "\n")
            if not self._thinking:
                prompt += block
            elif not thought:
                spoken = block + spoken
            pairs.append((prompt, spoken))
        return pairs

    def encode(self, conversation: Conversation, window: int) -> Example:
        """The first exchanges that fit into `window` ids, whole.

        Raises `BadInput` where not even one does, or an answer holds nothing to learn.
        """
        for place, turn in enumerate(conversation.turns):
            if not self._thinking and turn.role == "assistant" and not split_thought(turn.text)[1].strip():
                raise BadInput(str(Problem(conversation.file, conversation.row, place, THOUGHT_ALONE)))
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
            system += tools_text(json.loads(conversation.tools), self._control)
        return f"{TURN}system\n{system}{END}\n" if system else ""

    def _question(self, turn: Turn) -> str:
        words = as_text(turn.text, self._control)
        if turn.role == "tool":
            responses = [as_text(response, self._control) for response in turn.text.split(RESPONSES_BETWEEN)]
            words = RESPONSE + RESPONSES_BETWEEN.join(responses) + RESPONSE_END
        return f"{TURN}user\n{words}{END}\n{TURN}assistant\n"

    def _answer(self, turn: Turn) -> tuple[bool, str]:
        """Whether an answer holds a thought to be learned, and its text."""
        words, calls = read_calls(turn.text) if turn.role == "call" else (turn.text, [])
        if self._thinking:
            # Words, thought, words, …: as the record has them, each thought in the form that Qwen3 writes.
            parts = [as_text(part, self._control) for part in split_at_thoughts(words)]
            parts[1::2] = [THOUGHT + thought + THOUGHT_END for thought in parts[1::2]]
        else:
            parts = [as_text(split_thought(words)[1], self._control)]
        text = "".join(parts) + "\n".join(call_text(call.name, call.arguments, self._control) for call in calls)
        return len(parts) > 1, text


def encode_all(
    encoder: Encoder, conversations: Iterable[Conversation], window: int, *, skip_bad: bool = False
) -> tuple[list[Conversation], list[Example]]:
    """The conversations, and each one encoded; the exchanges that were left out are counted in the examples.

    Those that cannot be encoded are left out with `skip_bad`. Raises `BadInput` with the first of them otherwise.
    """
    kept: list[Conversation] = []
    examples: list[Example] = []
    for conversation in conversations:
        try:
            examples.append(encoder.encode(conversation, window))
        except BadInput:
            if not skip_bad:
                raise
        else:
            kept.append(conversation)
    return kept, examples


def count_tokens(examples: Sequence[Example]) -> tuple[int, int]:
    """All ids, and those with loss."""
    return (
        sum(len(example.input_ids) for example in examples),
        sum(label != NO_LOSS for example in examples for label in example.labels),
    )
