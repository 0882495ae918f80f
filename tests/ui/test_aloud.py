"""What a voice is given to say. Run: `pytest tests/ui/test_aloud.py`."""

import pytest

from ui.companion.aloud import sentences_of


@pytest.mark.parametrize(
    ("markdown", "said"),
    [
        ("你好！今天**开心**吗？", ["你好！", "今天开心吗？"]),
        ("- 一\n- 二。", ["- 一", "- 二。"]),
        ("It is 3.5 km. Really?", ["It is 3.5 km.", "Really?"]),
        ("公式：$E=mc^2$", ["公式："]),
        ("……", []),
    ],
)
def test_sentences(markdown: str, said: list[str]) -> None:
    assert sentences_of(markdown) == said
