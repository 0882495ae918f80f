"""The rules: a pattern sees a text in its forms, no text keeps it busy, and what it needs is read from it."""

import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from data.conversations import DATA_DIR
from data.forms import Typed, forms, undisguised
from data.strict import BadInput
from data.traditional import SIMPLIFIED
from serve.guard import crisis, declined, private, screen
from serve.guard.literals import clauses, may_match
from serve.guard.private import read_kinds
from serve.guard.rules import read_rules
from tests.pace import paces
from tests.serve.test_crisis import HEARD, judge


def test_the_forms_of_a_text() -> None:
    assert forms("我 要\u200b自、殺").squashed == "我要自杀"
    assert forms("Ｋ.i.l.l").words == "kill"
    assert forms("bù xiǎng huó le").words == "bu xiang huo le"
    assert forms("紫砂").squashed == "自杀"
    assert forms("他毆打同學，內褲").squashed == "他殴打同学内裤"
    # What a person reads, in whatever alphabet it was typed; what nobody sees is not there.
    assert forms("Кіll mуsеlf, ΚΙLL ɪ ᴡᴀɴᴛ 🅺🅸🅻🅻 ıİ").words == "kill myself kill i want kill ii"
    assert forms("你\u3164去\uffa0死\u115f").squashed == "你去死"
    assert forms("Привет, как дела").words == "привет kak дела"


@pytest.mark.parametrize(
    "path", [crisis.RULES_FILE, declined.RULES_FILE, screen.RULES_FILE, private.RULES_FILE], ids=lambda path: path.stem
)
def test_rules_are_reached_from_traditional_characters(path: Path) -> None:
    signs = set(re.findall(r"[\u4e00-\u9fff]", path.read_text(encoding="utf-8")))
    # A rule sees none of these, and would wait for ever.
    assert signs & set(SIMPLIFIED) == set()
    # In GB 2312 and not in Big5: only simplified texts have it. 帐 is read of none, but 账 is.
    only = {sign for sign in signs if sign.encode("gb2312", "ignore") and not sign.encode("big5", "ignore")}
    assert len(only) > 100
    assert only - set(SIMPLIFIED.values()) <= set("酰帐")


def test_a_word_in_bits_is_read_as_one_beside_what_was_typed() -> None:
    assert undisguised("i want to ki ll my se lf") == "i want to killmyself"
    assert undisguised("is it ok if i go to my ex") == ""
    verdict = judge("i want to ki ll my se lf")
    assert verdict is not None
    assert verdict.category == "self_harm"


@pytest.mark.parametrize("words", ["I want to kіll mуsеlf", "i wаnt tо diе", "ɪ ᴡᴀɴᴛ ᴛᴏ ᴅɪᴇ", "我想ㅤ自ㅤ殺"])
def test_letters_that_look_like_others_hide_nothing(words: str) -> None:
    verdict = judge(words)
    assert verdict is not None
    assert verdict.category == "self_harm"


@pytest.mark.parametrize("text", ["i " + "a" * 60_000, "i want " + "i" * 60_000, "我" * 60_000, "我想" * 30_000,
                                  "我" + "真的好" * 20_000, "i want to " * 6_000, "my dad " * 9_000, "我死" * 30_000, "爸" * 60_000,
                                  "a " * 60_000, "my friend " * 12_000, "爸爸打" * 20_000, "我想" + "他说" * 30_000,
                                  "he said i am " * 9_000, "教我做" * 20_000,
                                  "é" + "a" * 60_000, "ж" + "o" * 60_000, "ж " * 60_000, "ki ll " * 20_000, "ⅷ" * 60_000,
                                  "好" * 40_000 + "想鼠", "our " * 20_000 + "dad", "wo " * 20_000 + "zi sha", "我" + "总是" * 20_000 + "死",
                                  "i want" + " just to" * 9_000 + " die my"])  # fmt: skip
def test_no_text_keeps_the_server_busy(text: str) -> None:
    begun = time.monotonic()
    judge(text)
    declined.declined(Typed(text))
    # Some 0.3 s on an idle core.
    assert time.monotonic() - begun < 10


def repeats(items: Sequence[Any]) -> Iterator[Any]:
    """What a parsed expression repeats without an end, or without a near one."""
    for kind, value in items:
        if kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT):
            if value[1] > 9:
                yield kind, value
            yield from repeats(value[2])
        elif kind is _constants.SUBPATTERN:
            yield from repeats(value[-1])
        elif kind is _constants.BRANCH:
            for branch in value[1]:
                yield from repeats(branch)
        elif kind in (_constants.ASSERT, _constants.ASSERT_NOT):
            yield from repeats(value[1])


def texts(items: Sequence[Any]) -> list[str]:
    """Texts that a parsed expression matches: of each choice each, as a rule."""
    made = [""]
    for kind, value in items:
        if kind is _constants.ANY:
            # The sign before it once more: then it is no sign of where a repetition ends.
            made = [text + (text[-1:] or "我") for text in made]
            continue
        ends = [""]
        if kind is _constants.LITERAL:
            ends = [chr(value)]
        elif kind is _constants.IN:
            ends = [chr(code) for inner, code in value if inner is _constants.LITERAL] or ["a", "1"]
        elif kind is _constants.BRANCH:
            ends = [text for branch in value[1] for text in texts(branch)]
        elif kind is _constants.SUBPATTERN:
            ends = texts(value[-1])
        elif kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT):
            least, most, repeated = value
            counts = {least, min(most, least + 1), min(most, least + 2)}
            ends = [text * count for text in texts(repeated) for count in counts]
        made = [text + end for text in made for end in ends][:200]
    return made


def test_what_repeats_without_end_is_read_in_one_way() -> None:
    """Else a line of a child's, or of a model that stammers, holds the server for ever."""
    rules = [read_rules(path) for path in (crisis.RULES_FILE, declined.RULES_FILE, screen.RULES_FILE)]
    expressions = [pattern.expression for one in rules for pattern in one.patterns]
    for rule in read_kinds().rules:
        expressions += [rule.needs, *([rule.unless] if rule.unless else []), *rule.patterns, *rule.together]
    tried = 0
    for expression in expressions:
        parsed = _parser.parse(expression.pattern, expression.flags)
        for repeat in repeats(parsed):
            alone = _compiler.compile(_parser.SubPattern(parsed.state, [repeat, (_constants.LITERAL, 0)]))
            for text in {*texts(repeat[1][2])} - {""}:
                # 2²² ways take a hundred times that.
                assert paces(lambda: alone.match(text * 22), 1) < 10, (expression.pattern, text)  # noqa: B023
                tried += 1
    assert tried > 500


@pytest.mark.parametrize(
    ("source", "needed"),
    [
        ("ab", {("ab",)}),
        ("(?:cat|dog)s? home", {("cat", "dog"), (" home",)}),
        ("x(?:cat|c*)y", {("x",), ("y",)}),
        ("a?(?!b)[cd]{1,2}e*f", {("c", "d"), ("f",)}),
        (r"\w+|.", set()),
    ],
)
def test_what_a_pattern_needs_is_read_from_it(source: str, needed: set[tuple[str, ...]]) -> None:
    assert set(clauses(source)) == needed


@pytest.mark.parametrize("path", [crisis.RULES_FILE, declined.RULES_FILE, screen.RULES_FILE])
def test_no_rule_is_passed_over_that_would_match(path: Path) -> None:
    told = [
        turn["value"]
        for record in json.loads((DATA_DIR / "child_chat_en.json").read_text("utf-8"))
        for turn in record["conversations"]
    ]
    told += [
        turn["value"]
        for record in json.loads((DATA_DIR / "child_chat.json").read_text("utf-8"))[::8]
        for turn in record["conversations"]
    ]
    told += [words for *_, words in HEARD]
    seen = [forms(words) for words in told]
    for pattern in read_rules(path).patterns:
        for one in seen:
            text = one.squashed if pattern.squashed else one.words
            assert may_match(pattern.needed, text) or not pattern.expression.search(text), (
                pattern.expression.pattern,
                text,
            )


def test_a_part_that_no_pattern_names_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(
        "parts: {near: friend, far: stranger}\nrules: [{category: abuse, language: en, patterns: ['my {near}']}]"
    )
    with pytest.raises(BadInput, match=r"no pattern names \{far\}; remove that part"):
        read_rules(file)
