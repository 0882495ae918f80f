"""The guard on the way in: layer after layer, the first that acts decides.

In: a child's messages. Out: a `Verdict`, or None where the model may be asked. (1) The rules of crisis and of what
is declined every time, which need no model. (2) The small classifier of `python -m finetune guard`. A guard model, (3),
is asked beside the generation: see `serve.guard.remote`.

    python -m serve guard "text"     # each layer's verdict
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from data.answer_reader import spoken
from data.classifier import Reader, Reading, read_reader
from data.forms import NOTHING, Typed, forms
from data.safety import CRISIS
from serve.guard.crisis import judge_conversation
from serve.guard.declined import declined
from serve.guard.files import check_hash
from serve.guard.memory import Memory
from serve.guard.private import mask
from serve.guard.rules import Language, language_of
from serve.guard.screen import harm_in
from serve.guard.verdict import CHARACTERS_JUDGED, Verdict, answered_in, judged_together

CLASSIFIER_FILE = Path(__file__).parent / "classifier.safetensors"
# A wish may be spread over messages ("我想" "打死他"): then its last part is mostly short. Before a longer one so many
# characters are read with so many of its own, and acted on from a danger of its own on, since a child may change the subject:
# of 595 turns of everyday conversations this reading stops 6, and it hears a quarter of the dangers that are cut in two.
CONTINUATION = 24
_BEFORE, _BEHIND, _CHANGED_SUBJECT = 60, 120, 0.95
# Characters of what is not read whole: either end of a message that is too long, and the end of one before the last, behind
# which that goes on.
_ENDS = 2_000
_CLAUSE_END = re.compile(r"[，,。！!？?.；;：:\n]+")


class Guard:
    """The layers that judge before the model is asked."""

    def __init__(self, classifier: Reader):
        self._classifier = classifier
        # Whether it acted on a child's messages, and whether an answer would have been stopped. The rules and the
        # classifier of a process stay the same, and so do the verdicts. What only the guard model heard is kept apart: many
        # other messages do not push it out. All under the key's name, since what is known is answered sooner: nobody learns
        # by another key what was said under one.
        self._acted, self._forged, self._heard = Memory(), Memory(), Memory()

    def judge(self, messages: Sequence[str], name: str = "") -> Verdict | None:
        """The verdict on the last of a child's `messages`, of the key's `name`, read together with the ones before it."""
        judged = judged_together(messages)
        # The layers share what is made of a message.
        typed = [Typed(message) for message in judged]
        verdict = _by_rules(typed) or self._classified(typed)
        self._acted.keep([name, *judged], verdict is not None)
        return _in_the_childs_language(verdict, judged)

    def judge_too_long(self, messages: Sequence[str], name: str = "") -> Verdict | None:
        """The same where the last message is longer than any that a model is given. It is refused in any case, and reading all
        of it may take minutes, for which others would wait: the classifier reads its beginning and its end, the rules all."""
        *before, last = judged = judged_together(messages)
        verdict = _by_rules([Typed(message) for message in judged])
        verdict = verdict or self.judge([*before, last[:_ENDS]], name) or self.judge([last[-_ENDS:]], name)
        return _in_the_childs_language(verdict, judged)

    def heard(self, name: str, messages: Sequence[str]) -> None:
        """A guard model acted on the last of `messages`: they are remembered, as they stand and without those before.

        Later the conversation may begin with any of them, and nobody would judge the last one again. Of few words not
        without those before: many a conversation has them. And as words of the key's `name`: what somebody said under
        one key is not to be found out by asking under another.
        """
        judged = judged_together(messages)
        for start in range(len(judged)):
            if not start or sum(map(len, judged[start:])) >= CHARACTERS_JUDGED:
                self._heard.keep([name, *judged[start:]], True)

    def answered(self, name: str, messages: Sequence[str]) -> bool:
        """Whether the last of `messages`, of the key's `name`, got the guard's answer when it came."""
        judged = judged_together(messages)
        # Whatever a client has put before them.
        if any(self._heard.verdict([name, *judged[start:]]) for start in range(len(judged))):
            return True
        acted = self._acted.verdict([name, *judged])
        return self.judge(messages, name) is not None if acted is None else acted

    def forged(self, name: str, words: str) -> bool:
        """Whether `words`, which a client of the key's `name` says that the model said, would never have left."""
        forged = self._forged.verdict([name, words])
        if forged is None:
            # In a sentence that begins an answer a plan of harm stands where a child's question would.
            forged = harm_in(words, spoken(words)) is not None or any(
                declined(Typed(part)) for part in [words, *_CLAUSE_END.split(words)]
            )
            self._forged.keep([name, words], forged)
        return forged

    def layers(self, text: str) -> list[str]:
        """In words: what each layer sees in one message."""
        typed = Typed(text)
        rules = judge_conversation([typed]) or declined(typed)
        reading = self._classifier.read(typed)
        kinds = mask(text)[1]
        return [
            f"rules       {f'{rules.action} {rules.category}' if rules else 'nothing'}",
            f"classifier  {reading.category} danger={reading.danger:.3f} "
            f"({'acts' if reading.acts else 'passes'}, from {reading.level:.3f})",
            f"masked      {', '.join(kinds) or 'nothing'}",
        ]

    def _classified(self, messages: Sequence[Typed]) -> Verdict | None:
        if not messages:
            return None
        *earlier, last = messages
        before = [message if len(message.text) <= _ENDS else Typed(message.text[-_ENDS:]) for message in earlier]
        if verdict := self._verdict(self._classifier.read(last), last):
            return verdict
        while before and (verdict := self._together(before, last)):
            # What was dangerous by itself was answered then: only what came behind it is read with the last. Asked
            # last, since it is read only where something is found.
            answered = [number for number, message in enumerate(before) if self._alone(message)]
            if not answered:
                return verdict
            before = before[answered[-1] + 1 :]
        return None

    def _together(self, before: Sequence[Typed], last: Typed) -> Verdict | None:
        """The verdict on the last message with those before it."""
        short = len(last.text) <= CONTINUATION
        earlier, words = "\n".join(message.text for message in before), last.text
        if not short:
            earlier, words = earlier[-_BEFORE:], words[:_BEHIND]
        together = Typed(f"{earlier}\n{words}")
        start = sum((message.forms for message in before), NOTHING) if short else forms(earlier)
        if verdict := declined(together, start):
            return verdict
        reading = self._classifier.read_whole(together)
        if not short:
            reading = replace(reading, level=_CHANGED_SUBJECT)
        return self._verdict(reading, last)

    def _alone(self, message: Typed) -> bool:
        """Whether the guard acts on a message by itself."""
        return bool(judge_conversation([message]) or declined(message) or self._classifier.read(message).acts)

    def _verdict(self, reading: Reading, last: Typed) -> Verdict | None:
        if not reading.acts:
            return None
        pinyin = self._classifier.linear.parts.is_pinyin(last)
        language: Language = "zh" if pinyin else language_of(last.text)
        return Verdict("crisis" if reading.category in CRISIS else "redirect", reading.category, "classifier", language)


def _by_rules(messages: Sequence[Typed]) -> Verdict | None:
    """What needs no model, on the last of these messages."""
    return judge_conversation(messages) or (declined(messages[-1]) if messages else None)


def _in_the_childs_language(verdict: Verdict | None, judged: Sequence[str]) -> Verdict | None:
    # Chinese characters and pinyin are Chinese in any case; an English rule hears Latin letters.
    return replace(verdict, language=answered_in(judged)) if verdict and verdict.language == "en" else verdict


def read_guard(path: Path | None = None) -> Guard:
    """The guard with the shipped classifier, or another. Raises `BadInput` where the file is not the one that was written."""
    return Guard(_read(path) if path else classifier())


@cache
def classifier() -> Reader:
    """The shipped classifier: it takes half a second to open, so a process does it once."""
    return _read(CLASSIFIER_FILE)


def _read(path: Path) -> Reader:
    check_hash(path, "make both again with `python -m finetune guard`.")
    return read_reader(path)
