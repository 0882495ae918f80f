"""MindPal's page for a child, and the door for the guardian.

In: MINDPAL_API_URL, MINDPAL_API_KEY_FILE, MINDPAL_FAMILY, MINDPAL_KEY_FILE, DATABASE_URL, STT_URL, and TZ for quiet
hours. Out: the page; records in the family's database.
Run: `python -m ui`, or from the project's folder `PYTHONPATH=. streamlit run ui/companion/app.py` (then nobody sends
alerts or deletes what is too old: `python -m ui` does).
"""

import os
from pathlib import Path

import streamlit as st

from data.strict import BadInput
from ui.client import settings_from
from ui.companion import chat, gate, parents, picker, welcome
from ui.companion.look import LINGBAN, dress
from ui.locales import sentences
from ui.store import Store, url_for


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
    children = store.children()
    words = sentences(children[-1].language if children else "zh")
    if store.household().pin_hash is None:
        welcome.show(store)
    elif st.query_params.get("p") == "parents":
        if gate.is_open():
            parents.show(store, words)
        else:
            gate.show(store, words)
    elif store.consent() is None:
        gate.lock()
        picker.resting(words)
    elif (child := picker.chosen(children)) is None:
        gate.lock()
        picker.show(children, words)
    else:
        gate.lock()
        chat.show(store, settings, child, sentences(child.language))


@st.cache_resource(show_spinner=False)
def _open(url: str, key_file: Path) -> Store:
    return Store(url, key_file)


if __name__ == "__main__":
    main()
