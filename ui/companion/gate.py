"""The door of the parents' area: a PIN, and ten minutes after the last act it is shut again.

In: the store. Out: whether the area is open in this browser tab; a reload, or the child's page, shuts it.
"""

import math
import time

import streamlit as st

from ui.companion.look import LINGBAN, line_broken
from ui.locales import Sentences
from ui.pin import Locked, Opened, check, locked
from ui.store import Store

OPEN_S = 600
LOOK_S = 15  # how often an open area looks whether its time is over


def is_open() -> bool:
    """Whether the PIN was given here less than ten minutes ago; asking counts as an act."""
    until: float = st.session_state.get("parents_until", 0.0)
    if time.monotonic() >= until:
        lock()
        return False
    st.session_state["parents_until"] = time.monotonic() + OPEN_S
    return True


def lock() -> None:
    """Shut the area in this tab."""
    st.session_state.pop("parents_until", None)


def unlock() -> None:
    """Open it: the PIN was right, or has just been set."""
    st.session_state["parents_until"] = time.monotonic() + OPEN_S


def watch() -> None:
    """Shut the area by itself when nobody has done anything for ten minutes."""

    @st.fragment(run_every=LOOK_S)
    def look() -> None:
        if time.monotonic() >= st.session_state.get("parents_until", 0.0):
            st.rerun()

    look()


def show(store: Store, words: Sentences) -> None:
    """Ask for the PIN."""
    line_broken(words)
    with st.container(key="gate"):
        st.image(LINGBAN, width=96, alt=words.name)
        st.title(words.pin.title, anchor=False)
        with st.form("pin", border=False, clear_on_submit=True):
            st.markdown(words.pin.under)
            typed = st.text_input(
                words.pin.field,
                type="password",
                max_chars=8,
                label_visibility="collapsed",
                placeholder="••••",
                autocomplete="off",
                key="pin-typed",
            )
            asked = st.form_submit_button(words.pin.open, type="primary", width="stretch")
        if asked and typed:
            _try(store, typed, words)
        elif held := locked(store):  # after a reload, too
            _tell(held, store, words)
        st.caption(words.pin.forgotten)
        st.button(words.back, icon=":material/arrow_back:", type="tertiary", on_click=leave)


def leave() -> None:
    """Go back to the children's page."""
    lock()
    st.query_params.pop("p", None)
    st.query_params.pop("s", None)


def _try(store: Store, typed: str, words: Sentences) -> None:
    verdict = check(store, typed)
    if isinstance(verdict, Opened):
        unlock()
        st.rerun()
    if isinstance(verdict, Locked):
        _tell(verdict, store, words)
    else:
        st.warning(words.pin.wrong.format(left=verdict.left))


def _tell(held: Locked, store: Store, words: Sentences) -> None:
    minutes = max(1, math.ceil((held.until - store.now()).total_seconds() / 60))
    st.warning(words.pin.locked.format(minutes=minutes))
