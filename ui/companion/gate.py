"""The door of the parents' area: a PIN, and ten minutes after the last act it is shut again.

In: the store. Out: whether the area is open in this browser tab; a reload, or the child's page, shuts it.
"""

import math
import time
from collections.abc import Callable

import streamlit as st

from ui.companion.look import LINGBAN, line_broken
from ui.database import Unreachable
from ui.locales import Sentences
from ui.pin import Locked, Opened, check, locked
from ui.store import Store

OPEN_S = 600
# Until when, by both clocks, and with which PIN. The one stands still while a laptop sleeps, the other can be set back.
OPENED = "parents-opened"
MISSED = "parents-missed"  # wrong tries before the right one, until they are told
LOOKED = "parents-looked"  # what is being read there
LOOK_S = 15  # how often an open area looks whether its time is over


def is_open(store: Store, *, by_itself: bool) -> bool:
    """Whether the PIN that holds now was given here less than ten minutes ago.

    Asking counts as an act, unless the page is drawn again `by_itself`: records that stay away must not keep it open.
    """
    if not _holds(store):
        lock()
        return False
    if not by_itself:
        *_, pin_hash = st.session_state[OPENED]
        _open(pin_hash)
    return True


def lock() -> None:
    """Shut the area in this tab."""
    for held in (OPENED, LOOKED):
        st.session_state.pop(held, None)


def unlock(store: Store) -> None:
    """Open it with the PIN that has just been set; wherever it was opened with another one, it shuts."""
    _open(store.household().pin_hash)


def looked() -> dict[int, tuple[int, int | None]]:
    """Of each child the chat that is being read here, and how far; whoever opens the area again reads anew."""
    held: dict[int, tuple[int, int | None]] = st.session_state.setdefault(LOOKED, {})
    return held


def watch(store: Store) -> None:
    """Shut the area by itself when nobody has done anything for ten minutes."""

    @st.fragment(run_every=LOOK_S)
    def look() -> None:
        try:
            held = _holds(store)
        except Unreachable:  # the page as a whole says so, with the next act
            return
        if not held:
            st.rerun()

    look()


def still_open(store: Store) -> Callable[[], bool]:
    """Whether what is open now is still open, to be asked later and outside of a run of the page, as a download is."""
    until, by_the_wall, pin_hash = st.session_state.get(OPENED, (0.0, 0.0, None))
    return lambda: bool(
        time.monotonic() < until and time.time() < by_the_wall and pin_hash == store.household().pin_hash
    )


def current_pin(words: Sentences, key: str) -> str:
    """The field for the PIN that holds now, beside what asks for it once more."""
    return st.text_input(words.pin.current, type="password", max_chars=8, autocomplete="current-password", key=key)


def confirmed(store: Store, typed: str, words: Sentences) -> bool:
    """Whether this is the PIN; says what is wrong. For a try at the door, and for what must not be done by whoever finds
    the area open."""
    verdict = check(store, typed)
    if isinstance(verdict, Locked):
        _tell(verdict, store, words)
    elif isinstance(verdict, Opened):
        st.session_state[MISSED] = verdict.missed
    else:
        st.warning(words.pin.wrong.format(left=verdict.left))
    return isinstance(verdict, Opened)


def missed() -> int:
    """How many wrong PINs came before the last right one; told once, to whoever gave that."""
    tries: int = st.session_state.pop(MISSED, 0)
    return tries


def from_now(pin_hash: str | None) -> tuple[float, float, str | None]:
    """What is held of an area that is opened now, with the PIN of this hash."""
    return time.monotonic() + OPEN_S, time.time() + OPEN_S, pin_hash


def _open(pin_hash: str | None) -> None:
    st.session_state[OPENED] = from_now(pin_hash)


def _holds(store: Store) -> bool:
    return still_open(store)()


def show(store: Store, words: Sentences) -> None:
    """Ask for the PIN."""
    line_broken(words)
    with st.container(key="gate"):
        st.image(LINGBAN, width=96, alt=words.name)
        st.title(words.pin.title, anchor=False)
        with st.form("pin", border=False, clear_on_submit=True):
            st.markdown(words.pin.under)
            typed = st.text_input(
                words.pin.field,
                type="password",
                max_chars=8,
                label_visibility="collapsed",
                placeholder="••••",
                autocomplete="off",
                key="pin-typed",
            )
            asked = st.form_submit_button(words.pin.open, type="primary", width="stretch")
        if asked and typed:
            _try(store, typed, words)
        elif held := locked(store):  # after a reload, too
            _tell(held, store, words)
        st.caption(words.pin.forgotten)
        st.button(words.back, icon=":material/arrow_back:", type="tertiary", on_click=leave)


def leave() -> None:
    """Go back to the children's page."""
    lock()
    st.query_params.pop("p", None)
    st.query_params.pop("s", None)


def _try(store: Store, typed: str, words: Sentences) -> None:
    held = store.household().pin_hash  # before the try: a PIN that is set meanwhile must not be taken for this one
    if confirmed(store, typed, words):
        _open(held)
        st.rerun()


def _tell(held: Locked, store: Store, words: Sentences) -> None:
    minutes = max(1, math.ceil((held.until - store.now()).total_seconds() / 60))
    st.warning(words.pin.locked.format(minutes=minutes))
