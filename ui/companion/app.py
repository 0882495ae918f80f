"""MindPal's page for a child, and the door for the guardian.

In: MINDPAL_API_URL, MINDPAL_API_KEY_FILE, MINDPAL_FAMILY, DATABASE_URL. Out: the page; records in the family's database.
Run: `python -m ui`, or from the project's folder `PYTHONPATH=. streamlit run ui/companion/app.py`.
"""

import os

import streamlit as st

from data.strict import BadInput
from ui.client import Settings, settings_from
from ui.companion import chat, parents, welcome
from ui.companion.look import LINGBAN, dress
from ui.locales import sentences
from ui.store import Store, url_for


def main() -> None:
    """Choose the page: the guardian's first, and the child's only while a consent holds."""
    st.set_page_config(page_title="灵伴 MindPal", page_icon=LINGBAN, layout="centered")
    dress()
    try:
        settings = settings_from(os.environ)
        store = _store(settings)
    except BadInput as error:
        st.error(str(error))
        return
    consent, child = store.consent(), store.child()
    if consent is None or child is None:
        welcome.show(store)
    elif st.query_params.get("p") == "parents":
        parents.show(store, sentences(child.language), consent)
    else:
        chat.show(store, settings, child, sentences(child.language))


def _store(settings: Settings) -> Store:
    return _open(url_for(settings.family, settings.database_url))


@st.cache_resource(show_spinner=False)
def _open(url: str) -> Store:
    return Store(url)


if __name__ == "__main__":
    main()
