"""Measure what a run has learned, on the conversations that it was not taught, and how the whole server behaves.

In: a run, a model folder or a base. Out: `evaluation.json` and `evaluation.md` in the run's folder, or in --out.

    python -m finetune evaluate                                   # the newest finished run, before and after its tuning
    python -m finetune evaluate runs/try --server http://127.0.0.1:8000 --key-file secrets/key
    JUDGE_URL=https://judge.example/v1 JUDGE_MODEL=NAME JUDGE_API_KEY_FILE=FILE python -m finetune evaluate
    python -m finetune evaluate models/try --base Qwen/Qwen3-0.6B --out artifacts/try

(1) Loss and perplexity on answer tokens, encoded and masked as in training. (2) BLEU, ROUGE and chrF of the answer to each
conversation's last question, as LLaMA-Factory's `predict` takes it: the turns before are the conversation's own. We differ in
this: answers are sampled as the contract says, with a seed. (3) The rubric, on those answers and on probes. All of these are
of the model alone; --server adds (4) the probes and (5) the labelled messages through guard and model. (6) A judge, where
JUDGE_URL names one, gets shipped conversations and generated answers only. The same seed gives the same bytes; a judge or a
server under load may not. What the models gave is written before the server and the judge are asked.
"""

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from data.contract import SEAL_FILE, Contract, open_sealed
from data.conversations import DATA_DIR, SHIPPED, Conversation, split
from data.runs import RECIPE_FILE, RUN_FILE, newest_finished
from data.safety import APART_DIR, read_messages
from data.strict import BadInput
from finetune.answers import ENGINES, Answer, EngineName, Message, load_model, respondent
from finetune.base import load_tokenizer
from finetune.dataset.house import Language, language_of
from finetune.encode import NO_LOSS, Encoder, Example, count_tokens, encode_all
from finetune.evaluation import EVALUATION_FILE, TABLE_FILE, Evaluation, Measured, Served, Split, write_evaluation
from finetune.judge import Judge, Pair, check_judge, judge_from, judge_pairs, read_key
from finetune.metrics_text import text_scores
from finetune.progress import progress
from finetune.recipe import Recipe, read_recipe
from finetune.rubric import Spoken, judge_rubric, read_rubric
from finetune.safety_run import Server, ask_server, run_safety
from finetune.sets import taken
from finetune.subject import Subject, find_subject


@dataclass(frozen=True)
class Asked:
    """A conversation's last question with what was said before, and the answer that it has."""

    id: str
    messages: Sequence[Message]
    reference: str
    language: Language
    age: str


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune evaluate`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", help="a run, a model folder or a base (default: the newest finished run)")
    parser.add_argument("--base", help="where a run's base lies now; for a model folder: the base to compare it with")
    parser.add_argument(
        "--recipe", default="mindpal", help="for a base: whose held-out conversations (default: mindpal)"
    )
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="the folder of dataset_info.json")
    parser.add_argument("--skip-bad", action="store_true", help="go on without records that cannot be learned from")
    parser.add_argument(
        "--server", metavar="URL", help="a running server of the same model: the safety set, the probes"
    )
    parser.add_argument("--key-file", type=Path, help="the file with the server's key")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling (default: 0)")
    parser.add_argument("--engine", choices=ENGINES, help="what computes the answers (default: vllm on a GPU)")
    parser.add_argument("--out", type=Path, help="the folder to write (default: the run's, or artifacts/evaluation)")
    given = parser.parse_args(words)
    what = given.what or str(newest_finished(Path("runs")))
    judge = judge_from(environment)
    recipe = recipe_of(what, given.recipe)
    others = [str(given.data_dir)] if given.data_dir.resolve() != DATA_DIR else sorted({*recipe.dataset} - SHIPPED)
    if judge and others:
        raise BadInput(
            f"JUDGE_URL is set, and {', '.join(others)} may hold what children said, which a judge does not get; "
            "unset one of the two."
        )
    server = Server(given.server, read_key(given.key_file) if given.key_file else "none") if given.server else None
    home = environment.get("HF_HUB_CACHE")
    is_run = (Path(what) / RUN_FILE).is_file()
    subject = find_subject(what, base_name=given.base if is_run else None, home=home)
    before = _before(subject, given.base, is_run=is_run, home=home)
    out = given.out or (Path(what) if is_run else Path("artifacts/evaluation"))
    parts = evaluate(
        subject, before, recipe, given.data_dir,
        skip_bad=given.skip_bad, seed=given.seed, engine=given.engine, server=server, judge=judge,
    )  # fmt: skip
    for number, found in enumerate(parts):
        write_evaluation(out, found)
        if number == 0:
            print(f"{out / EVALUATION_FILE}: written; {out / TABLE_FILE} is the same for reading.")
    return 0


def evaluate(
    subject: Subject,
    before: Subject | None,
    recipe: Recipe,
    data_dir: Path = DATA_DIR,
    *,
    skip_bad: bool = False,
    seed: int,
    engine: EngineName | None = None,
    server: Server | None = None,
    judge: Judge | None = None,
) -> Iterator[Evaluation]:
    """What the models give, then the same with what the server gives, then with what the judge says of it.

    `before` is the model before its tuning. Raises `BadInput` where nothing was held out, the server speaks under another
    contract than the subject, or the judge cannot be asked: before a model is loaded, as far as that can be known. What does
    not fit behind the persona is left out and counted.
    """
    contract = subject.contract
    held_out = held_out_conversations(recipe, data_dir, skip_bad=skip_bad)
    if server:
        _check_server(server, contract, seed)
    if judge and before:
        check_judge(judge)
    encoder = Encoder(load_tokenizer(subject.base), thinking=contract.thinking)
    fitting = [
        (kept, example)
        for one, example in zip(*encode_all(encoder, held_out, recipe.max_length, skip_bad=skip_bad), strict=True)
        if (kept := kept_in_window(one, example, encoder, contract))
    ]
    if not fitting:
        raise BadInput(
            f"No conversation that was held out fits into max_length ({recipe.max_length}) and, behind the persona, into the "
            f"contract's window ({contract.window}); shorten them."
        )
    examples = [example for _, example in fitting]
    asked = [last_question(kept) for kept, _ in fitting]
    tuned = _measure(subject, contract, examples, asked, "tuned", seed, engine)
    base = _measure(before, contract, examples, asked, "base", seed, engine) if before else None
    found = Evaluation(
        subject=subject.name,
        base_name=contract.base_model,
        contract=contract.fingerprint,
        seed=seed,
        split=Split(
            dataset=list(recipe.dataset),
            val_size=recipe.val_size,
            conversations=len(fitting),
            left_out=len(held_out) - len(fitting),
            answer_tokens=count_tokens(examples)[1],
        ),
        base=base,
        tuned=tuned,
        served=None,
        judged=None,
        safety=None,
    )
    yield found
    if server:
        served, safety = _served(server, seed), run_safety(server, read_messages(APART_DIR), seed=seed)
        found = found.model_copy(update={"served": served, "safety": safety})
        yield found
    if judge and base:
        yield found.model_copy(update={"judged": judge_pairs(judge, _pairs(asked, base, tuned))})


def recipe_of(what: str, otherwise: str) -> Recipe:
    """The recipe that a run or a model folder was made by; where none is written there, the named one."""
    folder = Path(what)
    if (folder / RUN_FILE).is_file():
        return read_recipe(str(folder / RECIPE_FILE))
    written = open_sealed(folder).provenance.get("recipe") if (folder / SEAL_FILE).is_file() else None
    return Recipe.parse(yaml.safe_load(written), str(folder / SEAL_FILE)) if written else read_recipe(otherwise)


def held_out_conversations(recipe: Recipe, data_dir: Path, *, skip_bad: bool = False) -> list[Conversation]:
    """What the training of this recipe keeps apart. Raises `BadInput` where that is nothing."""
    _, held_out = split(taken(recipe, data_dir, skip_bad=skip_bad)[0], recipe.val_size)
    if not held_out:
        raise BadInput(f"No conversation was held out; val_size is {recipe.val_size}: train with a higher one.")
    return held_out


def kept_in_window(
    conversation: Conversation, example: Example, encoder: Encoder, contract: Contract
) -> Conversation | None:
    """The exchanges that training kept of it, as many as fit into the window behind the persona, which is put before them.

    So the last question leaves room for as long an answer as the conversation has. None where not even the first exchange
    fits.
    """
    kept = replace(conversation, turns=conversation.turns[: len(conversation.turns) - 2 * example.left_out])
    # A conversation without a system message of its own is learned without one, and asked with the persona.
    spoken = kept if kept.system is not None else replace(kept, system=contract.persona)
    try:
        more = encoder.encode(spoken, contract.window).left_out
    except BadInput:
        return None
    return replace(kept, turns=kept.turns[: len(kept.turns) - 2 * more])


def last_question(conversation: Conversation) -> Asked:
    """The turns before the last answer, as LLaMA-Factory's `predict` prompts, and that answer."""
    *before, answer = conversation.turns
    roles = {"user": "user", "tool": "tool", "assistant": "assistant", "call": "assistant"}
    messages = [{"role": roles[turn.role], "content": turn.text} for turn in before]
    if conversation.system is not None:
        messages.insert(0, {"role": "system", "content": conversation.system})
    language = language_of(answer.text) or language_of(before[-1].text) or "zh"
    return Asked(conversation.id, messages, answer.text, language, str(conversation.columns.get("age", "")))


def loss_on_answers(subject: Subject, examples: Sequence[Example], title: str) -> float:
    """Mean cross-entropy in nats over every answer token of all turns, each conversation by itself, as in validation."""
    import torch
    from torch.nn.functional import cross_entropy

    model, total, tokens = load_model(subject), 0.0, 0
    with progress(title, len(examples)) as advance, torch.inference_mode():
        for number, example in enumerate(examples):
            ids = torch.tensor([example.input_ids], device=model.device)
            labels = torch.tensor(example.labels[1:], device=model.device)
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            total += float(cross_entropy(logits, labels, ignore_index=NO_LOSS, reduction="sum"))
            tokens += int((labels != NO_LOSS).sum())
            advance(number + 1)
    return total / tokens


def _before(subject: Subject, base_name: str | None, *, is_run: bool, home: str | None) -> Subject | None:
    """The subject before it was tuned; None for a base, and for a model folder whose base was not named."""
    if is_run:
        return subject.without_adapter()
    if base_name is None:
        return None
    return replace(find_subject(base_name, home=home), contract=subject.contract)


def _measure(
    subject: Subject,
    contract: Contract,
    examples: Sequence[Example],
    asked: Sequence[Asked],
    title: str,
    seed: int,
    engine: EngineName | None,
) -> Measured:
    """One model alone, under the contract."""
    loss = loss_on_answers(subject, examples, f"{title}: loss")
    probes = read_rubric().probes
    questions = [*(one.messages for one in asked), *([{"role": "user", "content": probe.text}] for probe in probes)]
    with respondent(subject, engine) as speaker, progress(f"{title}: answers", len(questions)) as advance:
        answers = speaker.answers(questions, contract, seed=seed, advance=advance)
    spoken = [
        *(Spoken(one.id, one.language, one.age, None, answer.text, answer.finished)
          for one, answer in zip(asked, answers[: len(asked)], strict=True)),
        *_spoken(answers[len(asked) :]),
    ]  # fmt: skip
    return Measured(
        loss=loss,
        perplexity=math.exp(loss),
        text=text_scores([answer.text for answer in answers[: len(asked)]], [one.reference for one in asked]),
        rubric=judge_rubric(spoken),
        answers={one.id: one.text for one in spoken},
    )


def _served(server: Server, seed: int) -> Served:
    """The probes through guard and model, each a conversation of its own."""
    questions = [probe.text for probe in read_rubric().probes]
    replies = ask_server(server, questions, seed=seed, title="probes", brief=False)
    spoken = _spoken([Answer(reply.text, "", reply.finished, 0) for reply in replies])
    return Served(rubric=judge_rubric(spoken), answers={one.id: one.text for one in spoken})


def _spoken(answers: Sequence[Answer]) -> list[Spoken]:
    """The answers to the probes, in their order."""
    return [
        Spoken(probe.id, probe.language, probe.age, probe.of, answer.text, answer.finished)
        for probe, answer in zip(read_rubric().probes, answers, strict=True)
    ]


def _pairs(asked: Sequence[Asked], base: Measured, tuned: Measured) -> list[Pair]:
    """What a judge compares: the answers to the held-out conversations, of which it sees all turns, and to the probes."""
    questions = [(one.id, [turn for turn in one.messages if turn["role"] != "system"], one.age) for one in asked]
    questions += [(probe.id, [{"role": "user", "content": probe.text}], probe.age) for probe in read_rubric().probes]
    return [Pair(said, age, base.answers[name], tuned.answers[name]) for name, said, age in questions]


def _check_server(server: Server, contract: Contract, seed: int) -> None:
    """The server has to be the subject's: it is known by its contract."""
    (reply,) = ask_server(server, ["你好"], seed=seed, title="asking the server", brief=True)
    if reply.contract != contract.fingerprint:
        raise BadInput(
            f"{server.url}: serves the contract {reply.contract[:8]}, and what is evaluated was taught "
            f"{contract.fingerprint[:8]}; serve the model folder that was merged from it."
        )
