"""A reply loads nothing and leads nowhere. Run: `pytest tests/ui/test_safe_text.py`."""

import pytest
from markdown_it import MarkdownIt

from ui.companion.safe_text import safe


@pytest.mark.parametrize(
    "hostile",
    [
        "![x](http://evil.example/a.png)",
        "![x](//evil.example/a.png)",
        "[x](javascript:alert(1))",
        "[![x](http://evil.example/a.png)](http://evil.example)",
        "![a\nb](http://evil.example/a.png)",
        "[a][b]\n\n[b]: http://evil.example",
        "[b]\n\n> [b]: //evil.example",
        "- [b]: /relative\n- [b]",
        "1. [b]: /relative\n\n[b]",
        "<https://evil.example>",
        "<a@evil.example>",
        "https://evil.example www.evil.example a@evil.example",
        "![x][b]\n\n[b]:\nhttp://evil.example/a.png",
    ],
)
def test_no_link_and_no_picture_is_left(hostile: str) -> None:
    drawn = MarkdownIt("commonmark", {"html": False}).render(safe(hostile))
    assert "<a" not in drawn
    assert "<img" not in drawn
    assert "http://" not in drawn
    assert "https://" not in drawn


def test_words_lists_and_formulas_stay() -> None:
    text = "**粗** 和 $E=mc^2$\n\n- 一\n- 二\n\n`x = a[0]`"
    assert safe(text) == text
    assert safe("看[这里](http://x.example)吧") == "看这里吧"
