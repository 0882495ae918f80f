"""The one chat template: what is trained on, what is sealed into a model folder, what the server renders.

In: a contract's persona and thinking. Out: a Jinja template in Hugging Face's form; and `as_text`, the one way in
which words from outside enter a prompt. ChatML, as Qwen3 was trained with (https://huggingface.co/Qwen/Qwen3-0.6B).

Two properties hold, and are tests: the ids before each answer in training are the ids that the server builds for
that prefix, and the prompt of a turn is a prefix of the prompt of the next one. Qwen3's stock template has neither
with thinking off: it drops the empty thought from earlier turns, so the prompt changes behind the child's back.
"""

import json
import re
from collections.abc import Iterable

TURN, END = "<|im_start|>", "<|im_end|>"
THOUGHT, THOUGHT_END = "<think>\n", "\n</think>\n\n"
NO_THOUGHT = THOUGHT + THOUGHT_END
# What Qwen3's tokenizer turns into a control id; a folder's own list comes from its tokenizer.
CONTROL_TOKENS = (
    *(f"<|{name}|>" for name in (
        "endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start", "box_end",
        "quad_start", "quad_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad",
        "fim_prefix", "fim_middle", "fim_suffix", "fim_pad", "repo_name", "file_sep",
    )),
    "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>",
)  # fmt: skip

_TEMPLATE = """\
{%- set persona = PERSONA -%}
{%- if not messages or messages[0].role != 'system' -%}
    {{- '<|im_start|>system\\n' + persona + '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}
        {%- if message.content -%}
            {{- '<|im_start|>system\\n' + message.content + '<|im_end|>\\n' -}}
        {%- endif -%}
    {%- elif message.role == 'tool' -%}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' -}}
    {%- elif message.role == 'assistant' -%}
        {{- '<|im_start|>assistant\\n' + BLOCK + message.content + '<|im_end|>\\n' -}}
    {%- else -%}
        {{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' + PROMPT_END -}}
{%- endif -%}
"""


def chat_template(persona: str, *, thinking: bool) -> str:
    """The sealed Jinja template. No argument of a request changes thinking: the template does not read any.

    A conversation without a system message gets the persona; an explicitly empty one gets no system block.
    """
    with_thought = "'<think>\\n' + (message.reasoning_content or '') + '\\n</think>\\n\\n'"
    empty = "'<think>\\n\\n</think>\\n\\n'"
    return (
        _TEMPLATE.replace("PERSONA", json.dumps(persona, ensure_ascii=False))
        .replace("BLOCK", with_thought if thinking else empty)
        .replace("PROMPT_END", "''" if thinking else empty)
    )


def as_text(words: str, control_tokens: Iterable[str] = CONTROL_TOKENS) -> str:
    """`words` with every control token in them written so that it stays text: `<|im_end|>` becomes `＜|im_end|>`.

    Words come from a child or a data set and must not be able to end a turn or open one. Training and serving
    both pass through here, so a model sees the same ids for them. Only the token's first character changes, to its
    full-width form; the result holds no control token, since none is made by removing an ASCII character.
    """
    for token in control_tokens:
        words = words.replace(token, chr(ord(token[0]) + 0xFEE0) + token[1:])
    return words


def split_thought(answer: str) -> tuple[str, str]:
    """A model's answer as (thought, words): the `<think>…</think>` blocks, and the rest without leading blank lines."""
    thoughts = re.findall(r"<think>(.*?)</think>", answer, flags=re.DOTALL)
    words = re.sub(r"<think>.*?</think>", "", answer, flags=re.DOTALL)
    return "\n".join(thought.strip("\n") for thought in thoughts), without_leading_blank_lines(words)


def without_leading_blank_lines(answer: str) -> str:
    """`answer` from its first line with words on.

    A line break at its start would melt with the prompt's last line break into one token, and the prompt's ids
    would differ between a running conversation and its history.
    """
    return re.sub(r"\A\s*\n", "", answer)
