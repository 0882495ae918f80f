"""Fetching a base: nothing is fetched twice, and a hub that is not there is one sentence within seconds."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.commands import finetune
from tests.demo import free_port
from tests.finetune.hub import Hub, online, running
from tests.small_models import make_base


class _NoSuchModel(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def log_message(self, *_: object) -> None:
        """Quietly."""


@pytest.fixture
def hub() -> Iterator[str]:
    """A hub that knows no model."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _NoSuchModel)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_folder_that_is_here_is_the_answer(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    done = finetune(tmp_path / "told", "download", str(base))
    assert (done.code, done.out, done.err) == (0, f"{base}\n", "")


def test_a_hub_that_is_not_there(tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    done = finetune(
        tmp_path / "told", "download", "Qwen/Qwen3-0.6B",
        environment={"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert (done.code, done.err.count("\n"), done.out) == (2, 1, "")
    assert done.err.startswith(f"{endpoint} cannot be reached")
    assert "make demo" in done.err


def test_a_model_that_the_hub_does_not_have(tmp_path: Path, hub: str) -> None:
    done = finetune(
        tmp_path / "told", "download", "Qwen/Qwen9",
        environment={"HF_ENDPOINT": hub, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"},
    )  # fmt: skip
    assert (done.code, done.out) == (2, ""), done.err
    assert done.err.splitlines()[-1].startswith("Qwen/Qwen9: ")


def test_a_mirror_is_asked_without_the_token_and_tells_how_much_has_come(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    # Qwen3Guard, say, keeps what it is asked by there.
    (base / "chat_template.jinja").write_text("{{ messages }}")
    with running(Hub(base)) as mirror:
        cache = str(tmp_path / "cache")
        done = online("download", "o/m", "--endpoint", mirror.url, HF_HUB_CACHE=cache, HF_TOKEN="hf_secret")
        assert done.code == 0, done.err
        assert {token for _, token in mirror.asked} == {""}
    fetched = Path(done.out.strip())
    assert (fetched / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    assert (fetched / "chat_template.jinja").read_text() == "{{ messages }}"
    assert done.err.splitlines()[0] == f"o/m from {mirror.url}"
    assert re.search(r"^fetching: [\d.]+ of [\d.]+ MB$", done.err, re.MULTILINE), done.err
    # The mirror is gone, and nothing is needed of it.
    again = finetune(
        tmp_path / "told", "download", "o/m", environment={"HF_ENDPOINT": mirror.url, "HF_HUB_CACHE": cache}
    )
    assert (again.code, again.out, again.err) == (0, f"{fetched}\n", "")


def test_what_came_before_is_not_fetched_again(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    weights = (base / "model.safetensors").read_bytes()
    blobs = tmp_path / "cache" / "models--o--m" / "blobs"
    blobs.mkdir(parents=True)
    # As a download leaves it that was stopped or killed; the hub names a file by its length.
    (blobs / f"{len(weights):040x}.incomplete").write_bytes(weights[:1000])
    with running(Hub(base)) as hub:
        done = online("download", "o/m", "--endpoint", hub.url, HF_HUB_CACHE=str(tmp_path / "cache"))
        assert done.code == 0, done.err
        assert hub.begun == [1000]
    assert (Path(done.out.strip()) / "model.safetensors").read_bytes() == weights
    assert not list(blobs.glob("*.incomplete"))


def test_a_connection_that_is_reset_is_one_sentence_and_the_same_command_goes_on(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    with running(Hub(base)) as hub:
        hub.resets = True
        done = online("download", "o/m", "--endpoint", hub.url, HF_HUB_CACHE=str(tmp_path / "cache"))
        assert (done.code, done.out) == (2, "")
        told = "o/m: the download broke off (ReadError); the same command goes on where it stopped."
        assert done.err.splitlines()[-1] == told
        assert "Traceback" not in done.err
        hub.resets = False
        done = online("download", "o/m", "--endpoint", hub.url, HF_HUB_CACHE=str(tmp_path / "cache"))
    assert done.code == 0, done.err
    assert (Path(done.out.strip()) / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()


def test_a_word_that_is_no_model(tmp_path: Path) -> None:
    done = finetune(tmp_path / "told", "download", "qwen three")
    assert (done.code, done.err.count("\n"), done.out) == (2, 1, "")
    assert "no hub id either" in done.err
