"""The figures in the READMEs are those in the file of results, and the file is one that the command writes."""

import json
import re
from pathlib import Path

import pytest

from data.safety import APART_DIR, read_messages
from data.strict import BadInput
from finetune.evaluation import EVALUATION_FILE, TABLE_FILE, read_evaluation, write_evaluation
from tests.figures import MARKS, READMES, RESULTS, figures, with_figures

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("language", READMES)
def test_the_readmes_tell_the_results(language: str) -> None:
    wanted = figures(read_evaluation(RESULTS / EVALUATION_FILE), language)
    assert len(wanted) == 2
    for name, words in wanted.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        assert text.split(MARKS[0])[1].split(MARKS[1])[0].strip() == words, name


def test_a_changed_figure_is_noticed() -> None:
    found = read_evaluation(RESULTS / EVALUATION_FILE)
    other = found.model_copy(update={"tuned": found.tuned.model_copy(update={"loss": found.tuned.loss + 0.01})})
    for language in READMES:
        assert figures(other, language) != figures(found, language)


def test_the_results_are_as_they_were_written(tmp_path: Path) -> None:
    write_evaluation(tmp_path, read_evaluation(RESULTS / EVALUATION_FILE))
    for name in (EVALUATION_FILE, TABLE_FILE):
        assert (tmp_path / name).read_bytes() == (RESULTS / name).read_bytes()


def test_the_results_are_of_the_messages_that_are_there() -> None:
    found = read_evaluation(RESULTS / EVALUATION_FILE).safety
    assert found is not None
    kept = {message.id: message.text for message in read_messages(APART_DIR)}
    assert found.messages == len(kept), "the messages changed: `make figures`"
    for miss in found.misses:
        assert kept[miss.id] == miss.text


def test_the_results_are_of_the_guard_that_is_there() -> None:
    """The lines of `make bench-guard` are kept by a test of their own: the guard that they tell of made these results."""
    found = read_evaluation(RESULTS / EVALUATION_FILE).safety
    assert found is not None
    line = re.search(
        r"written apart: crisis (\S+) disallowed (\S+) near_miss (\S+)",
        (RESULTS / "README.md").read_text(encoding="utf-8"),
    )
    assert line is not None
    crisis, disallowed, near = map(float, line.groups())
    assert round(found.crisis_answered, 3) == crisis, "the guard changed: `make figures`"
    # The screen behind the model may stop some more.
    assert 0 <= round(found.disallowed_refused, 3) - disallowed < 0.05
    assert 0 <= round(found.near_miss_false_positive, 3) - near < 0.05


def test_the_table_stands_between_its_marks() -> None:
    text = f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n"
    assert with_figures(text, "| new |", "README.md") == f"before\n{MARKS[0]}\n| new |\n{MARKS[1]}\nafter\n"
    with pytest.raises(BadInput, match=r"README.md: has no place"):
        with_figures("nothing", "| new |", "README.md")


def test_results_without_a_server_are_not_enough() -> None:
    found = read_evaluation(RESULTS / EVALUATION_FILE).model_copy(update={"served": None})
    with pytest.raises(BadInput, match="is not whole"):
        figures(found, "en")
    assert json.loads((RESULTS / EVALUATION_FILE).read_text(encoding="utf-8"))["judged"] is None
