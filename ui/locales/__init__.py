"""Every sentence that a child or a parent reads, in Chinese and English.

In: `zh.yaml`, `en.yaml` beside this file, and over them the file that MINDPAL_SENTENCES_FILE names. Out: one frozen
`Sentences` per language. Run: `sentences("zh").ai_line`. A key missing or unknown in any of the files is a `BadInput`.
"""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from math import inf
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field

from data.strict import BadInput, Strict, read_yaml, replaced
from ui.tables import Deed

Language = Literal["zh", "en"]
Mood = Literal["great", "good", "so_so", "sad", "angry"]
LANGUAGES: dict[Language, str] = {"zh": "中文", "en": "English"}

Sentence = Annotated[str, Field(min_length=1)]
Questions = Annotated[tuple[Sentence, ...], Field(min_length=4, max_length=4)]


class Starters(Strict):
    """Questions to begin with, four for each age band."""

    little: Questions
    middle: Questions
    big: Questions


def _telephone(number: str) -> str:
    if not re.fullmatch(r"\+?\d[\d ()/-]*\d", number):
        raise ValueError("a telephone number, such as 12355 or +44 800 1111")
    return number


class Line(Strict):
    """A telephone number and who answers it."""

    number: Annotated[str, AfterValidator(_telephone)]
    who: Sentence


class FirstRun(Strict):
    """The guardian's first page."""

    you: Sentence
    emergency: Sentence
    emergency_hint: Sentence
    pin_title: Sentence
    pin_under: Sentence
    child: Sentence
    avatar: Sentence
    pin_unfit: Sentence
    pin_differs: Sentence
    again: Sentence


class Pin(Strict):
    """The door of the parents' area."""

    title: Sentence
    under: Sentence
    field: Sentence
    current: Sentence
    repeat: Sentence
    open: Sentence
    wrong: Sentence
    missed: Sentence
    locked: Sentence
    forgotten: Sentence
    lock: Sentence


class Picker(Strict):
    """Which child is there."""

    title: Sentence
    none: Sentence
    change: Sentence


class Door(Strict):
    """Limits, breaks, reminders and farewells."""

    night_title: Sentence
    night: Sentence
    quiet_title: Sentence
    quiet: Sentence
    enough_title: Sentence
    over_title: Sentence
    enough: Sentence
    none_title: Sentence
    none: Sentence
    kept: Sentence
    minutes_left: Sentence
    remind: Sentence
    remind_ok: Sentence
    rest: Sentence
    rest_yes: Sentence
    rest_no: Sentence
    resting_title: Sentence
    resting: Sentence
    resting_back: Sentence
    goodbye: Sentence
    topic: Sentence
    goodbye_under: Sentence


class Calm(Strict):
    """Nothing can be written down now."""

    title: Sentence
    under: Sentence
    unsaid: Sentence
    adults: Sentence
    not_kept: Sentence
    broken: Sentence
    broken_under: Sentence


class Home(Strict):
    """The parents' area."""

    alerts: Sentence
    children: Sentence
    family: Sentence
    another_child: Sentence
    add_child: Sentence
    no_nickname: Sentence
    profile: Sentence
    minutes_a_day: Sentence
    break_minutes: Sentence
    quiet_from: Sentence
    quiet_to: Sentence
    clock: Sentence
    blocked_topics: Sentence
    blocked_hint: Sentence
    read_aloud: Sentence
    read_aloud_hint: Sentence
    voice: Sentence
    voice_hint: Sentence
    new_pin: Sentence
    no_consent: Sentence
    consent_again: Sentence
    settings: Sentence
    no_emergency: Sentence
    transcripts: Sentence
    transcripts_full: Sentence
    transcripts_alerts: Sentence
    retention: Sentence
    days: Sentence
    retention_under: Sentence
    within: Sentence
    not_within: Sentence


class Sending(Strict):
    """Alerts that leave the house."""

    title: Sentence
    body: Sentence
    trial: Sentence
    channels: Sentence
    under: Sentence
    address: Sentence
    add: Sentence
    try_it: Sentence
    remove: Sentence
    tried: Sentence
    not_tried: Sentence
    unknown: Sentence
    several: Sentence
    waiting: Sentence
    given_up: Sentence
    given_up_under: Sentence
    away: Sentence


class Talk(Strict):
    """What a child can do in a chat."""

    search: Sentence
    nothing_found: Sentence
    manage: Sentence
    rename: Sentence
    hide: Sentence
    hide_under: Sentence
    hide_under_alerts: Sentence
    again: Sentence
    edit: Sentence
    edit_title: Sentence
    send: Sentence
    up: Sentence
    down: Sentence
    not_nice: Sentence
    told: Sentence
    why: Sentence
    why_guarded: Sentence
    why_topic: Sentence
    read: Sentence
    read_stop: Sentence
    earlier: Sentence
    unheard: Sentence
    mood: Sentence
    mood_thanks: Sentence
    moods: dict[Mood, Sentence]
    story: Sentence
    story_ask: Sentence
    riddle: Sentence
    riddle_ask: Sentence
    why_question: Sentence
    why_asks: Annotated[tuple[Sentence, ...], Field(min_length=1)]


class Adult(Strict):
    """The card that a child hands to an adult."""

    show: Sentence
    title: Sentence
    please: Sentence
    advice: Annotated[tuple[Sentence, ...], Field(min_length=1)]
    emergency_advice: Annotated[tuple[Sentence, ...], Field(min_length=1)]
    contact: Sentence


class Overview(Strict):
    """The week at a glance."""

    title: Sentence
    minutes: Sentence
    chats: Sentence
    questions: Sentence
    alerts: Sentence
    day: Sentence
    time_chart: Sentence
    mood_chart: Sentence
    alert_chart: Sentence
    theme_chart: Sentence
    no_moods: Sentence
    summary: Sentence
    summary_themes: Sentence
    summary_calm: Sentence
    summary_alerts: Sentence
    leaning_told: Sentence
    leaning_full: Sentence
    leaning_under: Sentence
    comma: Annotated[str, Field(min_length=1)]
    themes: dict[str, Sentence]


class Chats(Strict):
    """What was said."""

    title: Sentence
    choose: Sentence
    alerts_only: Sentence
    hidden: Sentence
    replaced: Sentence
    feedback: dict[str, Sentence]
    delete: Sentence
    passage: Sentence


class Data(Strict):
    """Exports, deletion and the log."""

    title: Sentence
    export: Sentence
    export_under: Sentence
    export_under_alerts: Sentence
    export_failed: Sentence
    ai_label: Sentence
    ai_mark: Sentence
    delete_child: Sentence
    for_good: Sentence
    delete_all: Sentence
    delete_all_under: Sentence
    sure: Sentence
    owed: Sentence
    limits: Sentence
    feedback: Sentence
    visits: Sentence
    sent: Sentence
    none: Sentence
    yes: Sentence
    no: Sentence
    log: Sentence
    log_under: Sentence
    when: Sentence
    what: Sentence
    acts: dict[Deed, Sentence]


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
    urgent: Sentence
    refused: Sentence
    thinking: Sentence
    crisis_title: Sentence
    emergency_title: Sentence
    crisis_adult: Sentence
    abuse_adult: Sentence
    crisis_lines: Annotated[tuple[Line, ...], Field(min_length=1)]
    emergency_lines: Annotated[tuple[Line, ...], Field(min_length=1)]
    language: Sentence
    welcome_title: Sentence
    welcome_under: Sentence
    facts: Annotated[tuple[Sentence, ...], Field(min_length=5)]
    guardian_name: Sentence
    child_nickname: Sentence
    child_nickname_hint: Sentence
    child_age: Sentence
    child_language: Sentence
    avatars: dict[str, Sentence]
    age_suffix: Sentence
    consent: Sentence
    start: Sentence
    missing: Sentence
    withdrawn: Sentence
    for_parents: Sentence
    back_to_chat: Sentence
    consent_title: Sentence
    consent_given: Sentence
    consent_ended: Sentence
    withdraw: Sentence
    withdraw_under: Sentence
    alerts_title: Sentence
    alerts_no_channel: Sentence
    alerts_none: Sentence
    alert_row: Sentence
    alert_new: Sentence
    categories: dict[str, Sentence]
    category_other: Sentence
    contract_title: Sentence
    contract_none: Sentence
    contract_under: Sentence
    ai_line_alerts: Sentence
    back: Sentence
    save: Sentence
    saved: Sentence
    first_run: FirstRun
    pin: Pin
    picker: Picker
    door: Door
    calm: Calm
    home: Home
    sending: Sending
    talk: Talk
    adult: Adult
    overview: Overview
    chats: Chats
    data: Data


def sentences(language: Language) -> Sentences:
    """The sentences of one language; what an operator's own file names takes the place of ours. Raises `BadInput`."""
    return _read(language, os.environ.get("MINDPAL_SENTENCES_FILE", ""))


def shipped(language: Language) -> Sentences:
    """Ours, whatever an operator's file names."""
    return _read(language, "")


def numbers() -> str:
    """Of both languages what names a help line or says that it is China's: YAML in the form of an operator's own file."""
    both = {language: shipped(language) for language in LANGUAGES}
    lines = {line.number for words in both.values() for line in (*words.crisis_lines, *words.emergency_lines)}
    named = re.compile(rf"(?<!\d)(?:{'|'.join(sorted(lines))})(?!\d)|China|中国")
    found = _holding({language: words.model_dump(mode="json") for language, words in both.items()}, named)
    return yaml.safe_dump(found, allow_unicode=True, sort_keys=False, width=inf)


def _holding(words: Any, named: re.Pattern[str]) -> Any:
    """The part of a mapping in which something is `named`; a text or a list whole, or nothing."""
    if isinstance(words, Mapping):
        return {key: found for key, value in words.items() if (found := _holding(value, named))}
    return words if named.search(str(words)) else None


@cache
def _read(language: Language, own: str) -> Sentences:
    if not own:
        path = Path(__file__).parent / f"{language}.yaml"
        return Sentences.parse(read_yaml(path), str(path))
    ours = {one: shipped(one).model_dump(mode="json") for one in LANGUAGES}
    both = replaced(ours, read_yaml(Path(own)), own)
    _check_blanks(ours, both, own)
    return Sentences.parse(both[language], f"{own}: {language}")


def _check_blanks(ours: Any, own: Any, where: str) -> None:
    """Raises `BadInput` where a sentence lacks what the page fills into ours, or wants what it does not."""
    if isinstance(ours, Mapping):
        for key in ours:
            _check_blanks(ours[key], own[key], f"{where}: {key}")
        return
    wanted, found = _blanks(ours), None
    with suppress(ValueError):  # a brace that stands alone
        found = _blanks(own)
    if found != wanted:
        told = ", ".join(f"{{{name}}}" for name in sorted(wanted)) or "nothing"
        raise BadInput(f"{where}: of what stands in braces the page fills in {told}; write that, and no other brace.")


def _blanks(words: Any) -> set[str]:
    """What stands in braces, in a text or in all texts of a list."""
    if isinstance(words, str):
        return {f"{name}{turn or ''}{form}" for _, name, form, turn in Formatter().parse(words) if name is not None}
    return set().union(*map(_blanks, words.values() if isinstance(words, Mapping) else words))
