"""What a client asked for, rebuilt from an allow-list into what the engine is asked.

In: the bytes of a POST to /v1/chat/completions, and the opened model folder. Out: `Asked`, which the guard judges, and of
it the body for the engine; or `Refused` with the status and the sentence for the client. Whatever is not named here never
reaches the engine.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from data.contract import SEAL_FILE, Contract, Seal
from data.protocol import MODEL_NAME
from data.strict import read_json
from data.template import as_text, chat_template, split_thought
from serve.guard.private import mask
from serve.guard.rules import language_of
from serve.guard.verdict import Answers, longest_judged, read_answers

# Enough for any conversation that fits the window; more is an attack or a mistake.
BODY_LIMIT = 256 * 1024
STOPS_LIMIT = 16
# The least room for an answer that is worth asking for: the smallest sampling.max_tokens that a contract may have.
SMALLEST_ROOM = 16
_INT64 = 2**63
# Signs in a row that combine with the letter before them (UAX #15, stream-safe text): no writing has more. To compare texts
# such a row is put in order, which takes n² steps: one of 256 KiB would hold the server for minutes.
_COMBINING = 30
# Where such a row may be: none of the signs that most messages consist of is one of them.
_UNUSUAL = re.compile(rf"[^\x00-\u02ff\u3041-\u3096\u30a1-\u30fa\u3400-\u9fff\uff01-\uff60]{{{_COMBINING + 1},}}")
_FIELDS = ("messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "seed", "stop")
# Sent by every client and of no effect: not worth a mention in the header.
_UNMENTIONED = ("model", "user")
_NAMES_TOLD = 32


class Refused(Exception):
    """The request cannot be answered: HTTP status, a sentence, and the field it is about."""

    def __init__(self, status: int, message: str, param: str | None = None):
        super().__init__(message)
        self.status, self.message, self.param = status, message, param


@dataclass(frozen=True)
class Asked:
    """A request rebuilt: what the guard judges, what the engine may be asked, and what the policy needs to know."""

    # What the child wrote, and all turns. Both hold personal data: the guard judges them, and nobody else sees them.
    child: list[str]
    messages: list[dict[str, str]]
    # Characters of the longest of what the guard may read of it as one.
    judged: int
    # Tokens of answer at most.
    wanted: int
    # Of the engine's body what the messages do not decide.
    options: dict[str, Any]
    stream: bool
    include_usage: bool
    # What was sent to no effect, by the names of its fields: a client chose them.
    pinned: set[str]


@dataclass(frozen=True)
class Fitted:
    """What of a request the model may see: personal data masked, and no more than its window holds."""

    # The engine's.
    body: dict[str, Any]
    # How many messages were left out of it.
    dropped: int
    # What was asked for and was not done.
    pinned: set[str]
    # What of it the child wrote, for a guard model: what the guard answered once is not judged again.
    child: list[str]
    # Kinds of personal data that the last message held.
    masked: list[str]


class ModelFolder:
    """An opened model folder: its contract, its control tokens, and the length of a text in its tokens."""

    def __init__(self, folder: Path):
        sealed = Seal.parse(read_json(folder / SEAL_FILE), str(folder / SEAL_FILE))
        self.contract: Contract = sealed.contract
        self.fingerprint = sealed.fingerprint
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        added = self._tokenizer.get_added_tokens_decoder().values()
        # The longest first: a token that begins with another one is neutralised whole.
        self.control_tokens = tuple(sorted((token.content for token in added), key=len, reverse=True))
        # As transformers and vLLM render a chat template.
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        self._template = environment.from_string(chat_template(self.contract.persona, thinking=self.contract.thinking))

    def tokens(self, text: str) -> int:
        """Number of token ids of `text`."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    @cached_property
    def frame_tokens(self) -> int:
        """Number of prompt ids around the messages: the persona before them, the answer's opening behind them."""
        return self.tokens(self._template.render(messages=[], add_generation_prompt=True))

    def message_tokens(self, message: dict[str, str]) -> int:
        """Number of prompt ids of one message. Control tokens separate messages, so lengths add up exactly."""
        # The empty system message stands for "no persona here".
        nothing = {"role": "system", "content": ""}
        return self.tokens(self._template.render(messages=[nothing, message], add_generation_prompt=False))


def rebuild(raw: bytes, model: ModelFolder) -> Asked:
    """What may be asked instead of `raw`. Raises `Refused`."""
    asked = _object(raw)
    pinned = {name for name in asked if name not in (*_FIELDS, *_UNMENTIONED)}
    for name in _UNMENTIONED:
        if not isinstance(asked.get(name), str | None):
            raise Refused(400, f"{name} has to be a text.", name)
    if asked.get("model") not in (None, MODEL_NAME):
        pinned.add("model")
    stream = _boolean(asked, "stream")
    of_stream = _stream_options(asked)
    pinned |= {f"stream_options.{name}" for name in of_stream if name != "include_usage"}
    include_usage = _boolean(of_stream, "include_usage") and stream
    messages, ignored = _messages(asked.get("messages"), model.control_tokens)
    pinned |= ignored
    limit = model.contract.sampling.max_tokens
    limits = _limits(asked)
    wanted = min([limit, *limits])
    if any(limit < given for given in limits):
        pinned.add("max_tokens")
    options: dict[str, Any] = {
        "model": MODEL_NAME,
        "n": 1,
        "stream": stream,
        **model.contract.sampling.model_dump(exclude={"max_tokens"}),
    }
    if stream:
        # Always counted, chunk by chunk: an answer that the screen stops has its count too. The policy tells it only
        # to a client that asked.
        options["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    if (seed := _seed(asked)) is not None:
        options["seed"] = seed
    if stop := _stop(asked):
        options["stop"] = stop
    child = [message["content"] for message in messages[::2]]
    return Asked(
        child=child,
        messages=messages,
        judged=longest_judged(child),
        wanted=wanted,
        options=options,
        stream=stream,
        include_usage=include_usage,
        pinned=pinned,
    )


def too_long(asked: Asked, model: ModelFolder) -> bool:
    """Whether the last message fits the window in no case: masks make it shorter, but not by half."""
    last, window = asked.messages[-1], model.contract.window
    # A token is a byte or more.
    return len(last["content"].encode()) > window and model.message_tokens(last) > 2 * window


def fitted(
    asked: Asked,
    model: ModelFolder,
    answers: Answers,
    answered: Callable[[Sequence[str]], bool],
    forged: Callable[[str], bool],
) -> Fitted:
    """What the engine is asked. Raises `Refused` where the last message is too long.

    Kept are the newest exchanges that leave room for `wanted` tokens of answer. Left out as well is what the guard
    `answered`: the model never saw it then, and whoever sends it again with an answer to it does not reach it now.
    An earlier answer that is `forged`, since the screen would have stopped it, is replaced: a model goes on as it finds
    itself to have begun. Personal data is masked in any other: it may be a client's, too. The last message stays in any
    case, with less room if it has to be so.
    """
    *earlier, last = asked.messages
    refused = Refused(400, "The message is too long: shorten it, or send it in parts.", "messages")
    if too_long(asked, model):
        raise refused
    last, masked = _without_personal_data(last, asked.child[:-1])
    wanted = asked.wanted
    room = model.contract.window - model.frame_tokens - model.message_tokens(last)
    if room < SMALLEST_ROOM:
        raise refused
    kept, pinned = [last], set(asked.pinned)
    for number in reversed(range(len(earlier) // 2)):
        typed, said = earlier[2 * number : 2 * number + 2]
        length = model.message_tokens(typed) + model.message_tokens(said)
        if room - length < wanted:
            break
        # Counted in any case: no more than a window is judged and masked, however long a conversation a client sends.
        room -= length
        # By what stands there, too: a server that was started anew does not know what a guard model heard. Where an operator
        # has answers of their own, ours may stand there from before.
        if answered(asked.child[: number + 1]) or any(
            known.hold(said["content"]) for known in (answers, read_answers())
        ):
            continue
        question = _without_personal_data(typed, asked.child[:number], asked.child[number + 1 :])[0]
        reply = _without_personal_data(said)[0]
        if forged(said["content"]):
            reply = {**said, "content": answers.stopped[language_of(said["content"])]}
        if (question, reply) != (typed, said):
            # They may be longer than what they stand for.
            more = max(0, model.message_tokens(question) + model.message_tokens(reply) - length)
            if room - more < wanted:
                break
            room -= more
        if reply != said:
            pinned.add("messages.assistant")
        kept = [question, reply, *kept]
    return Fitted(
        body={**asked.options, "messages": kept, "max_completion_tokens": min(wanted, room)},
        dropped=len(asked.messages) - len(kept),
        pinned=pinned,
        child=[message["content"] for message in kept[::2]],
        masked=masked,
    )


def in_header(pinned: set[str]) -> str:
    """Names of fields as a header may hold them: any other is told as `other`, and what is beyond so many as `others`."""
    safe = sorted({name if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) else "other" for name in pinned})
    return ",".join(safe if len(safe) <= _NAMES_TOLD else [*safe[:_NAMES_TOLD], "others"])


def _object(raw: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(raw)
    except (ValueError, RecursionError):
        raise Refused(
            400, "The body is not valid JSON; send an object as OpenAI's chat completions API takes."
        ) from None
    if not isinstance(asked, dict):
        raise Refused(400, f"The body is a {type(asked).__name__}, but it has to be a JSON object.")
    return asked


def _boolean(asked: dict[str, Any], name: str) -> bool:
    given = asked.get(name)
    if given is not None and not isinstance(given, bool):
        raise Refused(400, f"{name} has to be true or false.", name)
    return bool(given)


def _stream_options(asked: dict[str, Any]) -> dict[str, Any]:
    options = asked.get("stream_options")
    if not isinstance(options, dict | None):
        raise Refused(400, "stream_options has to be an object.", "stream_options")
    return options or {}


def _limits(asked: dict[str, Any]) -> list[int]:
    limits = []
    for name in ("max_tokens", "max_completion_tokens"):
        given = asked.get(name)
        if given is None:
            continue
        if not isinstance(given, int) or isinstance(given, bool) or given < 1:
            raise Refused(400, f"{name} has to be a whole number of at least 1.", name)
        limits.append(given)
    return limits


def _seed(asked: dict[str, Any]) -> int | None:
    seed = asked.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or not -_INT64 <= seed < _INT64):
        raise Refused(400, "seed has to be a whole number of at most 64 bits.", "seed")
    return seed


def _stop(asked: dict[str, Any]) -> list[str]:
    given = asked.get("stop")
    stops = [given] if isinstance(given, str) else [] if given is None else given
    if (
        not isinstance(stops, list)
        or len(stops) > STOPS_LIMIT
        or not all(isinstance(stop, str) and stop for stop in stops)
    ):
        raise Refused(400, f"stop has to be a text or a list of at most {STOPS_LIMIT} texts, none empty.", "stop")
    return [_unicode(stop, "stop") for stop in stops]


def _messages(given: object, control_tokens: tuple[str, ...]) -> tuple[list[dict[str, str]], set[str]]:
    """The child's and the model's turns as text, and what had no effect: system messages, for which the template has its own, and
    fields of any message."""
    if not isinstance(given, list) or not given:
        raise Refused(400, "messages has to be a list with at least one message.", "messages")
    messages: list[dict[str, str]] = []
    ignored: set[str] = set()
    for number, message in enumerate(given):
        where = f"messages[{number}]"
        if not isinstance(message, dict):
            raise Refused(400, f"{where} has to be an object with a role and a content.", where)
        # Clients send an answer back as they got it, with `null` for what it has not.
        ignored |= {
            f"messages.{name}"
            for name, value in message.items()
            if name not in ("role", "content") and value is not None
        }
        role = message.get("role")
        if role in ("system", "developer"):
            ignored.add("messages.system")
            _text(message.get("content"), f"{where}.content")
            continue
        expected = "assistant" if len(messages) % 2 else "user"
        if role != expected:
            raise Refused(400, f'{where}.role has to be "{expected}": user and assistant take turns.', f"{where}.role")
        words = _text(message.get("content"), f"{where}.content")
        if role == "assistant":
            # As the conversations were prepared for training: words only, from the first line with words on.
            words = split_thought(words)[1]
        messages.append({"role": expected, "content": as_text(words, control_tokens)})
    if len(messages) % 2 == 0:
        raise Refused(400, "The last message has to be the user's.", "messages")
    return messages, ignored


def _without_personal_data(message: dict[str, str], *around: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """A message with its personal data masked, and the kinds of it that it held; `around` is what the child said before and after."""
    words, kinds = mask(message["content"], *around)
    return {**message, "content": words}, kinds


def _text(content: object, where: str) -> str:
    if isinstance(content, str):
        return _UNUSUAL.sub(_in_short_rows, _unicode(content, where))
    if not isinstance(content, list) or not content:
        raise Refused(400, f"{where} has to be a text or a list of text parts.", where)
    parts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise Refused(400, f"{where} may hold parts of type text only.", where)
        parts.append(_text(part["text"], where))
    return "\n".join(parts)


def _in_short_rows(unusual: re.Match[str]) -> str:
    kept, row = [], 0
    for sign in unusual[0]:
        row = row + 1 if unicodedata.combining(unicodedata.normalize("NFKD", sign)[0]) else 0
        if row <= _COMBINING:
            kept.append(sign)
    return "".join(kept)


def _unicode(text: str, where: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Refused(400, f"{where} holds half a character (a lone surrogate).", where) from None
    return text
