"""The page of a run: what is there is shown, what is not names its command, and the model's card links it."""

import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from data.contract import open_sealed
from data.runs import ADAPTER, Status, append_metrics, read_record, write_record, write_status
from data.strict import BadInput
from finetune.compare import COMPARED, LINES_FILE, write
from finetune.evaluation import Evaluation, Measured, Split, write_evaluation
from finetune.merge import merge
from finetune.metrics_text import TextScores
from finetune.page import markdown, table
from finetune.report import loss_chart, main, report
from tests.finetune.small_runs import RECIPE, make_data, make_recipe, make_run
from tests.finetune.test_compare import FOUND
from tests.small_models import make_base


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with runs/try, models/try and data/ with what was taught."""
    run = make_run(tmp_path / "runs" / "try", make_base(tmp_path / "base"))
    make_recipe(run / "recipe.yaml")
    make_data(tmp_path / "data")
    for step in (3, 6, 9):
        append_metrics(run, {"step": step, "loss": 6.5 - step / 3, "num_input_tokens_seen": 100 * step})
    append_metrics(run, {"step": 9, "eval_loss": 4.25})
    merge(run, tmp_path / "models" / "try")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Balanced(HTMLParser):
    """Fails where a tag is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def balanced(text: str) -> str:
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    return text


def test_a_new_run_says_what_is_not_measured_and_how_to(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data-dir", "data"], {}) == 0
    assert capsys.readouterr().out.splitlines() == ["runs/try/report.html", "models/try/report.html"]
    text = balanced((home / "runs/try/report.html").read_text())
    assert "python -m finetune compare runs/try" in text
    assert "python -m finetune evaluate runs/try" in text
    assert read_record(Path("runs/try")).contract in text
    assert f"learning_rate: {RECIPE['learning_rate']}" in text
    assert "20 conversations" in text
    assert "4.250" in text
    assert text.count("<polyline") == 3
    # Nothing is fetched: no address of another machine, no script.
    assert not re.search(r"(?:src|href)=|url\(|<script|@import", text)
    # The card links the page, and the folder is sealed as before.
    assert "(report.html)" in (home / "models/try/README.md").read_text()
    assert open_sealed(home / "models/try")


def test_what_was_measured_is_shown(home: Path) -> None:
    run = Path("runs/try")
    write(FOUND, run / COMPARED)
    scores = TextScores(bleu_4=1.5, rouge_1=18.2, rouge_2=0.6, rouge_l=15.6, chrf=3.4)
    measured = Measured(loss=2.345, perplexity=10.43, text=scores, rubric={}, answers={})
    write_evaluation(
        run,
        Evaluation(
            subject="runs/try", base_name="base", contract="9ba3ba51" * 8, seed=0, base=None, tuned=measured,
            split=Split(dataset=["small"], val_size=0.2, conversations=4, answer_tokens=99),
            served=None, judged=None, safety=None,
        ),
    )  # fmt: skip
    text = balanced(report(run, Path("data"), {}))
    assert "adapter · merged" in text
    assert "2.345" in text
    assert "python -m finetune compare" not in text
    assert "evaluate runs/try --server URL" in text


def test_what_is_older_than_the_runs_weights_is_told(home: Path) -> None:
    run = Path("runs/try")
    write(FOUND, run / COMPARED)
    outlived = "Measured before the run went on, of weights that are gone:"
    assert outlived not in report(run, Path("data"), {})
    old = (run / ADAPTER).stat().st_mtime - 60
    os.utime(run / COMPARED / LINES_FILE, (old, old))
    text = balanced(report(run, Path("data"), {}))
    assert text.count(outlived) == 1
    assert "python -m finetune compare runs/try" in text
    assert "adapter · merged" in text


def test_a_part_of_the_steps_is_told_as_one(home: Path) -> None:
    run = Path("runs/try")
    write_record(run, read_record(run).model_copy(update={"steps": 5400}))
    assert "<dd>5,400</dd>" in report(run, Path("data"), {})
    write_status(run, Status(state="stopped", step=100, steps=5400))
    assert "<dd>100 of 5,400</dd>" in balanced(report(run, Path("data"), {}))
    merge(run, Path("models/try"))
    sealed = open_sealed(Path("models/try")).provenance
    assert (sealed["step"], sealed["steps"]) == (100, 5400)


def test_what_changed_since_the_run_is_told(home: Path) -> None:
    run = Path("runs/try")
    write_record(
        run, read_record(run).model_copy(update={"contract": "f" * 64, "data_files": {"small.json": "0" * 64}})
    )
    text = balanced(report(run, Path("data"), {}))
    assert "small.json changed since the run" in text
    assert "it was changed since the run" in text
    shutil.rmtree("data")
    assert "The sets cannot be counted" in balanced(report(run, Path("data"), {}))


@pytest.mark.parametrize(
    ("words", "sentence"), [(["nothing"], "no such run folder"), (["--model", "base"], "--model names a model folder")]
)
def test_bad_input_is_one_sentence(home: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        main(words, {})


def test_the_chart_holds_every_point_inside() -> None:
    metrics = [{"step": 5 * step, "loss": 100.0 / step} for step in range(1, 40)]
    svg = balanced(loss_chart(metrics))
    points = [
        tuple(map(float, point.split(","))) for found in re.findall('points="(.*?)"', svg) for point in found.split()
    ]
    assert len(points) == 2 * 39
    assert all(0 <= x <= 720 and 0 <= y <= 300 for x, y in points)
    assert "make train" in loss_chart([])


def test_tables_from_markdown_keep_words_as_words() -> None:
    html = balanced(
        markdown(["## A & B", "", "| name | n |", "| --- | --- |", "| a\\|<b> | 1,200 |", "| c | – |", "", "`x` < y"])
    )
    assert "<h3>A &amp; B</h3>" in html
    assert "<td>a|&lt;b&gt;</td>" in html
    assert '<td class="number">1,200</td>' in html
    assert "<code>x</code> &lt; y" in html
    assert balanced(table(("a", "b"), []))
