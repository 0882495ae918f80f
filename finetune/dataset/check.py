"""Find what is wrong with the sets, record by record.

In: sets of `dataset_info.json`, and the guard's messages. Out: findings, each with file, record and turn (from 0).

    python -m finetune data check                       # every registered set, and safety/*.jsonl
    python -m finetune data check child_chat safety
    python -m finetune data check my_set --data-dir ../LLaMA-Factory/data --json

An error is what must not be trained on; a warning is worth a look. Exit code 1 if there is an error, 2 if a set cannot
be found. Rules on ages, lengths and wording (house.yaml) hold for sets whose records carry a `topic`.
"""

import argparse
import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from data.contract import Contract, read_contract
from data.conversations import DATA_DIR, Conversation, Problem, datasets_in, find_dataset, read_dataset
from data.strict import BadInput
from data.template import CONTROL_TOKENS, split_thought
from finetune.dataset import safety
from finetune.dataset.house import House, Language, craft, forbidden, language_of, read_house, sentences
from finetune.dataset.lengths import Ruler, find_ruler
from finetune.dataset.near import NearDuplicates, normal
from finetune.dataset.personal import personal_data
from finetune.encode import THOUGHT_ALONE
from finetune.progress import counted
from finetune.recipe import read_recipe

SAFETY = "safety"
Level = Literal["error", "warning"]

# Two answers that share half of their shingles are one answer with words swapped. Of our 4,000 no two share 0.3.
ANSWERS_ALIKE = 0.5
# A first question is short: one more word changes a third of it.
QUESTIONS_ALIKE = 0.6
# Two thirds of a gigabyte of index: beyond it answers are compared word by word only, and a warning says so.
COMPARED_AT_MOST = 200_000
# How many findings of one rule are printed for people unless they ask for all.
_SHOWN = 20


@dataclass(frozen=True)
class Finding:
    """What is wrong where. Records and turns are counted from 0; the sentence never repeats what was said."""

    level: Level
    rule: str
    file: str
    row: int | None
    turn: int | None
    sentence: str

    def __str__(self) -> str:
        return f"{self.level}: {Problem(self.file, self.row, self.turn, self.sentence)} [{self.rule}]"


@dataclass
class Tally:
    """One checked file: how many records it holds, how many of them are good enough to be learned from."""

    name: str
    file: str
    records: int = 0
    readable: int = 0
    errors: int = 0
    warnings: int = 0


@dataclass
class Checker:
    """Looks at conversations one after another, and remembers those before.

    `ours` tells whether the house's rules hold for the set at hand.
    """

    contract: Contract
    window: int
    ruler: Ruler
    house: House = field(default_factory=read_house)
    ours: bool = True
    _ids: dict[str, str] = field(default_factory=dict)
    _questions: NearDuplicates = field(default_factory=lambda: NearDuplicates(QUESTIONS_ALIKE))
    _answers: NearDuplicates = field(default_factory=lambda: NearDuplicates(ANSWERS_ALIKE))
    _same_answers: dict[str, str] = field(default_factory=dict)
    _sentences: dict[int, str] = field(default_factory=dict)
    _compared: int = 0
    # Rows without a column that others of the set have; rows of each topic by age.
    _without: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    _topics: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def start(self, *, ours: bool) -> None:
        """Begin another set: ids have to be unique in a set, texts in all of them."""
        self.ours = ours
        self._ids.clear()
        self._without.clear()

    def look(self, conversation: Conversation) -> list[Finding]:
        """What is wrong with a conversation, beside those remembered."""
        found = list(self._look(conversation))
        return [
            Finding(level, rule, conversation.file, conversation.row, turn, told) for level, rule, turn, told in found
        ]

    def remember(self, conversation: Conversation) -> None:
        """Let later conversations be compared with this one."""
        where = f"{conversation.file} record {conversation.row}"
        if "id" in conversation.columns:
            self._ids.setdefault(conversation.id, where)
        if self._compared <= COMPARED_AT_MOST:
            self._questions.remember(conversation.turns[0].text, where)
        for place, turn in enumerate(conversation.turns):
            if turn.role != "assistant":
                continue
            at = f"{where}, turn {place}"
            self._same_answers.setdefault(normal(turn.text), at)
            if self._compared <= COMPARED_AT_MOST:
                self._answers.remember(turn.text, at)
            for sentence in sentences(turn.text, self._language(conversation), self.house):
                self._sentences.setdefault(hash(sentence), at)
            self._compared += 1
        for column in ("topic", "age", "language"):
            if column not in conversation.columns:
                self._without[column].append(conversation.row)
        if self.ours:
            self._topics[str(conversation.columns.get("topic", ""))][str(conversation.columns.get("age", ""))] += 1

    def end(self, file: str) -> Iterator[Finding]:
        """What can be told only of a whole set."""
        if self.ours:
            for column, rows in self._without.items():
                for row in rows:
                    yield Finding(
                        "error", "columns", file, row, None, f'has no "{column}"; add it, as the others have it.'
                    )
        elif self._without:
            columns = ", ".join(self._without)
            told = f"its records have no {columns}: nothing is known about whom they are for."
            yield Finding("warning", "columns", file, None, None, told)
        if self._compared > COMPARED_AT_MOST:
            told = f"of {self._compared} answers the first {COMPARED_AT_MOST} were compared for near-duplicates."
            yield Finding("warning", "near_duplicate", file, None, None, told)

    def coverage(self, file: str) -> Iterator[Finding]:
        """Topics with few conversations, or none for an age, over all sets of ours together."""
        for topic, ages in self._topics.items():
            if not topic:
                continue
            if ages.total() < self.house.conversations_a_topic:
                told = f'the topic "{topic}" has {ages.total()} conversations; {self.house.conversations_a_topic} make one.'
                yield Finding("warning", "coverage", file, None, None, told)
            for age in self.house.ages:
                if not ages[age]:
                    told = f'the topic "{topic}" has no conversation for the age {age}.'
                    yield Finding("warning", "coverage", file, None, None, told)

    def _look(self, conversation: Conversation) -> Iterator[tuple[Level, str, int | None, str]]:
        house_level: Level = "error" if self.ours else "warning"
        for remark in conversation.remarks:
            yield "warning", "remark", None, remark
        yield from self._columns(conversation)
        yield from self._length(conversation)
        language = self._language(conversation)
        for place, turn in enumerate(conversation.turns):
            for rule, level, told in _signs(turn.text):
                yield level, rule, place, told
            for kind in personal_data(turn.text):
                told = f"holds what looks like {kind}; leave it out or write one that cannot exist (13800000000, a@example.com)."
                yield "error", "personal_data", place, told
            if turn.role == "assistant":
                thought, said = split_thought(turn.text)
                if not self.contract.thinking and not said.strip():
                    yield "error", "thought", place, THOUGHT_ALONE
                elif not self.contract.thinking and thought:
                    yield "warning", "thought", place, "its <think> block is left out: the contract's thinking is off."
                if "language" in conversation.columns or self.ours:
                    for told in forbidden(turn.text, language, self.house):
                        yield "error", "words", place, f"an answer that {told}; write it anew."
        yield from self._language_fits(conversation)
        if self.ours:
            for at, rule, told in craft(conversation, language, self.house):
                yield "error", rule, at, told
        yield from self._repeats(conversation, language, house_level)

    def _columns(self, conversation: Conversation) -> Iterator[tuple[Level, str, int | None, str]]:
        columns = conversation.columns
        if "id" in columns and conversation.id in self._ids:
            yield (
                "error",
                "id",
                None,
                f'its id "{conversation.id}" is also that of {self._ids[conversation.id]}; give it its own.',
            )
        if not self.ours:
            return
        if columns.get("age", self.house.ages[0]) not in self.house.ages:
            yield "error", "age", None, f"its age is {columns['age']!r}; known are {', '.join(self.house.ages)}."
        if columns.get("language", "zh") not in self.house.languages:
            yield (
                "error",
                "language",
                None,
                f"its language is {columns['language']!r}; known are {', '.join(self.house.languages)}.",
            )
        topic = columns.get("topic", "x")
        if not isinstance(topic, str) or not topic.strip():
            yield "error", "topic", None, f'its topic is {topic!r}; name one, such as "friendship".'
        if conversation.system is not None and conversation.system != self.contract.persona:
            yield (
                "warning",
                "persona",
                None,
                "its system message is not the contract's persona, with which it will be served.",
            )

    def _length(self, conversation: Conversation) -> Iterator[tuple[Level, str, int | None, str]]:
        if not self.ruler.exact and self.ruler.cannot_fit(conversation, self.window):
            longest = max((0, 1), key=lambda place: len(conversation.turns[place].text))
            told = f"has {len(conversation.turns[longest].text)} characters, more than fit into {self.window} tokens; shorten it."
            yield "error", "length", longest, told
            return
        if self.ruler.surely_fits(conversation, self.window):
            return
        try:
            exchanges = self.ruler.exchanges(conversation)
        except BadInput as error:
            yield "error", "encoding", None, str(error).split(": ", 1)[-1]
            return
        total = 0
        for number, (prompt, answer) in enumerate(exchanges):
            total += prompt + answer
            if total <= self.window:
                continue
            if not self.ruler.exact:
                told = f"may not fit into {self.window} tokens ({total} bytes so far); name a --tokenizer to know."
                yield "warning", "length", 2 * number, told
            elif number == 0:
                longest = 0 if prompt > answer else 1
                told = f"its first exchange takes {total} tokens, more than {self.window}; shorten this turn."
                yield "error", "length", longest, told
            else:
                left = len(exchanges) - number
                told = (
                    f"the exchanges from here on ({left}) do not fit into {self.window} tokens and will not be learned."
                )
                yield "warning", "length", 2 * number, told
            return

    def _language(self, conversation: Conversation) -> Language:
        for language in self.house.languages:
            if conversation.columns.get("language") == language:
                return language
        return language_of(" ".join(turn.text for turn in conversation.turns)) or "en"

    def _language_fits(self, conversation: Conversation) -> Iterator[tuple[Level, str, int | None, str]]:
        named = conversation.columns.get("language")
        if named not in self.house.languages:
            return
        for place, turn in enumerate(conversation.turns):
            seen = language_of(turn.text) if turn.role == "assistant" else None
            if seen and seen != named:
                yield "error", "language", place, f'the answer is in "{seen}", the record\'s language is "{named}".'
        asked = language_of(" ".join(turn.text for turn in conversation.turns if turn.role == "user"))
        if asked and asked != named:
            yield "warning", "language", 0, f'the questions are in "{asked}", the record\'s language is "{named}".'

    def _repeats(
        self, conversation: Conversation, language: Language, house_level: Level
    ) -> Iterator[tuple[Level, str, int | None, str]]:
        near = self._questions.find(conversation.turns[0].text)
        if near and near.similarity == 1:
            yield house_level, "first_question", 0, f"the first question is that of {near.place}; ask another."
        elif near:
            told = f"the first question shares {near.similarity:.0%} with that of {near.place}."
            yield "warning", "first_question", 0, told
        own: set[str] = set()
        for place, turn in enumerate(conversation.turns):
            if turn.role != "assistant":
                continue
            exact = self._same_answers.get(normal(turn.text))
            if exact:
                yield house_level, "duplicate", place, f"the answer stands at {exact} too; write another or remove one."
                continue
            near = self._answers.find(turn.text) if self._compared <= COMPARED_AT_MOST else None
            if near:
                told = f"the answer shares {near.similarity:.0%} with {near.place}; write another or remove one."
                yield house_level, "near_duplicate", place, told
                continue
            for sentence in sentences(turn.text, language, self.house):
                other = self._sentences.get(hash(sentence))
                if other or sentence in own:
                    told = f"a sentence of {len(sentence)} characters stands at {other or 'an earlier turn'} too; say it otherwise."
                    yield house_level, "sentence", place, told
                own.add(sentence)


def check(names: Sequence[str], data_dir: Path, checker: Checker) -> Iterator[Finding | Tally]:
    """Every finding in the sets `names` (none: all of them), and a `Tally` behind each set's last one.

    Raises `BadInput` where a named set is not there; of an index of a hundred sets the ones elsewhere are findings.
    """
    wanted = list(names) or [*datasets_in(data_dir), *([SAFETY] if safety.files_in(data_dir) else [])]
    index = data_dir / "dataset_info.json"
    last = ""
    for name in wanted:
        if name == SAFETY:
            yield from _tallied_messages(data_dir)
            continue
        try:
            last = find_dataset(name, data_dir).file_name
            yield from _tallied(name, last, data_dir, checker)
        except BadInput as error:
            if names:
                raise
            yield Finding("warning", "not_checked", str(index), None, None, str(error).removeprefix(f"{index}: "))
    if last:
        yield from checker.coverage("all sets")


def _tallied(name: str, file: str, data_dir: Path, checker: Checker) -> Iterator[Finding | Tally]:
    tally = Tally(name, file)
    for number, record in enumerate(counted(f"checking {file}", read_dataset(name, data_dir))):
        if number == 0:
            checker.start(ours=isinstance(record, Conversation) and "topic" in record.columns)
        tally.records += 1
        if isinstance(record, Problem):
            found = [Finding("error", "record", record.file, record.row, record.turn, record.sentence)]
        else:
            tally.readable += 1
            found = checker.look(record)
            checker.remember(record)
        yield from _counted(found, tally)
    if not tally.records:
        yield from _counted([Finding("error", "record", file, None, None, "holds no record.")], tally)
    yield from _counted(checker.end(file), tally)
    yield tally


def _tallied_messages(data_dir: Path) -> Iterator[Finding | Tally]:
    tellers = safety.Checker()
    for path in safety.files_in(data_dir):
        tally = Tally(SAFETY, safety.name_of(path))
        for record in safety.read_messages(path):
            tally.records += 1
            if isinstance(record, Problem):
                found = [Finding("error", "record", record.file, record.row, record.turn, record.sentence)]
            else:
                tally.readable += 1
                found = [
                    Finding(level, rule, record.file, record.row, None, told)
                    for level, rule, told in tellers.look(record)
                ]
            yield from _counted(found, tally)
        yield tally


def _counted(found: Iterable[Finding], tally: Tally) -> Iterator[Finding]:
    for finding in found:
        tally.errors += finding.level == "error"
        tally.warnings += finding.level == "warning"
        yield finding


def _signs(text: str) -> Iterator[tuple[str, Level, str]]:
    if "\N{REPLACEMENT CHARACTER}" in text:
        yield "signs", "error", "holds U+FFFD, the mark of characters that were lost; write them again."
    if any(unicodedata.category(sign) == "Cc" and sign not in "\n\t" for sign in text):
        yield "signs", "warning", "holds control characters; remove them."
    tokens = [token for token in CONTROL_TOKENS if token in text and "think>" not in token]
    if tokens:
        yield "signs", "warning", f"holds {tokens[0]}, which is learned as text and not as the end of a turn."


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune data check`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune data check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sets", nargs="*", metavar="SET", help=f'names in dataset_info.json, or "{SAFETY}" (default: all)'
    )
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="the folder of dataset_info.json")
    parser.add_argument(
        "--recipe", default="mindpal", help="whose max_length a conversation has to fit (default: mindpal)"
    )
    parser.add_argument(
        "--tokenizer", type=Path, help="a base's folder (default: the contract's base, or the stand-in)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object for programs")
    parser.add_argument("--all", action="store_true", help=f"print every finding, not {_SHOWN} of each rule")
    given = parser.parse_args(words)
    contract = read_contract()
    ruler = find_ruler(given.tokenizer, contract, environment)
    checker = Checker(contract, read_recipe(given.recipe).max_length, ruler)
    findings: list[Finding] = []
    tallies: list[Tally] = []
    shown: Counter[str] = Counter()
    for told in check(given.sets, given.data_dir, checker):
        if isinstance(told, Tally):
            tallies.append(told)
        else:
            findings.append(told)
            shown[told.rule] += 1
            if not given.json:
                _print(told, shown[told.rule], every=given.all)
    errors = sum(finding.level == "error" for finding in findings)
    if given.json:
        print(
            json.dumps(
                {
                    "errors": errors,
                    "warnings": len(findings) - errors,
                    "lengths_by": ruler.name,
                    "sets": [asdict(tally) for tally in tallies],
                    "findings": [asdict(finding) for finding in findings],
                },
                ensure_ascii=False,
            )
        )
        return 1 if errors else 0
    for tally in tallies:
        print(f"{tally.name} ({tally.file}): {tally.records} records, {tally.errors} errors, {tally.warnings} warnings")
    print(f"data check: {errors} errors, {len(findings) - errors} warnings; lengths by {ruler.name}")
    return 1 if errors else 0


def _print(finding: Finding, number: int, *, every: bool) -> None:
    if every or number <= _SHOWN:
        print(finding)
    elif number == _SHOWN + 1:
        print(f"… more [{finding.rule}]; --all prints every one")
