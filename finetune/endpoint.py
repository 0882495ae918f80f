"""A model behind an OpenAI-compatible address: what goes wrong on the way to it is one sentence.

In: what is asked there, in a `with` block. Out: nothing, or `BadInput`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from data.strict import BadInput


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
