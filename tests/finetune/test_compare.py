"""Before and after: who is asked, the three files, and a page that needs nothing but itself and fits a phone."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from data.strict import BadInput
from finetune.compare import Column, Compared, compare, exchanges, find_columns, read_compared, summary, write
from finetune.merge import merge
from finetune.questions import TUTORIAL, asked
from tests.browser import chromium
from tests.commands import finetune
from tests.finetune.small_runs import make_run
from tests.small_models import make_talker

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/try, and models/try merged from it."""
    folder = tmp_path_factory.mktemp("compare")
    run = make_run(folder / "runs" / "try", make_talker(folder / "base", ends=True))
    merge(run, folder / "models" / "try")
    return folder


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


def told(what: str, merged: str | None = None) -> list[tuple[str, str]]:
    return [(column.model, Path(column.name).name) for column in find_columns(what, merged)]


def test_who_is_asked(there: Path) -> None:
    all_three = [("base", "base"), ("adapter", "try"), ("merged", "try")]
    assert told("runs/try") == told("models/try") == told("runs/try", "models/try") == all_three
    assert told("base") == [("base", "base")]
    shutil.copytree("models/try", "alone/try")
    (there / "runs").rename(there / "elsewhere")
    try:
        assert told("alone/try") == [("base", "base"), ("merged", "try")]
        assert told("elsewhere/try") == all_three
        with pytest.raises(BadInput, match="--merged names a model folder"):
            find_columns("elsewhere/try", "base")
    finally:
        (there / "elsewhere").rename(there / "runs")


def test_a_model_that_was_merged_before_its_run_went_on_is_none_of_the_runs(there: Path) -> None:
    shutil.copytree("runs/try/adapter", "kept")
    base = ("base", "base")
    try:
        # As when it goes on: other weights under the same names.
        shutil.copytree(
            make_run(there / "other", there / "base", seed=1) / "adapter", "runs/try/adapter", dirs_exist_ok=True
        )
        assert told("runs/try") == [base, ("adapter", "try")]
        assert told("models/try") == [base, ("merged", "try")]
        # A person who names both gets both.
        assert told("runs/try", "models/try") == [base, ("adapter", "try"), ("merged", "try")]
    finally:
        shutil.rmtree("runs/try/adapter")
        Path("kept").rename("runs/try/adapter")


def short(column: Column) -> Column:
    """Asked for a few words only: a random model never ends its answer."""
    contract = column.subject.contract
    sampling = contract.sampling.model_copy(update={"max_tokens": 16})
    return replace(column, subject=replace(column.subject, contract=contract.model_copy(update={"sampling": sampling})))


def test_everyone_is_asked_everything_and_again_the_same(there: Path, tmp_path: Path) -> None:
    columns = [short(column) for column in find_columns("runs/try")]
    questions = [asked(question) for question in (*TUTORIAL, "你是真人吗？")]
    lines = compare(columns, questions, [False, True])
    assert [(line.model, line.thinking, line.conversation) for line in lines] == [
        (model, thinking, question)
        for model in ("base", "adapter", "merged")
        for thinking in (False, True)
        for question in questions
    ]
    assert {line.sampling.temperature for line in lines} == {0.5}
    assert compare(columns, questions, [False, True]) == lines
    assert compare(columns, questions, [False, True], seed=1) != lines
    write(lines, tmp_path)
    assert read_compared(tmp_path / "report.jsonl") == lines
    page, text = ((tmp_path / f"report.{kind}").read_text() for kind in ("html", "md"))
    for question in questions:
        assert question[0]["content"] in page
        assert question[0]["content"] in text


def test_one_command_writes_three_files_into_the_runs_folder(there: Path, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("你是真人吗？\n")
    done = finetune(tmp_path, "compare", "--greedy", "--no-thinking", "--questions", str(tmp_path / "more.txt"))
    assert done.code == 0, done.err
    assert "asking: 15 of 15" in done.err
    assert done.out.splitlines() == [f"runs/try/compare/report.{kind}" for kind in ("html", "md", "jsonl")]
    lines = read_compared(Path("runs/try/compare/report.jsonl"))
    assert {(line.thinking, line.sampling.temperature) for line in lines} == {(False, 0.0)}
    assert len(lines) == 15


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing/here/at/all"], "no such folder, and no hub id either"),
        (["runs/try", "--questions", "none.txt"], "none.txt: cannot be read"),
        (["runs/try", "--merged", "runs/try"], "--merged names a model folder"),
    ],
)
def test_bad_input_is_one_sentence(there: Path, tmp_path: Path, words: list[str], sentence: str) -> None:
    done = finetune(tmp_path, "compare", *words)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert sentence in done.err


def line(model: str, text: str, **changes: object) -> Compared:
    usual = {
        "model": model, "name": f"runs/{model}", "thinking": False, "conversation": asked("<b>你好</b>"), "text": text,
        "thought": "", "finished": True, "tokens": 7, "contract": "9ba3ba51" * 8, "seed": 42,
        "sampling": {
            "temperature": 0.5, "top_p": 0.95, "top_k": 50, "min_p": 0, "repetition_penalty": 1, "presence_penalty": 0,
            "frequency_penalty": 0, "max_tokens": 512,
        },
    }  # fmt: skip
    return Compared.parse({**usual, **changes}, "here")


FOUND = [
    line("base", "没有 <script>alert(1)</script>\n第二行" + "长" * 400),
    line("adapter", "你好呀！"),
    line("merged", "你好呀！"),
    line("base", "", thinking=True, thought="想一想", finished=False),
    line("adapter", "https://" + "a" * 300, thinking=True),
    line("merged", "不一样。", thinking=True),
]


def test_what_is_the_same_is_read_once_and_words_stay_words() -> None:
    html = exchanges(FOUND)
    assert re.findall("<h3>(.*?)</h3>", html) == ["base", "adapter · merged", "base", "adapter", "merged"]
    assert "<script>" not in html
    assert "<b>" not in html
    assert "what it thought" in html
    assert html.count("cut off") == 1
    assert summary(FOUND)[3] == ["base", "on", "0 of 1", "7"]


def test_any_character_of_an_answer_comes_back_from_the_file(tmp_path: Path) -> None:
    # Each ends a line for str.splitlines.
    found = [line("base", "\u2028".join("ab")), line("tuned", "\x85 \u2029\x1c", thinking=True)]
    write(found, tmp_path)
    assert read_compared(tmp_path / "report.jsonl") == found


def test_a_damaged_file_of_lines_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    path.write_text('{"model": ')
    with pytest.raises(BadInput, match="line 1 is not valid JSON"):
        read_compared(path)
    path.write_text(json.dumps({**FOUND[0].model_dump(), "modle": 1}))
    with pytest.raises(BadInput, match='did you mean "model"'):
        read_compared(path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.mark.end_to_end
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_fits_and_asks_nobody(browser: Browser, tmp_path: Path, width: int) -> None:
    write(FOUND, tmp_path)
    page = browser.new_page(viewport={"width": width, "height": 800})
    asked_for: list[str] = []
    page.on("request", lambda request: asked_for.append(request.url))
    page.on("console", lambda message: asked_for.append(message.text))
    page.goto((tmp_path / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert asked_for == [(tmp_path / "report.html").as_uri()]
    # Side by side where there is room, one below the other on a phone.
    first, second = (page.locator(".answer").nth(place).bounding_box() for place in (0, 1))
    assert first
    assert second
    assert (first["y"] == second["y"]) is (width > 1000)
    page.close()
