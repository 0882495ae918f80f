"""Cards that a child can hand to an adult: what to do now, whom to call. In: a crisis. Out: a card and a dialog."""

import streamlit as st

from ui.companion.look import LINGBAN
from ui.companion.safe_text import plain, safe
from ui.locales import Sentences
from ui.records import Message
from ui.store import Store


def card(store: Store, message: Message, words: Sentences) -> None:
    """The calm card in the place of a reply."""
    with st.container(key=f"card-{message.id}"), st.chat_message("assistant", avatar=LINGBAN):
        st.subheader(words.crisis_title, anchor=False)
        st.markdown(safe(message.text))
        st.markdown(words.crisis_adult)
        _lines(words, f"lines-{message.id}")
        if st.button(words.adult.show, icon=":material/volunteer_activism:", type="primary", key=f"adult-{message.id}"):
            st.session_state["adult"] = message.id
        # Held until it is put away: the page may be drawn again by itself while an adult reads.
        if st.session_state.get("adult") == message.id:
            _dialog(store, words)


def _dialog(store: Store, words: Sentences) -> None:
    @st.dialog(words.adult.title, width="large", on_dismiss=_put_away)
    def shown() -> None:
        st.markdown(f"### {words.adult.please}")
        for advice in words.adult.advice:
            st.markdown(f"- {advice}")
        emergency = store.emergency()
        if emergency:
            st.markdown(f"**{words.adult.contact}** {plain(emergency)}")
        _lines(words, "lines-adult")

    shown()


def _put_away() -> None:
    st.session_state.pop("adult", None)


def _lines(words: Sentences, key: str) -> None:
    with st.container(key=key, gap=None):
        for line in words.crisis_lines:
            st.markdown(f"**{line.number}**  {line.who}")
