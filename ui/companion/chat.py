"""The child's page: talk with 灵伴. In: the store, the settings, the child. Out: a conversation, stored as it is said."""

import time
from collections.abc import Sequence
from contextlib import closing

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.typing import ChatInputValue

from ui import exchange, visits
from ui.client import Asleep, Refused, Settings
from ui.companion import adult, calm, door, drawer, talk, unsaid
from ui.companion.calm import gently
from ui.companion.look import LINGBAN, ai_line, avatar, brand, parents_button
from ui.companion.message import draw
from ui.companion.safe_text import plain, safe
from ui.companion.unsaid import Unsaid
from ui.exchange import TYPED_CHARS
from ui.limits import Ruling, rule
from ui.locales import Sentences
from ui.records import Conversation, Course, Message
from ui.store import TITLE_CHARS, Store
from ui.tables import Child, Mood

RETRY_S = 4  # how often a sleeping server is asked again
FOLLOW_S = 2  # how often a page looks at a reply that another page is writing
DRAW_S = 0.1  # how often a growing reply is drawn at most: a fast model must not keep a slow phone busy
SHOWN = 30  # messages drawn at first: more make a phone slow
MOODS: dict[Mood, str] = {
    "great": ":material/sentiment_very_satisfied:",
    "good": ":material/sentiment_satisfied:",
    "so_so": ":material/sentiment_neutral:",
    "sad": ":material/sentiment_dissatisfied:",
    "angry": ":material/mood_bad:",
}


def show(store: Store, settings: Settings, child: Child, words: Sentences, *, by_itself: bool) -> None:
    """Draw the page, and answer what waits for an answer."""
    _come_back(store, child)
    ruling = rule(store, child)
    if ruling.door != "open":
        _closed(store, settings, child, ruling, words)
        return
    if calm.was_not_kept():
        st.toast(words.calm.not_kept)
    here = _here(store, child)
    door.watch(store, child, ruling, here)
    resting = door.resting(child, words)
    if not resting:
        _input(store, settings, child, here, words)
    _line(store, words)
    # A page that draws itself again is no act of the child: time passes only while somebody is there.
    visit = visits.newest(store, child.id) if by_itself else visits.act(store, child.id)
    ruling = rule(store, child, visit)
    here = _say(store, settings, child, here, words)
    _sidebar(store, child, here, ruling.minutes_left, words)
    if resting:
        return
    hello = st.empty()  # a place of its own: a greeting in the place of the first message would linger under a reply
    if here is not None:
        exchange.settle(store, here)
    messages = _messages(store, here)
    if here is None or not messages:  # of some chats only what was put aside is left
        with hello.container():
            _hello(store, child, words)
        door.notes(store, visit, ruling, words)
        return
    # Any tap draws the page anew, and cuts a growing reply off: meanwhile none is offered that can wait.
    busy, question = _is_due(messages), talk.unanswered(messages)
    _manage(store, child, here, words)
    for message in _recent(messages, here, words, busy=busy):
        draw(store, message, child, words, last=message in messages[-2:], busy=busy)
    if _has_ended(messages):
        with st.container(key="ended"):
            st.caption(words.door.goodbye_under)
        return
    notes = st.empty()  # a place of their own, too: they go when a reply is due
    if not busy and messages[-1].action != "crisis":  # beside that card, nothing else matters
        with notes.container():
            door.notes(store, visit, ruling, words)
    if messages[-1].role == "user" and messages[-1].state == "stopped":
        _refused(words)
    if question is not None:
        _answer(store, settings, child, question, words)
    elif messages[-1].state == "waiting":
        calm.again(FOLLOW_S)


def _come_back(store: Store, child: Child) -> None:
    """On a page that names no chat, open the one in which the guard has answered a crisis since the child was here."""
    if st.session_state.get("came") != child.id and "c" not in st.query_params:
        visit = visits.last(store, child.id)  # of before: this act is not counted yet
        heard = store.crisis_since(child.id, visit.seen) if visit is not None else None
        if heard is not None:
            st.query_params["c"] = str(heard)
    st.session_state["came"] = child.id


def _input(store: Store, settings: Settings, child: Child, here: int | None, words: Sentences) -> None:
    """The field to write or speak in, unless the chat has ended with a goodbye."""
    if here is None or not _has_ended(store.course(here)):
        speaks = bool(settings.stt_url and child.voice)
        st.chat_input(
            words.ask_here, max_chars=TYPED_CHARS, submit_mode="stop", accept_audio=speaks, key="ask",
            on_submit=_take, args=(store, child),
        )  # fmt: skip


def _take(store: Store, child: Child) -> None:
    """Hold what was typed or said aloud, and write down what can be, before a press of Stop or another tap ends this run.

    A second press of Send is a press of Stop, and the next run of the page would not be told what came in this one.
    """
    said: ChatInputValue | str = st.session_state["ask"]
    typed, audio = (said, None) if isinstance(said, str) else (said.text, said.audio)
    if typed.strip() or audio:
        recording = audio.getvalue() if audio else None
        unsaid.hold(Unsaid(child.id, st.query_params.get("c"), typed.strip(), recording))
    unsaid.keep(store, child)


def _closed(store: Store, settings: Settings, child: Child, ruling: Ruling, words: Sentences) -> None:
    """The shut door, which shuts no crisis away: the card stays, and comes where the answer was given behind the door.

    It stands above all for as long as a goodbye after it is no ordinary one, whatever is said meanwhile.
    """
    # Kept is also what was asked while it was being shut: hours limit a child's time, not who hears of a crisis.
    here = _say(store, settings, child, _here(store, child), words)
    door.watch(store, child, ruling, here)
    messages = _messages(store, here)
    replies = [message for message in messages if message.role == "assistant"]
    lately = store.now() - talk.GRAVE
    cards = [
        found for found in replies if found.action == "crisis" and (found is replies[-1] or found.created > lately)
    ]
    if cards:
        adult.card(store, cards[-1], words)
    grave = store.crisis_since(child.id, lately) is not None
    door.closed(ruling, child, words, kept=talk.unanswered(messages) is not None, card=bool(cards), grave=grave)
    parents_button(words)
    _line(store, words)


def _line(store: Store, words: Sentences) -> None:
    """At the foot of the page, under the field where there is one: what 灵伴 is and who can read along."""
    with st.bottom:
        ai_line(words, store.household().transcripts)


def _recent(messages: list[Message], here: int, words: Sentences, *, busy: bool) -> list[Message]:
    """The last messages, and a button for as many before them; none while a reply is due (`busy`)."""
    key = f"earlier-{here}"
    shown: int = st.session_state.get(f"{key}-shown", SHOWN)
    place, earlier = st.empty(), len(messages) > shown and not busy
    if earlier and place.button(words.talk.earlier, key=key, type="tertiary", icon=":material/history:"):
        st.session_state[f"{key}-shown"] = shown + SHOWN
        st.rerun()
    return messages[-shown:]


def _manage(store: Store, child: Child, here: int, words: Sentences) -> None:
    """The chat's title, and a small menu to rename it or put it away."""
    conversation = store.conversation(child.id, here)
    if conversation is None:
        return
    with st.container(key="title", horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{plain(conversation.title)}**", width="stretch")
        with st.popover(words.talk.manage, icon=":material/edit_note:", type="tertiary"):
            with st.form(f"rename-{here}", border=False):
                title = st.text_input(words.talk.rename, conversation.title, max_chars=TITLE_CHARS, key=f"title-{here}")
                if st.form_submit_button(words.save, width="stretch") and title.strip():
                    store.rename(here, title.strip())
                    st.rerun()
            st.button(
                words.talk.hide, icon=":material/inventory_2:", width="stretch", key=f"hide-{here}",
                on_click=gently(_hide), args=(store, here),
            )  # fmt: skip
            full = store.household().transcripts == "full"
            st.caption(words.talk.hide_under if full else words.talk.hide_under_alerts)


def _hide(store: Store, here: int) -> None:
    store.hide(here)
    _open(None)


def _has_ended(messages: Sequence[Message | Course]) -> bool:
    return bool(messages) and messages[-1].action == "goodbye"


def _here(store: Store, child: Child) -> int | None:
    return unsaid.chat_named(store, child, st.query_params.get("c"))


def _messages(store: Store, here: int | None) -> list[Message]:
    """What was said in the chat that is open. A reply that a second tap has cut off is asked for again, once it has ended."""
    messages = store.messages(here) if here is not None else []
    tapped: Unsaid | None = st.session_state.get("tapped")
    if tapped is None or not tapped.tapped_again or tapped.here != here or not messages or _is_due(messages):
        return messages
    tapped.tapped_again = False
    if [(message.role, message.state) for message in messages[1:]] != [("assistant", "stopped")]:
        return messages
    return [exchange.ask_again(store, messages[0])]


def _is_due(messages: list[Message]) -> bool:
    """Whether a reply is on its way, from here or from another page."""
    return talk.unanswered(messages) is not None or messages[-1].state == "waiting"


def _say(store: Store, settings: Settings, child: Child, here: int | None, words: Sentences) -> int | None:
    """Write what this child wants to say, in the chat in which it was said; the chat that is open now."""
    meant = unsaid.waiting(child)
    for said in meant:
        said.hear(store, settings)
    unsaid.write(store, child, meant)
    for said in meant:
        if said.here is not None:
            here = said.here
            st.query_params["c"] = str(here)
        if said.unheard:
            st.toast(words.talk.unheard)
        unsaid.drop(said)  # not before its chat is open: a run that ends sooner leaves that to the next one
    return here


def _begin(store: Store, child: Child, text: str, greeting: int) -> None:
    """Begin a chat with these words. A second tap on the same greeting, which a slow page still shows, opens that chat."""
    tapped: Unsaid | None = st.session_state.get("tapped")
    if tapped is not None and (tapped.text, tapped.greeting) == (text, greeting):
        tapped.tapped_again = True
    else:
        tapped = st.session_state["tapped"] = Unsaid(child.id, None, text, greeting=greeting)
    unsaid.hold(tapped)
    unsaid.keep(store, child)
    st.query_params.pop("c", None)


def _let_be() -> None:
    """The child stops a reply, or goes elsewhere: what was tapped is asked for no more."""
    st.session_state.pop("tapped", None)


def _sidebar(store: Store, child: Child, here: int | None, minutes_left: int, words: Sentences) -> None:
    with st.sidebar:
        brand(words)
        with st.container(key="me", horizontal=True, vertical_alignment="center"):
            st.image(avatar(child.avatar), width=36, alt=child.nickname)
            left = words.door.minutes_left.format(minutes=minutes_left)
            st.markdown(f"**{plain(child.nickname)}**  \n:small[{left}]", width="content")
            if len(store.children()) > 1:
                st.button(words.picker.change, key="change", type="tertiary", on_click=_change)
        st.button(
            words.new_chat,
            icon=":material/add:",
            type="primary",
            width="stretch",
            key="new",
            on_click=_open,
            args=(None,),
        )
        wanted = st.text_input(
            words.talk.search,
            placeholder=words.talk.search,
            label_visibility="collapsed",
            icon=":material/search:",
            autocomplete="off",
            key="search",
        )
        looking = bool(wanted and wanted.strip())
        conversations = store.search(child.id, wanted.strip()) if wanted and looking else store.conversations(child.id)
        st.caption(words.history if conversations else words.talk.nothing_found if looking else words.no_history)
        with st.container(key="history", gap=None):
            for conversation in conversations:
                _link(conversation, here)
        st.divider()
        parents_button(words)
        drawer.shuts_itself()


def _link(conversation: Conversation, here: int | None) -> None:
    st.button(
        plain(conversation.title),
        key=f"open-{conversation.id}",
        width="stretch",
        type="primary" if conversation.id == here else "secondary",
        on_click=_open,
        args=(conversation.id,),
    )


def _open(conversation_id: int | None) -> None:
    st.session_state.pop("resting", None)
    _let_be()
    st.query_params.pop("c", None)
    if conversation_id is not None:
        st.query_params["c"] = str(conversation_id)


def _change() -> None:
    st.query_params.clear()


def _hello(store: Store, child: Child, words: Sentences) -> None:
    say = words.talk
    number = st.session_state["greeting"] = st.session_state.get("greeting", 0) + 1
    with st.container(key="hello"):
        st.image(LINGBAN, width=120, alt=words.name)
        st.title(words.greeting.format(nickname=plain(child.nickname)), anchor=False)
        st.markdown(words.greeting_under)
    _mood(store, child, words)
    with st.container(key="ideas", horizontal=True, horizontal_alignment="center"):
        why = say.why_asks[store.now().toordinal() % len(say.why_asks)]
        for icon, label, asked in (
            ("auto_stories", say.story, say.story_ask),
            ("psychology_alt", say.riddle, say.riddle_ask),
            ("lightbulb", say.why_question, why),
        ):
            st.button(
                label,
                icon=f":material/{icon}:",
                key=f"idea-{icon}",
                on_click=_begin,
                args=(store, child, asked, number),
            )
    starters = {"4-6": words.starters.little, "7-9": words.starters.middle, "10-12": words.starters.big}
    with st.container(key="starters"):
        for row in (starters[child.age_band][:2], starters[child.age_band][2:]):
            for column, question in zip(st.columns(2), row, strict=True):
                column.button(question, width="stretch", on_click=_begin, args=(store, child, question, number))


def _mood(store: Store, child: Child, words: Sentences) -> None:
    """Five faces; the one that was picked is kept and thanked for, once."""
    with st.container(key="mood", horizontal=True, horizontal_alignment="center", vertical_alignment="center"):
        if st.session_state.pop("felt", False):
            st.markdown(words.talk.mood_thanks, width="content")
            return
        st.markdown(words.talk.mood, width="content")
        for mood, face in MOODS.items():
            name = words.talk.moods[mood]
            st.button(
                name, icon=face, type="tertiary", key=f"mood-{mood}", on_click=gently(_feel), args=(store, child, mood)
            )


def _feel(store: Store, child: Child, mood: Mood) -> None:
    store.feel(child.id, mood)
    st.session_state["felt"] = True


def _answer(store: Store, settings: Settings, child: Child, question: Message, words: Sentences) -> None:
    slot, beat = st.empty(), st.empty()
    slept = st.session_state.get("asleep") == question.id
    text: DeltaGenerator | None = None
    draw_at = 0.0
    if slept:
        _waking(slot, words)
    else:
        text = _bubble(slot, words)
    try:
        with closing(talk.reply_to(store, settings, child, question)) as growing:
            for so_far in growing:
                if time.monotonic() < draw_at:
                    continue
                draw_at = time.monotonic() + DRAW_S
                beat.empty()  # Streamlit notices a press of Stop, or a closed page, only when something is drawn
                if so_far:
                    text = text or _bubble(slot, words)
                    text.markdown(f"{safe(so_far)} ▍")
    except Asleep:
        st.session_state["asleep"] = question.id
        if not slept:  # it says so already, and a key may be drawn once in a run
            _waking(slot, words)
        calm.again(RETRY_S)
        return
    except Refused:
        pass  # the page that is drawn next says so
    st.rerun()


def _bubble(slot: DeltaGenerator, words: Sentences) -> DeltaGenerator:
    with slot.container(key="answer"):
        text = st.chat_message("assistant", avatar=LINGBAN).empty()
        text.markdown(f"*{words.thinking}*")
        # Beside the field's own, which is there only for what was typed into it, and not when that came as a page was drawn.
        st.button(words.stop, icon=":material/stop_circle:", key="stop", on_click=_let_be)
    return text


def _refused(words: Sentences) -> None:
    with st.container(key="refused"):
        st.info(words.refused)
        st.caption(words.urgent)


def _waking(slot: DeltaGenerator, words: Sentences) -> None:
    with slot.container(key="waking"):
        st.markdown(f"**{words.waking}**")
        st.markdown(words.waking_kept)
        st.caption(words.urgent)
