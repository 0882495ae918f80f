"""What a child wants to say, held in this tab until it is written down and its chat is open.

In: what was typed, spoken or tapped. Out: messages, each written once and in order, though the records are away for a while,
and though a press of Stop, another tap or a closed tab ends the run of the page in the next moment.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from threading import Lock

import streamlit as st

from ui import exchange
from ui.client import Asleep, Settings, transcribe
from ui.database import Gone, Unreachable
from ui.store import Store
from ui.tables import Child


@dataclass(eq=False)
class Unsaid:
    """What this child wants to say, and where: in the chat that the page's address named.

    It is heard and written once. A tap starts a run of the page beside the one that it ends, and that one may be writing.
    `recording`: until it was listened to; `unheard`: in vain. `greeting`: the one on which it was tapped, and it begins a
    chat; `here`: the chat in which it is written.
    """

    child: int
    chat: str | None
    text: str
    recording: bytes | None = None
    greeting: int | None = None
    here: int | None = None
    unheard: bool = False
    tapped_again: bool = False
    _turn: Lock = field(default_factory=Lock)

    def hear(self, store: Store, settings: Settings) -> None:
        """Put what was said aloud behind what was typed, unless that is done: a child may send both together."""
        with self._turn:
            if self.recording is None:
                return
            heard = _heard(store, settings, self.child, self.recording)
            self.recording, self.unheard = None, not heard
            self.text = "\n".join(part for part in (self.text, heard) if part)

    def write(self, store: Store, here: int | None) -> int | None:
        """Write it in this chat, or a new one, unless that is done; the chat. None: there is not a word."""
        with self._turn:
            if self.here is None and self.text:
                self.here = exchange.say(store, self.child, here, self.text).conversation_id
            return self.here


def hold(said: Unsaid) -> None:
    """Hold it, behind what waits already."""
    if said not in _held():
        _held().append(said)


def drop(said: Unsaid) -> None:
    """Hold it no longer."""
    if said in _held():
        _held().remove(said)


def forget() -> None:
    """Hold nothing: nobody agrees that anything is kept."""
    st.session_state.pop("unsaid", None)


def waiting(child: Child) -> list[Unsaid]:
    """What this child wants to say, in the order in which it came."""
    return [said for said in _held() if said.child == child.id]


def words() -> list[str]:
    """What waits to be written of the child whom the page's address names: it names none where there is but one."""
    named = st.query_params.get("k")
    return [said.text for said in _held() if said.text and said.here is None and named in (None, str(said.child))]


def keep(store: Store, child: Child) -> None:
    """Write at once what needs no listening. Where that fails, it waits, and the page that is drawn next tries again."""
    with suppress(Unreachable, Gone):
        write(store, child, list(takewhile(lambda said: said.recording is None, waiting(child))))


def write(store: Store, child: Child, meant: Sequence[Unsaid]) -> None:
    """Write it in order; what was said at one place while nothing could be written stays together."""
    begun: dict[str | None, int | None] = {}
    for said in meant:
        here = begun.get(said.chat) if said.greeting is None else None
        begun[said.chat] = said.write(store, here or chat_named(store, child, said.chat))


def chat_named(store: Store, child: Child, named: str | None) -> int | None:
    """The chat of this child that an address names."""
    found = store.conversation(child.id, int(named)) if named and named.isdecimal() and len(named) < 10 else None
    return found.id if found else None


def _held() -> list[Unsaid]:
    held: list[Unsaid] = st.session_state.setdefault("unsaid", [])
    return held


def _heard(store: Store, settings: Settings, child_id: int, wav: bytes) -> str:
    """What was said in a recording. Nothing where nobody listens, or the guardian has turned voice off meanwhile."""
    child = store.child(child_id)
    if child is None or not child.voice:
        return ""
    try:
        return transcribe(settings, wav, child.language)
    except Asleep:
        return ""
