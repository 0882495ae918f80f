"""MindPal's page for a child, and the door for the guardian.

In: MINDPAL_API_URL, MINDPAL_API_KEY_FILE, MINDPAL_FAMILY, MINDPAL_KEY_FILE, DATABASE_URL, STT_URL, STT_KEY_FILE,
MINDPAL_SENTENCES_FILE, and TZ for quiet hours. Out: the page; records in the family's database.
Run: `python -m ui`, or from the project's folder `PYTHONPATH=. streamlit run ui/companion/app.py` (then nobody sends
alerts or deletes what is too old: `python -m ui` does).
"""

import logging
import os
from pathlib import Path

import streamlit as st

from data.strict import BadInput
from ui.client import Settings, settings_from
from ui.companion import calm, chat, gate, parents, picker, unsaid, welcome
from ui.companion.look import LINGBAN, dress
from ui.database import Gone, Unreachable, url_for
from ui.store import Store

log = logging.getLogger("mindpal")


def main() -> None:
    """Choose the page: the guardian's first, and a child's only while a consent holds."""
    st.set_page_config(page_title="灵伴 MindPal", page_icon=LINGBAN, layout="centered")
    with st.container():  # a place of its own: what stands below stays where it is
        # The field's own Stop may end this run, and nothing draws what then is to be seen.
        if st.session_state.get("ask"):
            calm.again(chat.FOLLOW_S)
    dress()
    by_itself = calm.is_by_itself()
    try:
        settings = settings_from(os.environ)
        store = _open(url_for(settings.family, settings.database_url), settings.key_file)
        _page(store, settings, by_itself=by_itself)
    except Unreachable as error:  # before `BadInput`: a database that is away as it is to be opened is both
        log.warning("page: the records cannot be reached: %s", error)
        calm.card(calm.last_words(), unsaid.words())
    except BadInput as error:
        st.error(str(error))
    except Gone:  # somebody has deleted in another browser what was to be drawn here
        st.rerun()


def _page(store: Store, settings: Settings, *, by_itself: bool) -> None:
    children, home, agreed = store.children(), store.household(), store.consent() is not None
    if not agreed:
        unsaid.forget()
    if home.pin_hash is None:
        welcome.show(store)
        return
    if st.query_params.get("p") == "parents":
        words = calm.words_in(home.language)
        if gate.is_open(store, by_itself=by_itself):
            parents.show(store, words)
        else:
            gate.show(store, words)
        return
    gate.lock()
    child = picker.chosen(children)
    words = calm.words_in((child or children[-1]).language if children else home.language)
    if not agreed:
        picker.resting(words, home.transcripts)
    elif child is None:
        picker.show(children, words, home.transcripts)
    else:
        chat.show(store, settings, child, words, by_itself=by_itself)


@st.cache_resource(show_spinner=False)
def _open(url: str, key_file: Path) -> Store:
    return Store(url, key_file)


if __name__ == "__main__":
    main()
