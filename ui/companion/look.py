"""What every page of the companion shares in looks: the drawings, the style sheet, the name, and one line."""

import base64
from pathlib import Path

import streamlit as st

from ui.locales import LANGUAGES, Language, Sentences, sentences
from ui.tables import Access

HERE = Path(__file__).parent
LINGBAN = str(HERE / "lingban.svg")
AVATARS = ("star", "bear", "cat", "rabbit", "frog", "penguin")


def avatar(name: str) -> str:
    """The drawing of a child's avatar; the star where a name is not known."""
    return str(HERE / "avatars" / f"{name if name in AVATARS else AVATARS[0]}.svg")


def avatar_label(name: str) -> str:
    """A label that is this drawing, for a choice among them."""
    return f"![{name}](data:image/svg+xml;base64,{_base64(name)})"


def dress() -> None:
    """Put the style sheet on the page."""
    st.html(HERE / "style.css")


def brand(words: Sentences) -> None:
    """Put 灵伴's face and name at the top of the sidebar."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.image(LINGBAN, width=48, alt=words.name)
        st.subheader(words.name, anchor=False)


def ai_line(words: Sentences, transcripts: Access) -> None:
    """Say what 灵伴 is and who can read along. Shown on every page of the child, always."""
    with st.container(key="ai-line"):
        st.markdown(words.ai_line if transcripts == "full" else words.ai_line_alerts)
    line_broken(words, words.calm.broken_under)


def line_broken(words: Sentences, under: str | None = None) -> None:
    """What the style sheet shows while the browser cannot reach this page: then no page can be drawn."""
    with st.container(key="broken"):
        st.markdown(f"**{words.calm.broken}**")
        if under:
            st.caption(under)


def language_switch(now: Language, key: str) -> Language:
    """A choice between the languages; what is chosen."""
    chosen = st.segmented_control(
        sentences(now).language,
        list(LANGUAGES),
        default=now,
        required=True,
        format_func=LANGUAGES.__getitem__,
        label_visibility="collapsed",
        key=key,
    )
    return chosen or now


def parents_button(words: Sentences) -> None:
    """The way to the parents' area."""
    with st.container(key="to-parents"):
        st.button(
            words.for_parents,
            icon=":material/family_restroom:",
            type="tertiary",
            key="parents",
            on_click=_open_parents,
        )


def _open_parents() -> None:
    st.query_params["p"] = "parents"


def _base64(name: str) -> str:
    return base64.b64encode(Path(avatar(name)).read_bytes()).decode("ascii")
