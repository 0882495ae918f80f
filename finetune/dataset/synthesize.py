"""Grow a set with a teacher: any model behind an OpenAI-compatible address.

In: a teacher's address, the registered sets (examples to learn the manner from, and texts not to repeat). Out: a data
folder of its own, with `grown.jsonl` (kept), `rejected.jsonl` (with the reasons) and a `dataset_info.json`.

    python -m finetune data synthesize --teacher http://127.0.0.1:8000/v1 --model NAME --count 100
    python -m finetune data check grown --data-dir artifacts/grown

Each candidate passes every rule of `data check`, and is compared with all conversations there are. The same command
goes on where a run was killed. A key for the teacher is read from OPENAI_API_KEY. What was grown is read by a person
before it is moved into a set: no rule sees a wrong fact.
"""

import argparse
import asyncio
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from data.contract import read_contract
from data.conversations import (
    DATA_DIR,
    INDEX_FILE,
    Conversation,
    Dataset,
    Problem,
    conversations,
    datasets_in,
    read_record,
)
from data.runs import dump, write_whole
from data.strict import BadInput, read_json
from data.template import split_thought
from finetune.dataset.check import Checker
from finetune.dataset.house import House, Language, read_house
from finetune.dataset.lengths import find_ruler
from finetune.endpoint import asking
from finetune.progress import progress
from finetune.recipe import read_recipe

if TYPE_CHECKING:
    from openai import AsyncOpenAI

OUT = Path("artifacts/grown")
KEPT_FILE, REJECTED_FILE, PLAN_FILE = "grown.jsonl", "rejected.jsonl", "plan.json"
ENTRY = {
    "file_name": KEPT_FILE,
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "system": "system"},
}
# The teacher's own sampling would give every candidate of a topic the same face.
_TEMPERATURE = 1.0
# Before a request is given up: 0.5 s, 1 s, 2 s, … or what the teacher's Retry-After says.
_RETRIES = 6
_TIMEOUT_S = 180
# So many candidates are tried for one that is kept before the teacher is called unfit.
_TRIES = 10
_LANGUAGES = {"zh": "simplified Chinese", "en": "English"}


@dataclass(frozen=True)
class Job:
    """One candidate to ask for."""

    number: int
    topic: str
    age: str
    language: Language
    examples: tuple[Conversation, ...]

    @property
    def id(self) -> str:
        return f"grown-{self.language}-{self.topic.replace('_', '-')}-{self.number:05d}"


@dataclass
class Plan:
    """What is asked for, in an order that depends on the seed alone: a run that goes on asks for what is left."""

    language: Language
    topics: list[str]
    house: House
    known: list[Conversation]
    seed: int = 0
    _by_topic: dict[str, list[Conversation]] = field(default_factory=dict)

    def job(self, number: int) -> Job:
        """The job of that number, from 0: all topics in turn, each for all ages."""
        topic = self.topics[number % len(self.topics)]
        age = self.house.ages[number // len(self.topics) % len(self.house.ages)]
        near = [
            one
            for one in self.known
            if one.columns.get("topic") == topic and one.columns.get("language") == self.language
        ] or [one for one in self.known if one.columns.get("language") == self.language]
        chosen = random.Random(f"{self.seed} {number}").sample(near, min(2, len(near)))
        return Job(number, topic, age, self.language, tuple(chosen))


def instructions(job: Job, house: House) -> str:
    """What the teacher is told: the house's rules in its words, and two examples of the manner."""
    low, high = house.answer_length[job.language]
    unit = "characters" if job.language == "zh" else "words"
    examples = "\n".join(json.dumps(_turns(example), ensure_ascii=False) for example in job.examples)
    return f"""\
Write one conversation between a child of {job.age} and MindPal, an AI companion, in {_LANGUAGES[job.language]}.
Topic: {job.topic.replace("_", " ")}. Number {job.number}: think of a situation that nobody else would think of.

An answer hears the feeling or the question first, in words of its own; gives one or two steps that this child can really
do, or a true explanation in words of that age; mostly ends with one open question or something to try. It does not
lecture, flatter, diagnose, promise secrecy, ask for name, address, school or pictures, or pretend to be a person. In danger it
comforts first, blames nobody, and names a trusted adult to go to now. The child speaks like a child: short and concrete.

{house.exchanges[0]} to {house.exchanges[1]} exchanges; each answer {low} to {high} {unit}, with at most {house.questions} question marks.
Answer with nothing but a JSON list, the child first: [{{"from": "human", "value": "…"}}, {{"from": "gpt", "value": "…"}}, …]

The manner, not to be repeated:
{examples}"""


def record_of(reply: str, job: Job, persona: str) -> dict[str, Any]:
    """The record that a teacher's reply holds. Raises ValueError with the reason where it holds none."""
    _, words = split_thought(reply)
    found = re.search(r"\[\s*\{.*\}\s*\]", words, flags=re.DOTALL)
    if not found:
        raise ValueError("the reply holds no JSON list of turns")
    try:
        turns = json.loads(found[0])
    except ValueError as error:
        raise ValueError(f"the reply's list is not valid JSON: {error}") from None
    return {
        "id": job.id,
        "topic": job.topic,
        "age": job.age,
        "language": job.language,
        "system": persona,
        "conversations": turns,
    }


class Store:
    """The output folder. Every line is on the disk before the next candidate counts; half a line is cut off."""

    def __init__(self, folder: Path, plan: dict[str, Any]):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / PLAN_FILE).is_file():
            if read_json(folder / PLAN_FILE) != plan:
                raise BadInput(
                    f"{folder}: was begun with other topics, language or seed ({PLAN_FILE}); name another --out."
                )
        elif (folder / INDEX_FILE).exists():
            raise BadInput(f"{folder}: holds data sets already; name another --out.")
        else:
            write_whole(folder / INDEX_FILE, dump({"grown": ENTRY}))
            write_whole(folder / PLAN_FILE, dump(plan))
        self.kept = list(_whole_lines(folder / KEPT_FILE))
        self.rejected = list(_whole_lines(folder / REJECTED_FILE))
        self.done = {line["number"] for line in [*self.kept, *self.rejected]}
        self._kept = (folder / KEPT_FILE).open("a", encoding="utf-8", errors="backslashreplace")
        self._rejected = (folder / REJECTED_FILE).open("a", encoding="utf-8", errors="backslashreplace")

    def keep(self, job: Job, record: dict[str, Any]) -> None:
        """Add a conversation."""
        self._add(self._kept, self.kept, {**record, "number": job.number})

    def reject(self, job: Job, reasons: list[str], reply: str) -> None:
        """Put a reply aside, with the reasons."""
        line = {"number": job.number, "id": job.id, "reasons": reasons, "reply": reply}
        self._add(self._rejected, self.rejected, line)

    def close(self) -> None:
        self._kept.close()
        self._rejected.close()

    def _add(self, file: TextIO, lines: list[dict[str, Any]], line: dict[str, Any]) -> None:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
        lines.append(line)
        self.done.add(int(line["number"]))


@dataclass
class Grower:
    """Asks, judges and keeps."""

    plan: Plan
    store: Store
    checker: Checker
    model: str
    count: int
    _next: int = 0
    _under_way: int = 0

    def judge(self, job: Job, reply: str) -> None:
        """Keep what a reply holds, or put it aside."""
        self._under_way -= 1
        try:
            record = record_of(reply, job, self.checker.contract.persona)
        except ValueError as error:
            self.store.reject(job, [str(error)], reply)
            return
        found = read_record(record, len(self.store.kept), KEPT_FILE, Dataset.parse(ENTRY, KEPT_FILE))
        reasons = [found.sentence] if isinstance(found, Problem) else [
            f"turn {finding.turn}: {finding.sentence} [{finding.rule}]" for finding in self.checker.look(found)
        ]  # fmt: skip
        if isinstance(found, Problem) or reasons:
            self.store.reject(job, reasons, reply)
        else:
            self.checker.remember(found)
            self.store.keep(job, record)

    def next_job(self) -> Job | None:
        """The next job that is left; None while those under way may be enough, or when too many were tried."""
        if len(self.store.kept) + self._under_way >= self.count:
            return None
        while self._next < self.count * _TRIES:
            number, self._next = self._next, self._next + 1
            if number not in self.store.done:
                self._under_way += 1
                return self.plan.job(number)
        return None


async def grow(grower: Grower, teacher: str, key: str, concurrency: int) -> None:
    """Ask until enough is kept. Raises `BadInput` where the teacher cannot be asked; what was kept stays."""
    from openai import AsyncOpenAI

    with progress("growing", grower.count) as advance:
        async with AsyncOpenAI(base_url=teacher, api_key=key, max_retries=_RETRIES, timeout=_TIMEOUT_S) as client:

            async def work() -> None:
                while job := grower.next_job():
                    grower.judge(job, await _ask(client, grower.model, instructions(job, grower.plan.house), teacher))
                    advance(len(grower.store.kept), f"{len(grower.store.rejected)} rejected")

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(concurrency):
                        group.create_task(work())
            except ExceptionGroup as failures:
                # The first failure ended the others.
                raise failures.exceptions[0] from None


async def _ask(client: "AsyncOpenAI", model: str, words: str, teacher: str) -> str:
    from openai.types.chat import ChatCompletion

    again = " The same command goes on where this one ended."
    with asking(
        f"{teacher}:",
        _TIMEOUT_S,
        unknown="check OPENAI_API_KEY",
        otherwise="check --teacher and --model",
        then=again,
    ):
        done = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": words}], temperature=_TEMPERATURE
        )
    if not isinstance(done, ChatCompletion) or not done.choices:
        raise BadInput(f"{teacher}: answered something else than a chat completion; such addresses end in /v1.{again}")
    return done.choices[0].message.content or ""


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune data synthesize`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune data synthesize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--teacher", required=True, metavar="URL", help="an OpenAI-compatible address, such as http://127.0.0.1:8000/v1"
    )
    parser.add_argument("--model", required=True, help="the teacher's name there")
    parser.add_argument(
        "--count", required=True, type=int, help="how many conversations to keep, earlier runs included"
    )
    parser.add_argument("--language", choices=list(_LANGUAGES), default="zh")
    parser.add_argument("--topics", help="names with commas between (default: all that the sets have in the language)")
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="the folder of dataset_info.json")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the folder to make (default: {OUT})")
    parser.add_argument("--concurrency", type=int, default=4, help="requests at a time (default: 4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--recipe", default="mindpal", help="whose max_length a conversation has to fit (default: mindpal)"
    )
    parser.add_argument("--tokenizer", type=Path, help="a base's folder; as for `data check`")
    given = parser.parse_args(words)
    if given.count < 1 or given.concurrency < 1:
        raise BadInput("--count and --concurrency have to be 1 or more.")
    contract, house = read_contract(), read_house()
    known = [one for name in datasets_in(given.data_dir) for one in conversations(name, given.data_dir)[0]]
    topics = given.topics.split(",") if given.topics else _topics(known, given.language)
    if not topics:
        raise BadInput(f"{given.data_dir}: no set has topics in {given.language}; name some with --topics.")
    plan = Plan(given.language, topics, house, known, given.seed)
    checker = Checker(
        contract, read_recipe(given.recipe).max_length, find_ruler(given.tokenizer, contract, environment)
    )
    for one in known:
        checker.remember(one)
    store = Store(given.out, {"language": given.language, "topics": topics, "seed": given.seed})
    try:
        for row, line in enumerate(store.kept):
            found = read_record(line, row, KEPT_FILE, Dataset.parse(ENTRY, KEPT_FILE))
            if isinstance(found, Conversation):
                checker.remember(found)
        grower = Grower(plan, store, checker, given.model, given.count)
        asyncio.run(grow(grower, given.teacher, environment.get("OPENAI_API_KEY") or "none", given.concurrency))
    finally:
        store.close()
    return _tell(grower)


def _tell(grower: Grower) -> int:
    store = grower.store
    rules = Counter(
        match[1] if (match := re.search(r"\[(\w+)\]$", reason)) else "no conversation"
        for line in store.rejected
        for reason in line["reasons"]
    )
    print(
        f"{store.folder / KEPT_FILE}: {len(store.kept)} kept, {len(store.rejected)} rejected ({REJECTED_FILE} says why)"
    )
    for rule, number in rules.most_common():
        print(f"  {number:6} {rule}")
    if len(store.kept) >= grower.count:
        return 0
    print(
        f"{grower.count * _TRIES} candidates gave no {grower.count} that pass; read {REJECTED_FILE}, or ask a better teacher."
    )
    return 1


def _topics(known: list[Conversation], language: str) -> list[str]:
    return sorted(
        {
            str(one.columns["topic"])
            for one in known
            if one.columns.get("language") == language and "topic" in one.columns
        }
    )


def _turns(conversation: Conversation) -> list[dict[str, str]]:
    names = {"user": "human", "assistant": "gpt", "tool": "observation", "call": "function_call"}
    return [{"from": names[turn.role], "value": turn.text} for turn in conversation.turns]


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file; the half line that a killed run left is cut off."""
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    for line in whole.splitlines():
        yield json.loads(line)
