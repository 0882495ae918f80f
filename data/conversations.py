"""Conversations in the files of LLaMA-Factory: ShareGPT, Alpaca and OpenAI messages, named by `dataset_info.json`.

In: a folder with `dataset_info.json`, and the name of a set. Out: `Conversation`s, and a `Problem` for each record
that is none. Nothing is dropped in silence. Records and turns are counted from 0, as a program would.

The meaning of every key is LLaMA-Factory's (its `data/README.md`), so a `dataset_info.json` written for it works here.
Only `num_samples` differs: it takes the first so many records, and there is no random draw.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from data.strict import BadInput, Strict, read_json, suggestion
from data.template import RESPONSES_BETWEEN, split_at_thoughts, thought_blocks

DATA_DIR = Path(__file__).parent
# Written for MindPal: no child said any of it.
SHIPPED = frozenset({"child_chat", "child_chat_en"})
INDEX_FILE = "dataset_info.json"
# What a set may be called: a file, and a word of a command, is called so, too.
SET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

# Who speaks. `tool` is an observation: what a tool answered; `call` is a request of the assistant's for a tool.
Role = Literal["user", "assistant", "tool", "call"]
ASKS: tuple[Role, ...] = ("user", "tool")
ANSWERS: tuple[Role, ...] = ("assistant", "call")


@dataclass(frozen=True)
class Turn:
    """One thing said.

    The text of a `call` is for `read_calls`. Several tools' answers to one call stand in one `tool` turn, with
    `RESPONSES_BETWEEN` between them.
    """

    role: Role
    text: str


@dataclass(frozen=True)
class Call:
    """A request for a tool: `arguments` is any JSON value, an object as a rule."""

    name: str
    arguments: Any


@dataclass(frozen=True)
class Conversation:
    """One record: turns by turns a question and an answer, the last one an answer.

    `system` is None where the record says nothing about it, and empty where it says that there is none.
    """

    file: str
    row: int
    turns: tuple[Turn, ...]
    system: str | None = None
    # The JSON text of a list of tools, or empty.
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
    # The first so many records only; LLaMA-Factory draws as many at random.
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
        for key, usual in (("columns", _OPENAI_COLUMNS), ("tags", _OPENAI_TAGS)):
            named = entry.get(key) or {}
            entry[key] = {**usual, **named} if isinstance(named, dict) else named
    return Dataset.parse(entry, f'{where}: "{name}"')


def read_dataset(name: str, data_dir: Path = DATA_DIR) -> Iterator[Conversation | Problem]:
    """Every record of a registered set, in the file's order.

    Raises `BadInput` where the set or its file is not there, or, at the end, has fewer records than `num_samples`; a
    damaged file is a `Problem` at the record it breaks in.
    """
    found = find_dataset(name, data_dir)
    path = data_dir / found.file_name
    if not path.exists():
        raise BadInput(f"{path}: no such file; {INDEX_FILE} names it.")
    rows = 0
    for row, record in enumerate(records(path)):
        if found.num_samples is not None and row >= found.num_samples:
            return
        rows = row + 1
        yield record if isinstance(record, Problem) else read_record(record, row, path.name, found)
    if found.num_samples is not None and rows < found.num_samples:
        raise BadInput(
            f'{data_dir / INDEX_FILE}: "{name}" has num_samples {found.num_samples} and its file {rows} records; lower it.'
        )


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


def read_calls(text: str) -> tuple[str, list[Call]]:
    """What a `call` turn says before its calls, thoughts included, and the calls.

    Like LLaMA-Factory's FunctionFormatter: the text is an object with "name" and "arguments" or a list of them, beside
    thoughts at most; or words with such JSON between `<tool_call>` and `</tool_call>`. Unlike there, several such
    pairs keep their order, and arguments written as a JSON text (OpenAI's form) become the object that they mean: that
    is what Qwen3's own template and a server write. Raises ValueError with what is wrong, a clause without its subject.
    """
    words = "".join(block.group() for block in thought_blocks(text))
    written = ["".join(split_at_thoughts(text)[::2])]
    # No call begins behind the last closing tag; looked for there, each opened one would be followed to the end.
    end = text.rfind(_CALL_END) + len(_CALL_END)
    if _CALL.search(text, 0, end) and not _is_json(written[0]):
        before, *rest = _CALL.split(text[:end])
        rest[-1] += text[end:]
        # Line breaks between and behind calls say nothing; words there are said first, as the model is to say them.
        words, written = before + "".join(part for part in rest[1::2] if part.strip()), rest[::2]
    calls: list[Call] = []
    for part in written:
        found = _json(part, 'write {"name": …, "arguments": {…}} or a list of such')
        calls += [_call(call) for call in (found if isinstance(found, list) else [found])]
    if not calls:
        raise ValueError("is an empty list; name a tool or remove the exchange")
    return words, calls


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


def records(path: Path) -> Iterator[Any]:
    """The records of a `.json` or `.jsonl` file one by one; what cannot be read is a `Problem` in a record's place.

    A list that is cut short or damaged gives all records up to there. Lines are read one by one: a million fit. Raises
    `BadInput` where there is no such file, or no list in it.
    """
    try:
        if path.suffix == ".jsonl":
            with path.open("rb") as file:
                yield from _lines(file, path.name)
            return
        raw = path.read_bytes()
    except IsADirectoryError:
        raise BadInput(f"{path}: is a folder; a .json or .jsonl file was expected.") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}.") from None
    try:
        text, damage = raw.decode("utf-8-sig"), ""
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        text = raw[: error.start].decode("utf-8-sig")
        damage = f"not UTF-8 at byte {error.start} (line {line}); save the file as UTF-8."
    yield from _items(text, path.name, damage)


def _lines(file: Iterable[bytes], name: str) -> Iterator[Any]:
    row = 0
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            yield Problem(
                name, row, None, f"line {number} is not UTF-8 at its byte {error.start}; save the file as UTF-8."
            )
        except (ValueError, RecursionError) as error:
            yield Problem(name, row, None, f"line {number} is not valid JSON: {error}.")
        row += 1


_BLANK = re.compile(r"\s*")


def _items(text: str, file: str, damage: str = "") -> Iterator[Any]:
    """The items of a JSON list; `damage` tells why the text ends where it does."""
    decoder = json.JSONDecoder()
    place = _skip(text, 0)
    if text[place : place + 1] != "[":
        raise BadInput(f"{file}: {damage or 'expected a list of records, `[…]`.'}")
    place, row = _skip(text, place + 1), 0
    if text[place : place + 1] == "]":
        return
    while True:
        try:
            record, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, error.pos if isinstance(error, json.JSONDecodeError) else place) + 1
            told = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply or a number too long"
            damage = damage or f"not valid JSON at line {line}: {told}. Is the file cut short?"
            yield Problem(file, row, None, damage)
            return
        yield record
        row += 1
        place = _skip(text, place)
        sign = text[place : place + 1]
        place = _skip(text, place + 1)
        if sign == "]":
            if place < len(text) or damage:
                line = text.count("\n", 0, place) + 1
                told = damage or f"something stands behind the list's end at line {line}; remove it."
                yield Problem(file, row, None, told)
            return
        if sign != ",":
            line = text.count("\n", 0, place) + 1
            yield Problem(file, row, None, damage or f'expected "," or "]" at line {line}. Is the file cut short?')
            return


def _skip(text: str, place: int) -> int:
    match = _BLANK.match(text, place)
    return match.end() if match else place


_CALL_END = "</tool_call>"
_CALL = re.compile(rf"<tool_call>(.*?){_CALL_END}", re.DOTALL)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _json(text: str, wanted: str) -> Any:
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON at character {error.pos} ({error.msg}); {wanted}") from None
    except RecursionError:
        raise ValueError(f"is nested too deeply; {wanted}") from None
    except UnicodeEncodeError:
        raise ValueError("holds half a character (a lone surrogate); write it whole") from None
    return found


def _call(found: object) -> Call:
    if not isinstance(found, dict):
        raise ValueError(f'is {_kind(found)}; {{"name": …, "arguments": {{…}}}} was expected')
    name = found.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError('has no "name"; say which tool is meant')
    if "arguments" not in found:
        raise ValueError(f'of "{name}" has no "arguments"; write {{}} where it takes none')
    arguments = found["arguments"]
    if isinstance(arguments, str) and arguments.lstrip()[:1] == "{" and _is_json(arguments):
        arguments = json.loads(arguments)
    return Call(name, arguments)


class _NoConversation(Exception):
    def __init__(self, sentence: str, turn: int | None = None):
        super().__init__(sentence)
        self.sentence, self.turn = sentence, turn


def read_record(record: object, row: int, file: str, found: Dataset) -> Conversation | Problem:
    """One record as it stands in a file of the set `found`."""
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
        calls = message.get("tool_calls") if role in ANSWERS else None
        if calls and found.formatting == "openai":
            role = "call"
        if role == "tool" and found.formatting == "openai" and turns and turns[-1].role == "tool":
            more = _words(message.get(tags.content_tag), tags.content_tag, place)
            turns[-1] = Turn("tool", turns[-1].text + RESPONSES_BETWEEN + more)
            continue
        asks = len(turns) % 2 == 0
        if role not in (ASKS if asks else ANSWERS):
            expected = tags.user_tag if asks else tags.assistant_tag
            raise _NoConversation(_out_of_order(named, expected, turns, roles, tags), place)
        said = _with_calls(message, tags, calls, found, place) if calls else message.get(tags.content_tag)
        turns.append(Turn(role, _words(said, tags.content_tag, place)))
        if role == "call":
            _check_calls(turns[-1].text, place)
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


def _with_calls(message: dict[str, Any], tags: Tags, calls: object, found: Dataset, place: int) -> str:
    """An answer in OpenAI's form, words beside a list of `tool_calls`, as the text of a `call` turn."""
    if found.formatting != "openai":
        raise _NoConversation(
            f'has "tool_calls"; write the call as the content of a "{tags.function_tag}" turn.', place
        )
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise _NoConversation('its "tool_calls" are no list of objects.', place)
    words = message.get(tags.content_tag) or ""
    words = _words(words, tags.content_tag, place)
    # Qwen3 writes each call on lines of its own.
    return "\n".join(
        [words] * bool(words) + [f"<tool_call>{json.dumps(call.get('function'))}</tool_call>" for call in calls]
    )


def _check_calls(text: str, place: int) -> None:
    try:
        read_calls(text)
    except ValueError as error:
        raise _NoConversation(f"its function call {error}.", place) from None


def _alpaca(record: dict[str, Any], row: int, file: str, found: Dataset) -> Conversation:
    columns = found.columns
    history = record.get(columns.history) if columns.history else None
    if history is not None and not isinstance(history, list):
        raise _NoConversation(
            f'its column "{columns.history}" is {_kind(history)}; a list of [question, answer] was expected.'
        )
    said: list[tuple[object, str]] = []
    for pair in history or []:
        if not isinstance(pair, list) or len(pair) != 2:
            raise _NoConversation(
                f'its column "{columns.history}" holds {_kind(pair)}; [question, answer] was expected.', len(said)
            )
        said += [(text, str(columns.history)) for text in pair]
    asked = [_words(record.get(name) or "", name, len(said)) for name in (columns.prompt, columns.query)]
    said += [
        ("\n".join(part for part in asked if part), columns.prompt),
        (record.get(columns.response), columns.response),
    ]
    turns: list[Turn] = []
    for place, (text, name) in enumerate(said):
        turns.append(Turn("assistant" if place % 2 else "user", _words(text, name, place)))
        if not turns[-1].text.strip():
            raise _NoConversation(f'its column "{name}" is empty; write what is said.', place)
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
    return None if name is None or value is None else _words(value, name)


def _tools(record: dict[str, Any], name: str | None) -> str:
    value = record.get(name) if name else None
    if value is None or value == "":
        return ""
    # Either the JSON text of a list of tools, or the list itself.
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    try:
        tools = _json(text, "a list of tools was expected")
    except ValueError as error:
        raise _NoConversation(f'its column "{name}" {error}.') from None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise _NoConversation(f'its column "{name}" is no list of tools, each an object with a "name".')
    return text if tools else ""


def _words(value: object, name: str, turn: int | None = None) -> str:
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
