"""Talk to a model in the terminal: a run's adapter on its base, a model folder, or a bare base.

In: what to talk to, and lines from a person. Out: the answers, word by word.

    python -m finetune chat                          # the newest finished run
    python -m finetune chat models/current --thinking
    python -m finetune chat Qwen/Qwen3-0.6B          # the base alone, under the same contract
    python -m finetune chat runs/try --question 你好 --json      # one answer, and the end

For adults who try a model: there is no guard here. `/new` forgets what was said, Ctrl-D ends.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.contract import Contract, Sampling
from data.runs import newest_finished
from data.strict import BadInput
from data.template import chat_template, split_thought
from finetune.answers import Respondent, TransformersEngine, generate, load_model
from finetune.base import load_tokenizer
from finetune.subject import find_subject

NEW = "/new"
# What may be tried out in place of the contract's sampling.
FREE = ("temperature", "top_p", "max_tokens")


@dataclass(frozen=True)
class Speaker:
    """A model that answers, and the contract that it answers under."""

    model: Any
    tokenizer: Any
    contract: Contract
    template: str

    def answer(self, said: Sequence[Mapping[str, str]], write: Callable[[str], None]) -> str:
        """The whole answer to a conversation that ends with a question; `write` gets each piece as it comes."""
        model = Respondent(self.tokenizer, TransformersEngine(self.model))
        prompt = model.prompt(said, self.contract, self.template, f"the conversation ({NEW} begins anew)")
        [ids] = generate(self.model, [prompt], self.contract.sampling, model.stop, Pieces(self.tokenizer, write))
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


class Pieces:
    """What `generate` calls a streamer: writes text as soon as it is whole characters."""

    def __init__(self, tokenizer: Any, write: Callable[[str], None]):
        self._tokenizer, self._write = tokenizer, write
        self._ids: list[int] = []
        self._written = 0
        self._is_prompt = True

    def put(self, ids: Any) -> None:
        """The prompt first, then a token at a time."""
        if self._is_prompt:
            self._is_prompt = False
            return
        self._ids += ids.flatten().tolist()
        text = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        # A character of three bytes may come in three tokens.
        if not text.endswith("\ufffd"):
            self._write(text[self._written :])
            self._written = len(text)

    def end(self) -> None:
        """Whatever was held back."""
        self._write(self._tokenizer.decode(self._ids, skip_special_tokens=True)[self._written :])


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune chat`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune chat", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", help="a run, a model folder or a base (default: the newest finished run)")
    parser.add_argument("--base", help="where a run's base lies now, if it moved since")
    parser.add_argument(
        "--thinking",
        action=argparse.BooleanOptionalAction,
        help="let the model think first, or not (default: as the contract says)",
    )
    parser.add_argument("--seed", type=int, help="the same seed and words give the same answers")
    parser.add_argument("--question", help="answer this one question, and end")
    for name in FREE:
        kind = int if name == "max_tokens" else float
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help="instead of the contract's, to try it out")
    parser.add_argument("--json", action="store_true", help="with --question: question, thought and answer as JSON")
    given = parser.parse_args(words)
    if given.json and given.question is None:
        raise BadInput("--json tells one answer; add --question.")
    if given.question is not None and not given.question.strip():
        raise BadInput("--question: is empty; write what to ask.")
    what = given.what or str(newest_finished(Path("runs")))
    sampling = {name: vars(given)[name] for name in FREE if vars(given)[name] is not None}
    home = environment.get("HF_HUB_CACHE")
    speaker = load(what, base_name=given.base, thinking=given.thinking, sampling=sampling, home=home)
    if given.seed is not None:
        import torch

        torch.manual_seed(given.seed)
    if given.question is None:
        talk(speaker, what)
    elif given.json:
        print(json.dumps(ask(speaker, what, given.question.strip()), ensure_ascii=False))
    else:
        speaker.answer([{"role": "user", "content": given.question.strip()}], _write)
        print(flush=True)
    return 0


def load(
    what: str,
    *,
    base_name: str | None = None,
    thinking: bool | None = None,
    sampling: Mapping[str, float] | None = None,
    home: str | None = None,
) -> Speaker:
    """The speaker that `what` means; `sampling` replaces values of the contract's, to try others out.

    Raises `BadInput` before any weight is loaded where it cannot be one.
    """
    subject = find_subject(what, base_name=base_name, home=home)
    contract = subject.contract
    if sampling:
        free = Sampling.parse({**contract.sampling.model_dump(), **sampling}, "sampling")
        contract = contract.model_copy(update={"sampling": free})
    if thinking is not None:
        contract = contract.model_copy(update={"thinking": thinking})
    return Speaker(
        load_model(subject),
        load_tokenizer(subject.base),
        contract,
        chat_template(contract.persona, thinking=contract.thinking),
    )


def ask(speaker: Speaker, name: str, question: str) -> dict[str, str | bool]:
    """One question and its answer, the thought apart from the words."""
    thought, words = split_thought(speaker.answer([{"role": "user", "content": question}], lambda piece: None))
    thinking = speaker.contract.thinking
    return {"model": name, "thinking": thinking, "question": question, "thought": thought.strip(), "answer": words}


def talk(speaker: Speaker, name: str) -> None:
    """Questions from standard input until it ends, answers to standard output."""
    tty = sys.stdin.isatty()
    if tty:
        thinking = "on" if speaker.contract.thinking else "off"
        print(f"{name}: thinking {thinking}, no guard; {NEW} forgets, Ctrl-D ends.", file=sys.stderr)
    said: list[dict[str, str]] = []
    while True:
        try:
            question = input("> " if tty else "").strip()
        except EOFError:
            return
        if question == NEW:
            said = []
        elif question:
            said.append({"role": "user", "content": question})
            answer = speaker.answer(said, _write)
            print(flush=True)
            # A thought is not part of what was said.
            said.append({"role": "assistant", "content": split_thought(answer)[1]})


def _write(words: str) -> None:
    print(words, end="", flush=True)
