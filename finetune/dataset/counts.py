"""What is in the sets, in numbers.

In: conversations, a ruler, the share of the validation split. Out: `Counts`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from data.conversations import Conversation, is_validation
from finetune.dataset.house import language_of, length_of
from finetune.dataset.lengths import Ruler

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
AGES_UNKNOWN = "unknown"


@dataclass
class Split:
    """One side of the split. Lengths in tokens, or bytes without a tokenizer."""

    name: str
    exchanges: int = 0
    tokens: int = 0
    with_loss: int = 0
    lengths: list[int] = field(default_factory=list)


@dataclass
class Counts:
    """The numbers of some sets together."""

    names: list[str]
    measured_by: str
    unit: str
    skipped: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    topic_age: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    splits: dict[bool, Split] = field(default_factory=lambda: {False: Split("train"), True: Split("validation")})
    # Exchanges of each conversation; characters of each Chinese answer, words of each other one.
    exchanges: list[int] = field(default_factory=list)
    answers: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    @property
    def conversations(self) -> int:
        return len(self.exchanges)

    def topics(self) -> list[tuple[str, Counter[str]]]:
        """Each topic with its ages, in alphabetical order."""
        return sorted(self.topic_age.items())

    def ages(self) -> list[str]:
        """The ages that occur, the youngest first."""
        found = {age for ages in self.topic_age.values() for age in ages}
        return sorted(found, key=lambda age: (len(age.split("-")[0]), age))

    def percentiles(self) -> dict[str, list[int]]:
        """For each length its percentiles (`PERCENTILES`), by the nearest rank."""
        lengths = {
            f"a conversation, {self.unit}": [length for split in self.splits.values() for length in split.lengths]
        }
        lengths["a conversation, exchanges"] = self.exchanges
        for language, found in sorted(self.answers.items()):
            lengths[f"an answer ({language}), {'characters' if language == 'zh' else 'words'}"] = found
        return {name: [percentile(found, share) for share in PERCENTILES] for name, found in lengths.items() if found}


def count(
    names: list[str], conversations: Iterable[Conversation], ruler: Ruler, val_size: float, skipped: int
) -> Counts:
    """Count everything once."""
    counts = Counts(names, ruler.name, "tokens" if ruler.exact else "bytes", skipped)
    for one in conversations:
        columns = one.columns
        language = str(columns.get("language") or language_of(" ".join(turn.text for turn in one.turns)) or "unknown")
        counts.languages[language] += 1
        counts.topic_age[str(columns.get("topic", "unknown"))][str(columns.get("age", AGES_UNKNOWN))] += 1
        counts.exchanges.append(len(one.turns) // 2)
        for turn in one.turns:
            if turn.role == "assistant":
                counts.answers[language].append(length_of(turn.text, "zh" if language == "zh" else "en"))
        split = counts.splits[is_validation(one, val_size)]
        pairs = ruler.exchanges(one)
        split.exchanges += len(pairs)
        split.with_loss += sum(answer for _, answer in pairs)
        split.lengths.append(sum(prompt + answer for prompt, answer in pairs))
        split.tokens += split.lengths[-1]
    return counts


def percentile(found: list[int], share: int) -> int:
    """The smallest value that at least `share` per cent of `found` do not exceed."""
    ordered = sorted(found)
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]
