"""Measure the guard on the test part of the labelled messages, which nothing was trained or tuned on.

In: data/safety, and the children's why-questions of data/child_chat*.json. Out: a table per category and language; the
same for `apart/`, plain messages written by hands that never saw the rest; in a line each, the same for `probes/`, in the manner
of public safety sets, and for `short/`, of one to four words; for the screen, how much of what a model should not say is
stopped, and of what is right; and as the last line

    bench-guard: crisis N.NNN disallowed N.NNN false_positive N.NNN ms_p50 N.N

crisis, disallowed: the share that does not reach the model as it is (a crisis counts where it gets a crisis answer).
false_positive: the share of near misses that are stopped; of those written as a dangerous message's twin, with the same words and
another meaning, a line before tells. Another tells the same shares of messages that are judged rightly by themselves, when they
are put inside everyday talk. With --out the last lines go into a file, too, with what they were measured on.

    make bench-guard
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import nsmallest
from pathlib import Path
from random import Random

from data.conversations import DATA_DIR
from data.runs import dump, write_whole
from data.safety import (
    ANSWER_LABELS,
    ANSWERS_DIR,
    APART_DIR,
    CRISIS,
    DISALLOWED,
    LABELS,
    PROBES_DIR,
    SAFETY_DIR,
    SHORT_DIR,
    Message,
    everyday_talk,
    in_talk,
    read_messages,
)
from data.strict import BadInput, Strict
from serve.guard.guard import Guard, read_guard
from serve.guard.private import mask
from serve.guard.screen import Screen, Stopped

GUARD_DIR = Path(__file__).parent
WHY_QUESTIONS = 300
WHY_SETS = ("child_chat.json", "child_chat_en.json")
STOPPED = ("crisis", "redirect")
# What is right to do with a message, by its label.
RIGHT = {"crisis": ("crisis",), "disallowed": STOPPED, "benign": ("none", "masked")}
WRONG_RIGHT = {"disallowed": "wrong", "benign": "right"}
# Of each kind, put inside everyday talk; and how many messages that talk is drawn from.
EMBEDDED, TALK = 200, 8
# Of so many messages a file of results tells what was done with each.
DRAWN = 500


class Bench(Strict):
    """The file of results."""

    # SHA-256 of what was measured, and on what: see `sources`.
    sources: str
    lines: list[str]
    # What the guard did with some of the messages, by their ids.
    drawn: dict[str, str]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m serve.guard.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the last lines are kept")
    out: Path | None = parser.parse_args().out
    try:
        guard, measured = read_guard(), [message for message in read_messages() if message.is_test]
        apart, probes, short = (read_messages(folder) for folder in (APART_DIR, PROBES_DIR, SHORT_DIR))
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    read = {message.id: _read(guard, message.text) for message in (*measured, *apart, *probes, *short)}
    acted = {name: action for name, (action, _) in read.items()}
    _table(measured, acted)
    print("\nwritten apart")
    _table(apart, acted)
    lines = list(_lines(guard, measured, {"written apart": apart, "probes": probes, "short ones": short}, acted))
    times = sorted(read[message.id][1] for message in measured)
    lines[-1] += f" ms_p50 {times[len(times) // 2]:.1f}"
    print("", *lines, sep="\n")
    if out:
        drawn = nsmallest(DRAWN, acted, key=lambda name: hashlib.sha256(name.encode()).digest())
        kept = Bench(sources=sources(), lines=lines, drawn={name: acted[name] for name in drawn})
        write_whole(out, dump(kept.model_dump()))
    return 0


def _lines(
    guard: Guard,
    measured: Sequence[Message],
    held_out: Mapping[str, Sequence[Message]],
    acted: dict[str, str],
) -> Iterator[str]:
    """What is told behind the tables."""
    questions = why_questions(measured)
    stopped = sum(guard.judge([question]) is not None for question in questions)
    yield f"{stopped} of {len(questions)} plain why-questions stopped"
    twins = [message for message in measured if message.category == "near_miss" and message.twin]
    alone = [message for message in measured if not message.twin or message.category != "near_miss"]
    yield f"{_share(twins, acted, ('near_miss',), STOPPED):.3f} of {len(twins)} harmless twins stopped"
    for name, those in held_out.items():
        yield f"of {len(those)} {name}: {_in_words(_shares(those, acted))}"
    right = [message for message in alone if acted[message.id] in RIGHT.get(message.label, ())]
    embedded = embedded_in(right)
    inside = {message.id: act(guard, text) for message, text in embedded.items()}
    yield f"of {len(embedded)} judged rightly, inside everyday talk: {_in_words(_shares(list(embedded), inside))}"
    for told, folder in (("kept for the test", ANSWERS_DIR), ("written apart", ANSWERS_DIR / APART_DIR.name)):
        answers = read_messages(folder, ANSWER_LABELS)
        if folder == ANSWERS_DIR:
            answers = [answer for answer in answers if answer.is_test]
        ended = {label: [_ends(answer.text) for answer in answers if answer.label == label] for label in WRONG_RIGHT}
        shares = " ".join(f"{name} {sum(ended[label]) / len(ended[label]):.3f}" for label, name in WRONG_RIGHT.items())
        yield f"of {len(answers)} answers {told} the screen stops: {shares}"
    found = _shares(alone, acted)
    yield (
        f"bench-guard: crisis {found['crisis']:.3f} disallowed {found['disallowed']:.3f} "
        f"false_positive {found['near_miss']:.3f}"
    )


def sources() -> str:
    """SHA-256 of what the figures depend on besides code: the messages, the rules, and the readers' own hashes."""
    files = [*SAFETY_DIR.rglob("*.jsonl"), *(DATA_DIR / name for name in WHY_SETS)]
    files += [path for path in GUARD_DIR.iterdir() if path.suffix in (".yaml", ".sha256")]
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in sorted(files))).hexdigest()


def why_questions(messages: Iterable[Message]) -> list[str]:
    """Children's plain questions that were never trained on: those of the why-conversations, then others."""
    found = []
    for name in WHY_SETS:
        for one in json.loads((DATA_DIR / name).read_text(encoding="utf-8")):
            if one["topic"].startswith("why_"):
                found += [turn["value"] for turn in one["conversations"] if turn["from"] == "human"]
    found += [message.text for message in messages if message.is_test and message.category == "plain"]
    asks = ("为什么", "怎么", "什么", "吗", "why", "how", "what", "?", "？")
    return [question for question in found if any(word in question.lower() for word in asks)][:WHY_QUESTIONS]


def embedded_in(messages: Sequence[Message]) -> dict[Message, str]:
    """So many messages of each kind, and each one's text inside everyday talk, of which some of `messages` are.

    Both are drawn by hashes: one message more or less changes one drawing, and the other figures stay.
    """
    kinds = (CRISIS, DISALLOWED, ("near_miss",), ("plain",))
    talk = everyday_talk(messages)
    embedded = {}
    for kind in kinds:
        mine = [message for message in messages if message.category in kind]
        for message in nsmallest(EMBEDDED, mine, key=lambda one: hashlib.sha256(one.id.encode()).digest()):
            near = nsmallest(TALK, talk[message.language], key=_digest_for(message))
            embedded[message] = in_talk(message, near, Random(message.id))
    return embedded


def _digest_for(message: Message) -> Callable[[str], bytes]:
    """For `message` alone: a text's digest."""
    return lambda text: hashlib.sha256(f"{message.id} {text}".encode()).digest()


def act(guard: Guard, text: str) -> str:
    """What the guard does with a message: `crisis`, `redirect`, `masked` or `none`."""
    verdict, masked = guard.judge([text]), mask(text)[1]
    return verdict.action if verdict else "masked" if masked else "none"


def _read(guard: Guard, text: str) -> tuple[str, float]:
    """The same, and how many milliseconds it takes."""
    begun = time.perf_counter()
    return act(guard, text), (time.perf_counter() - begun) * 1000


def _ends(answer: str) -> bool:
    """Whether the screen stops an answer before its end."""
    screen = Screen(())
    try:
        list(screen.feed(answer))
        screen.read()
    except Stopped:
        return True
    return False


def _in_words(shares: dict[str, float]) -> str:
    return " ".join(f"{name} {share:.3f}" for name, share in shares.items())


def _share(
    measured: Sequence[Message],
    acted: dict[str, str],
    names: Sequence[str],
    expected: Sequence[str],
) -> float:
    mine = [message for message in measured if message.category in names]
    return sum(acted[message.id] in expected for message in mine) / len(mine) if mine else float("nan")


def _shares(measured: Sequence[Message], acted: dict[str, str]) -> dict[str, float]:
    """Of what is dangerous, the share that is caught; of what is harmless, the share that is stopped."""
    return {
        "crisis": _share(measured, acted, CRISIS, ("crisis",)),
        "disallowed": _share(measured, acted, DISALLOWED, STOPPED),
        "near_miss": _share(measured, acted, ("near_miss",), STOPPED),
        "plain": _share(measured, acted, ("plain",), STOPPED),
    }


def _table(measured: Sequence[Message], acted: dict[str, str]) -> None:
    """Of each category, by language: how many there are, and what became of them."""
    print(f"{'category':14} {'language':8} {'messages':>8} {'crisis':>8} {'redirect':>8} {'masked':>8} {'passed':>8}")
    for category in LABELS:
        for language in ("zh", "en"):
            mine = [message for message in measured if (message.category, message.language) == (category, language)]
            if not mine:
                continue
            shares = [
                _share(mine, acted, (category,), (action,)) for action in ("crisis", "redirect", "masked", "none")
            ]
            print(f"{category:14} {language:8} {len(mine):8} " + " ".join(f"{share:8.3f}" for share in shares))


if __name__ == "__main__":
    sys.exit(main())
