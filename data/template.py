"""The one chat template: what is trained on, what is sealed into a model folder, what the server renders.

In: a contract's persona and thinking. Out: a Jinja template in Hugging Face's form; and `as_text`, the one way in
which words from outside enter a prompt. ChatML, as Qwen3 was trained with (https://huggingface.co/Qwen/Qwen3-0.6B).

Two properties hold, and are tests: the ids before each answer in training are the ids that the server builds for
that prefix, and the prompt of a turn is a prefix of the prompt of the next one. Qwen3's stock template has neither
with thinking off: it drops the empty thought from earlier turns, so the prompt changes behind the child's back.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TURN, END = "<|im_start|>", "<|im_end|>"
THOUGHT, THOUGHT_END = "<think>\n", "\n</think>\n\n"
NO_THOUGHT = THOUGHT + THOUGHT_END
# A thought as data sets write it, and its content; with the blank line behind it, as LLaMA-Factory takes it out.
THOUGHT_BLOCK = re.compile(r"<think>\n?(.*?)\n?</think>(?:\n\n)?", re.DOTALL)
RESPONSE, RESPONSE_END = "<tool_response>\n", "\n</tool_response>"
# Several tools' answers to one call are told in one turn.
RESPONSES_BETWEEN = RESPONSE_END + "\n" + RESPONSE
# How Qwen3 was told of its tools and taught to call them (its own template, and LLaMA-Factory's tool format "qwen").
_TOOLS_BEGIN = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TOOLS_END = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call>"
)
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
{%- set first = messages[0] if messages and messages[0].role == 'system' else {'content': PERSONA} -%}
{%- if first.content or tools -%}
    {{- '<|im_start|>system\\n' + (first.content or '') -}}
    {%- if tools -%}
        {{- TOOLS_BEGIN -}}
        {%- for tool in tools -%}
            {{- '\\n' + (tool if tool.type == 'function' else {'type': 'function', 'function': tool}) | tojson -}}
        {%- endfor -%}
        {{- TOOLS_END -}}
    {%- endif -%}
    {{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}
        {%- if message.content and not loop.first -%}
            {{- '<|im_start|>system\\n' + message.content + '<|im_end|>\\n' -}}
        {%- endif -%}
    {%- elif message.role == 'tool' -%}
        {%- if loop.first or loop.previtem.role != 'tool' -%}
            {{- '<|im_start|>user' -}}
        {%- endif -%}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' -}}
        {%- if loop.last or loop.nextitem.role != 'tool' -%}
            {{- '<|im_end|>\\n' -}}
        {%- endif -%}
    {%- elif message.role == 'assistant' -%}
        {{- '<|im_start|>assistant\\n' + BLOCK + WORDS -}}
        {%- for call in message.tool_calls or [] -%}
            {%- set called = call.function or call -%}
            {{- '\\n' if not loop.first else '' -}}
            {{- '<tool_call>\\n{"name": ' + called.name | tojson + ', "arguments": ' -}}
            {{- called.arguments if called.arguments is string else called.arguments | tojson -}}
            {{- '}\\n</tool_call>' -}}
        {%- endfor -%}
        {{- '<|im_end|>\\n' -}}
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
    words = "(message.content or '')"
    return (
        _TEMPLATE.replace("TOOLS_BEGIN", json.dumps(_TOOLS_BEGIN))
        .replace("TOOLS_END", json.dumps(_TOOLS_END))
        .replace("BLOCK", with_thought if thinking else empty)
        # Training leaves line breaks at an answer's start out where the prompt ends with its own.
        .replace("WORDS", words if thinking else words + ".lstrip('\\n')")
        .replace("PROMPT_END", "''" if thinking else empty)
        # The last: a persona may hold any word.
        .replace("PERSONA", json.dumps(persona, ensure_ascii=False))
    )


def tools_text(tools: Sequence[Mapping[str, Any]], control_tokens: Iterable[str] = CONTROL_TOKENS) -> str:
    """What follows the system's words where a conversation has tools, in the words of the sealed template."""
    control = list(control_tokens)
    lines = ""
    for tool in tools:
        wrapped = tool if tool.get("type") == "function" else {"type": "function", "function": tool}
        lines += "\n" + as_text(json.dumps(wrapped, ensure_ascii=False), control)
    return _TOOLS_BEGIN + lines + _TOOLS_END


def call_text(name: str, arguments: object, control_tokens: Iterable[str] = CONTROL_TOKENS) -> str:
    """One call of a tool as Qwen3 writes it."""
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{as_text(call, control_tokens)}\n</tool_call>"


def as_text(words: str, control_tokens: Iterable[str] = CONTROL_TOKENS) -> str:
    """`words` with every control token in them written so that it stays text: `<|im_end|>` becomes `＜|im_end|>`.

    Words come from a child or a data set and must not be able to end a turn or open one. Training and serving
    both pass through here, so a model sees the same ids for them. Only the token's first character changes, to its
    full-width form; the result holds no control token, since none is made by removing an ASCII character.
    """
    for token in control_tokens:
        words = words.replace(token, chr(ord(token[0]) + 0xFEE0) + token[1:])
    return words


def thought_blocks(answer: str) -> list[re.Match[str]]:
    """Every `THOUGHT_BLOCK` in `answer`.

    None begins behind the last closing tag. Looked for there, each of many tags that nothing closes would be followed to
    the end: a message of 256 KiB held the server for minutes.
    """
    return list(THOUGHT_BLOCK.finditer(answer, 0, answer.rfind("</think>") + len("</think>\n\n")))


def split_thought(answer: str) -> tuple[str, str]:
    """A model's answer as (thought, words): the `<think>…</think>` blocks, and the rest without leading blank lines."""
    parts = split_at_thoughts(answer)
    return "\n".join(thought.strip("\n") for thought in parts[1::2]), without_leading_blank_lines("".join(parts[::2]))


def split_at_thoughts(answer: str) -> list[str]:
    """Words, thought, words, …: what stands between the `<think>…</think>` blocks, and what in them."""
    parts, at = list[str](), 0
    for block in thought_blocks(answer):
        parts += [answer[at : block.start()], block[1]]
        at = block.end()
    return [*parts, answer[at:]]


def without_leading_blank_lines(answer: str) -> str:
    """`answer` from its first line with words on.

    A line break at its start would melt with the prompt's last line break into one token, and the prompt's ids
    would differ between a running conversation and its history.
    """
    return re.sub(r"\A\s*\n", "", answer)
