"""What a page shows first of what was begun in this tab: a new run, a new model, a new set.

A box keeps what was chosen in it. Whoever begins something new wants to see that next; but it may be there only later, on
another page, and what is chosen by hand after that holds again.
"""

from collections.abc import Container

import streamlit as st


def show_next(key: str, name: str) -> None:
    """The box `key` is to show this, once, as soon as it can be chosen there."""
    st.session_state[_wanted(key)] = name


def take_next(key: str, options: Container[str]) -> str | None:
    """What the box `key` is to show now, told before it is drawn; None to leave it as it is."""
    name: str | None = st.session_state.get(_wanted(key))
    if name is None or name not in options:
        return None
    del st.session_state[_wanted(key)]
    return name


def show_now(key: str, options: Container[str]) -> None:
    """Let the box `key`, in which one is chosen, show what it is to show next."""
    if name := take_next(key, options):
        st.session_state[key] = name


def _wanted(key: str) -> str:
    return f"{key}-wanted"
