"""What a request may ask of the worker: known verbs with known options, and nothing written outside of its places.

In: a run folder and the request in it. Out: nothing, or `BadInput` with what is not allowed.

Whoever can write into the runs folder can ask; so words are data: no shell reads them, an option that is not named here
is refused, and a path that a verb writes to, or sends to a hub, has to lie where such things lie.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data.conversations import DATA_DIR
from data.queue import Request
from data.strict import BadInput, suggestion

# What stands behind an option: nothing, any words, or a path in a place. "job" and "data" are those folders themselves.
Kind = Literal["nothing", "words", "job", "in job", "in runs", "in models", "data", "secret"]


@dataclass(frozen=True)
class Places:
    """Where jobs may write: run folders, model folders, and the folder of dataset_info.json."""

    runs: Path = Path("runs")
    models: Path = Path("models")
    data: Path = DATA_DIR
    # Where a hub's token may lie, and where compose puts such files.
    secrets: tuple[Path, ...] = (Path("secrets"), Path("/run/secrets"))


@dataclass(frozen=True)
class Rule:
    """A verb's options, and what the first of its words without an option is."""

    options: Mapping[str, Kind] = field(default_factory=dict)
    words: Kind = "words"


_WHICH: dict[str, Kind] = {"--data-dir": "words"}
_TOKENS: dict[str, Kind] = {**_WHICH, "--tokenizer": "words"}
# `data` by its tool; `synthesize` is not among them: it talks to a server that its words name.
_DATA = {
    "check": Rule({**_TOKENS, "--json": "nothing", "--all": "nothing"}),
    "stats": Rule({**_TOKENS, "--recipe": "words", "--skip-bad": "nothing", "--json": "nothing", "--out": "in job"}),
    "inspect": Rule(
        {
            **_TOKENS,
            "--thinking": "words",
            "--max-length": "words",
            "--rows": "words",
            "--jsonl": "in job",
            "--json": "nothing",
        }
    ),
    "add": Rule({"--name": "words", "--data-dir": "data", "--formatting": "words"}, "in runs"),
    "remove": Rule({"--data-dir": "data"}),
}
_RULES = {
    "train": Rule(
        {
            "--base": "words", "--run": "job", "--data-dir": "words", "--skip-bad": "nothing", "--resume": "nothing",
            "--plan": "nothing", "--json": "nothing",
        }
    ),
    "keep": Rule({"--base": "words"}, "in runs"),
    "merge": Rule({"--out": "in models", "--base": "words", "--keep-current": "nothing"}, "in runs"),
    "promote": Rule({}, "in models"),
    "archive": Rule({"--out": "in models"}, "in models"),
    "push": Rule({"--token-file": "secret", "--private": "nothing"}, "in models"),
    # Its server and its judge are for a terminal: they would be sent what is asked.
    "evaluate": Rule(
        {
            "--base": "words", "--recipe": "words", "--data-dir": "words", "--seed": "words", "--engine": "words",
            "--out": "in runs",
        }
    ),
    "download": Rule({"--endpoint": "words"}),
    "import-llamafactory": Rule({"--out": "in runs"}, "in runs"),
    "compare": Rule(
        {
            "--merged": "words", "--base": "words", "--questions": "words", "--thinking": "nothing",
            "--no-thinking": "nothing", "--greedy": "nothing", "--seed": "words", "--engine": "words", "--out": "in runs",
        }
    ),
    "report": Rule({"--model": "in models", "--data-dir": "words"}, "in runs"),
    "chat": Rule(
        {
            "--base": "words", "--thinking": "nothing", "--no-thinking": "nothing", "--seed": "words",
            "--question": "words", "--json": "nothing", "--temperature": "words", "--top-p": "words",
            "--max-tokens": "words",
        }
    ),
}  # fmt: skip


def check_request(run: Path, request: Request, places: Places) -> None:
    """Raises `BadInput` where the request is not to be run."""
    words = request.words
    if request.verb == "data":
        tool = words[0] if words else ""
        if tool not in _DATA:
            raise BadInput(f"data {tool}: is not for the worker; it takes {', '.join(_DATA)}.")
        rule, words, told = _DATA[tool], words[1:], f"data {tool}"
    elif request.verb in _RULES:
        rule, told = _RULES[request.verb], request.verb
    else:
        raise BadInput(f"{request.verb}: is not for the worker; it takes {', '.join(['data', *_RULES])}.")
    named = set()
    first = ""
    # Its default is the project's own folder, which may be another than the worker's.
    if told in ("data add", "data remove") and not any(word.startswith("--data-dir") for word in words):
        words = (*words, "--data-dir", str(DATA_DIR))
    for option, kind, value in _parts(words, rule, told):
        named.add(option)
        first = first or ("" if option else value)
        _check_place(told, option, kind, value, run, places)
    if request.verb == "train" and not named & {"--run", "--plan"}:
        raise BadInput(f"train: the job trains in its own folder; add --run {run}.")
    if request.verb in ("compare", "evaluate") and "--out" not in named:
        # Into the folder of what they look at.
        _check_place(told, "without --out", "in runs", first, run, places)
    if request.verb == "chat" and "--question" not in named:
        raise BadInput("chat: nobody is there to type; add --question=….")


def _parts(words: Sequence[str], rule: Rule, told: str) -> Iterator[tuple[str, Kind, str]]:
    """Each option with its value, and each other word as the value of the option ''. As argparse reads them."""
    rest, kind = iter(words), rule.words
    for word in rest:
        if word == "--":
            raise BadInput(f'{told}: "--" is not for the worker; leave it out.')
        if not word.startswith("-") or word == "-":
            yield "", kind, word
            kind = "words"
            continue
        option, equals, value = word.partition("=")
        if option not in rule.options:
            near = suggestion(option, list(rule.options)) or "."
            raise BadInput(f'{told}: the worker knows no option "{option}"{near}')
        if rule.options[option] != "nothing" and not equals:
            value = next(rest, "")
        yield option, rule.options[option], value


def _check_place(told: str, option: str, kind: Kind, value: str, run: Path, places: Places) -> None:
    path = Path(value).resolve()
    named = f"{told} {option}".strip()
    if kind == "job" and path != run.resolve():
        raise BadInput(f"{named}: {value} is not the job's own folder; write {run}.")
    if kind == "secret" and not any(folder.resolve() in path.parents for folder in places.secrets):
        raise BadInput(f"{named}: {value} does not lie in {places.secrets[0]}; a token is read nowhere else.")
    allowed = {"in job": run, "in runs": places.runs, "in models": places.models, "data": places.data}.get(kind)
    # To standard output, which is the job's log.
    if allowed is None or (value == "-" and kind == "in job"):
        return
    inside = path == allowed.resolve() if kind == "data" else allowed.resolve() in path.parents
    if not inside:
        raise BadInput(f"{named}: {value} does not lie in {allowed}; the worker writes nowhere else.")
