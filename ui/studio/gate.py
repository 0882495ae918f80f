"""The studio's door: one password. A reload, or the button, shuts it in this tab; runs go on behind it.

In: the secret file; the one-time code that `python -m ui.studio` told where there is no password yet.
"""

import hmac
import math
from datetime import UTC, datetime

import streamlit as st

from data.strict import BadInput
from ui.pin import Locked, Opened
from ui.studio.look import LINGBAN
from ui.studio.password import PasswordFile
from ui.studio.words import Words

CODE = "MINDPAL_STUDIO_CODE"


def is_open() -> bool:
    """Whether the password was given in this tab."""
    return bool(st.session_state.get("studio_open", False))


def lock() -> None:
    """Shut the studio in this tab."""
    st.session_state.pop("studio_open", None)


def show(secret: PasswordFile, code: str, words: Words) -> None:
    """Ask for the password, or for a first one from whoever saw the start's line in the terminal."""
    say = words.gate
    with st.container(key="gate"):
        st.image(LINGBAN, width=88, alt=words.name)
        st.title(words.name, anchor=False)
        if secret.is_set():
            _ask(secret, words)
        elif code and hmac.compare_digest(st.query_params.get("code", "").encode(), code.encode()):
            _first(secret, words)
        else:
            st.info(say.not_set)
            st.code("python -m ui.studio --new-password", language="bash")


def _ask(secret: PasswordFile, words: Words) -> None:
    say = words.gate
    with st.form("password", border=False):
        st.markdown(say.under)
        typed = st.text_input(
            say.field, type="password", autocomplete="current-password", label_visibility="collapsed", key="typed"
        )
        asked = st.form_submit_button(say.open, type="primary", width="stretch")
    if not (asked and typed):
        st.caption(say.forgotten)
        return
    verdict = secret.check(typed)
    if isinstance(verdict, Opened):
        _open()
    elif isinstance(verdict, Locked):
        minutes = math.ceil((verdict.until - datetime.now(UTC)).total_seconds() / 60)
        st.error(say.locked.format(minutes=max(1, minutes)))
    else:
        st.error(say.wrong.format(left=verdict.left))


def _first(secret: PasswordFile, words: Words) -> None:
    say = words.gate
    with st.form("first", border=False):
        st.markdown(say.first)
        typed = st.text_input(say.new, type="password", autocomplete="new-password", key="new")
        again = st.text_input(say.again, type="password", autocomplete="new-password", key="again")
        asked = st.form_submit_button(say.set_it, type="primary", width="stretch")
    if not asked:
        return
    if typed != again:
        st.error(say.differs)
        return
    try:
        secret.change(typed)
    except BadInput:
        st.error(say.unfit)
        return
    st.query_params.pop("code", None)
    _open()


def _open() -> None:
    st.session_state["studio_open"] = True
    st.rerun()
