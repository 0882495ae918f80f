"""Conversations in the files of LLaMA-Factory: ShareGPT, Alpaca and OpenAI messages, named by `dataset_info.json`.

In: a folder with `dataset_info.json`, and the name of a set. Out: `Conversation`s, and a `Problem` for each record
that is none. Nothing is dropped in silence. Records and turns are counted from 0, as a program would.

The meaning of every key is LLaMA-Factory's (its `data/README.md`), so a `dataset_info.json` written for it works here.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from data.strict import BadInput, Strict, read_json, suggestion

DATA_DIR = Path(__file__).parent
INDEX_FILE = "dataset_info.json"

# Who speaks. `tool` is an observation: what a tool answered; `call` is a request of the assistant's for a tool.
Role = Literal["user", "assistant", "tool", "call"]
ASKS: tuple[Role, ...] = ("user", "tool")
ANSWERS: tuple[Role, ...] = ("assistant", "call")


@dataclass(frozen=True)
class Turn:
    """One thing said."""

    role: Role
    text: str


@dataclass(frozen=True)
class Conversation:
    """One record: turns by turns a question and an answer, the last one an answer.

    `system` is None where the record says nothing about it, and empty where it says that there is none.
    """

    file: str
    row: int
    turns: tuple[Turn, ...]
    system: str | None = None
    tools: str = ""
    # The record's other columns (id, topic, age, language, …), as they stand in the file.
    columns: dict[str, Any] = field(default_factory=dict)
    # Something unusual that is not wrong, in a sentence without its place.
    remarks: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The record's own id, or its place in the file."""
        return str(self.columns.get("id", f"{self.file}#{self.row}"))


@dataclass(frozen=True)
class Problem:
    """Why a record cannot be learned from: where, what, and what to do."""

    file: str
    row: int | None
    turn: int | None
    sentence: str

    def __str__(self) -> str:
        record = "" if self.row is None else f" record {self.row}"
        turn = "" if self.turn is None else f", turn {self.turn}"
        return f"{self.file}{record}{turn}: {self.sentence}"


class Columns(Strict):
    """Which key of a record holds what."""

    messages: str = "conversations"
    system: str | None = None
    tools: str | None = None
    prompt: str = "instruction"
    query: str = "input"
    response: str = "output"
    history: str | None = None


class Tags(Strict):
    """How a record of messages names its roles."""

    role_tag: str = "from"
    content_tag: str = "value"
    user_tag: str = "human"
    assistant_tag: str = "gpt"
    observation_tag: str = "observation"
    function_tag: str = "function_call"
    system_tag: str = "system"


class Dataset(Strict):
    """One entry of `dataset_info.json`."""

    file_name: str
    formatting: Literal["alpaca", "sharegpt", "openai"] = "alpaca"
    columns: Columns = Columns()
    tags: Tags = Tags()
    # The first so many records only.
    num_samples: Annotated[int, Field(ge=1)] | None = None


# OpenAI's own names, where an entry says `"formatting": "openai"` and nothing else.
_OPENAI_COLUMNS = {"messages": "messages", "tools": "tools"}
_OPENAI_TAGS = {
    "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
    "observation_tag": "tool", "function_tag": "function_call",
}  # fmt: skip
_ELSEWHERE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
_NOT_TEXT = ("images", "videos", "audios", "chosen", "rejected", "kto_tag")


def datasets_in(data_dir: Path) -> list[str]:
    """The names that `dataset_info.json` registers, in its order."""
    return list(_index(data_dir))


def find_dataset(name: str, data_dir: Path = DATA_DIR) -> Dataset:
    """The entry of a registered set. Raises `BadInput`, with a suggestion where the name is only misspelt."""
    index = _index(data_dir)
    where = f"{data_dir / INDEX_FILE}"
    if name not in index:
        raise BadInput(
            f'{where}: no data set "{name}"{suggestion(name, list(index)) or "."} Registered: {_list(index)}.'
        )
    entry = index[name]
    if not isinstance(entry, dict):
        raise BadInput(f'{where}: "{name}" has to be a mapping with a "file_name".')
    for key in _ELSEWHERE:
        if key in entry and "file_name" not in entry:
            raise BadInput(
                f'{where}: "{name}" names a set elsewhere ("{key}"); download it and give its "file_name" instead.'
            )
    given = entry.get("columns")
    columns: dict[str, Any] = given if isinstance(given, dict) else {}
    for key in _NOT_TEXT:
        if key in columns or (key == "chosen" and entry.get("ranking")):
            raise BadInput(f'{where}: "{name}" has "{key}": only conversations in text can be learned from here.')
    # LLaMA-Factory's keys of no effect on a local text file.
    entry = {
        key: value for key, value in entry.items() if key not in ("subset", "split", "folder", "ranking", *_ELSEWHERE)
    }
    if entry.get("formatting") == "openai":
        tags = entry.get("tags", {})
        entry |= {"columns": {**_OPENAI_COLUMNS, **columns}, "tags": {**_OPENAI_TAGS, **tags}}
    return Dataset.parse(entry, f'{where}: "{name}"')


def read_dataset(name: str, data_dir: Path = DATA_DIR) -> Iterator[Conversation | Problem]:
    """Every record of a registered set, in the file's order.

    Raises `BadInput` where the set or its file is not there; a damaged file is a `Problem` at the record it breaks in.
    """
    found = find_dataset(name, data_dir)
    path = data_dir / found.file_name
    for row, record in enumerate(_records(path)):
        if found.num_samples is not None and row >= found.num_samples:
            return
        yield record if isinstance(record, Problem) else _conversation(record, row, path.name, found)


def conversations(name: str, data_dir: Path = DATA_DIR, *, skip_bad: bool = False) -> tuple[list[Conversation], int]:
    """The conversations of a set, and how many bad records were left out, which happens only with `skip_bad`.

    Raises `BadInput` with the first problem otherwise, or where nothing is left.
    """
    good: list[Conversation] = []
    bad: list[Problem] = []
    for record in read_dataset(name, data_dir):
        if isinstance(record, Conversation):
            good.append(record)
        elif skip_bad:
            bad.append(record)
        else:
            raise BadInput(f"{record} `python -m finetune data check {name}` lists all such records.")
    if not good:
        raise BadInput(f'The data set "{name}" in {data_dir} holds no conversation to learn from.')
    return good, len(bad)


def is_validation(conversation: Conversation, share: float) -> bool:
    """Whether a conversation belongs to the validation split: `share` (0 to 1) of all, by a hash of its first question.

    The answer depends on nothing else, so a record never changes sides when others are added or moved, and a question
    that stands twice is never on both sides.
    """
    question = re.sub(r"[\W_]+", "", conversation.turns[0].text).lower() or conversation.turns[0].text
    number = int.from_bytes(hashlib.sha256(question.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return number < share * 2**64


def split(all_of_them: Sequence[Conversation], share: float) -> tuple[list[Conversation], list[Conversation]]:
    """Training and validation conversations, each in the order given."""
    sides = [is_validation(conversation, share) for conversation in all_of_them]
    return (
        [found for found, held_out in zip(all_of_them, sides, strict=True) if not held_out],
        [found for found, held_out in zip(all_of_them, sides, strict=True) if held_out],
    )


def _index(data_dir: Path) -> dict[str, Any]:
    if not (data_dir / INDEX_FILE).is_file():
        raise BadInput(f"{data_dir}: no {INDEX_FILE}, which registers the data sets of a folder.")
    index = read_json(data_dir / INDEX_FILE)
    if not isinstance(index, dict):
        raise BadInput(f"{data_dir / INDEX_FILE}: expected a mapping of names to data sets.")
    return index


def _list(names: Sequence[str] | dict[str, Any]) -> str:
    shown = list(names)[:8]
    return ", ".join(shown) + (", …" if len(names) > len(shown) else "") if shown else "none"


def _records(path: Path) -> Iterator[Any]:
    """The records of a `.json` or `.jsonl` file one by one: of a file cut short, all up to the cut and a `Problem`."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; {INDEX_FILE} names it.") from None
    except IsADirectoryError:
        raise BadInput(f"{path}: is a folder; a .json or .jsonl file was expected.") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}: not UTF-8 at byte {error.start} (line {line}); save the file as UTF-8.") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}.") from None
    yield from _lines(text, path.name) if path.suffix == ".jsonl" else _items(text, path.name)


def _lines(text: str, file: str) -> Iterator[Any]:
    rows = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    for row, (number, line) in enumerate(rows):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Problem(file, row, None, f"line {number} is not valid JSON: {error}.")


_BLANK = re.compile(r"\s*")


def _items(text: str, file: str) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    place = _skip(text, 0)
    if text[place : place + 1] != "[":
        raise BadInput(f"{file}: expected a list of records, `[…]`.")
    place, row = _skip(text, place + 1), 0
    if text[place : place + 1] == "]":
        return
    while True:
        try:
            record, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, error.pos if isinstance(error, json.JSONDecodeError) else place) + 1
            told = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            yield Problem(file, row, None, f"not valid JSON at line {line}: {told}. Is the file cut short?")
            return
        yield record
        row += 1
        place = _skip(text, place)
        sign = text[place : place + 1]
        place = _skip(text, place + 1)
        if sign == "]":
            if place < len(text):
                line = text.count("\n", 0, place) + 1
                yield Problem(file, row, None, f"something stands behind the list's end at line {line}; remove it.")
            return
        if sign != ",":
            line = text.count("\n", 0, place) + 1
            yield Problem(file, row, None, f'expected "," or "]" at line {line}. Is the file cut short?')
            return


def _skip(text: str, place: int) -> int:
    match = _BLANK.match(text, place)
    return match.end() if match else place


class _NoConversation(Exception):
    def __init__(self, sentence: str, turn: int | None = None):
        super().__init__(sentence)
        self.sentence, self.turn = sentence, turn


def _conversation(record: object, row: int, file: str, found: Dataset) -> Conversation | Problem:
    try:
        if not isinstance(record, dict):
            raise _NoConversation(f"is {_kind(record)}; a record is an object with the columns of {INDEX_FILE}.")
        return (
            _alpaca(record, row, file, found) if found.formatting == "alpaca" else _messages(record, row, file, found)
        )
    except _NoConversation as error:
        return Problem(file, row, error.turn, error.sentence)


def _messages(record: dict[str, Any], row: int, file: str, found: Dataset) -> Conversation:
    columns, tags = found.columns, found.tags
    messages = record.get(columns.messages)
    if not isinstance(messages, list):
        raise _NoConversation(f'its column "{columns.messages}" is {_kind(messages)}; a list of turns was expected.')
    roles: dict[str, Role] = {
        tags.user_tag: "user",
        tags.assistant_tag: "assistant",
        tags.observation_tag: "tool",
        tags.function_tag: "call",
    }
    system = _column(record, columns.system)
    remarks: list[str] = []
    turns: list[Turn] = []
    # Turns are told by their place in the file, a leading system turn included.
    for place, message in enumerate(messages):
        if not isinstance(message, dict):
            raise _NoConversation(f"is {_kind(message)}; a turn is an object.", place)
        named = message.get(tags.role_tag)
        if named == tags.system_tag and place == 0:
            if system:
                remarks.append(f'its "{tags.system_tag}" turn replaces the text of its column "{columns.system}".')
            system = _words(message.get(tags.content_tag), tags.content_tag, place)
            continue
        if not isinstance(named, str) or named not in roles:
            known = [*roles, tags.system_tag]
            near = suggestion(named, known) if isinstance(named, str) else ""
            raise _NoConversation(
                f'its "{tags.role_tag}" is {named!r}, which is no role{near or "."} Roles: {_list(known)}.', place
            )
        role = roles[named]
        asks = len(turns) % 2 == 0
        if role not in (ASKS if asks else ANSWERS):
            expected = tags.user_tag if asks else tags.assistant_tag
            raise _NoConversation(_out_of_order(named, expected, turns, roles, tags), place)
        turns.append(Turn(role, _words(_spoken(message, role, tags), tags.content_tag, place)))
        if not turns[-1].text.strip() and role != "tool":
            raise _NoConversation(
                f'its "{tags.content_tag}" is empty; write what is said or remove the exchange.', place
            )
    if len(turns) % 2:
        raise _NoConversation(
            f'ends with a "{messages[-1].get(tags.role_tag)}" turn; add its answer or remove it.', len(messages) - 1
        )
    if not turns:
        raise _NoConversation("has no turns; a conversation is at least one question and its answer.")
    return Conversation(
        file=file,
        row=row,
        turns=tuple(turns),
        system=system,
        tools=_tools(record, columns.tools),
        columns={
            key: value for key, value in record.items() if key not in (columns.messages, columns.system, columns.tools)
        },
        remarks=tuple(remarks),
    )


def _out_of_order(named: str, expected: str, turns: list[Turn], roles: dict[str, Role], tags: Tags) -> str:
    if not turns:
        return f'the first turn is a "{named}" turn; a conversation begins with "{tags.user_tag}".'
    if roles[named] == turns[-1].role:
        return f'two "{named}" turns in a row; merge them or add a "{expected}" turn.'
    return f'a "{named}" turn, where "{expected}" was expected: questions and answers take turns.'


def _spoken(message: dict[str, Any], role: Role, tags: Tags) -> object:
    # OpenAI's form of a call: no content, a list of tool_calls with the arguments as a JSON text.
    calls = message.get("tool_calls")
    if role == "assistant" and calls and not message.get(tags.content_tag):
        raise _NoConversation('has "tool_calls"; write the call as the content of a "function_call" turn.')
    return message.get(tags.content_tag)


def _alpaca(record: dict[str, Any], row: int, file: str, found: Dataset) -> Conversation:
    columns = found.columns
    turns: list[Turn] = []
    history = record.get(columns.history) if columns.history else None
    if history is not None and not isinstance(history, list):
        raise _NoConversation(
            f'its column "{columns.history}" is {_kind(history)}; a list of [question, answer] was expected.'
        )
    for number, pair in enumerate(history or []):
        if not isinstance(pair, list) or len(pair) != 2:
            raise _NoConversation(
                f'its column "{columns.history}" holds {_kind(pair)}; [question, answer] was expected.', 2 * number
            )
        turns += [
            Turn("user", _words(pair[0], "question", 2 * number)),
            Turn("assistant", _words(pair[1], "answer", 2 * number + 1)),
        ]
    asked = [_words(record.get(name) or "", name, len(turns)) for name in (columns.prompt, columns.query)]
    question = "\n".join(part for part in asked if part)
    answer = _words(record.get(columns.response), columns.response, len(turns) + 1)
    for offset, (text, name) in enumerate(((question, columns.prompt), (answer, columns.response))):
        if not text.strip():
            raise _NoConversation(f'its column "{name}" is empty; write what is said.', len(turns) + offset)
    turns += [Turn("user", question), Turn("assistant", answer)]
    used = {columns.prompt, columns.query, columns.response, columns.history, columns.system, columns.tools}
    return Conversation(
        file=file,
        row=row,
        turns=tuple(turns),
        system=_column(record, columns.system),
        tools=_tools(record, columns.tools),
        columns={key: value for key, value in record.items() if key not in used},
    )


def _column(record: dict[str, Any], name: str | None) -> str | None:
    value = record.get(name) if name else None
    if value is not None and not isinstance(value, str):
        raise _NoConversation(f'its column "{name}" is {_kind(value)}; a text was expected.')
    return value


def _tools(record: dict[str, Any], name: str | None) -> str:
    value = record.get(name) if name else None
    if value is None or value == "":
        return ""
    # Either the JSON text of a list of tools, or the list itself.
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _words(value: object, name: str, turn: int) -> str:
    if not isinstance(value, str):
        raise _NoConversation(f'its "{name}" is {_kind(value)}; a text was expected.', turn)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _NoConversation(
            f'its "{name}" holds half a character (a lone surrogate); write it whole.', turn
        ) from None
    return value


def _kind(value: object) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "missing or null" if value is None else names.get(type(value), type(value).__name__)
