"""The rules: a pattern sees a text in its forms, and no text keeps it busy."""

import time

import pytest

from data.forms import forms
from serve.guard.crisis import judge


def test_the_forms_of_a_text() -> None:
    assert forms("我 要\u200b自、殺").squashed == "我要自杀"
    assert forms("Ｋ.i.l.l").words == "kill"
    assert forms("bù xiǎng huó le").words == "bu xiang huo le"
    assert forms("紫砂").squashed == "自杀"


@pytest.mark.parametrize("text", ["i " + "a" * 60_000, "i want " + "i" * 60_000, "我" * 60_000, "我想" * 30_000,
                                  "我" + "真的好" * 20_000, "i want to " * 6_000, "my dad " * 9_000, "我死" * 30_000, "爸" * 60_000,
                                  "a " * 60_000])  # fmt: skip
def test_no_text_keeps_the_server_busy(text: str) -> None:
    begun = time.monotonic()
    judge(text)
    # Some 0.3 s on an idle core.
    assert time.monotonic() - begun < 10
