"""The guardian's first page: what 灵伴 is, consent, the child's profile. In: a form. Out: stored consent and child."""

from typing import get_args

import streamlit as st

from ui.companion.look import LINGBAN
from ui.locales import LANGUAGES, Language, sentences
from ui.store import AgeBand, Store


def show(store: Store) -> None:
    """Draw the page; there is no way past it but a consent."""
    known = store.child()
    language = _language(known.language if known else "zh")
    words = sentences(language)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.image(LINGBAN, width=84)
        with st.container(gap=None):
            st.title(words.welcome_title, anchor=False)
            st.markdown(words.welcome_under)
    if known is not None:
        with st.container(key="note"):
            st.markdown(words.withdrawn)
    with st.container(key="facts"):
        st.markdown("\n".join(f"- {fact}" for fact in words.facts))
    with st.form("first-run", border=False):
        left, right = st.columns(2)
        guardian = left.text_input(words.guardian_name, max_chars=40, key="guardian")
        if known is None:
            nickname = right.text_input(
                words.child_nickname, max_chars=20, placeholder=words.child_nickname_hint, key="nickname"
            )
            bands: tuple[AgeBand, ...] = get_args(AgeBand)
            band = left.segmented_control(
                words.child_age,
                bands,
                default=bands[1],
                required=True,
                format_func=lambda value: words.age_suffix.format(band=value),
            )
            spoken = right.segmented_control(
                words.child_language,
                list(LANGUAGES),
                default=language,
                required=True,
                format_func=LANGUAGES.__getitem__,
            )
        agreed = st.checkbox(words.consent, key="agreed")
        begun = st.form_submit_button(words.start, type="primary", width="stretch")
    if not begun:
        return
    if not agreed or not guardian.strip() or (known is None and not nickname.strip()):
        st.warning(words.missing)
        return
    if known is None:
        store.first_run(guardian.strip(), nickname.strip(), band or bands[1], spoken or language)
    else:
        store.consent_again(guardian.strip())
    st.query_params.clear()
    st.rerun()


def _language(default: Language) -> Language:
    with st.container(horizontal=True, horizontal_alignment="right"):
        chosen = st.segmented_control(
            sentences(default).language,
            list(LANGUAGES),
            default=default,
            required=True,
            format_func=LANGUAGES.__getitem__,
            label_visibility="collapsed",
            key="language",
        )
    return chosen or default
