"""Every sentence that a child or a parent reads, in Chinese and English.

In: `zh.yaml`, `en.yaml` beside this file. Out: one frozen `Sentences` per language.
Run: `sentences("zh").ai_line`. A key missing or unknown in either file is a `BadInput`.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from data.strict import Strict, read_yaml

Language = Literal["zh", "en"]
LANGUAGES: dict[Language, str] = {"zh": "中文", "en": "English"}

Sentence = Annotated[str, Field(min_length=1)]
Questions = Annotated[tuple[Sentence, ...], Field(min_length=4, max_length=4)]


class Starters(Strict):
    """Questions to begin with, four for each age band."""

    little: Questions
    middle: Questions
    big: Questions


class Line(Strict):
    """A telephone number and who answers it."""

    number: Annotated[str, Field(pattern=r"^\d{3,}$")]
    who: Sentence


class Sentences(Strict):
    """The words of the page. Braces mark what the page fills in."""

    name: Sentence
    ai_line: Sentence
    greeting: Sentence
    greeting_under: Sentence
    starters: Starters
    ask_here: Sentence
    stop: Sentence
    stopped: Sentence
    new_chat: Sentence
    history: Sentence
    no_history: Sentence
    waking: Sentence
    waking_kept: Sentence
    refused: Sentence
    thinking: Sentence
    crisis_title: Sentence
    crisis_adult: Sentence
    crisis_lines: Annotated[tuple[Line, ...], Field(min_length=1)]
    language: Sentence
    welcome_title: Sentence
    welcome_under: Sentence
    facts: Annotated[tuple[Sentence, ...], Field(min_length=4)]
    guardian_name: Sentence
    child_nickname: Sentence
    child_nickname_hint: Sentence
    child_age: Sentence
    child_language: Sentence
    age_suffix: Sentence
    consent: Sentence
    start: Sentence
    missing: Sentence
    withdrawn: Sentence
    for_parents: Sentence
    back_to_chat: Sentence
    parents_under: Sentence
    consent_title: Sentence
    consent_given: Sentence
    withdraw: Sentence
    withdraw_under: Sentence
    alerts_title: Sentence
    alerts_none: Sentence
    alert_row: Sentence
    alert_new: Sentence
    categories: dict[str, Sentence]
    category_other: Sentence
    contract_title: Sentence
    contract_none: Sentence
    contract_under: Sentence


@cache
def sentences(language: Language) -> Sentences:
    """The sentences of one language."""
    path = Path(__file__).parent / f"{language}.yaml"
    return Sentences.parse(read_yaml(path), str(path))
