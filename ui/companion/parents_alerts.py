"""The alerts, newest first, each with what was said around it. In: the store. Out: rows; a look marks them as seen.

Opening a passage is a line in the log of accesses.
"""

import streamlit as st

from ui import outbox
from ui.companion.look import avatar
from ui.companion.parents_chats import said
from ui.companion.safe_text import plain
from ui.locales import Sentences
from ui.store import Store
from ui.tables import Alert
from ui.telling import category, moment

SHOWN = 50


def show(store: Store, words: Sentences) -> None:
    """Draw the list."""
    children = store.children()
    found = [(alert, child) for child in children for alert in store.alerts(child.id)]
    found.sort(key=lambda pair: pair[0].id, reverse=True)
    with st.container(key="alerts"):
        st.subheader(words.alerts_title, anchor=False)
        if not outbox.channels(store):
            st.info(words.alerts_no_channel, icon=":material/notifications_off:")
        if not found:
            st.caption(words.alerts_none)
        lost = outbox.given_up(store)
        shown: int = st.session_state.get("alerts-shown", SHOWN)
        for alert, child in found[:shown]:
            row = words.alert_row.format(when=moment(alert.created), category=category(alert.category, words))
            who = f"**{plain(child.nickname)}** · " if len(children) > 1 else ""
            new = "" if alert.seen else f" :orange-badge[{words.alert_new}]"
            unsent = f" :red-badge[{words.sending.given_up}]" if alert.id in lost else ""
            st.markdown(f"{who}{row}{new}{unsent}")
            _passage(store, alert, avatar(child.avatar), words)
        store.alerts_seen([alert.id for alert, _ in found[:shown]])
        if len(found) > shown and st.button(words.talk.earlier, key="alerts-earlier", type="tertiary"):
            st.session_state["alerts-shown"] = shown + SHOWN
            st.rerun()


def _passage(store: Store, alert: Alert, face: str, words: Sentences) -> None:
    key = f"passage-{alert.id}"
    if not st.toggle(words.chats.passage, key=key):
        st.session_state.pop(f"{key}-read", None)
        return
    if f"{key}-read" not in st.session_state:  # read, and audited, once for each time it is opened
        st.session_state[f"{key}-read"] = store.passage(alert)
    for message in st.session_state[f"{key}-read"]:
        said(message, face)
