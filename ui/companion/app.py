"""MindPal's page for a child, and the door for the guardian.

In: MINDPAL_API_URL, MINDPAL_API_KEY_FILE, MINDPAL_FAMILY, MINDPAL_KEY_FILE, DATABASE_URL, STT_URL, STT_KEY_FILE, and TZ for quiet
hours. Out: the page; records in the family's database.
Run: `python -m ui`, or from the project's folder `PYTHONPATH=. streamlit run ui/companion/app.py` (then nobody sends
alerts or deletes what is too old: `python -m ui` does).
"""

import logging
import os
from pathlib import Path

import streamlit as st

from data.strict import BadInput
from ui.client import Settings, settings_from
from ui.companion import calm, chat, gate, parents, picker, welcome
from ui.companion.look import LINGBAN, dress
from ui.database import Gone, Unreachable, url_for
from ui.locales import sentences
from ui.store import Store

log = logging.getLogger("mindpal")


def main() -> None:
    """Choose the page: the guardian's first, and a child's only while a consent holds."""
    st.set_page_config(page_title="灵伴 MindPal", page_icon=LINGBAN, layout="centered")
    dress()
    try:
        settings = settings_from(os.environ)
        store = _open(url_for(settings.family, settings.database_url), settings.key_file)
    except BadInput as error:
        st.error(str(error))
        return
    st.session_state["ask-read"] = False
    try:
        _page(store, settings)
    except Unreachable as error:
        log.warning("page: the records cannot be reached: %s", error)
        calm.card(sentences(st.session_state.get("language", "zh")), chat.unsaid())
    except Gone:  # somebody has deleted in another browser what was to be drawn here
        st.rerun()


def _page(store: Store, settings: Settings) -> None:
    children = store.children()
    words = sentences(children[-1].language if children else "zh")
    if store.household().pin_hash is None:
        welcome.show(store)
    elif st.query_params.get("p") == "parents":
        if gate.is_open(store):
            parents.show(store, words)
        else:
            gate.show(store, words)
    elif store.consent() is None:
        gate.lock()
        picker.resting(words, store.household().transcripts)
    elif (child := picker.chosen(children)) is None:
        gate.lock()
        picker.show(children, words, store.household().transcripts)
    else:
        gate.lock()
        st.session_state["language"] = child.language  # for a moment in which nobody can look it up
        chat.show(store, settings, child, sentences(child.language))


@st.cache_resource(show_spinner=False)
def _open(url: str, key_file: Path) -> Store:
    return Store(url, key_file)


if __name__ == "__main__":
    main()
