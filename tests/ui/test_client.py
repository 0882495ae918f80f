"""The client against a real HTTP server. Run: `pytest tests/ui/test_client.py`."""

from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from data.strict import BadInput
from tests.demo import free_port
from tests.ui.model_server import CONTRACT, CRISIS, HEARD, SKY, ModelServer
from tests.ui.serving import Serving, respond
from ui.client import Asleep, Refused, Reply, Settings, Turn, check_addresses, settings_from, transcribe


def settings(url: str) -> Settings:
    return settings_from({"MINDPAL_API_URL": url})


def said(url: str, *turns: Turn) -> tuple[str, Reply]:
    with Reply(settings(url), list(turns)) as reply:
        return "".join(reply), reply


def test_a_reply_comes_in_pieces_and_ends_with_what_is_known() -> None:
    with ModelServer() as server:
        text, reply = said(server.url, Turn("user", "为什么天空是蓝色的？"))
    assert text == SKY
    assert (reply.ending.finish_reason, reply.ending.action, reply.ending.contract) == ("stop", None, CONTRACT)


def test_nothing_is_sent_but_the_conversation() -> None:
    turns = [Turn("user", "你好"), Turn("assistant", "你好呀"), Turn("user", "再见")]
    with ModelServer() as server:
        said(server.url, *turns)
    assert server.requests == [
        {
            "model": "mindpal",
            "stream": True,
            "messages": [{"role": turn.role, "content": turn.text} for turn in turns],
        }
    ]


def test_the_guards_verdict_is_reported() -> None:
    with ModelServer() as server:
        text, reply = said(server.url, Turn("user", "我不想活了"))
    assert text == CRISIS
    assert (reply.ending.action, reply.ending.category, reply.ending.layer) == ("crisis", "self_harm", "rules")


def test_leaving_early_closes_the_stream() -> None:
    with ModelServer() as server:
        with Reply(settings(server.url), [Turn("user", "讲一个很长的故事")]) as reply:
            first = next(piece for piece in reply if piece)
        assert first == "第0句。"
        assert server.hung_up.wait(5)


def test_a_silent_server_is_noticed_by_heartbeats_and_can_be_left() -> None:
    with ModelServer() as server:
        with Reply(settings(server.url), [Turn("user", "[silent]")]) as reply:
            pieces = iter(reply)
            assert [next(pieces), next(pieces)] == ["", ""]
        assert server.hung_up.wait(30), "it was left before its twelve seconds were over"


def test_the_guards_verdict_is_known_with_the_first_words() -> None:
    with ModelServer(at_once=True) as server, Reply(settings(server.url), [Turn("user", "我不想活了")]) as reply:
        assert next(piece for piece in reply if piece) == CRISIS
        assert (reply.ending.action, reply.ending.category) == ("crisis", "self_harm")
        assert reply.ending.finish_reason is None


@pytest.mark.parametrize(
    ("asked", "raised"),
    [
        *((f"[{status}]", Refused) for status in (400, 413, 422)),
        *((f"[{status}]", Asleep) for status in (401, 403, 404, 405, 408, 429, 503)),
        ("[broken]", Asleep),
    ],
)
def test_a_failure_is_one_of_two_kinds_and_asked_once(asked: str, raised: type[Exception]) -> None:
    with ModelServer() as server:
        with pytest.raises(raised, match=r"127\.0\.0\.1"):
            said(server.url, Turn("user", asked))
        assert len(server.requests) == 1


@pytest.mark.parametrize("asked", ["你好", "[400]"], ids=["it answers", "it refuses"])
def test_a_server_without_a_guard_is_asleep_and_nothing_of_it_is_heard(
    caplog: pytest.LogCaptureFixture, asked: str
) -> None:
    with ModelServer(ours=False) as server:
        with Reply(settings(server.url), [Turn("user", asked)]) as reply, pytest.raises(Asleep):
            assert not any(reply)
        assert server.requests == [], "it has not heard a word either"
    (line,) = caplog.messages
    assert "MINDPAL_API_URL" in line
    assert asked not in line


@pytest.mark.parametrize(("status", "setting"), [(401, "MINDPAL_API_KEY_FILE"), (404, "MINDPAL_API_URL")])
def test_a_wrong_key_or_address_is_told_in_the_log(caplog: pytest.LogCaptureFixture, status: int, setting: str) -> None:
    with ModelServer() as server, pytest.raises(Asleep):
        said(server.url, Turn("user", f"[{status}]"))
    (line,) = caplog.messages
    assert str(status) in line
    assert setting in line


def test_a_proxy_of_the_environment_hears_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer() as proxy, ModelServer() as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            for written in (name, name.lower()):
                monkeypatch.setenv(written, f"http://127.0.0.1:{proxy.port}")
        for written in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(written, raising=False)
        assert said(server.url, Turn("user", "为什么天空是蓝色的？"))[0] == SKY
        assert transcribe(settings_from({"STT_URL": server.url}), b"RIFF-a-recording", "zh") == HEARD
    assert (proxy.requests, proxy.recordings) == ([], [])


def test_a_server_that_sends_elsewhere_is_not_followed() -> None:
    with ModelServer() as elsewhere:

        def send_on(request: BaseHTTPRequestHandler, _: bytes) -> None:
            there = f"http://127.0.0.1:{elsewhere.port}{request.path}"
            respond(request, 307, headers={"location": there, "x-mindpal-contract": CONTRACT})

        with Serving(send_on) as near:
            url = f"http://127.0.0.1:{near.port}/v1"
            with pytest.raises(Asleep):
                said(url, Turn("user", "悄悄话"))
            with pytest.raises(Asleep):
                transcribe(settings_from({"STT_URL": url}), b"RIFF", "zh")
        assert (elsewhere.requests, elsewhere.recordings) == ([], [])


@pytest.mark.parametrize("url", ["http://8.8.8.8:9/v1", "http://[2606:4700::1111]/v1", "https://0x08080808"])
def test_a_public_address_is_told_at_the_start_and_not_asked(caplog: pytest.LogCaptureFixture, url: str) -> None:
    for name in ("MINDPAL_API_URL", "STT_URL"):
        with pytest.raises(BadInput, match=rf"{name} is .* a public address"):
            check_addresses(settings_from({name: url}))
    # A name may lead elsewhere later than at the start.
    with pytest.raises(Asleep, match=r"MINDPAL_API_URL is .* a public address"):
        said(url, Turn("user", "悄悄话"))
    with pytest.raises(Asleep, match=r"STT_URL is .* a public address"):
        transcribe(settings_from({"STT_URL": url}), b"RIFF", "zh")
    assert len(caplog.messages) == 2


def test_nobody_listening_is_asleep() -> None:
    with pytest.raises(Asleep):
        said(f"http://127.0.0.1:{free_port()}/v1", Turn("user", "你好"))


def test_the_settings_have_defaults_and_a_missing_key_file_is_one_sentence(tmp_path: Path) -> None:
    assert settings_from({}).api_url == "http://127.0.0.1:8000/v1"
    (tmp_path / "key").write_text("k-1\n")
    assert settings_from({"MINDPAL_API_KEY_FILE": str(tmp_path / "key")}).api_key == "k-1"
    with pytest.raises(BadInput, match=r"MINDPAL_API_KEY_FILE: .*none cannot be read"):
        settings_from({"MINDPAL_API_KEY_FILE": str(tmp_path / "none")})


def test_the_speech_server_is_not_given_the_models_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k-1\n")
    (tmp_path / "speech").write_text("k-2\n")
    ours = {"MINDPAL_API_KEY_FILE": str(tmp_path / "key"), "STT_URL": "http://127.0.0.1:9/v1"}
    assert settings_from(ours).stt_key == "none"
    assert settings_from(ours | {"STT_KEY_FILE": str(tmp_path / "speech")}).stt_key == "k-2"


def test_speech_becomes_text_and_a_deaf_server_is_asleep() -> None:
    with ModelServer() as server:
        heard = transcribe(settings_from({"STT_URL": server.url}), b"RIFF-a-recording", "zh")
    assert heard == HEARD
    assert b"RIFF-a-recording" in server.recordings[0]
    with pytest.raises(Asleep, match="cannot be reached"):
        transcribe(settings_from({"STT_URL": f"http://127.0.0.1:{free_port()}/v1"}), b"RIFF", "zh")
