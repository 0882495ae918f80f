"""What is done with a model folder once it is sealed: promoted, archived, pushed; each whole or not at all."""

import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from data.contract import SUMS_FILE, open_sealed, sha256
from data.queue import Request
from data.strict import BadInput
from finetune.allowed import Places, check_request
from tests.commands import Done, finetune
from tests.demo import free_port
from tests.finetune.hub import TOKEN, Hub, online, running
from tests.small_models import make_sealed


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sealed(tmp_path_factory.mktemp("models") / "one")


def one_sentence(done: Done, *parts: str) -> None:
    assert (done.code, done.err.count("\n"), done.out) == (2, 1, ""), done.err
    for part in parts:
        assert part in done.err


def test_current_means_what_was_promoted(sealed: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(sealed, tmp_path / name)
    current = tmp_path / "current"
    for name in ("one", "two"):
        done = finetune(tmp_path / "told", "promote", str(tmp_path / name))
        assert done.code == 0, done.err
        assert "docker compose restart serve" in done.out
        assert current.resolve() == tmp_path / name
    seal = json.loads((tmp_path / "one" / "mindpal.json").read_text())
    seal["contract"]["persona"] = "somebody else"
    (tmp_path / "one" / "mindpal.json").write_text(json.dumps(seal))
    one_sentence(finetune(tmp_path / "told", "promote", str(tmp_path / "one")))
    one_sentence(finetune(tmp_path / "told", "promote", str(tmp_path / "told")), "no sealed model folder")
    assert current.resolve() == tmp_path / "two"


def test_an_archive_holds_the_folder_and_its_sums(sealed: Path, tmp_path: Path) -> None:
    out = tmp_path / "one.tar"
    done = finetune(tmp_path / "told", "archive", str(sealed), "--out", str(out))
    assert done.code == 0, done.err
    assert sha256(out) in done.out
    with tarfile.open(out) as tar:
        tar.extractall(tmp_path / "there", filter="data")
    there = tmp_path / "there" / "one"
    open_sealed(there)
    sums = {line[66:]: line[:64] for line in (there / SUMS_FILE).read_text().splitlines()}
    assert sums == {path.name: sha256(path) for path in sealed.iterdir()}
    assert sums == {path.name: sha256(path) for path in there.iterdir() if path.name != SUMS_FILE}


def test_an_archive_on_a_full_disk_leaves_nothing(sealed: Path, tmp_path: Path) -> None:
    done = finetune(tmp_path / "told", "archive", str(sealed), "--out", str(tmp_path / "one.tar"), limit=50_000)
    assert done.code == 2
    assert done.err.splitlines()[-1].endswith("the disk is full; make room and archive again.")
    assert not list(tmp_path.glob("*.tar*"))
    assert not list(tmp_path.glob(".one*"))


def test_every_file_reaches_the_hub(sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with running(Hub()) as hub:
        words = ("push", str(sealed), "family/mindpal", "--token-file", str(tmp_path / "token"), "--private")
        done = online(*words, HF_ENDPOINT=hub.url)
        assert done.code == 0, done.err
        assert hub.url in done.out
        assert {name: len(content) for name, content in hub.uploaded.items()} == {
            path.name: path.stat().st_size for path in sealed.iterdir()
        }


def test_an_upload_that_breaks_off_is_one_sentence(sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with running(Hub()) as hub:
        hub.resets = True
        words = ("push", str(sealed), "family/mindpal", "--token-file", str(tmp_path / "token"))
        done = online(*words, HF_ENDPOINT=hub.url)
    assert (done.code, done.out) == (2, "")
    assert re.search(r"^family/mindpal: the upload broke off \(\w+\); the same command", done.err.splitlines()[-1])


def test_a_token_that_is_not_taken(sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_wrong")
    words = ("push", str(sealed), "family/mindpal", "--token-file", str(tmp_path / "token"))
    with running(Hub()) as hub:
        done = online(*words, HF_ENDPOINT=hub.url)
    assert (done.code, done.out) == (2, "")
    assert "does not let this token write there (401)" in done.err.splitlines()[-1]
    assert "hf_wrong" not in done.err
    nobody = {"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    one_sentence(finetune(tmp_path / "told", *words, environment=nobody), "cannot be reached")
    (tmp_path / "token").write_text("")
    one_sentence(finetune(tmp_path / "told", *words), "holds no token")


@pytest.mark.parametrize(
    ("verb", "words", "told"),
    [
        ("merge", ("runs/a", "--out", "models/../../elsewhere"), "writes nowhere else"),
        ("merge", ("runs/a", "--out=/etc/x"), "writes nowhere else"),
        ("merge", ("runs/a", "--ou", "/etc/x"), "no option"),
        ("train", ("tiny",), "add --run runs/job"),
        ("train", ("tiny", "--run", "runs/other"), "not the job's own folder"),
        ("data", ("synthesize", "--url", "http://x"), "is not for the worker"),
        ("data", ("add", "/etc/passwd", "--name", "x", "--data-dir", "sets"), "does not lie in runs"),
        ("data", ("add", "runs/uploads/x.json", "--data-dir", "finetune"), "does not lie in sets"),
        ("data", ("add", "runs/uploads/x.json"), "does not lie in sets"),
        ("push", ("models/a", "o/m", "--token-file", "/root/.ssh/id"), "a token is read nowhere else"),
        ("push", ("runs/a", "o/m", "--token-file", "secrets/hub/token"), "does not lie in models"),
        ("evaluate", ("runs/a", "--server", "http://x"), "no option"),
        ("chat", ("models/a",), "nobody is there to type"),
        ("chat", ("models/a", "--question", "x", "--", "y"), "leave it out"),
    ],
)
def test_what_a_request_may_not_ask(verb: str, words: tuple[str, ...], told: str) -> None:
    places = Places(Path("runs"), Path("models"), Path("sets"))
    request = Request.model_validate({"verb": verb, "words": words})
    with pytest.raises(BadInput, match=told):
        check_request(Path("runs/job"), request, places)


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("train", ("tiny", "learning_rate=1e-4", "--base", "/bases/x", "--run", "runs/job")),
        ("train", ("tiny", "--plan", "--json")),
        ("merge", ("runs/a", "--out", "models/a", "--keep-current")),
        ("data", ("add", "runs/uploads/x.json", "--name", "x", "--data-dir", "sets")),
        ("push", ("models/a", "o/m", "--token-file", "secrets/hub/token", "--private")),
        ("archive", ("models/a", "--out", "models/a.tar")),
        ("chat", ("runs/a", "--question=-5?", "--no-thinking", "--seed", "42", "--json")),
        ("compare", ("runs/a", "--questions", "runs/uploads/q.txt", "--out", "runs/reports/1")),
    ],
)
def test_what_the_studio_asks_is_allowed(verb: str, words: tuple[str, ...]) -> None:
    places = Places(Path("runs"), Path("models"), Path("sets"))
    check_request(Path("runs/job"), Request.model_validate({"verb": verb, "words": words}), places)
