"""Cards that a child can hand to an adult: what to do now, whom to call. In: a crisis. Out: a card and a dialog."""

from collections.abc import Sequence

import streamlit as st

from ui.companion.look import LINGBAN
from ui.companion.safe_text import plain, safe
from ui.locales import Line, Sentences
from ui.records import Message
from ui.store import Store

# The guard's kind of crisis in which a fire brigade helps more than somebody to talk to, and who listens is not yet safe.
EMERGENCY = "emergency"
# And the one in which a parent may be who hurts: the card names no parents, as the guard's words above it name none.
ABUSE = "abuse"


def card(store: Store, message: Message, words: Sentences) -> None:
    """The calm card in the place of a reply."""
    title, lines, advice = words.crisis_title, words.crisis_lines, words.adult.advice
    if message.category == EMERGENCY:
        title, lines, advice = words.emergency_title, words.emergency_lines, words.adult.emergency_advice
    with st.container(key=f"card-{message.id}"), st.chat_message("assistant", avatar=LINGBAN):
        st.subheader(title, anchor=False)
        st.markdown(safe(message.text))
        if message.category != EMERGENCY:
            st.markdown(words.abuse_adult if message.category == ABUSE else words.crisis_adult)
        _lines(lines, f"lines-{message.id}")
        if st.button(words.adult.show, icon=":material/volunteer_activism:", type="primary", key=f"adult-{message.id}"):
            st.session_state["adult"] = message.id
        # Held until it is put away: the page may be drawn again by itself while an adult reads.
        if st.session_state.get("adult") == message.id:
            _dialog(store, advice, lines, words)


def _dialog(store: Store, advice: Sequence[str], lines: Sequence[Line], words: Sentences) -> None:
    @st.dialog(words.adult.title, width="large", on_dismiss=_put_away)
    def shown() -> None:
        st.markdown(f"### {words.adult.please}")
        for step in advice:
            st.markdown(f"- {step}")
        emergency = store.emergency()
        if emergency:
            st.markdown(f"**{words.adult.contact}** {plain(emergency)}")
        _lines(lines, "lines-adult")

    shown()


def _put_away() -> None:
    st.session_state.pop("adult", None)


def _lines(lines: Sequence[Line], key: str) -> None:
    with st.container(key=key, gap=None):
        for line in lines:
            st.markdown(f"**{line.number}**  {line.who}")
