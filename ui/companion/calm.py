"""What the page does when the records cannot be written, or what it shows has been deleted by somebody else.

In: an act, what the child wanted to say. Out: a calm card; words that could not be kept are said again from here, as
soon as that is possible.
"""

from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVarTuple

import streamlit as st

from ui.companion.language import tell
from ui.companion.look import LINGBAN
from ui.database import Gone, Unreachable
from ui.locales import Language, Sentences, sentences

RETRY_S = 5  # how often a page whose records cannot be reached looks again

Args = TypeVarTuple("Args")


def gently(act: Callable[[*Args], object]) -> Callable[[*Args], None]:
    """For a button: do it; when the records cannot be written, let the page say so instead of breaking."""

    def done(*args: *Args) -> None:
        try:
            act(*args)
        except Unreachable:
            st.session_state["not-kept"] = True
        except Gone:  # deleted in another browser: the page that is drawn next shows what there is now
            return

    return done


def words_in(language: Language) -> Sentences:
    """The sentences of this page; its language is kept for a moment in which nobody can look it up, and told to the browser."""
    st.session_state["page-language"] = language
    tell(language, "page")
    return sentences(language)


def last_words() -> Sentences:
    """The sentences of the page that was drawn last in this tab."""
    language: Language = st.session_state.get("page-language", "zh")
    tell(language, "last")  # it may be the first page, and is then told nowhere else
    return sentences(language)


def was_not_kept() -> bool:
    """Whether the last button's act could not be written; asking forgets it."""
    return bool(st.session_state.pop("not-kept", False))


def card(words: Sentences, unsaid: Sequence[str]) -> None:
    """Say that nothing can be written down now, show the words that wait for it, and look again by itself."""
    with st.container(key="calm"):
        st.image(LINGBAN, width=84, alt=words.name)
        st.markdown(f"**{words.calm.title}**")
        st.markdown(words.calm.under)
        if unsaid:
            st.markdown(words.calm.unsaid)
            with st.container(key="calm-words"):
                for said in unsaid:
                    st.text(said)
        st.markdown(words.urgent)
        st.caption(words.calm.adults)
    again(RETRY_S)


def again(seconds: int) -> None:
    """Draw the page again after a while, which is nobody's act."""
    first = [True]

    @st.fragment(run_every=seconds)
    def look() -> None:
        if first:
            first.clear()
        else:
            draw_again()

    look()


def draw_again() -> NoReturn:
    """Draw the page again at once, which is nobody's act."""
    st.session_state["by-itself"] = True
    st.rerun()


def is_by_itself() -> bool:
    """Whether the page is drawn again by itself; asking forgets it."""
    return bool(st.session_state.pop("by-itself", False))
