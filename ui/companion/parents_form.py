"""What forms of the parents' area share. In: the store, sentences. Out: whether the PIN was given once more."""

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
