"""A model behind an OpenAI-compatible address: what goes wrong on the way to it is one sentence.

In: what is asked there, in a `with` block. Out: nothing, or `BadInput`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from data.strict import BadInput

Given = TypeVar("Given")
Answer = TypeVar("Answer")


@contextmanager
def asking(who: str, seconds: float, *, unknown: str, otherwise: str, then: str = "") -> Iterator[None]:
    """`who` opens the sentence (an address, and whose); `seconds` is the client's limit.

    What to do: `unknown` where the key is refused, `otherwise` at any other status, `then` behind every sentence.
    """
    # Late: the client takes a second to import, and `--help` needs none.
    from openai import APIConnectionError, APIStatusError

    try:
        yield
    except APIConnectionError:
        raise BadInput(f"{who} cannot be reached, or does not answer within {seconds} s.{then}") from None
    except APIStatusError as error:
        hint = unknown if error.status_code in (401, 403) else otherwise
        raise BadInput(f"{who} answered {error.status_code}; {hint}.{then}") from None


async def ask_each(ask: Callable[[Given], Awaitable[Answer]], given: Sequence[Given], at_once: int) -> list[Answer]:
    """What `ask` gives for each, in order, asked so many at a time. The first failure ends the others, and is raised."""
    desk = asyncio.Semaphore(at_once)

    async def one(this: Given) -> Answer:
        async with desk:
            return await ask(this)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(this)) for this in given]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
