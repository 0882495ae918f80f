"""The guardian's area, behind the PIN: one section at a time, each in a module of its own.

In: the store. Out: the sections. Which one is open stands in the page's address (`s`).
"""

from collections.abc import Callable

import streamlit as st

from ui import away, forget
from ui.companion import (
    gate,
    parents_alerts,
    parents_chats,
    parents_children,
    parents_data,
    parents_family,
    parents_overview,
)
from ui.companion.look import brand, language_switch, line_broken
from ui.locales import Sentences
from ui.store import Store
from ui.telling import moment

Section = Callable[[Store, Sentences], None]


def show(store: Store, words: Sentences) -> None:
    """Draw the area."""
    gate.watch(store)
    line_broken(words)
    with st.sidebar:
        brand(words)
        st.button(
            words.back_to_chat, icon=":material/arrow_back:", width="stretch", key="leave-side", on_click=gate.leave
        )
    sections: dict[str, tuple[str, Section]] = {
        "overview": (words.overview.title, parents_overview.show),
        "alerts": (words.home.alerts, parents_alerts.show),
        "chats": (words.chats.title, parents_chats.show),
        "children": (words.home.children, parents_children.show),
        "family": (words.home.family, parents_family.show),
        "data": (words.data.title, parents_data.show),
    }
    with st.container(horizontal=True, vertical_alignment="center", key="parents-head"):
        st.title(words.for_parents, anchor=False)
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            _language(store)
            st.button(words.pin.lock, icon=":material/lock:", key="lock", on_click=gate.leave)
    if st.session_state.pop("saved", False):
        st.toast(words.saved)
    if (since := away.since(store)) is not None:
        st.warning(words.sending.away.format(when=moment(since)), icon=":material/cloud_off:")
    if missed := gate.missed():
        st.warning(words.pin.missed.format(missed=missed), icon=":material/key_off:")
    wanted = st.query_params.get("s", "")
    opened = st.segmented_control(
        words.for_parents,
        list(sections),
        default=wanted if wanted in sections else next(iter(sections)),
        required=True,
        format_func=lambda name: sections[name][0],
        label_visibility="collapsed",
        width="stretch",
        key="section",
    )
    if forget.is_owed(store):
        st.info(words.data.owed, icon=":material/cleaning_services:")
    name = opened or next(iter(sections))
    st.query_params["s"] = name
    sections[name][1](store, words)


def _language(store: Store) -> None:
    """The guardian's own. No callback: it would run before the door is looked at."""
    now = store.household().language
    # A key keeps its choice: in another tab it would turn back what was chosen here.
    if (chosen := language_switch(now, f"language-{now}")) != now:
        store.set_language(chosen)
        st.rerun()
