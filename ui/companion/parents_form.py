"""What forms of the parents' area share: the PIN once more, a number in its range, what follows a save.

A key keeps what was typed or chosen, and a form sends all of its fields. So each field's key holds the value that is
stored: what another device has changed since is a new field with the new value, before which one's own edit of that field
gives way, and no form writes an old value back.
In: what is stored. Out: what was typed.
"""

import streamlit as st

from ui.companion import gate
from ui.locales import Sentences
from ui.store import Store


def pin_again(store: Store, act: str, key: str, words: Sentences) -> bool:
    """A button that acts only with the PIN beside it; whether it does now.

    No callback: it would run before the door is looked at.
    """
    with st.form(key, border=False, clear_on_submit=True):
        typed = gate.current_pin(words, f"pin-{key}")
        return st.form_submit_button(act, type="primary") and gate.confirmed(store, typed, words)


def number(what: str, low: int, high: int, known: int, key: str, words: Sentences, step: int = 1) -> int | None:
    """A field for a whole number, its range beside its name; outside of that a sentence, and None.

    Streamlit is not told the range: it would send the number that was there before, and that would be saved.
    """
    said = {"what": what, "low": low, "high": high}
    typed = st.number_input(words.home.within.format(**said), value=known, step=step, key=f"{key}-{known}")
    if low <= typed <= high:
        return typed
    st.warning(words.home.not_within.format(**said))
    return None


def saved() -> None:
    """Draw the page anew, each field with what is stored now; it says that it was saved."""
    st.session_state["saved"] = True
    st.rerun()
