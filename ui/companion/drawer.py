"""Shut the drawer of a phone once something in it is chosen. In: nothing. Out: a script on the page, and nothing to see."""

from pathlib import Path

import streamlit as st

SCRIPT = Path(__file__).with_suffix(".js")


def shuts_itself() -> None:
    """Put the script on the page."""
    _component()(key="drawer")


@st.cache_resource(show_spinner=False)
def _component():  # type: ignore[no-untyped-def]  # Streamlit keeps the type of a renderer to itself
    return st.components.v2.component("mindpal_drawer", js=SCRIPT.read_text(encoding="utf-8"))
