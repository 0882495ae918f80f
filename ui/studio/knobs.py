"""The recipe's knobs as a page shows them, and what a person made of them as YAML and as words of a command.

In: data/recipe_schema.json (written by `python -m finetune recipe schema`) and recipes as files. Out: `Knob`s, values,
reasons, overrides. A recipe is checked by the trainer; here only ranges and kinds are known.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from data.conversations import DATA_DIR
from data.runs import write_whole
from data.strict import BadInput, read_json, read_yaml, suggestion

SCHEMA = DATA_DIR / "recipe_schema.json"
Kind = Literal["list", "choice", "switch", "whole", "number"]
_NAME = re.compile(r"[\w.-]{1,60}")


@dataclass(frozen=True)
class Knob:
    """One value of a recipe. `least` and `most` are inclusive; `above` is a bound that is not reached."""

    name: str
    group: str
    unit: str
    description: str
    kind: Kind
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    optional: bool = False
    default: Any = None
    has_default: bool = False

    @property
    def range(self) -> str:
        """The range in signs, or nothing."""
        parts = [
            f"≥ {self.least:g}" if self.least is not None else "",
            f"> {self.above:g}" if self.above is not None else "",
            f"≤ {self.most:g}" if self.most is not None else "",
            f"< {self.below:g}" if self.below is not None and self.below < 2**31 else "",
        ]
        return " ".join(part for part in parts if part)


def read_knobs(path: Path = SCHEMA) -> tuple[Knob, ...]:
    """Every knob, in the recipe's order. Raises `BadInput`."""
    schema = read_json(path)
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        raise BadInput(f"{path}: is no schema; `python -m finetune recipe schema --out {path}` writes it.")
    return tuple(_knob(name, about) for name, about in schema["properties"].items())


def recipes(*folders: Path) -> dict[str, Path]:
    """The recipes in these folders by name, the first folder's first."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def read_values(path: Path, knobs: Sequence[Knob]) -> dict[str, Any]:
    """The values of a recipe, the schema's defaults where it names none. Raises `BadInput`."""
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise BadInput(f"{path}: expected a mapping of keys to values.")
    return values_of(raw, knobs, str(path))


def values_of(raw: Mapping[str, Any], knobs: Sequence[Knob], where: str) -> dict[str, Any]:
    """The same for what was read already; `where` opens the sentence of a `BadInput`."""
    names = [knob.name for knob in knobs]
    for key in raw:
        if key not in names:
            raise BadInput(f'{where}: unknown key "{key}"{suggestion(str(key), names) or "."}')
    values: dict[str, Any] = {}
    for knob in knobs:
        if knob.name in raw:
            values[knob.name] = raw[knob.name]
        elif knob.has_default:
            values[knob.name] = knob.default
        else:
            raise BadInput(f'{where}: the key "{knob.name}" is missing.')
        if wrong := wrong_with(knob, values[knob.name]):
            raise BadInput(f'{where}: "{knob.name}" is {values[knob.name]!r}: {wrong}.')
    return values


def wrong_with(knob: Knob, value: Any) -> str:
    """What is wrong with a value in itself, or nothing."""
    if value is None:
        return "" if knob.optional else "a value is needed"
    if knob.kind == "list":
        return "" if isinstance(value, list | tuple) and value else "name at least one"
    if knob.kind == "choice":
        return "" if value in knob.choices else f"choose one of {', '.join(knob.choices)}"
    if knob.kind == "switch":
        return "" if isinstance(value, bool) else "it is true or false"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "a number was expected"
    if knob.kind == "whole" and value != int(value):
        return "a whole number was expected"
    fits = (
        (knob.least is None or value >= knob.least)
        and (knob.most is None or value <= knob.most)
        and (knob.above is None or value > knob.above)
        and (knob.below is None or value < knob.below)
    )
    return "" if fits else f"it has to be {knob.range}"


def reasons(path: Path) -> dict[str, str]:
    """The comment above each key of a recipe: why the number is what it is."""
    found: dict[str, str] = {}
    held: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            held.append(line.lstrip("# ").strip())
        elif ":" in line and line[:1].isalpha():
            if held:
                found[line.partition(":")[0].strip()] = " ".join(held)
            held = []
        else:
            held = []
    return found


def overrides(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The `key=value` words that make the one recipe of the other."""
    return [f"{name}={_word(value)}" for name, value in after.items() if _plain(value) != _plain(before[name])]


def as_yaml(values: Mapping[str, Any]) -> str:
    """The recipe as a file holds it."""
    plain = {name: _plain(value) for name, value in values.items()}
    return yaml.safe_dump(plain, allow_unicode=True, sort_keys=False, default_flow_style=None)


def save(
    folder: Path, name: str, values: Mapping[str, Any], knobs: Sequence[Knob], taken: Sequence[str] = (), *,
    over: bool = False,
) -> Path:  # fmt: skip
    """Write a recipe under a name.

    Raises `BadInput` where it is no name for a file, that of a shipped one, or, unless it is written `over`, that of one
    with other values.
    """
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise BadInput(f"{name!r} is no name for a recipe; use letters, digits, - and _.")
    if name in taken:
        raise BadInput(f'"{name}" comes with MindPal; choose another name.')
    path = folder / f"{name}.yaml"
    if path.is_file() and not over and overrides(read_values(path, knobs), values):
        raise BadInput(f'"{name}" is a recipe of yours already, with other values; choose another name, or replace it.')
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, as_yaml(values))
    return path


def name_of(file: str) -> str:
    """The name for a recipe that comes in this file: a browser names a second download `recipe (1).yaml`."""
    stem = file.rpartition(".")[0]
    return re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:60] or stem


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(str(part) for part in value)
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _knob(name: str, about: Mapping[str, Any]) -> Knob:
    options = [option for option in about.get("anyOf", ()) if option.get("type") != "null"]
    inner: Mapping[str, Any] = options[0] if options else about
    kinds: dict[str, Kind] = {"array": "list", "boolean": "switch", "integer": "whole", "number": "number"}
    return Knob(
        name=name,
        group=about.get("group", ""),
        unit=about.get("unit", ""),
        description=about.get("description", ""),
        kind="choice" if "enum" in inner else kinds[inner["type"]],
        choices=tuple(inner.get("enum", ())),
        least=inner.get("minimum"),
        most=inner.get("maximum"),
        above=inner.get("exclusiveMinimum"),
        below=inner.get("exclusiveMaximum"),
        optional=bool(options),
        default=about.get("default"),
        has_default="default" in about,
    )
