"""What stands before the chat: the end of the day's time, the night, a break, and what 灵伴 says of itself.

In: a ruling of `ui/limits.py`. Out: cards. Nothing here asks a child to stay.
"""

import streamlit as st

from ui import visits
from ui.companion import calm
from ui.companion.calm import gently
from ui.companion.look import LINGBAN, brand
from ui.database import Unreachable
from ui.limits import Ruling, rule
from ui.locales import Sentences
from ui.records import Course
from ui.store import Store
from ui.tables import Child, Visit

LOOK_S = 20  # how often an open page looks whether the door is still what it was


def closed(ruling: Ruling, child: Child, words: Sentences, *, kept: bool, card: bool, grave: bool) -> None:
    """Say kindly that it is enough for today, or night, or why else; and, since nobody is listening, where help is.

    `kept`: a question waits in the chat that is open. `card`: that of a crisis stands above, and needs no word beside it.
    `grave`: there was a crisis lately, and nothing was a good chat then.
    """
    with st.sidebar:
        brand(words)
    with st.container(key="closed"):
        if not card:
            st.image(LINGBAN, width=120, alt=words.name)
            say = words.door
            title, under = {
                "night": (say.night_title, say.night),
                "quiet": (say.quiet_title, say.quiet),
                "enough": (say.over_title if grave else say.enough_title, say.enough),
                "none": (say.none_title, say.none),
            }[ruling.door]
            st.title(title, anchor=False)
            st.markdown(under.format(until=child.quiet_to))
        if kept:
            st.markdown(words.door.kept)
        st.caption(words.urgent)


def resting(child: Child, words: Sentences) -> bool:
    """Whether this child is having a break; then the page is a card about it."""
    if st.session_state.get("resting") != child.id:  # a sibling may sit down at the same page
        return False
    with st.container(key="closed"):
        st.image(LINGBAN, width=120, alt=words.name)
        st.title(words.door.resting_title, anchor=False)
        st.markdown(words.door.resting)
        st.button(words.door.resting_back, key="rested", on_click=_rest, args=(None,))
        st.caption(words.urgent)
    return True


def notes(store: Store, visit: Visit, ruling: Ruling, words: Sentences) -> None:
    """What 灵伴 is, at the start and every hour; and that a break would be good."""
    if ruling.remind:
        with st.container(key="remind", horizontal=True, vertical_alignment="center"):
            st.markdown(words.door.remind)
            st.button(words.door.remind_ok, key="remind-ok", on_click=gently(visits.reminded), args=(store, visit))
    if ruling.rest:
        with st.container(key="rest"):
            st.markdown(words.door.rest)
            with st.container(horizontal=True):
                st.button(
                    words.door.rest_yes, type="primary", key="rest-yes", on_click=gently(_take), args=(store, visit)
                )
                st.button(words.door.rest_no, key="rest-no", on_click=gently(visits.rested), args=(store, visit))


def watch(store: Store, child: Child, now: Ruling, here: int | None) -> None:
    """Draw the page again when the door opens or closes, the guardian changes something, or something is said in the
    chat that is open (`here`), while the page is open: an answer may be given behind a shut door, or in another tab."""
    readers, course = store.household().transcripts, _course(store, here)

    @st.fragment(run_every=LOOK_S)
    def look() -> None:
        try:
            current = store.child(child.id)
            changed = (
                current is None
                or store.consent() is None
                or store.household().transcripts != readers
                or rule(store, current).door != now.door
                or _course(store, here) != course
            )
        except Unreachable:  # the page as a whole says so, with the next act
            return
        if changed:
            calm.draw_again()

    look()


def _take(store: Store, visit: Visit) -> None:
    visits.rested(store, visit)
    _rest(visit.child_id)


def _rest(child_id: int | None) -> None:
    st.session_state["resting"] = child_id


def _course(store: Store, here: int | None) -> list[Course]:
    """What has become of what was said: of a crisis the guard may tell only as the reply ends, or much later."""
    return store.course(here) if here is not None else []
