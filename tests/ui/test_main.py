"""The command line of the page. Run: `pytest tests/ui/test_main.py`."""

import subprocess
import sys
from pathlib import Path

import yaml

from tests.ui.conftest import ROOT
from tests.ui.databases import PIN, family
from ui.database import url_for
from ui.locales import numbers
from ui.pin import Opened, check
from ui.store import Store


def run(folder: Path, *words: str, typed: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "ui", *words],
        cwd=ROOT,
        env={"MINDPAL_FAMILY": str(folder), **environment},
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,  # of a page that starts though it should not
    )


def test_a_forgotten_pin_is_set_anew_on_the_machine(tmp_path: Path) -> None:
    store = Store(url_for(tmp_path, None), tmp_path / "key")
    family(store)
    for _ in range(5):
        check(store, "0000")
    refused = run(tmp_path, "--new-pin", typed="1111\n")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert run(tmp_path, "--new-pin", typed="8642\n").returncode == 0
    assert check(store, "8642") == Opened()
    assert check(store, PIN) != Opened()
    store.close()


def test_records_without_their_key_stop_the_start_with_a_sentence(tmp_path: Path) -> None:
    Store(url_for(tmp_path, None), tmp_path / "key").close()
    (tmp_path / "key").unlink()
    for words in (("--port", "0"), ("--new-pin",)):
        stopped = run(tmp_path, *words, typed="8642\n")
        assert stopped.returncode == 2
        assert "the key of the family's records is missing" in stopped.stderr
        assert stopped.stderr.count("\n") == 1


def test_a_database_that_is_away_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    away = f"postgresql+psycopg://u:secret@/none?host={tmp_path}"
    stopped = run(tmp_path, "--port", "0", DATABASE_URL=away)
    assert stopped.returncode == 2
    assert "the database cannot be opened" in stopped.stderr
    assert "secret" not in stopped.stderr
    assert "Traceback" not in stopped.stderr


def test_a_misspelt_time_zone_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    stopped = run(tmp_path, "--port", "0", TZ="Asia/Shanghia")
    assert stopped.returncode == 2
    assert 'TZ is "Asia/Shanghia"' in stopped.stderr
    assert stopped.stderr.count("\n") == 1


def test_a_public_address_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    for name in ("MINDPAL_API_URL", "STT_URL"):
        stopped = run(tmp_path, "--port", "0", **{name: "https://8.8.8.8/v1"})
        assert stopped.returncode == 2
        assert f"{name} is 'https://8.8.8.8/v1', a public address" in stopped.stderr
        assert stopped.stderr.count("\n") == 1


def test_an_operators_sentences_with_a_slip_stop_the_start_with_a_sentence(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("en: {stopp: Halt}\n")
    stopped = run(tmp_path, "--port", "0", MINDPAL_SENTENCES_FILE=str(own))
    assert (stopped.returncode, stopped.stderr) == (2, f'{own}: en: unknown key "stopp"; did you mean "stop"?\n')
    assert f"{own}.none: no such file" in run(tmp_path, "--port", "0", MINDPAL_SENTENCES_FILE=f"{own}.none").stderr


def test_the_sentences_to_edit_are_printed_as_they_are_read(tmp_path: Path) -> None:
    printed = run(tmp_path, "--numbers")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert printed.stdout.endswith(numbers())
    assert yaml.safe_load(printed.stdout) == yaml.safe_load(numbers())


def test_nothing_asks_the_internet_for_this_machines_address(tmp_path: Path) -> None:
    code = """
from ui.serving import stay_at_home
stay_at_home()
import socket
def outside(*_: object) -> None:
    raise AssertionError("something outside was asked")
socket.getaddrinfo = outside
from streamlit.web.server.server_util import is_url_from_allowed_origins
assert not is_url_from_allowed_origins("https://elsewhere.example")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = (ROOT / "ui" / "companion" / ".streamlit" / "config.toml").read_text(encoding="utf-8")
    assert "hideWelcomeMessage = true" in told
