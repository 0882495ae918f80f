"""Both languages say everything. Run: `pytest tests/ui/test_locales.py`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

import ui.locales
from data.safety import CRISIS
from data.strict import BadInput, read_yaml
from ui.locales import LANGUAGES, Sentences, numbers, sentences, shipped
from ui.tables import Deed
from ui.telling import deed

# China's: the police, the fire brigade, the ambulance, and two help lines.
LINES = r"(?<!\d)(?:110|119|120|12355|12356)(?!\d)"


def test_both_languages_have_every_sentence_with_the_same_blanks() -> None:
    zh, en = (sentences(language).model_dump() for language in LANGUAGES)
    assert zh.keys() == en.keys()
    for key in zh:
        assert re.findall(r"\{\w+\}", str(zh[key])) == re.findall(r"\{\w+\}", str(en[key])), key
    assert zh["categories"].keys() == en["categories"].keys() >= set(CRISIS)
    assert [line["number"] for line in zh["crisis_lines"]] == [line["number"] for line in en["crisis_lines"]]
    assert [line["number"] for line in zh["emergency_lines"]] == [line["number"] for line in en["emergency_lines"]]


def test_the_log_of_accesses_is_told_in_the_guardians_language() -> None:
    for language in LANGUAGES:
        words = sentences(language)
        assert set(words.data.acts) == set(get_args(Deed))
        assert deed("export", words) == words.data.acts["export"]
        assert deed("retention: 3", words) == words.data.acts["retention"].format(detail="3")
        assert words.home.transcripts_alerts in deed("transcripts: alerts", words)
    # What an older version wrote, and what nobody knows.
    assert "3 段" in deed("retention: 3 deleted", sentences("zh"))
    assert deed("something else", sentences("zh")) == "something else"


def test_what_must_be_said_is_said() -> None:
    words = sentences("zh")
    assert words.ai_line == "灵伴是人工智能，可能会说错；爸爸妈妈可以看到我们的聊天。"
    # With "alerts only", a guardian reads what stands around an alert: the child's page says no less.
    for told in (words.ai_line_alerts, words.talk.hide_under_alerts, words.home.transcripts_alerts):
        assert "前后的几句话" in told
    assert [line.number for line in words.crisis_lines] == ["12355", "12356", "110", "120"]
    for questions in (words.starters.little, words.starters.middle, words.starters.big):
        assert {"你好", "为什么天空是蓝色的？"} <= set(questions)


def test_a_missing_or_unknown_sentence_is_named() -> None:
    raw = read_yaml(Path(ui.locales.__file__).parent / "zh.yaml")
    assert isinstance(raw, dict)
    with pytest.raises(BadInput, match='the key "stop" is missing'):
        Sentences.parse({key: value for key, value in raw.items() if key != "stop"}, "zh.yaml")
    with pytest.raises(BadInput, match='unknown key "stopp"; did you mean "stop"'):
        Sentences.parse(raw | {"stopp": "x"}, "zh.yaml")


def test_an_operators_sentences_take_the_place_of_ours_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "en:\n"
        "  crisis_adult: Go to your parents now, or call.\n"
        "  crisis_lines: [{number: 0800 1111, who: Childline}, {number: '999', who: Danger}]\n"
        "  overview: {summary: '{chats} chats in {minutes} minutes. '}\n"
        "zh: {calm: {broken_under: 打 999。}}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("MINDPAL_SENTENCES_FILE", str(own))
    zh, en = map(sentences, LANGUAGES)
    assert [(line.number, line.who) for line in en.crisis_lines] == [("0800 1111", "Childline"), ("999", "Danger")]
    assert en.crisis_adult == "Go to your parents now, or call."
    # What is joined to the next sentence keeps its blank.
    assert en.overview.summary == "{chats} chats in {minutes} minutes. "
    assert zh.calm.broken_under == "打 999。"
    assert (zh.crisis_lines, zh.calm.title) == (shipped("zh").crisis_lines, shipped("zh").calm.title)
    assert (en.emergency_lines, en.calm) == (shipped("en").emergency_lines, shipped("en").calm)
    monkeypatch.setenv("MINDPAL_SENTENCES_FILE", "")
    assert [sentences(language) for language in LANGUAGES] == [shipped(language) for language in LANGUAGES]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected a mapping of keys to values, found NoneType."),
        ("de: {stop: Halt}", 'unknown key "de"; there are zh, en.'),
        ("en: {stopp: Halt}", 'en: unknown key "stopp"; did you mean "stop"?'),
        ("en: {qqq: Halt}", 'en: unknown key "qqq".'),
        ("en: {calm: {titel: Wait}}", 'en: calm: unknown key "titel"; there are title, under, '),
        ("en: {stop: ' '}", "en: stop: ' ' is no text; write what is to be said, a number in quotes, or leave"),
        ("zh: {urgent: 999}", "zh: urgent: 999 is no text"),
        ("en: {facts: one}", "en: facts: expected a list, found str."),
        ("en: {crisis_lines: []}", "en: crisis_lines: expected a list, found nothing."),
        ("en: {crisis_lines: [{number: '999', who: }]}", "en: crisis_lines: 1: who: None is no text"),
        ("en: {crisis_lines: [{number: '999'}]}", 'en: crisis_lines: 1: the key "who" is missing.'),
        ("en: {crisis_lines: [{number: 999, who: Police}]}", "en: crisis_lines: 1: number: 999 is no text"),
        (
            "en: {crisis_lines: [{number: nine, who: Police}]}",
            "\"crisis_lines.0.number\" is 'nine': it should be a telephone number, such as 12355 or +44 800 1111.",
        ),
        ("en: {stop: Halt, stop: Halt}", 'the key "stop" stands twice'),
        ("en: {greeting: Hello!}", "en: greeting: of what stands in braces the page fills in {nickname}; write that"),
        ("en: {greeting: 'Hello, {name}!'}", "en: greeting: of what stands in braces the page fills in {nickname}"),
        ("en: {greeting: 'Hello, {nickname.x}!'}", "en: greeting: of what stands in braces the page fills in"),
        ("en: {stop: 'Halt {'}", "en: stop: of what stands in braces the page fills in nothing"),
        ("zh: {facts: [一, 二, 三, 四, 五]}", "zh: facts: of what stands in braces the page fills in {days}"),
    ],
)
def test_a_slip_in_an_operators_sentences_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setenv("MINDPAL_SENTENCES_FILE", str(path))
    with pytest.raises(BadInput) as error:
        for language in LANGUAGES:
            sentences(language)
    assert str(error.value).startswith(f"{path}: ")
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_the_sentences_with_numbers_are_all_there_and_ready_to_be_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(numbers(), encoding="utf-8")
    listed = dict(leaves(read_yaml(own)))
    ours = dict(leaves({language: shipped(language).model_dump() for language in LANGUAGES}))
    told = {place for place, text in ours.items() if re.search(r"\d{3}|China|中国", text)}
    # Somebody's own telephone, and a PIN.
    others = {f"{language}.first_run.{key}" for language in LANGUAGES for key in ("emergency_hint", "pin_unfit")}
    assert told - listed.keys() == others
    assert len(told - others) > 20
    monkeypatch.setenv("MINDPAL_SENTENCES_FILE", str(own))
    assert [sentences(language) for language in LANGUAGES] == [shipped(language) for language in LANGUAGES]
    # As a family abroad would edit it: nothing of China's is left.
    abroad = tmp_path / "abroad.yaml"
    abroad.write_text(re.sub(rf"{LINES}|China", "999", numbers()), encoding="utf-8")
    monkeypatch.setenv("MINDPAL_SENTENCES_FILE", str(abroad))
    for language in LANGUAGES:
        said = str(sentences(language).model_dump())
        assert "999" in said
        assert re.findall(rf"{LINES}|China|中国", said) == []


def leaves(words: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a mapping or a list, and where it stands."""
    if isinstance(words, str):
        yield place, words
        return
    for key, value in words.items() if isinstance(words, dict) else enumerate(words):
        yield from leaves(value, f"{place}.{key}" if place else str(key))
