"""Texts that say nearly the same: MinHash finds who may, the texts themselves decide.

In: texts one by one. Out: the first earlier text that is nearly the same, and how near.

MinHash and its index (datasketch) keep a search among 100,000 texts in microseconds; the exact Jaccard similarity of
the two texts' shingles then decides, so that an estimate never accuses anyone.
"""

import re
import unicodedata
import zlib
from dataclasses import dataclass
from functools import lru_cache

from datasketch import MinHash, MinHashLSH

# 64 hashes tell 0.5 from 0.2 well enough for a first look; drawn once, since drawing takes longer than hashing.
_HASHES = 64
_EMPTY = MinHash(num_perm=_HASHES, hashfunc=zlib.crc32)
_HAN = re.compile(r"[㐀-䶿一-鿿]")
_NOT_WORDS = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Near:
    """An earlier text: where it stands, and the share of shingles that both have (0 to 1)."""

    place: str
    similarity: float


class NearDuplicates:
    """Remembers texts, and finds the earlier one that a text nearly repeats."""

    def __init__(self, threshold: float):
        self._threshold = threshold
        # The index looks a little further than the threshold: what it overlooks is never compared.
        self._index = MinHashLSH(threshold=threshold - 0.1, num_perm=_HASHES)
        self._same: dict[str, str] = {}
        self._shingles: dict[str, frozenset[str]] = {}

    def find(self, text: str) -> Near | None:
        """The nearest remembered text at or above the threshold."""
        core = normal(text)
        if core in self._same:
            return Near(self._same[core], 1.0)
        mine, minhash = _prepared(core)
        found: list[str] = self._index.query(minhash)
        near = max(
            (Near(place, jaccard(mine, self._shingles[place])) for place in found), key=_by_similarity, default=None
        )
        return near if near and near.similarity >= self._threshold else None

    def remember(self, text: str, place: str) -> None:
        """Remember a text that `find` calls new; one of a group of near-duplicates stands for all. `place` names it, once."""
        if self.find(text):
            return
        core = normal(text)
        self._same[core] = place
        self._shingles[place], minhash = _prepared(core)
        self._index.insert(place, minhash)


def normal(text: str) -> str:
    """`text` in compatibility form and lower case, without blanks and signs; itself where nothing else is left."""
    return _NOT_WORDS.sub("", unicodedata.normalize("NFKC", text)).lower() or text.strip()


def shingles(core: str) -> frozenset[str]:
    """The runs of 3 characters of a Chinese text, of 5 of another one."""
    length = 3 if _HAN.search(core) else 5
    return frozenset(core[place : place + length] for place in range(max(1, len(core) - length + 1)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """The share of what either has that both have: 0 to 1."""
    return len(one & other) / len(one | other)


# A text is looked for, and remembered right after: the hashes are made once.
@lru_cache(maxsize=64)
def _prepared(core: str) -> tuple[frozenset[str], MinHash]:
    found = shingles(core)
    made = _EMPTY.copy()
    made.update_batch([shingle.encode("utf-8", "surrogatepass") for shingle in found])
    return found, made


def _by_similarity(near: Near) -> float:
    return near.similarity
