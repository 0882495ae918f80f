"""What was said, as far as the family's setting lets a guardian read it. In: the store. Out: one chat at a time.

Each chat that is opened is a line in the log of accesses, and another one when there is more to read in it.
"""

import streamlit as st

from ui import forget
from ui.companion import gate
from ui.companion.look import LINGBAN, avatar
from ui.companion.parents_form import pin_again
from ui.companion.safe_text import plain, safe
from ui.locales import Sentences
from ui.records import Conversation, Message
from ui.store import Store
from ui.tables import Child
from ui.telling import moment

SHOWN = 200  # chats to choose from at first: more make a phone slow


def show(store: Store, words: Sentences) -> None:
    """Draw a list of chats, or the one that was opened."""
    if store.household().transcripts != "full":
        st.info(words.chats.alerts_only)
        return
    for child in store.children():
        with st.container(key=f"panel-chats-{child.id}"):
            st.subheader(plain(child.nickname), anchor=False)
            shown: int = st.session_state.get(f"chats-shown-{child.id}", SHOWN)
            chats = store.conversations(child.id, shown + 1, hidden=True)
            if not chats:
                st.caption(words.no_history)
                continue
            listed = {chat.id: chat for chat in chats[:shown]}
            names = {chat.id: _name(chat, words) for chat in chats[:shown]}
            chosen = st.selectbox(
                words.chats.choose,
                list(listed),
                index=None,
                format_func=names.__getitem__,
                placeholder=words.chats.choose,
                label_visibility="collapsed",
                key=f"chat-{child.id}",
            )
            if len(chats) > shown and st.button(
                words.talk.earlier, key=f"chats-earlier-{child.id}", type="tertiary", icon=":material/history:"
            ):
                st.session_state[f"chats-shown-{child.id}"] = shown + SHOWN
                st.rerun()
            if chosen is None:
                gate.looked().pop(child.id, None)
            else:
                _chat(store, child, listed[chosen], words)


def said(message: Message, face: str, *notes: str) -> None:
    """Draw a message, and under it when it was said, and notes."""
    with st.chat_message(message.role, avatar=face if message.role == "user" else LINGBAN):
        if message.role == "user":
            st.text(message.text)
        else:
            st.markdown(safe(message.text))
        st.caption(" · ".join(note for note in (moment(message.created), *notes) if note))


def _chat(store: Store, child: Child, chat: Conversation, words: Sentences) -> None:
    look = (chat.id, store.last_message(chat.id))
    if gate.looked().get(child.id) != look:  # written first: what cannot be audited is not shown
        store.audit("transcript", child.id, chat.id)
        gate.looked()[child.id] = look
    for message in store.messages(chat.id, replaced=True):
        said(
            message,
            avatar(child.avatar),
            words.chats.replaced if message.state == "replaced" else "",
            words.chats.feedback.get(message.feedback or "", ""),
            f"{words.contract_title} {message.contract[:8]}" if message.contract else "",
        )
    with st.popover(words.chats.delete, icon=":material/delete:"):
        st.markdown(words.data.for_good)
        if pin_again(store, words.chats.delete, f"delete-chat-{chat.id}", words):
            forget.chat(store, chat.id)
            st.rerun()


def _name(chat: Conversation, words: Sentences) -> str:
    # With its number, as in the log: of two that read the same, the list would offer one.
    put_away = f" · {words.chats.hidden}" if chat.hidden else ""
    return f"{moment(chat.updated)} · {chat.title}{put_away} · #{chat.id}"
