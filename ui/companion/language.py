"""Tell the browser which language the page speaks. In: a language. Out: a script on the page, and nothing to see."""

from pathlib import Path

import streamlit as st

from ui.locales import Language

SCRIPT = Path(__file__).with_suffix(".js")


def tell(language: Language, key: str) -> None:
    """Put the script on the page."""
    _component()(key=f"html-lang-{key}", data={"language": language})


@st.cache_resource(show_spinner=False)
def _component():  # type: ignore[no-untyped-def]  # Streamlit keeps the type of a renderer to itself
    return st.components.v2.component("mindpal_language", js=SCRIPT.read_text(encoding="utf-8"))
