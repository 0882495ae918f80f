"""The guardian's first page: what 灵伴 is, consent, the PIN, the child's profile. In: a form. Out: all of it, stored."""

import streamlit as st

from ui import forget, pin
from ui.companion import calm, profile
from ui.companion.look import LINGBAN, language_switch, line_broken
from ui.locales import Sentences
from ui.records import Profile
from ui.store import Store


def show(store: Store) -> None:
    """Draw the page; there is no way past it but a consent and a PIN."""
    children = store.children()
    with st.container(horizontal=True, horizontal_alignment="right"):
        language = language_switch(children[-1].language if children else "zh", "language")
    words = calm.words_in(language)
    line_broken(words)
    with st.container(horizontal=True, vertical_alignment="center", key="welcome-head"):
        st.image(LINGBAN, width=84, alt=words.name)
        with st.container(gap=None):
            st.title(words.welcome_title, anchor=False)
            st.markdown(words.first_run.again if children else words.welcome_under)
    if forget.is_owed(store):  # everything was deleted a moment ago
        st.info(words.data.owed, icon=":material/cleaning_services:")
    facts(words, store.household().retention_days)
    with st.form("first-run", border=False):
        with st.container(key="step-you"):
            st.subheader(f":orange-badge[1] {words.first_run.you}", anchor=False)
            left, right = st.columns(2)
            guardian = left.text_input(words.guardian_name, max_chars=40, autocomplete="off", key="guardian").strip()
            emergency = right.text_input(
                words.first_run.emergency,
                max_chars=80,
                placeholder=words.first_run.emergency_hint,
                autocomplete="off",
                key="emergency",
            ).strip()
        with st.container(key="step-pin"):
            st.subheader(f":orange-badge[2] {words.first_run.pin_title}", anchor=False)
            st.caption(words.first_run.pin_under)
            typed = two_pins(words, "first")
        known: Profile | None = None
        if not children:
            with st.container(key="step-child"):
                st.subheader(f":orange-badge[3] {words.first_run.child}", anchor=False)
                known = profile.fields(Profile("", language=language), words, "first")
        agreed = st.checkbox(words.consent, key="agreed")
        begun = st.form_submit_button(words.start, type="primary", width="stretch")
    if not begun:
        return
    if not agreed or not guardian or not emergency or (known is not None and not known.nickname):
        st.warning(words.missing)
    elif trouble := pin_trouble(typed, words):
        st.warning(trouble)
    else:
        store.first_run(guardian, emergency, pin.hashed(typed[0]), language, known)
        st.query_params.clear()
        st.rerun()


def facts(words: Sentences, days: int) -> None:
    """What a guardian has to know before saying yes; `days`: for how long chats are kept."""
    with st.container(key="facts"):
        st.markdown("\n".join(f"- {fact.format(days=days)}" for fact in words.facts))


def two_pins(words: Sentences, key: str) -> tuple[str, str]:
    """Two fields for a new PIN."""
    left, right = st.columns(2)
    return (
        left.text_input(words.pin.field, type="password", max_chars=8, autocomplete="new-password", key=f"{key}-pin"),
        right.text_input(
            words.pin.repeat, type="password", max_chars=8, autocomplete="new-password", key=f"{key}-pin-2"
        ),
    )


def pin_trouble(typed: tuple[str, str], words: Sentences) -> str | None:
    """What is wrong with a new PIN, in a sentence, or None."""
    if not pin.is_fit(typed[0]):
        return words.first_run.pin_unfit
    return words.first_run.pin_differs if typed[0] != typed[1] else None
