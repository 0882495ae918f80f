"""A reply loads nothing and leads nowhere. Run: `pytest tests/ui/test_safe_text.py`."""

import html
import re

import pytest
from markdown_it import MarkdownIt

from tests.pace import growth
from tests.ui.model_server import HOSTILE
from ui.companion.safe_text import plain, safe

# What Streamlit's markdown makes a link of by itself, and more: CommonMark does not, so the text that is drawn is looked at.
ADDRESS = re.compile(r"(?i)https?:|www\.|[-.\w+]@[-\w]")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_link_and_no_picture_is_left(hostile: str) -> None:
    for shown in (safe(hostile), plain(hostile)):
        drawn = MarkdownIt("commonmark", {"html": False}).render(shown)
        assert "<a" not in drawn
        assert "<img" not in drawn
        assert not ADDRESS.search(html.unescape(re.sub(r"<[^>]*>", "", drawn)))


@pytest.mark.parametrize(
    "named", ["# 一", "**", "1. 二", "![](x)", "- ", "`", "> 三", "a_b_c", "[四]", "~~五~~", "$x$ \\"]
)
def test_a_title_is_shown_as_it_was_written(named: str) -> None:
    assert MarkdownIt("commonmark").render(plain(named)) == f"<p>{html.escape(named.strip())}</p>\n"


def test_words_lists_and_formulas_stay() -> None:
    text = "**粗** 和 $E=mc^2$，$\\begin{matrix}a&b\\:c\\end{matrix}$\n\n- 一\n- 二\n\n`x = a[0] && b < c`"
    assert safe(text) == text
    assert safe("看[这里](http://x.example)吧") == "看这里吧"


@pytest.mark.parametrize("text", ["![", "[", "[](", "![](", "[x](y)", "https:", "@"])
def test_no_reply_takes_long_to_make_safe(text: str) -> None:
    assert growth(safe, text * (30_000 // len(text)), 3) < 3
