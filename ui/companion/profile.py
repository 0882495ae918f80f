"""The fields of a child's profile, in the first run and in the parents' area. In: what is known. Out: a `Profile`."""

from typing import get_args

import streamlit as st

from ui.companion.look import AVATARS, avatar_label
from ui.locales import LANGUAGES, Language, Sentences
from ui.records import Profile
from ui.tables import AgeBand

BANDS: tuple[AgeBand, ...] = get_args(AgeBand)


def fields(known: Profile, words: Sentences, key: str) -> Profile:
    """Draw the fields inside a form. The nickname may be empty: whoever reads it has to ask again.

    Each key holds what is known: see `ui/companion/parents_form.py`.
    """
    left, right = st.columns(2)
    nickname = left.text_input(
        words.child_nickname,
        known.nickname,
        max_chars=20,
        placeholder=words.child_nickname_hint,
        autocomplete="off",
        key=f"{key}-nickname-{known.nickname}",
    )
    band = right.segmented_control(
        words.child_age,
        BANDS,
        default=known.age_band,
        required=True,
        format_func=lambda value: words.age_suffix.format(band=value),
        key=f"{key}-age-{known.age_band}",
    )
    avatar = left.segmented_control(
        words.first_run.avatar,
        AVATARS,
        default=known.avatar,
        required=True,
        format_func=avatar_label,
        key=f"{key}-avatar-{known.avatar}",
    )
    language: Language | None = right.segmented_control(
        words.child_language,
        list(LANGUAGES),
        default=known.language,
        required=True,
        format_func=LANGUAGES.__getitem__,
        key=f"{key}-language-{known.language}",  # of a new child: it follows the page's language
    )
    return Profile(nickname.strip(), band or known.age_band, language or known.language, avatar or known.avatar)
