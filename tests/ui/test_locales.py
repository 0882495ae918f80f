"""Both languages say everything. Run: `pytest tests/ui/test_locales.py`."""

import re
from pathlib import Path
from typing import get_args

import pytest

import ui.locales
from data.safety import CRISIS
from data.strict import BadInput, read_yaml
from ui.locales import LANGUAGES, Sentences, sentences
from ui.tables import Deed
from ui.telling import deed


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
