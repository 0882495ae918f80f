"""One message as a child sees it, and what a child can do with a reply. In: the store, the message. Out: a bubble, or a card."""

import streamlit as st

from ui import exchange
from ui.companion import adult, aloud, unsaid
from ui.companion.calm import gently
from ui.companion.look import LINGBAN, avatar
from ui.companion.safe_text import safe
from ui.companion.unsaid import Unsaid
from ui.database import Gone
from ui.exchange import TYPED_CHARS
from ui.locales import Sentences
from ui.records import Message
from ui.store import Store
from ui.tables import Child, Feedback


def draw(store: Store, message: Message, child: Child, words: Sentences, *, last: bool, busy: bool) -> None:
    """Draw it; `last`: it is the newest question or reply; `busy`: a reply is due, and nothing may cut it off."""
    if message.action == "crisis":
        adult.card(store, message, words)
    else:
        face = avatar(child.avatar) if message.role == "user" else LINGBAN
        with st.container(key=f"said-{message.role}-{message.id}"), st.chat_message(message.role, avatar=face):
            if message.role == "user":
                st.text(message.text)
            else:
                st.markdown(safe(message.text))
                if message.state == "stopped":
                    st.caption(words.stopped)
    if message.role == "assistant" and message.state != "waiting":
        acts = st.empty()  # a place of their own: whatever has none in this run stays on the page until the run ends
        if not busy:
            with acts.container():
                _acts(store, message, child, words, last=last)


def _acts(store: Store, message: Message, child: Child, words: Sentences, *, last: bool) -> None:
    """What a child can do with a reply: hear it, like it or ask why it was stopped, say that it was not nice, have it again."""
    say = words.talk
    if message.action == "goodbye":
        return
    stopped = message.action == "topic" or message.state == "guarded"
    with st.container(key=f"acts-{message.id}", horizontal=True, vertical_alignment="center"):
        if child.read_aloud and message.text:
            aloud.button(message.text, child.language, words, f"read-{message.id}")
        if stopped and message.action != "crisis":  # there the card says it, and whom to call
            with st.popover(say.why, type="tertiary", icon=":material/help:"):
                st.markdown(say.why_topic if message.action == "topic" else say.why_guarded)
                st.caption(words.urgent)
        marks: tuple[tuple[Feedback, str, str], ...] = (("up", "thumb_up", say.up), ("down", "thumb_down", say.down))
        for mark, icon, name in () if stopped else marks:
            st.button(
                name,
                icon=f":material/{icon}:",
                type="secondary" if message.feedback == mark else "tertiary",
                key=f"{mark}-{message.id}",
                on_click=gently(exchange.feedback),
                args=(store, message, None if message.feedback == mark else mark),
            )
        st.button(
            say.not_nice, icon=":material/flag:", key=f"not-nice-{message.id}", on_click=gently(exchange.feedback),
            args=(store, message, "not_nice"), type="tertiary", disabled=message.feedback == "not_nice",
        )  # fmt: skip
        if last and not stopped:
            _once_more(store, message, child, words)
    if message.feedback == "not_nice":
        st.caption(say.told)


def _ask_otherwise(store: Store, child: Child, question: Message, key: str) -> None:
    """Ask in other words. Where another page was quicker they are said behind what was said there; by a second press, once."""
    text = st.session_state[key].strip()
    if not text:
        return
    try:
        exchange.ask_again(store, question, text)
    except Gone:
        since = [found.text for found in store.messages(question.conversation_id) if found.id > question.id]
        if text not in since:
            unsaid.hold(Unsaid(child.id, str(question.conversation_id), text))
            unsaid.keep(store, child)


def _once_more(store: Store, reply: Message, child: Child, words: Sentences) -> None:
    """Have the last reply again, or change what was asked."""
    said = store.messages(reply.conversation_id)
    question = next((message for message in reversed(said) if message.role == "user"), None)
    if question is None or said[-1].id != reply.id:
        return
    st.button(
        words.talk.again, icon=":material/refresh:", type="tertiary", key=f"again-{reply.id}",
        on_click=gently(exchange.ask_again), args=(store, question),
    )  # fmt: skip
    with (
        st.popover(words.talk.edit, icon=":material/edit:", type="tertiary"),
        st.form(f"edit-{reply.id}", border=False),
    ):
        key = f"edit-text-{reply.id}"
        room = max(TYPED_CHARS, len(question.text))  # it may have been spoken, and its end is not cut off here
        st.text_area(words.talk.edit_title, question.text, max_chars=room, key=key)
        # On the click, and not when the page is drawn: the door may have been shut meanwhile.
        st.form_submit_button(
            words.talk.send,
            type="primary",
            width="stretch",
            on_click=gently(_ask_otherwise),
            args=(store, child, question, key),
        )
