"""What every page of the studio shares in looks: the style sheet, the brand, a panel, the colours of a chart."""

import html
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import altair as alt

# altair takes pandas for whole as soon as another thread has begun to import it; here nothing draws before it is.
import pandas  # noqa: F401
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from data.runs import is_disk_full
from data.strict import BadInput
from data.template import NO_THOUGHT
from ui.studio.sets import Span
from ui.studio.told import in_words, page_in_words
from ui.studio.words import Words

HERE = Path(__file__).parent
LINGBAN = str(HERE.parent / "companion" / "lingban.svg")
# The companion's orange, and colours that stand apart from it and from one another, in light and in dark.
COLOURS = ("#E8743B", "#3A7FB5", "#3E8E5A", "#8A63A8", "#B07A12", "#C0503E")
QUIET = "#9A8675"


def dress() -> None:
    """Put the style sheet on the page."""
    st.html(HERE / "style.css")


def panel(name: str) -> DeltaGenerator:
    """A box for one thing that can be looked at or done."""
    return st.container(key=f"panel-{name}")


def coloured(pieces: Sequence[Span]) -> str:
    """HTML of a text by what is learned: words from a data set are shown, and never become markup."""
    return "".join(
        f'<span class="{"learned" if piece.learned else "given"}">{html.escape(shown(piece.words))}</span>'
        for piece in pieces
    )


def shown(words: str) -> str:
    """The empty thought and lone line breaks on one line, with a sign for each break."""
    return words.replace("\n", "⏎") if words == NO_THOUGHT or not words.strip() else words


def framed(words: Words, page: Path, name: str) -> None:
    """A report's page in a frame of its own, where its look and this page's do not meet; and as a file to carry away."""
    # Its bytes: read as text, a model's carriage return would become another character.
    content = page_in_words(words, page.read_bytes().decode("utf-8"))
    st.download_button(
        words.compare.download,
        content.encode(),
        file_name=name,
        mime="text/html",
        icon=":material/download:",
        on_click="ignore",
        key=f"get-{name}",
    )
    st.iframe(content, height=900)


@contextmanager
def in_red(words: Words) -> Iterator[None]:
    """What is wrong with something, or a full disk, told in red where it was asked for, with the rest of the page as it was."""
    try:
        yield
    except BadInput as error:
        st.error(in_words(words, str(error)))
    except OSError as error:
        if not is_disk_full(error):
            raise
        st.error(words.disk_full)


def chart(rows: list[dict[str, Any]]) -> alt.Chart:
    """A chart of these rows, to which marks and encodings are added."""
    return alt.Chart(alt.Data(values=rows))  # type: ignore[no-untyped-call]


def draw(drawn: alt.Chart | alt.LayerChart, height: int = 220) -> None:
    """Put a chart on the page, in the house's colours, as wide as there is room."""
    sized = drawn.properties(height=height, background="transparent").configure_range(category=list(COLOURS))
    st.altair_chart(sized.configure_view(strokeWidth=0), width="stretch")
