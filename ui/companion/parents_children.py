"""Every child's profile and limits, and a form for another child. In: the store. Out: what the guardian saved."""

from datetime import time

import streamlit as st

from ui.companion import profile
from ui.companion.look import avatar
from ui.companion.parents_form import number, saved
from ui.companion.safe_text import plain
from ui.locales import Sentences
from ui.records import Limits, Profile
from ui.store import Store
from ui.tables import Child


def show(store: Store, words: Sentences) -> None:
    """Draw one card for each child."""
    children = store.children()
    for child in children:
        with st.container(border=True, key=f"child-card-{child.id}"):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.image(avatar(child.avatar), width=56, alt=child.nickname)
                st.subheader(plain(child.nickname), anchor=False)
            _profile(store, child, words)
            _limits(store, child, words)
    with st.container(border=True, key="child-card-new"), st.form("new-child", border=False, clear_on_submit=True):
        st.subheader(words.home.another_child, anchor=False)
        language = children[-1].language if children else store.household().language
        new = profile.fields(Profile("", language=language), words, "new")
        if st.form_submit_button(words.home.add_child, type="primary"):
            if new.nickname:
                store.add_child(new)
                st.rerun()
            st.warning(words.home.no_nickname)


def _profile(store: Store, child: Child, words: Sentences) -> None:
    known = Profile(child.nickname, child.age_band, child.language, child.avatar)
    with st.expander(words.home.profile), st.form(f"profile-{child.id}", border=False):
        changed = profile.fields(known, words, f"child-{child.id}")
        if st.form_submit_button(words.save):
            if changed.nickname:
                store.set_profile(child.id, changed)
                st.rerun()
            st.warning(words.home.no_nickname)


def _limits(store: Store, child: Child, words: Sentences) -> None:
    say, key = words.home, f"limit-{child.id}"
    with st.form(key, border=False):
        left, right = st.columns(2)
        with left:
            minutes = number(say.minutes_a_day, 0, 240, child.minutes_a_day, f"{key}-minutes", words, step=5)
        with right:
            rest = number(say.break_minutes, 10, 120, child.break_minutes, f"{key}-break", words, step=5)
        left, right = st.columns(2)  # a row of its own: on a phone the one column stands below the other
        begins = left.time_input(
            say.quiet_from, time.fromisoformat(child.quiet_from), key=f"{key}-from-{child.quiet_from}"
        )
        ends = right.time_input(say.quiet_to, time.fromisoformat(child.quiet_to), key=f"{key}-to-{child.quiet_to}")
        st.caption(say.clock.format(now=f"{store.now().astimezone():%H:%M}"))
        blocked = st.text_area(
            say.blocked_topics,
            child.blocked_topics,
            max_chars=500,
            help=say.blocked_hint,
            height=96,
            key=f"{key}-blocked-{child.blocked_topics}",
        )
        with st.container(horizontal=True):
            aloud = st.toggle(
                say.read_aloud, child.read_aloud, help=say.read_aloud_hint, key=f"{key}-aloud-{child.read_aloud}"
            )
            voice = st.toggle(say.voice, child.voice, help=say.voice_hint, key=f"{key}-voice-{child.voice}")
        asked = st.form_submit_button(words.save, type="primary")
        if asked and minutes is not None and rest is not None:
            topics = "\n".join(line.strip() for line in blocked.splitlines() if line.strip())
            store.set_limits(
                child.id,
                Limits(
                    minutes_a_day=minutes,
                    quiet_from=begins.strftime("%H:%M"),
                    quiet_to=ends.strftime("%H:%M"),
                    break_minutes=rest,
                    blocked_topics=topics,
                    read_aloud=aloud,
                    voice=voice,
                ),
            )
            saved()
