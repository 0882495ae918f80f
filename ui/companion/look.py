"""What every page of the companion shares in looks: the drawings, the style sheet, the name, and one line."""

from pathlib import Path

import streamlit as st

from ui.locales import Sentences

HERE = Path(__file__).parent
LINGBAN = str(HERE / "lingban.svg")
CHILD = str(HERE / "child.svg")


def dress() -> None:
    """Put the style sheet on the page."""
    st.html(HERE / "style.css")


def brand(words: Sentences) -> None:
    """Put 灵伴's face and name at the top of the sidebar."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.image(LINGBAN, width=48)
        st.subheader(words.name, anchor=False)


def ai_line(words: Sentences) -> None:
    """Say what 灵伴 is. Shown on every page of the child, always."""
    with st.container(key="ai-line"):
        st.markdown(words.ai_line)
