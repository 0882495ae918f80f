"""Read a YAML or JSON file into a frozen, typed model; anything unexpected is one clear sentence.

In: a file a person may have edited. Out: a `Strict` model, or `BadInput` that says what, where and what to do.
"""

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError


class BadInput(Exception):
    """Input that a person has to mend. Its text is one sentence fit to be shown: what, where, what to do."""


class Strict(BaseModel):
    """A frozen model in which an unknown key is an error, with the nearest known key suggested."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, raw: object, where: str) -> Self:
        """Check `raw` (what a YAML or JSON reader returned); `where` opens the sentence of a `BadInput`."""
        if not isinstance(raw, Mapping):
            raise BadInput(f"{where}: expected a mapping of keys to values, found {type(raw).__name__}.")
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise BadInput(f"{where}: {_sentence(cls, error)}") from None


def read_yaml(path: Path) -> object:
    """The content of a YAML file, with `1e-4` read as a number (plain YAML 1.1 reads it as text)."""
    try:
        return yaml.load(_text(path), Loader=_Loader)
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: not valid YAML: {_one_line(error)}.") from None


def read_json(path: Path) -> object:
    """The content of a JSON file."""
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}. Is the file cut short?"
        ) from None


def replaced(ours: Any, given: Any, where: str) -> Any:
    """`ours` with what is `given` in its place, texts in mappings and lists; a list is given as a whole.

    No key is added and nothing emptied: a slip takes nothing away. Raises `BadInput`.
    """
    if isinstance(ours, str):
        if not isinstance(given, str) or not given.strip():
            raise BadInput(
                f"{where}: {given!r} is no text; write what is to be said, a number in quotes, or leave the key out to keep ours."
            )
        return given
    if isinstance(ours, list | tuple):
        if not isinstance(given, list) or not given:
            raise BadInput(f"{where}: expected a list, found {type(given).__name__ if given else 'nothing'}.")
        return [_entry(ours[0], one, f"{where}: {number}") for number, one in enumerate(given, 1)]
    if not isinstance(given, Mapping):
        raise BadInput(f"{where}: expected a mapping of keys to values, found {type(given).__name__}.")
    if unknown := [key for key in given if key not in ours]:
        there = f"; there are {', '.join(ours)}." if len(ours) < 20 else suggestion(str(unknown[0]), [*ours]) or "."
        raise BadInput(f'{where}: unknown key "{unknown[0]}"{there}')
    return ours | {key: replaced(ours[key], value, f"{where}: {key}") for key, value in given.items()}


def suggestion(word: str, known: list[str]) -> str:
    """`; did you mean "…"?` for the nearest of `known`, or the empty string."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def _entry(ours: Any, given: Any, where: str) -> Any:
    """One of a list: of a mapping every key has to be given, since none of ours stands in its place."""
    if isinstance(ours, Mapping) and isinstance(given, Mapping):
        for key in ours:
            if key not in given:
                raise BadInput(f'{where}: the key "{key}" is missing.')
    return replaced(ours, given, where)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file.") from None
    except IsADirectoryError:
        raise BadInput(f"{path}: is a folder; a file was expected.") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8.") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}.") from None


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, with YAML 1.2's floats and without duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f'the key "{key.value}" stands twice', key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"),
    list("-+0123456789."),
)


def _sentence(model: type[BaseModel], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        return f'unknown key "{name}"{suggestion(str(first["loc"][-1]), _keys(model, first["loc"][:-1]))}'
    if first["type"] == "missing":
        return f'the key "{name}" is missing.'
    told = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if not first["loc"]:
        # Of values that do not go together; what is shown of one of them would be all of them.
        return f"{told}."
    return f'"{name}" is {first["input"]!r}: it should be {told[0].lower()}{told[1:]}.'


def _keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
