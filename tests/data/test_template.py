"""data/template.py: what a prompt looks like, and that no words from outside can end a turn."""

from itertools import pairwise

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.template import (
    CONTROL_TOKENS,
    THOUGHT_BLOCK,
    as_text,
    chat_template,
    split_at_thoughts,
    split_thought,
    without_leading_blank_lines,
)
from tests.pace import growth

EMPTY = "<think>\n\n</think>\n\n"


def render(messages: list[dict[str, str]], *, thinking: bool = False, prompt: bool = False, **more: object) -> str:
    source = chat_template('say "hi"\\n 灵伴', thinking=thinking)
    return jinja2.Environment().from_string(source).render(messages=messages, add_generation_prompt=prompt, **more)


def test_a_conversation_without_a_system_message_gets_the_persona() -> None:
    assert render([{"role": "user", "content": "你好"}]) == (
        '<|im_start|>system\nsay "hi"\\n 灵伴<|im_end|>\n<|im_start|>user\n你好<|im_end|>\n'
    )


def test_its_own_system_message_replaces_it_and_an_empty_one_means_none() -> None:
    question = {"role": "user", "content": "q"}
    assert render([{"role": "system", "content": "s"}, question]).startswith("<|im_start|>system\ns<|im_end|>")
    assert render([{"role": "system", "content": ""}, question]).startswith("<|im_start|>user")


def test_the_empty_thought_stands_in_every_turn_and_no_argument_changes_that() -> None:
    messages = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "r"},
    ]
    shown = render(messages, prompt=True, enable_thinking=True)
    assert shown == render(messages, prompt=True)
    assert shown.count(EMPTY) == 2
    assert shown.endswith(f"<|im_start|>assistant\n{EMPTY}")


@pytest.mark.parametrize("thinking", [False, True])
def test_the_prompt_of_a_turn_begins_the_prompt_of_the_next(thinking: bool) -> None:
    said = [{"role": "user" if place % 2 == 0 else "assistant", "content": f"text {place}"} for place in range(7)]
    prompts = [render(said[: place + 1], thinking=thinking, prompt=True) for place in range(0, 7, 2)]
    for earlier, later in pairwise(prompts):
        assert later.startswith(earlier)


def test_with_thinking_the_model_opens_its_thought_itself() -> None:
    assert render([{"role": "user", "content": "q"}], thinking=True, prompt=True).endswith("<|im_start|>assistant\n")


@given(st.lists(st.sampled_from([*CONTROL_TOKENS, "<", "|", ">", "im_end", "你好", "＜"])).map("".join))
def test_no_words_hold_a_control_token_afterwards(words: str) -> None:
    made = as_text(words)
    assert not any(token in made for token in CONTROL_TOKENS)
    assert as_text(made) == made
    assert len(made) == len(words)


def test_other_words_stay_as_they_are() -> None:
    assert as_text("1 < 2 and <b> |> 你好\n") == "1 < 2 and <b> |> 你好\n"


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ("<think>\nwhy\n</think>\n\nbecause", ("why", "because")),
        (f"{EMPTY}hello", ("", "hello")),
        ("hello", ("", "hello")),
    ],
)
def test_a_thought_is_told_from_the_words(answer: str, parts: tuple[str, str]) -> None:
    assert split_thought(answer) == parts


@given(st.lists(st.sampled_from(["<think>", "</think>", "\n", "a", "<", "think>", "</"])).map("".join))
def test_thoughts_are_found_as_the_expression_says(answer: str) -> None:
    assert split_at_thoughts(answer) == THOUGHT_BLOCK.split(answer)


@pytest.mark.parametrize("text", ["<think>", "<think>\n", "</think>", "<think>a</think>", "<think></think><think>"])
def test_no_answer_takes_long_to_split(text: str) -> None:
    # 0.1 s and four times that where each opened thought is followed to the end.
    assert growth(split_thought, text * 600) < 3
    assert growth(split_thought, "<think>why</think>" + text * 600) < 3


def test_leading_blank_lines_go_and_blanks_before_words_stay() -> None:
    assert without_leading_blank_lines("\n \n  a\n\nb") == "  a\n\nb"
