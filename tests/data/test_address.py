"""Which addresses lead out of this network. Run: `pytest tests/data/test_address.py`."""

import socket

import pytest

from data.address import check_inside, is_public
from data.strict import BadInput

NUMBERS = {
    "127.0.0.1": False,
    "127.1": False,
    "0.0.0.0": False,
    "10.1.2.3": False,
    "172.18.0.2": False,
    "192.168.1.9": False,
    "169.254.7.7": False,
    "100.64.0.1": False,  # Tailscale, and what a carrier shares
    "100.101.102.103": False,
    "fd7a:115c:a1e0::1": False,
    "fd00::8": False,
    "fe80::1": False,
    "fe80::1%lo": False,
    "::1": False,
    "::ffff:192.168.1.9": False,
    "100.128.0.1": True,
    "172.32.0.1": True,
    "8.8.8.8": True,
    "134744072": True,  # 8.8.8.8, as a browser reads it, too
    "0x08080808": True,
    "::ffff:8.8.8.8": True,
    "2606:4700:4700::1111": True,
    "2002:808:808::1": True,
    "64:ff9b::808:808": True,
    "198.18.0.7": True,  # what a proxy program says of every name in the world
}
# As a resolver answers them; None: it does not know the name.
NAMES: dict[str, tuple[list[str] | None, bool]] = {
    "serve": (["172.18.0.2"], False),
    "guard": (None, False),
    "nas.local": (["192.168.1.9", "fe80::9%lo"], False),
    "mindpal.internal": (["10.0.0.3"], False),
    "nas.home.arpa": (["fd00::9"], False),
    "box.tailnet.ts.net": (["100.101.102.103", "fd7a:115c:a1e0::2"], False),
    "api.example": (["93.184.216.34"], True),
    "half.example": (["192.168.1.9", "2606:4700::9"], True),
    # What a name looks like decides nothing: some providers answer every unknown one with an address of theirs.
    "printer.local": (["93.184.216.34"], True),
    "serv": (["93.184.216.34"], True),
}


@pytest.mark.parametrize(("number", "public"), NUMBERS.items())
def test_numbers(number: str, public: bool) -> None:
    assert is_public(number) == public


@pytest.mark.parametrize("name", NAMES)
def test_names(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    found, public = NAMES[name]
    resolve = socket.getaddrinfo

    def answer(host: str, port: None) -> list[object]:
        assert host == name
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [entry for number in found for entry in resolve(number, port)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    assert is_public(name) == public


def test_a_name_that_is_none_is_not_known() -> None:
    assert not is_public("a" * 70)


@pytest.mark.parametrize(
    "url",
    ["guard:8000", "serve", "", "ftp://serve/v1", "http://", "http:///v1", "http://[::1/v1", "http://serve:99999/v1"],
)
def test_what_is_no_address_is_one_sentence(url: str) -> None:
    with pytest.raises(BadInput, match=r"GUARD_URL is '.*': it should be an address like"):
        check_inside("GUARD_URL", url)


def test_a_public_address_is_one_sentence_and_a_private_one_passes() -> None:
    for url in ("http://127.0.0.1:8000/v1", "HTTPS://[fd00::8]:8000/v1", "http://key@10.0.0.3"):
        check_inside("STT_URL", url)
    for url in ("https://8.8.8.8/v1", "http://127.0.0.1@8.8.8.8/v1", "http://[::ffff:8.8.8.8]/"):
        with pytest.raises(BadInput, match=r"STT_URL is '.*', a public address: .*\.$"):
            check_inside("STT_URL", url)
