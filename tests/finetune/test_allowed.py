"""What the worker may be asked: every verb of the queue, and of each only what writes in its place."""

from pathlib import Path
from typing import get_args

import pytest

from data.queue import Request, Verb
from data.strict import BadInput
from finetune.allowed import Places, check_request


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "runs", tmp_path / "models", tmp_path / "data", (tmp_path / "secrets",))


def ask(places: Places, verb: str, *words: str) -> None:
    check_request(places.runs / "job", Request.model_validate({"verb": verb, "words": words}), places)


@pytest.mark.parametrize("verb", get_args(Verb))
def test_every_verb_that_can_be_queued_has_a_rule(places: Places, verb: str) -> None:
    with pytest.raises(BadInput, match=r"knows no option|data check: "):
        ask(places, verb, *(["check"] if verb == "data" else []), "--no-such-option")


def test_what_each_verb_may_write_and_where(places: Places) -> None:
    runs, models = places.runs, places.models
    ask(places, "train", "mindpal", "--run", str(runs / "job"), "--base=some/base")
    ask(places, "report", str(runs / "try"), "--model", str(models / "try"))
    ask(places, "push", str(models / "try"), "me/try", f"--token-file={places.secrets[0] / 'hub_token'}")
    ask(places, "data", "inspect", "set", "--jsonl", "-")
    ask(places, "compare", "--greedy", str(runs / "try"))
    ask(places, "evaluate", str(models / "try"), "--out", str(runs / "reports" / "try"))
    ask(places, "chat", str(runs / "try"), "--question=hello")


@pytest.mark.parametrize(
    ("verb", "words", "told"),
    [
        ("train", ["mindpal", "--run", "{runs}/other"], "not the job's own folder"),
        ("train", ["mindpal"], "add --run"),
        ("report", ["{runs}/../elsewhere"], "does not lie in"),
        ("report", ["{runs}/try", "--model", "/tmp"], "does not lie in"),
        ("compare", ["--greedy", "{models}/try"], "compare without --out: .* does not lie in"),
        ("evaluate", ["{runs}/../elsewhere", "{runs}/try"], "does not lie in"),
        ("evaluate", ["--base", "{runs}/try"], "does not lie in"),
        ("merge", ["{runs}/try", "--out=/etc"], "does not lie in"),
        ("push", ["{models}/try", "--token-file", "/etc/passwd"], "a token is read nowhere else"),
        ("data", ["synthesize"], "is not for the worker"),
        ("data", ["remove", "set", "--data-dir", "/etc"], "does not lie in"),
        ("chat", ["{runs}/try"], "nobody is there to type"),
        ("chat", ["--", "{runs}/try"], 'leave it out'),
        ("evaluate", ["{runs}/try", "--serve", "http://elsewhere"], 'did you mean "--seed"|knows no option'),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_one_sentence(places: Places, verb: str, words: list[str], told: str) -> None:
    given = [word.format(runs=places.runs, models=places.models) for word in words]
    with pytest.raises(BadInput, match=told) as caught:
        ask(places, verb, *given)
    assert "\n" not in str(caught.value)
