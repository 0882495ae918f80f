"""Read a reply aloud with the browser's own speech synthesis, sentence by sentence; a second tap stops it.

In: a reply and its language. Out: a button. Only a voice of the device itself is given the words; where it has none for
the language, there is no button.
"""

import re
from pathlib import Path

import streamlit as st

from ui.locales import Language, Sentences

HERE = Path(__file__).parent
# Tags of the voices that speak a language. A voice for Hong Kong speaks Cantonese, which is another language to hear.
SPEAKS: dict[Language, str] = {"zh": r"^(zh|cmn)\b(?!.*-hk\b)", "en": r"^en\b"}
_ENDS = re.compile(r"(?<=[。！？!?；;])|(?<=\.)(?=\s)|\n")  # a point inside a number ends nothing


def button(text: str, language: Language, words: Sentences, key: str) -> None:
    """Draw the button."""
    data = {
        # A text and no list: for a list Streamlit imports pandas, which takes a second of the first reply.
        "sentences": "\n".join(sentences_of(text)),
        "speaks": SPEAKS[language],
        "read": words.talk.read,
        "stop": words.talk.read_stop,
    }
    _component()(key=key, data=data, height=44, width="content")


def sentences_of(markdown: str) -> list[str]:
    """What a voice can say of a reply: its sentences, without the signs of markdown and formulas."""
    plain = re.sub(r"\$[^$]*\$", " ", markdown)
    plain = re.sub(r"[*_`#>|~\\]+", "", plain)
    return [said.strip() for said in _ENDS.split(plain) if re.search(r"\w", said)]


@st.cache_resource(show_spinner=False)
def _component():  # type: ignore[no-untyped-def]  # Streamlit keeps the type of a renderer to itself
    return st.components.v2.component(
        "mindpal_aloud",
        html='<button type="button" hidden></button>',
        css=(HERE / "aloud.css").read_text(encoding="utf-8"),
        js=(HERE / "aloud.js").read_text(encoding="utf-8"),
    )
