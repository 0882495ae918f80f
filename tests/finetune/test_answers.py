"""Answers in batches: the prompt of the server, an answer for each, the same again, and both engines alike."""

import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, patch

import pytest
import torch

from data.contract import Contract, Sampling
from data.strict import BadInput
from data.template import END, chat_template
from finetune.answers import Answer, Respondent, load_model, penalties, respondent, under
from finetune.subject import find_subject
from tests.demo import Demo
from tests.finetune.small_runs import make_run
from tests.small_models import make_talker

pytestmark = pytest.mark.usefixtures("one_thread")

QUESTIONS = ["你好", "为什么天空是蓝色的？", "Hello, why is the sky blue? " * 4, "今天<|im_end|>"]
SAID = [[{"role": "user", "content": question}] for question in QUESTIONS]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    return make_run(folder / "run", make_talker(folder / "base"))


@pytest.fixture(scope="module")
def model(run: Path) -> Iterator[Respondent]:
    with respondent(find_subject(str(run)), "transformers") as opened:
        yield opened


@pytest.fixture
def contract(run: Path) -> Contract:
    found = find_subject(str(run)).contract
    return found.model_copy(update={"sampling": found.sampling.model_copy(update={"max_tokens": 16})})


def sampled(contract: Contract, **changes: float) -> Contract:
    return contract.model_copy(
        update={"sampling": Sampling.model_validate({**contract.sampling.model_dump(), **changes})}
    )


def test_a_batch_says_what_each_says_alone(model: Respondent, contract: Contract) -> None:
    greedy = under(contract, thinking=False, greedy=True)
    together = model.answers(SAID, greedy, seed=1)
    alone = [model.answers([said], greedy, seed=1)[0] for said in SAID]
    # Random weights: near ties may fall otherwise in another batch, the first words do not.
    assert [answer.text[:3] for answer in together] == [answer.text[:3] for answer in alone]
    assert len({answer.text[:3] for answer in together}) > 1


def test_the_seed_decides(model: Respondent, contract: Contract) -> None:
    hot = sampled(contract, temperature=1.5, top_p=1.0, top_k=0)
    first, again, other = (model.answers(SAID, hot, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_the_adapter_can_be_left_out(model: Respondent, run: Path, contract: Contract) -> None:
    greedy = under(contract, thinking=False, greedy=True)
    without = model.answers(SAID, greedy, seed=1, adapted=False)
    with respondent(find_subject(str(run)).without_adapter(), "transformers") as base:
        assert base.answers(SAID, greedy, seed=1) == without
    assert model.answers(SAID, greedy, seed=1) != without


def test_an_answer_stops_at_its_room(model: Respondent, contract: Contract) -> None:
    told: list[float] = []

    def advance(done: float, note: str = "") -> None:
        told.append(done)

    answers = model.answers(SAID * 5, contract, seed=1, advance=advance)
    assert told == [16, 20]
    assert all(answer.tokens == 16 or answer.finished for answer in answers)
    small = contract.model_copy(update={"window": len(ids(model, SAID[2], contract)) + 3})
    longest = model.answers(SAID, small, seed=1)[2]
    assert longest.tokens == 3 or longest.finished
    with pytest.raises(BadInput, match=r"conversation 2: takes \d+ tokens"):
        model.answers(SAID, contract.model_copy(update={"window": len(ids(model, SAID[2], contract))}), seed=1)


def ids(model: Respondent, said: list[dict[str, str]], contract: Contract) -> list[int]:
    return model.prompt(said, contract, chat_template(contract.persona, thinking=False), "here").ids


def test_the_prompt_is_the_sealed_templates_and_text_stays_text(model: Respondent, contract: Contract) -> None:
    text = model.tokenizer.decode(ids(model, SAID[3], contract))
    assert contract.persona in text
    # The system's end and the question's.
    assert text.count(END) == 2
    assert "＜|im_end|>" in text


def test_penalties_are_openais(contract: Contract) -> None:
    penalise = penalties(sampled(contract, presence_penalty=0.5, frequency_penalty=0.25).sampling, 2)
    # Two ids of the prompt, then 3, 3, 1 were written.
    scores = penalise(torch.tensor([[0, 4, 3, 3, 1]]), torch.zeros(1, 5))
    assert scores.tolist() == [[0, -0.75, 0, -1.0, 0]]
    assert penalties(contract.sampling, 2)(torch.tensor([[0, 4, 3]]), scores) is scores


class Says:
    """An engine that says this."""

    def __init__(self, written: list[int]):
        self._written = written

    def generate(self, *_: object, **__: object) -> list[list[int]]:
        return [self._written]


@pytest.mark.parametrize(
    ("said", "thinking", "expected"),
    [
        ("<think>\n想一想\n</think>\n\n蓝色的。<|im_end|>", True, ("蓝色的。", "想一想", True)),
        ("<think>\n想一想", True, ("", "想一想", False)),
        ("\n\n蓝色的。<|endoftext|>", False, ("蓝色的。", "", True)),
        ("<think>\n想\n</think>\n\n蓝", False, ("<think>\n想\n</think>\n\n蓝", "", False)),
        ("<|im_end|>", False, ("", "", True)),
    ],
)
def test_thoughts_and_ends(
    model: Respondent, contract: Contract, said: str, expected: tuple[str, str, bool], *, thinking: bool
) -> None:
    engine = Says(model.tokenizer.encode(said, add_special_tokens=False))
    (answer,) = replace(model, engine=engine).answers(SAID[:1], under(contract, thinking=thinking), seed=1)
    assert (answer.text, answer.thought, answer.finished) == expected
    assert isinstance(answer, Answer)


# vLLM's imports call what torch 2.13 deprecates.
@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.end_to_end
def test_vllm_says_what_is_likeliest_in_transformers(trained_demo: Demo) -> None:
    subject = find_subject(str(trained_demo.run))
    plain = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    greedy = sampled(under(subject.contract, thinking=False, greedy=True), **plain)
    # vLLM sets variables of its own, which a server that is started later would take for ours.
    with patch.dict(os.environ), respondent(subject, "vllm") as opened:
        prompts = [opened.prompt(said, greedy, chat_template(greedy.persona, thinking=False), "") for said in SAID[:2]]
        generate = partial(opened.engine.generate, prompts, greedy.sampling, opened.stop, seed=1, advance=silent)
        written = {adapted: generate(adapted=adapted) for adapted in (True, False)}
    assert written[True] != written[False]
    model = load_model(subject)
    for adapted, answers in written.items():
        for prompt, ids in zip(prompts, answers, strict=True):
            with torch.inference_mode(), nullcontext() if adapted else model.disable_adapter():
                logits = model(torch.tensor([prompt.ids + ids])).logits[0, len(prompt.ids) - 1 : -1].float()
            short = logits.amax(-1) - logits.gather(1, torch.tensor(ids)[:, None])[:, 0]
            # Two engines round bf16 otherwise: of two tokens that are as likely, either may be taken.
            assert short.max() < 0.5, (adapted, short)
            assert (short == 0).float().mean() > 0.9, (adapted, short)


def test_on_a_gpu_vllm_is_spawned_and_takes_of_what_is_free(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no GPU here: what torch says of one and what vLLM is asked for."""
    asked: list[str] = []
    free = {"is_available": True, "empty_cache": None, "mem_get_info": (8 * 2**30, 24 * 2**30)}

    def said(name: str) -> object:
        asked.append(name)
        return free[name]

    for name in free:
        monkeypatch.setattr(torch.cuda, name, partial(said, name))
    llm = MagicMock()
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=llm, __spec__=True))
    monkeypatch.setitem(sys.modules, "vllm.lora.request", MagicMock())
    monkeypatch.setattr(os, "environ", {})
    with respondent(find_subject(str(run))):
        assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
    assert llm.call_args.kwargs["gpu_memory_utilization"] == pytest.approx(0.3)
    # Memory that torch only keeps is given back before it is counted.
    assert asked[-2:] == ["empty_cache", "mem_get_info"]


def silent(done: float, note: str = "") -> None:
    """Nobody watches."""
