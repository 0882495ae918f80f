"""Which child is there. In: the children. Out: `k` in the page's address. No PIN: it is a child who picks."""

import streamlit as st

from ui.companion.look import LINGBAN, ai_line, avatar, parents_button
from ui.companion.safe_text import plain
from ui.locales import Sentences
from ui.tables import Access, Child


def chosen(children: list[Child]) -> Child | None:
    """The child that the address names; where it names nobody, the only one.

    A name of nobody asks who is there: the profile was deleted, and the page must not become a sibling's.
    """
    named = st.query_params.get("k", "")
    if not named and len(children) == 1:
        return children[0]
    return next((child for child in children if str(child.id) == named), None)


def show(children: list[Child], words: Sentences, transcripts: Access) -> None:
    """Let a child pick themselves."""
    with st.container(key="hello"):
        st.image(LINGBAN, width=120, alt=words.name)
        st.title(words.picker.title if children else words.picker.none, anchor=False)
    with st.container(key="picker", horizontal=True, horizontal_alignment="center"):
        for child in children:
            with st.container(key=f"pick-{child.id}", width=170):
                st.image(avatar(child.avatar), width=110, alt=child.nickname)
                st.button(
                    plain(child.nickname), key=f"child-{child.id}", width="stretch", on_click=_pick, args=(child.id,)
                )
    parents_button(words)
    ai_line(words, transcripts)


def resting(words: Sentences, transcripts: Access) -> None:
    """Say that nobody may chat: there is no consent."""
    with st.container(key="hello"):
        st.image(LINGBAN, width=120, alt=words.name)
        with st.container(key="note"):
            st.markdown(words.withdrawn)
            st.markdown(words.urgent)
    parents_button(words)
    ai_line(words, transcripts)


def _pick(child_id: int) -> None:
    st.query_params.clear()
    st.query_params["k"] = str(child_id)
