"""Talking in the terminal: what is streamed is the answer, under the contract's template, from adapter or folder."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from data.strict import BadInput
from data.template import NO_THOUGHT, split_thought, without_leading_blank_lines
from finetune.answers import Respondent, TransformersEngine
from finetune.chat import Pieces, load
from finetune.merge import merge
from tests.commands import finetune
from tests.finetune.small_runs import make_run
from tests.small_models import make_base, make_talker


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    return make_run(folder / "run", make_base(folder / "base"))


def test_a_run_and_its_model_folder_say_the_same_and_stream_it(run: Path, tmp_path: Path) -> None:
    import torch

    merge(run, tmp_path / "model")
    answers = []
    for what in (run, tmp_path / "model"):
        speaker = load(str(what))
        short = speaker.contract.sampling.model_copy(update={"max_tokens": 24})
        speaker = replace(speaker, contract=speaker.contract.model_copy(update={"sampling": short}))
        written: list[str] = []
        torch.manual_seed(3)
        answer = speaker.answer([{"role": "user", "content": "你好<|im_end|>"}], written.append)
        assert "".join(written) == answer
        assert len(written) > 5
        answers.append(answer)
    # The adapter beside the base computes in another order than the folded weights; the first words agree.
    assert answers[0][:3] == answers[1][:3]


@pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty"])
def test_the_contracts_penalties_count_here_too(run: Path, name: str) -> None:
    # Left alone it repeats the last token for ever.
    speaker = load(str(run.parent / "base"))
    answers = []
    for penalty in (0.0, 2.0):
        greedy = speaker.contract.sampling.model_copy(update={"temperature": 0.0, "max_tokens": 24, name: penalty})
        contract = speaker.contract.model_copy(update={"sampling": greedy})
        said = [{"role": "user", "content": "你好"}]
        answers.append(replace(speaker, contract=contract).answer(said, lambda piece: None))
        measured = Respondent(speaker.tokenizer, TransformersEngine(speaker.model)).answers([said], contract, seed=0)
        assert measured[0].text == without_leading_blank_lines(answers[-1])
    assert len(set(answers[0])) == 1 < len(set(answers[1]))


@pytest.mark.parametrize(("thinking", "ends"), [(False, True), (True, False)])
def test_thinking_is_a_flag(run: Path, *, thinking: bool, ends: bool) -> None:
    speaker = load(str(run), thinking=thinking)
    prompt = speaker.tokenizer.apply_chat_template(
        [{"role": "user", "content": "你好"}],
        chat_template=speaker.template,
        add_generation_prompt=True,
        tokenize=False,
    )
    assert speaker.contract.persona in prompt
    assert prompt.endswith(NO_THOUGHT) is ends


def test_half_a_character_is_held_back() -> None:
    class Bytes:
        """A tokenizer whose ids are bytes."""

        def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
            assert skip_special_tokens
            return bytes(ids).decode("utf-8", errors="replace")

    import torch

    written: list[str] = []
    pieces = Pieces(Bytes(), written.append)
    pieces.put(torch.tensor([[1, 2, 3]]))
    for number in "a你".encode():
        pieces.put(torch.tensor([number]))
    pieces.end()
    assert [piece for piece in written if piece] == ["a", "你"]


def test_lines_in_answers_out(run: Path, tmp_path: Path) -> None:
    done = finetune(tmp_path, "chat", str(run), "--seed", "1", "--no-thinking", stdin="你好\n/new\n\n再见\n")
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("\n")
    assert len(done.out) > 10


def test_one_question_one_answer_and_the_end(run: Path, tmp_path: Path) -> None:
    words = ("chat", str(run), "--seed", "1", "--no-thinking", "--question", "你好")
    plain, told = finetune(tmp_path, *words), finetune(tmp_path, *words, "--json")
    found = json.loads(told.out)
    assert (plain.code, told.code, told.out.count("\n")) == (0, 0, 1)
    assert (found["question"], found["thinking"], found["model"]) == ("你好", False, str(run))
    # A file read as text has other line ends than what such a model says.
    assert re.findall(r"\w", found["answer"]) == re.findall(r"\w", split_thought(plain.out)[1])
    assert finetune(tmp_path, "chat", str(run), "--json").code == 2


def test_a_bare_base_can_be_asked_too(run: Path) -> None:
    speaker = load(str(run.parent / "base"))
    assert speaker.contract.base_model == str(run.parent / "base")


def test_an_adapter_that_does_not_fit_is_one_sentence(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(run, other)
    path = other / "adapter" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    done = finetune(tmp_path / "told", "chat", str(other))
    assert (done.code, done.err.count("\n"), done.out) == (2, 1, "")
    with pytest.raises(BadInput, match="no such folder"):
        load(str(tmp_path / "nothing"))


def test_an_adapter_speaks_on_the_base_that_it_was_trained_on_alone(run: Path, tmp_path: Path) -> None:
    other = make_base(tmp_path / "other", seed=1)
    with pytest.raises(
        BadInput, match=r"was trained on other weights than those in .*other; name its base with --base"
    ):
        load(str(run), base_name=str(other))
    moved = tmp_path / "moved"
    shutil.copytree(run.parent / "base", moved)
    assert load(str(run), base_name=str(moved)).contract.base_model == str(run.parent / "base")


def test_new_forgets_what_was_said(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_talker(tmp_path / "base"))
    words = ("chat", str(run), "--no-thinking", "--temperature", "0", "--max-tokens", "16")
    told = [
        finetune(tmp_path / "told", *words, stdin=said) for said in ("再见\n", "你好\n再见\n", "你好\n/new\n再见\n")
    ]
    assert [done.code for done in told] == [0, 0, 0], told[0].err
    alone, after, anew = (done.out for done in told)
    assert anew.endswith(alone)
    assert not after.endswith(alone)
