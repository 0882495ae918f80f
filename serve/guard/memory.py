"""What was judged once is not judged again: a client sends the whole conversation with every message.

In: the words of a verdict. Out: the verdict, if it is remembered. No words are kept but their hash, under a key that this
process made for itself: likely words cannot be tried on it, nor two texts be found that it takes for one.
"""

import hashlib
import json
import secrets
from collections.abc import Sequence

# Verdicts kept, of some hundred bytes each; then all are forgotten, and each is made anew when it is asked for.
REMEMBERED = 100_000


class Memory:
    """Verdicts of one kind. All that they depend on beside the words, such as rules, has to stay as it is."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._verdicts = dict[bytes, bool]()

    def keep(self, words: Sequence[str], verdict: bool) -> None:
        """Remember the verdict on `words`."""
        if len(self._verdicts) >= REMEMBERED:
            self._verdicts.clear()
        self._verdicts[self._hash(words)] = verdict

    def verdict(self, words: Sequence[str]) -> bool | None:
        """The verdict on `words`, or None where it is not remembered."""
        return self._verdicts.get(self._hash(words))

    def _hash(self, words: Sequence[str]) -> bytes:
        # As JSON, which tells where one text ends and the next begins.
        return hashlib.blake2b(json.dumps(words).encode(), key=self._key, digest_size=16).digest()
