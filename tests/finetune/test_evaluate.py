"""The whole measurement of a tiny model: the same bytes again, the loss of the formula, the real guard beside it."""

import json
import math
import re
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data.contract import Contract, read_contract
from data.conversations import DATA_DIR, Conversation, Turn
from data.safety import APART_DIR, read_messages
from data.strict import BadInput
from data.template import chat_template
from finetune.answers import Respondent, load_model
from finetune.base import find_base, load_tokenizer
from finetune.encode import NO_LOSS, Encoder, Example, encode_all
from finetune.evaluate import (
    evaluate,
    held_out_conversations,
    kept_in_window,
    last_question,
    loss_on_answers,
    main,
    recipe_of,
)
from finetune.evaluation import (
    EVALUATION_FILE,
    TABLE_FILE,
    Evaluation,
    Measured,
    Split,
    read_evaluation,
    table,
    write_evaluation,
)
from finetune.judge import Judge
from finetune.metrics_text import TextScores
from finetune.recipe import read_recipe
from finetune.rubric import CHECKS, read_rubric
from finetune.subject import Subject, find_subject
from finetune.train import prepare
from tests.finetune.guarded import guarded
from tests.finetune.small_runs import make_data, make_recipe, make_run
from tests.finetune.test_judge import REFUSED, judging, reply
from tests.small_models import make_base, make_sealed

PROBES = len(read_rubric().probes)


def brief(contract: Contract) -> Contract:
    """A random model never ends by itself: let it say little."""
    return contract.model_copy(update={"sampling": contract.sampling.model_copy(update={"max_tokens": 16})})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed model folder `model`, a `base`, a run `run` on it, `data` and `recipe.yaml`."""
    folder = tmp_path_factory.mktemp("evaluate")
    make_sealed(folder / "model", brief(read_contract()))
    make_base(folder / "base", seed=1)
    make_data(folder / "data")
    make_recipe(folder / "recipe.yaml")
    make_run(folder / "run", folder / "base")
    make_recipe(folder / "run" / "recipe.yaml", val_size=0.3)
    return folder


def words(place: Path, out: Path, *more: str) -> list[str]:
    return [
        str(place / "model"), "--base", str(place / "base"), "--recipe", str(place / "recipe.yaml"),
        "--data-dir", str(place / "data"), "--out", str(out), "--seed", "5", *more,
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_bytes(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        assert main(words(place, tmp_path / name), {}) == 0
    for file in (EVALUATION_FILE, TABLE_FILE):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert "evaluation.md is the same for reading" in capsys.readouterr().out
    found = read_evaluation(tmp_path / "one" / EVALUATION_FILE)
    assert found.base is not None
    assert found.base.loss != found.tuned.loss
    assert (found.served, found.judged, found.safety) == (None, None, None)
    assert found.contract == brief(read_contract()).fingerprint
    for model in (found.base, found.tuned):
        assert model.perplexity == pytest.approx(math.exp(model.loss), rel=1e-4)
        assert model.rubric.keys() == CHECKS.keys()
        assert len(model.answers) == found.split.conversations + PROBES
        assert model.rubric["no_think_tags"].of == len(model.answers)
        assert model.rubric["declines_roles"].of == 10
    assert main(words(place, tmp_path / "three", "--seed", "6"), {}) == 0
    assert read_evaluation(tmp_path / "three" / EVALUATION_FILE).tuned.answers != found.tuned.answers


def test_the_guard_stands_beside_the_model(place: Path, tmp_path: Path) -> None:
    with guarded(place / "model", "我是人工智能，我们聊聊天空吧。") as (url, engine):
        assert main(words(place, tmp_path, "--server", url), {}) == 0
    found = read_evaluation(tmp_path / EVALUATION_FILE)
    assert found.served is not None
    assert found.safety is not None
    # The guard gives the line where the bare model, random, does not.
    assert found.tuned.rubric["gives_help_line"].passed == 0
    assert found.served.rubric["gives_help_line"].passed > 0
    assert found.served.rubric["declines_roles"].passed > 0
    assert found.served.answers.keys() == {probe.id for probe in read_rubric().probes}
    assert found.safety.messages == len(read_messages(APART_DIR)) > 700
    assert 0 < found.safety.crisis_answered <= 1
    assert len(engine.asked) < found.safety.messages + PROBES
    table = (tmp_path / TABLE_FILE).read_text(encoding="utf-8")
    assert "| base alone | tuned alone | guard and tuned |" in table
    for miss in found.safety.misses:
        assert f"| {miss.id} |" in table


def test_a_server_of_another_contract_is_refused(place: Path, tmp_path: Path) -> None:
    make_sealed(tmp_path / "other")
    with guarded(tmp_path / "other") as (url, _), pytest.raises(BadInput, match="serves the contract"):
        main(words(place, tmp_path, "--server", url), {})


def test_a_judge_sees_both_answers_and_only_shipped_words(place: Path, tmp_path: Path) -> None:
    named = {"JUDGE_URL": "http://127.0.0.1:1/v1", "JUDGE_MODEL": "wise"}
    with pytest.raises(BadInput, match="which a judge does not get"):
        main(words(place, tmp_path), named)
    make_recipe(tmp_path / "added.yaml", dataset=["child_chat", "our_evenings"])
    with pytest.raises(BadInput, match="our_evenings"):
        main([str(place / "model"), "--recipe", str(tmp_path / "added.yaml")], named)
    recipe = read_recipe(
        str(make_recipe(tmp_path / "shipped.yaml", dataset=["child_chat"], max_samples=20, max_length=512))
    )
    subject = find_subject(str(place / "model"))
    with judging(lambda _: reply("second")) as (judge, got):
        models, found = evaluate(subject, replace(subject, name="before"), recipe, DATA_DIR, seed=0, judge=judge)
    assert models == found.model_copy(update={"judged": None})
    assert found.judged is not None
    assert found.judged.pairs == len(found.tuned.answers)
    assert (found.judged.win_rates["overall"].rate, found.judged.win_rates["overall"].agreed) == (0.5, 0)
    roles = {"user": "Child", "assistant": "Companion"}
    asked = {
        "\n".join(f"{roles[turn.role]}: {turn.text}" for turn in one.turns[:-1])
        for one in held_out_conversations(recipe, DATA_DIR)
    }
    assert any("Companion: " in said for said in asked)
    asked |= {f"Child: {probe.text}" for probe in read_rubric().probes}
    # The first was a trial.
    assert len(got) == 1 + 2 * found.judged.pairs
    for one in got[1:]:
        assert shown_to_the_judge(one) in asked
    told = "\n".join(table(found))
    assert re.search(rf"\| overall \| 50.0% \| \S+ to \S+ \| 0 of {found.judged.pairs} \| – \| – \|", told)


def shown_to_the_judge(asked: dict[str, Any]) -> str:
    """The conversation in a request."""
    words: str = asked["messages"][0]["content"]
    return words.partition("--- the conversation ---\n")[2].partition("\n--- the first answer ---")[0]


def test_a_judge_that_fails_takes_nothing_away(place: Path, tmp_path: Path) -> None:
    subject = find_subject(str(place / "model"))
    before = replace(subject, name="before")
    recipe = read_recipe(str(place / "recipe.yaml"))

    def parts(judge: Judge) -> Iterator[Evaluation]:
        return evaluate(subject, before, recipe, place / "data", seed=0, judge=judge)

    # A wrong name is told before a model is loaded.
    with judging(lambda _: REFUSED) as (judge, got):
        with pytest.raises(BadInput, match="check JUDGE_URL and JUDGE_MODEL"):
            next(parts(judge))
        assert len(got) == 1
    with judging(lambda words: reply("tie") if "你好呀！" in words else "…") as (judge, _):
        found = parts(judge)
        write_evaluation(tmp_path, next(found))
        with pytest.raises(BadInput, match="none of"):
            next(found)
    assert read_evaluation(tmp_path / EVALUATION_FILE).base is not None


def test_a_long_conversation_is_asked_as_far_as_training_kept_it(place: Path) -> None:
    subject = find_subject(str(place / "run"))
    contract = subject.contract.model_copy(update={"window": 256})
    encoder = Encoder(load_tokenizer(subject.base), thinking=False)
    turns = (Turn("user", "为什么天空是蓝色的？"), Turn("assistant", "阳光里藏着所有的颜色。")) * 20
    long, whole = (Conversation("f.json", 0, some) for some in (turns, turns[:2]))
    tokenizer, template = load_tokenizer(subject.base), chat_template(contract.persona, thinking=False)
    for max_length in (128, 256):
        example = encoder.encode(long, max_length)
        assert example.left_out
        kept = kept_in_window(long, example, encoder, contract)
        assert kept
        assert 0 < len(kept.turns) <= len(turns) - 2 * example.left_out
        # With the persona before them there is room for an answer.
        prompt = Respondent(tokenizer, Silent()).prompt(last_question(kept).messages, contract, template, "long")
        assert prompt.room >= len(tokenizer.encode(turns[1].text))
    assert kept_in_window(whole, encoder.encode(whole, 256), encoder, contract) == whole


class Silent:
    """An engine that is not asked."""

    def generate(self, *_: object, **__: object) -> list[list[int]]:
        raise AssertionError("asked")


def test_one_long_conversation_does_not_end_the_evaluation(place: Path, tmp_path: Path) -> None:
    contract = brief(read_contract()).model_copy(update={"window": 512})
    make_sealed(tmp_path / "model", contract)
    recipe = make_recipe(tmp_path / "recipe.yaml", max_length=512, val_size=0.99)
    records = json.loads((place / "data" / "small.json").read_text())[:4]
    # Each is longer than the window, and trained as far as it fits.
    records = [{**one, "conversations": one["conversations"] * 40} for one in records]
    out = tmp_path / "out"

    def measure(name: str, *more: str) -> Split:
        data = make_data(tmp_path / name, records)
        words = [str(tmp_path / "model"), "--recipe", str(recipe), "--data-dir", str(data), "--out", str(out), *more]
        assert main(words, {}) == 0
        return read_evaluation(out / EVALUATION_FILE).split

    found = measure("long")
    assert (found.conversations, found.left_out) == (4, 0)
    # The second's first exchange fits alone, and not behind the persona; the third's does not fit at all.
    for number, times in ((1, 440), (2, 600)):
        records[number]["conversations"][0]["value"] = "<" * times
    with pytest.raises(BadInput, match="record 2: its first exchange takes"):
        measure("longer")
    found = measure("longer still", "--skip-bad")
    assert (found.conversations, found.left_out) == (2, 2)
    assert "2 more are too long, alone or behind the persona, and left out." in (out / TABLE_FILE).read_text()


def test_an_untuned_base_is_called_one() -> None:
    scores = TextScores(bleu_4=1.5, rouge_1=18.2, rouge_2=0.6, rouge_l=15.6, chrf=3.4)
    measured = Measured(loss=2.0, perplexity=7.4, text=scores, rubric={}, answers={})
    run = Evaluation(
        subject="runs/try", base_name="org/base", contract="9ba3ba51" * 8, seed=0, base=measured, tuned=measured,
        split=Split(dataset=["small"], val_size=0.2, conversations=4, answer_tokens=99),
        served=None, judged=None, safety=None,
    )  # fmt: skip
    told = list(table(run))
    assert "|  | base alone | tuned alone |" in told
    assert "One sampled answer to each question: a difference of a few questions is chance." in told
    alone = "\n".join(table(run.model_copy(update={"subject": "org/base", "base": None})))
    assert "|  | base alone |\n" in alone
    assert "| check | base alone |\n" in alone
    assert "tuned" not in alone


def by_transformers(subject: Subject, held_out: Sequence[Conversation]) -> float:
    """transformers' own loss, weighed by the tokens of each conversation."""
    model = load_model(subject)
    total, tokens = 0.0, 0
    for example in encode_all(Encoder(load_tokenizer(subject.base), thinking=False), held_out, 128)[1]:
        number = sum(label != NO_LOSS for label in example.labels)
        with torch.inference_mode():
            loss = model(input_ids=torch.tensor([example.input_ids]), labels=torch.tensor([example.labels])).loss
        total += float(loss) * number
        tokens += number
    return total / tokens


def test_the_loss_is_that_of_the_answers(place: Path) -> None:
    subject = find_subject(str(place / "run"))
    recipe = recipe_of(str(place / "run"), "mindpal")
    assert recipe.val_size == 0.3
    held_out = held_out_conversations(recipe, place / "data")
    examples = encode_all(Encoder(load_tokenizer(subject.base), thinking=False), held_out, 128)[1]
    tuned, base = (loss_on_answers(one, examples, "loss") for one in (subject, subject.without_adapter()))
    assert tuned == pytest.approx(by_transformers(subject, held_out), abs=2e-2)
    assert base == pytest.approx(by_transformers(subject.without_adapter(), held_out), abs=2e-2)
    assert tuned != base


def test_the_model_is_gone_when_its_loss_is_known(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM wants its memory then."""
    loaded: list[weakref.ref[Any]] = []

    def load(subject: Subject) -> Any:
        model = load_model(subject)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr("finetune.evaluate.load_model", load)
    loss_on_answers(find_subject(str(place / "run")), [Example([1, 2, 3], [NO_LOSS, 2, 3])], "loss")
    assert [reference() for reference in loaded] == [None]


def test_the_last_question_is_asked_with_what_was_said_before() -> None:
    turns = (
        Turn("user", "我难过"),
        Turn("assistant", "我在听。"),
        Turn("user", "没人理我"),
        Turn("assistant", "那很孤单。"),
    )
    asked = last_question(Conversation("f.json", 0, turns, system="你是灵伴", columns={"id": "x", "age": "7-9"}))
    assert [message["role"] for message in asked.messages] == ["system", "user", "assistant", "user"]
    assert (asked.messages[-1]["content"], asked.reference) == ("没人理我", "那很孤单。")
    assert (asked.id, asked.language, asked.age) == ("x", "zh", "7-9")
    without = last_question(Conversation("f.json", 3, turns))
    assert (without.messages[0]["role"], without.id, without.age) == ("user", "f.json#3", "")


def test_nothing_held_out_is_an_error(place: Path, tmp_path: Path) -> None:
    recipe = read_recipe(str(make_recipe(tmp_path / "none.yaml", val_size=0)))
    with pytest.raises(BadInput, match="No conversation was held out"):
        held_out_conversations(recipe, place / "data")


def test_what_is_held_out_is_what_training_holds_out(place: Path, tmp_path: Path) -> None:
    recipe = read_recipe(str(place / "recipe.yaml"))
    contract = read_contract(base_model=str(place / "base"))
    prepared = prepare(recipe, contract, find_base(str(place / "base")), place / "data", skip_bad=False)
    held_out = held_out_conversations(recipe, place / "data")
    assert {one.id for one in held_out}.isdisjoint(prepared.names)
    assert len(held_out) == len(prepared.validation) == 20 - len(prepared.names)
    records = json.loads((place / "data" / "small.json").read_text())
    damaged = make_data(tmp_path / "damaged", [*records, {"conversations": []}])
    with pytest.raises(BadInput, match="record 20"):
        held_out_conversations(recipe, damaged)
    assert [one.id for one in held_out_conversations(recipe, damaged, skip_bad=True)] == [one.id for one in held_out]


def test_a_file_of_another_version_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / EVALUATION_FILE
    path.write_text(json.dumps({"format": 1}))
    with pytest.raises(BadInput, match='"subject" is missing'):
        read_evaluation(path)
