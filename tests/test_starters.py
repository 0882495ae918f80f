"""What the page offers a child to say has passed the guard."""

import pytest

from serve.guard.guard import read_guard
from ui.locales import LANGUAGES, Language, sentences


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_starter_passes_the_guard(language: Language) -> None:
    words = sentences(language)
    play = words.talk
    offered = [
        *words.starters.little, *words.starters.middle, *words.starters.big,
        play.story_ask, play.riddle_ask, *play.why_asks,
    ]  # fmt: skip
    assert len(offered) > 14
    guard = read_guard()
    for question in offered:
        assert guard.judge([question]) is None, question
