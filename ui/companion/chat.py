"""The child's page: talk with 灵伴. In: the store, the settings, the child. Out: a conversation, stored as it is said."""

from contextlib import closing

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from ui.client import Asleep, Refused, Settings
from ui.companion import talk
from ui.companion.look import CHILD, LINGBAN, ai_line, brand
from ui.companion.safe_text import safe
from ui.locales import Sentences
from ui.store import Child, Conversation, Message, Store

RETRY_S = 4  # how often a sleeping server is asked again
FOLLOW_S = 2  # how often a page looks at a reply that another page is writing


def show(store: Store, settings: Settings, child: Child, words: Sentences) -> None:
    """Draw the page, and answer what waits for an answer."""
    here = _here(store, child)
    said = st.chat_input(words.ask_here, max_chars=2000, submit_mode="stop", key="ask")
    with st.bottom:
        ai_line(words)
    if said and said.strip():
        here = _say(store, child, here, said)
    _sidebar(store, child, here, words)
    hello = st.empty()  # a place of its own: a greeting in the place of the first message would linger under a reply
    if here is None:
        with hello.container():
            _hello(store, child, words)
        return
    store.settle(here)
    messages = store.messages(here)
    for message in messages:
        _draw(message, words)
    question = talk.unanswered(messages)
    if question is not None:
        _answer(store, settings, question, words, typed=said is not None)
    elif messages[-1].state == "waiting":
        _again_in(FOLLOW_S)


def _here(store: Store, child: Child) -> int | None:
    named = st.query_params.get("c", "")
    found = store.conversation(child.id, int(named)) if named.isdecimal() and len(named) < 10 else None
    return found.id if found else None


def _say(store: Store, child: Child, here: int | None, text: str) -> int:
    conversation = store.say(child.id, here, text.strip()).conversation_id
    st.query_params["c"] = str(conversation)
    return conversation


def _begin(store: Store, child: Child, text: str) -> None:
    _say(store, child, None, text)


def _sidebar(store: Store, child: Child, here: int | None, words: Sentences) -> None:
    with st.sidebar:
        brand(words)
        st.button(
            words.new_chat,
            icon=":material/add:",
            type="primary",
            width="stretch",
            key="new",
            on_click=_open,
            args=(None,),
        )
        conversations = store.conversations(child.id)
        st.caption(words.history if conversations else words.no_history)
        with st.container(key="history", gap=None):
            for conversation in conversations:
                _link(conversation, here)
        st.divider()
        st.button(
            words.for_parents, icon=":material/family_restroom:", type="tertiary", key="parents", on_click=_open_parents
        )


def _link(conversation: Conversation, here: int | None) -> None:
    st.button(
        safe(conversation.title),
        key=f"open-{conversation.id}",
        width="stretch",
        type="primary" if conversation.id == here else "secondary",
        on_click=_open,
        args=(conversation.id,),
    )


def _open(conversation_id: int | None) -> None:
    st.query_params.clear()
    if conversation_id is not None:
        st.query_params["c"] = str(conversation_id)


def _open_parents() -> None:
    st.query_params["p"] = "parents"


def _hello(store: Store, child: Child, words: Sentences) -> None:
    with st.container(key="hello"):
        st.image(LINGBAN, width=120)
        st.title(words.greeting.format(nickname=safe(child.nickname)), anchor=False)
        st.markdown(words.greeting_under)
    starters = {"4-6": words.starters.little, "7-9": words.starters.middle, "10-12": words.starters.big}
    with st.container(key="starters"):
        for row in (starters[child.age_band][:2], starters[child.age_band][2:]):
            for column, question in zip(st.columns(2), row, strict=True):
                column.button(question, width="stretch", on_click=_begin, args=(store, child, question))


def _draw(message: Message, words: Sentences) -> None:
    if message.action == "crisis":
        _crisis(message, words)
        return
    avatar = CHILD if message.role == "user" else LINGBAN
    with st.container(key=f"said-{message.role}-{message.id}"), st.chat_message(message.role, avatar=avatar):
        if message.role == "user":
            st.text(message.text)
            return
        st.markdown(safe(message.text))
        if message.state == "stopped":
            st.caption(words.stopped)


def _crisis(message: Message, words: Sentences) -> None:
    with st.container(key=f"card-{message.id}"), st.chat_message("assistant", avatar=LINGBAN):
        st.subheader(words.crisis_title, anchor=False)
        st.markdown(safe(message.text))
        st.markdown(words.crisis_adult)
        with st.container(key=f"lines-{message.id}", gap=None):
            for line in words.crisis_lines:
                st.markdown(f"**{line.number}**  {line.who}")


def _answer(store: Store, settings: Settings, question: Message, words: Sentences, *, typed: bool) -> None:
    slot, beat = st.empty(), st.empty()
    slept = st.session_state.get("asleep") == question.id
    text: DeltaGenerator | None = None
    if slept:
        _waking(slot, words)
    else:
        text = _bubble(slot, words, typed=typed)
    try:
        with closing(talk.reply_to(store, settings, question)) as growing:
            for so_far in growing:
                beat.empty()  # Streamlit notices a press of Stop, or a closed page, only when something is drawn
                if so_far:
                    text = text or _bubble(slot, words, typed=typed)
                    text.markdown(f"{safe(so_far)} ▍")
    except Asleep:
        st.session_state["asleep"] = question.id
        if not slept:  # it says so already, and a key may be drawn once in a run
            _waking(slot, words)
        _again_in(RETRY_S)
        return
    except Refused:
        slot.info(words.refused)
        return
    st.rerun()


def _bubble(slot: DeltaGenerator, words: Sentences, *, typed: bool) -> DeltaGenerator:
    with slot.container(key="answer"):
        text = st.chat_message("assistant", avatar=LINGBAN).empty()
        text.markdown(f"*{words.thinking}*")
        if not typed:  # the input's own stop button is there only for what was typed into it
            st.button(words.stop, icon=":material/stop_circle:", key="stop")
    return text


def _waking(slot: DeltaGenerator, words: Sentences) -> None:
    with slot.container(key="waking"):
        st.markdown(f"**{words.waking}**")
        st.markdown(words.waking_kept)


def _again_in(seconds: int) -> None:
    """Draw the page again after a while."""
    first = [True]

    @st.fragment(run_every=seconds)
    def again() -> None:
        if first:
            first.clear()
        else:
            st.rerun()

    again()
