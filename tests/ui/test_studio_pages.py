"""Each page of the studio drawn by Streamlit itself, without a browser: with nothing there, and with every kind of job.
Run: `pytest tests/ui/test_studio_pages.py`.
"""

import contextlib
import html
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from streamlit.dataframe_util import convert_arrow_bytes_to_pandas_df
from streamlit.testing.v1 import AppTest

from data.contract import SEAL_FILE, read_contract, sha256
from data.conversations import conversations, datasets_in, is_validation
from data.queue import JOB_LOG, WORKER_FILE, Request, jobs, read_want, write_request
from data.runs import ADAPTER, RUN_FILE, State, Status, append_metrics, write_status
from data.strict import BadInput
from finetune import llamafactory
from finetune.allowed import Places, check_request
from finetune.dataset import add, remove
from finetune.recipe import RECIPES, Recipe, read_recipe
from tests.finetune.small_runs import make_data
from tests.small_models import make_base, make_sealed
from tests.ui.full_disk import full_disk
from ui.locales import Language
from ui.studio import export_page
from ui.studio.knobs import as_yaml, read_knobs, read_values, save
from ui.studio.words import words_in

PAGES = ("data", "base", "train", "watch", "compare", "export", "runs")


def draw(page: str, folder: str, language: str) -> None:
    """One page, as app.py draws it; another one after `turned_to`."""
    import importlib
    from pathlib import Path

    import streamlit as st

    from data.queue import jobs
    from ui.studio.context import Studio
    from ui.studio.knobs import read_knobs
    from ui.studio.settings import Settings
    from ui.studio.words import words_in

    at = Path(folder)
    settings = Settings(at / "runs", at / "models", at / "sets", at / "recipes", at / "hub", at / "secret")
    words = words_in("zh" if language == "zh" else "en")
    page = st.session_state.get("turned-to", page)
    importlib.import_module(f"ui.studio.{page}_page").show(
        Studio(settings, words, read_knobs(), tuple(jobs(settings.runs)))
    )


def drawn(page: str, folder: Path, language: Language = "zh", **chosen: str) -> AppTest:
    app = AppTest.from_function(
        draw, default_timeout=60, kwargs={"page": page, "folder": str(folder), "language": language}
    )
    for key, value in chosen.items():
        app.session_state[key] = value
    app.run()
    assert not app.exception, app.exception
    return app


def turned_to(app: AppTest, page: str) -> AppTest:
    """The same tab with another page."""
    app.session_state["turned-to"] = page
    app.run()
    assert not app.exception, app.exception
    return app


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A studio in which nothing has been done yet."""
    make_data(tmp_path / "sets")
    shutil.copytree(RECIPES, tmp_path / "recipes")
    (tmp_path / "runs").mkdir()
    return tmp_path


@pytest.fixture
def used(empty: Path) -> Path:
    """A studio with a run, a failed one, a damaged one, a check, and two models."""
    make_sealed(empty / "models" / "done")
    make_base(empty / "models" / "bare")
    (empty / "models" / "current").symlink_to("done")

    def job(name: str, request: Request | None, status: Status, told: str = "") -> Path:
        run = empty / "runs" / name
        run.mkdir()
        if request:
            write_request(run, request)
        write_status(run, status)
        (run / JOB_LOG).write_text(told)
        return run

    running = job(
        "running",
        Request(verb="train", words=("mindpal", "--run", "running"), note="试一试", created="2026-01-05"),
        Status(state="running", step=5, steps=10, message="loss 2.0", pid=7),
        "step 5 of 10\n",
    )
    (empty / "runs" / WORKER_FILE).write_text("7")
    for step in (1, 5):
        append_metrics(running, {"step": step, "loss": 3.0 / step, "learning_rate": 1e-4, "grad_norm": 1.0, "tokens_per_second": 900.0, "share_of_peak": 0.3, "seconds_left": 61.0, "memory": 2e9, "memory_free": 3e9, "cpu_percent": 90.0, "num_input_tokens_seen": 4000})  # fmt: skip
    append_metrics(running, {"step": 5, "eval_loss": 2.5})
    made = job("made", Request(verb="train", words=("tiny",), created="2026-01-02"), Status(state="done"))
    (made / ADAPTER).mkdir()
    job("red", Request(verb="train", words=("x",), created="2026-01-03"), Status(state="failed", message="out of memory; lower max_length"))  # fmt: skip
    (empty / "runs" / "damaged").mkdir()
    (empty / "runs" / "damaged" / "status.json").write_text("{")
    finding = {"level": "error", "rule": "id", "file": "small.json", "row": 1, "turn": None, "sentence": "has no id."}
    told = {"errors": 1, "warnings": 0, "findings": [finding]}
    words = ("check", "small", "--json", "--data-dir", str(empty / "sets"))
    job(
        "check",
        Request(verb="data", words=words, created="2026-01-04"),
        Status(state="failed"),
        json.dumps(told) + "\n",
    )
    return empty


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_drawn_where_nothing_is_there_yet(page: str, language: Language, empty: Path) -> None:
    drawn(page, empty, language)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_drawn_with_jobs_of_every_kind(page: str, used: Path) -> None:
    drawn(page, used)


def test_a_failed_run_is_red_with_its_sentence(used: Path) -> None:
    app = drawn("runs", used)
    app.selectbox(key="opened").set_value("red").run()
    assert f"{words_in('zh').why}\n\nout of memory; lower max_length" in [error.value for error in app.error]


def test_only_a_run_that_is_under_way_waits_for_its_first_figures(used: Path) -> None:
    waiting = words_in("zh").watch.waiting
    app = drawn("watch", used)
    app.multiselect(key="watched").set_value(["red"]).run()
    assert waiting not in [told.value for told in app.info]
    write_status(used / "runs" / "red", Status(state="running"))
    assert waiting in [told.value for told in app.run().info]


def test_two_runs_are_drawn_beside_each_other(used: Path) -> None:
    for step in (1, 5):
        append_metrics(used / "runs" / "made", {"step": step, "loss": 4.0 / step, "grad_norm": 0.5})
    app = drawn("watch", used)
    app.multiselect(key="watched").set_value(["running", "made"]).run()
    assert not app.exception, app.exception
    drawn_of = [
        set(convert_arrow_bytes_to_pandas_df(found.proto.data.data)["run"]) for found in app.get("vega_lite_chart")
    ]
    # The loss, the gradient, and what only one of them measured.
    assert drawn_of.count({"running", "made"}) == 2
    assert {"running"} in drawn_of


def test_pause_says_so_to_the_worker(used: Path) -> None:
    app = drawn("watch", used)
    app.button(key="pause-watch-running").click().run()
    assert read_want(used / "runs" / "running") == "pause"


@pytest.mark.parametrize("state", ["paused", "failed"])
def test_a_run_that_ended_early_can_be_stopped_for_what_it_learned(used: Path, state: State) -> None:
    run = used / "runs" / "red"
    write_status(run, Status(state=state))
    # Before it began there is nothing to keep.
    assert not [one for one in drawn("runs", used, opened="red").button if one.key == "halt-runs-red"]
    (run / RUN_FILE).write_text("{}")
    app = drawn("runs", used, opened="red")
    assert f"python -m finetune keep {run}" in [code.value for code in app.code]
    app.button(key="halt-runs-red").click().run()
    assert read_want(run) == "stop"


def test_a_run_that_failed_stays_on_the_page_of_its_start_until_it_is_deleted(empty: Path) -> None:
    say = words_in("zh")
    app = drawn("train", empty)
    button(app, say.train.start).click().run()
    (job,) = jobs(empty / "runs")
    assert say.train.started.format(run=job.run) in [told.value for told in app.success]
    write_status(job.run, Status(state="failed", message="out of memory; lower max_length"))
    app.run()
    assert not app.success
    assert f"{say.why}\n\nout of memory; lower max_length" in [error.value for error in app.error]
    shutil.rmtree(job.run)
    assert not app.run().error


def followed(run: str) -> None:
    """A page that was drawn when the run was paused still."""
    from dataclasses import replace
    from pathlib import Path

    import streamlit as st

    from data.queue import read_job
    from data.runs import Status
    from ui.studio import job_card
    from ui.studio.words import words_in

    job = read_job(Path(run))
    if not st.session_state.setdefault("is-later", False):
        st.session_state["is-later"] = True
        job = replace(job, status=Status(state="paused"))
    st.text(job.status.state if job.status else "")
    job_card.follow(words_in("zh"), job, key="one")


@pytest.mark.parametrize("state", ["queued", "running", "done"])
def test_a_page_has_the_buttons_of_the_state_that_is_shown(used: Path, state: State) -> None:
    run = used / "runs" / "running"
    write_status(run, Status(state=state))
    app = AppTest.from_function(followed, default_timeout=60, kwargs={"run": str(run)}).run()
    assert [text.value for text in app.text] == [state]


def test_a_run_that_has_ended_offers_its_report_and_shows_the_page(used: Path) -> None:
    assert not drawn("watch", used).get("iframe"), "the newest run is still running"
    run = used / "runs" / "made"
    (run / "report.html").write_text("<p>all of it</p>")
    app = drawn("watch", used)
    app.multiselect(key="watched").set_value(["made"]).run()
    assert len(app.get("iframe")) == 1
    app.button(key="ask-report").click().run()
    asked = jobs(used / "runs")[-1].request
    assert asked
    assert (asked.verb, asked.words) == ("report", (str(run), "--data-dir", str(used / "sets")))


def test_what_is_measured_as_usual_lies_where_the_runs_report_looks_for_it(used: Path) -> None:
    run = used / "runs" / "made"
    (run / RUN_FILE).write_text("{}")
    app = drawn("compare", used)
    usual = f"python -m finetune compare {run}"
    assert usual in [code.value for code in app.code]
    app.segmented_control(key="way").set_value("greedy").run()
    commands = [code.value for code in app.code]
    assert usual not in commands
    assert any(command.startswith(f"{usual} --greedy --out {used / 'runs' / 'reports'}") for command in commands)
    # In a run that lies elsewhere the worker writes nothing.
    other = used / "elsewhere" / "run"
    other.mkdir(parents=True)
    (other / RUN_FILE).write_text("{}")
    app = drawn("compare", used, base=str(other), compared=str(other), measured=str(other))
    for verb in ("compare", "evaluate"):
        (command,) = [code.value for code in app.code if code.value.startswith(f"python -m finetune {verb} {other}")]
        assert f" --out {used / 'runs' / 'reports'}" in command


def test_findings_of_a_check_are_listed(used: Path) -> None:
    app = drawn("data", used)
    assert any("has no id." in str(table.value) for table in app.dataframe)


@pytest.mark.parametrize("base", ["bare", "none"])
def test_tokens_are_counted_with_the_chosen_base_and_it_is_said_with_which(base: str, used: Path) -> None:
    folder = used / "models" / base
    app = drawn("data", used, base=str(folder))
    app.button(key="ask-stats").click().run()
    job = jobs(used / "runs")[-1]
    assert job.request
    named = job.request.words[job.request.words.index("--tokenizer") + 1]
    assert named == (str(folder) if base == "bare" else "data/standin")
    (job.run / JOB_LOG).write_text(json.dumps({"splits": [], "measured_by": "its tokenizer"}) + "\n")
    write_status(job.run, Status(state="done"))
    told = words_in("zh").data.counted_with.format(name="its tokenizer")
    assert told in [caption.value for caption in app.run().caption]


@pytest.mark.parametrize("changed", ["small.json", "dataset_info.json"])
def test_what_was_told_of_a_set_before_it_was_changed_is_not_shown(changed: str, used: Path) -> None:
    checked = words_in("zh").data.found.format(errors=1, warnings=0)

    def told(app: AppTest) -> tuple[bool, bool]:
        tables = [str(table.value) for table in app.dataframe]
        return any("has no id." in table for table in tables), any(checked in table for table in tables)

    app = drawn("data", used)
    app.button(key="ask-inspect").click().run()
    inspected = jobs(used / "runs")[-1].run
    learned = {"id": "small-03", "tokens": [{"text": "好", "loss": True}]}
    (inspected / JOB_LOG).write_text(json.dumps({"conversations": [learned]}) + "\n")
    write_status(inspected, Status(state="done"))
    app.run()
    assert told(app) == (True, True)
    assert any("small-03" in found.proto.body for found in app.get("html"))
    later = (used / "sets" / changed).stat().st_mtime + 60
    os.utime(used / "sets" / changed, (later, later))
    assert told(app.run()) == (False, False)
    assert not any("small-03" in found.proto.body for found in app.get("html"))


def test_a_set_that_is_registered_anew_is_read_anew(empty: Path) -> None:
    index = empty / "sets" / "dataset_info.json"
    app = drawn("data", empty)
    bad = words_in("zh").data.bad
    assert list(app.dataframe[0].value[bad]) == [0]
    index.write_text(json.dumps({"small": {"file_name": "small.json", "formatting": "alpaca"}}))
    assert list(app.run().dataframe[0].value[bad]) == [20]


def test_a_changed_knob_is_in_the_command_and_in_the_queue(empty: Path) -> None:
    app = drawn("train", empty)
    app.number_input(key="knob-learning_rate-1").set_value(1e-4).run()
    assert any("learning_rate=0.0001" in code.value for code in app.code)
    app.text_input(key="note").set_value("schneller").run()
    start = words_in("zh").train.start
    next(button for button in app.button if button.label == start).click().run()
    (job,) = jobs(empty / "runs")
    assert job.request
    assert "learning_rate=0.0001" in job.request.words
    assert job.request.words[-2:] == ("--run", str(job.run))
    assert job.request.note == "schneller"


def button(app: AppTest, label: str) -> Any:
    return next(button for button in app.button if button.label == label)


def test_a_queued_run_trains_the_recipe_that_was_started(empty: Path) -> None:
    knobs, saved = read_knobs(), empty / "runs" / "recipes"
    values = read_values(RECIPES / "tiny.yaml", knobs)
    save(saved, "mine", values, knobs)
    app = drawn("train", empty)
    app.selectbox(key="preset").set_value("mine").run()
    app.number_input(key="knob-r-2").set_value(16).run()
    button(app, words_in("zh").train.start).click().run()
    (job,) = jobs(empty / "runs")
    assert job.request
    recipe, changed, *_ = job.request.words
    assert changed == "r=16"
    # It waits, and meanwhile another recipe is saved under the name.
    save(saved, "mine", {**values, "learning_rate": 0.5, "r": 64}, knobs, over=True)
    assert read_recipe(recipe, [changed]) == Recipe.parse({**values, "r": 16}, "shown")
    # The page shows its own values still, and says them in the command.
    later = drawn("train", empty)
    later.selectbox(key="preset").set_value("mine").run()
    assert not [code for code in later.code if recipe in code.value]


def test_an_import_of_the_same_command_again_leaves_the_recipe_that_was_made_of_it(empty: Path) -> None:
    say, knobs = words_in("zh").train, read_knobs()
    app = drawn("train", empty)
    app.text_area(key="import-command").set_value(
        "llamafactory-cli train --stage sft --dataset small --fp16 true"
    ).run()

    def convert() -> AppTest:
        app.button(key="ask-import").click().run()
        job = jobs(empty / "runs")[-1]
        assert job.request
        # What the worker runs.
        with (job.run / JOB_LOG).open("w") as log, contextlib.redirect_stderr(log):
            llamafactory.main(list(job.request.words), {})
        write_status(job.run, Status(state="done"))
        return app.run()

    captions = [caption.value for caption in convert().caption]
    assert "stage sft: 配方只做监督微调。" in captions
    assert [caption for caption in captions if caption.startswith("没有写 enable_thinking：")]
    assert not [caption for caption in captions if "is not given" in caption]
    button(app, say.import_use).click().run()
    (mine,) = (empty / "runs" / "recipes").iterdir()
    assert app.selectbox(key="preset").value == mine.stem
    values = {**read_values(mine, knobs), "r": 5}
    save(mine.parent, mine.stem, values, knobs, over=True)
    convert()
    assert read_values(mine, knobs) == values
    # Nor is it written over by saving what is converted under its name.
    button(app, say.import_use).click().run()
    assert "已经有叫" in app.error[0].value
    assert read_values(mine, knobs) == values


def test_the_same_run_is_not_started_twice_by_a_second_click(empty: Path) -> None:
    app, other = drawn("train", empty), drawn("train", empty)
    start = words_in("zh").train.start
    button(app, start).click().run()
    assert button(app, start).disabled
    # A page that does not show that yet.
    button(other, start).click().run()
    (job,) = jobs(empty / "runs")
    write_status(job.run, Status(state="done"))
    app.run()
    assert not button(app, start).disabled
    button(app, start).click().run()
    assert len(jobs(empty / "runs")) == 2


def test_an_uploaded_recipe_replaces_none_of_that_name_unasked(empty: Path) -> None:
    knobs, path = read_knobs(), empty / "runs" / "recipes" / "mine.yaml"
    values = read_values(RECIPES / "tiny.yaml", knobs)
    app = drawn("train", empty)
    app.file_uploader(key="load").upload("mine.yaml", as_yaml(values).encode()).run()
    assert app.selectbox(key="preset").value == "mine"
    app.file_uploader(key="load").upload("recipe (1).yaml", as_yaml(values).encode()).run()
    assert app.selectbox(key="preset").value == "recipe-1"
    other = as_yaml({**values, "r": 5}).encode()
    app.file_uploader(key="load").upload("mine.yaml", other).run()
    assert [error.value for error in app.error] == ['已经有叫 "mine" 的配方了，值不一样；请换个名字，或选择替换。']
    assert read_values(path, knobs) == values
    app.checkbox(key=f"over-{app.session_state['draft-number']}").check().run()
    assert not app.error
    assert read_values(path, knobs)["r"] == 5
    # The next one is asked about again.
    assert not app.checkbox(key=f"over-{app.session_state['draft-number']}").value


def test_a_run_of_a_terminal_has_no_buttons_that_nobody_hears(used: Path) -> None:
    run = used / "runs" / "by-hand"
    run.mkdir()
    (run / RUN_FILE).write_text("{}")
    write_status(run, Status(state="running", pid=7))
    # One that was asked for here, and goes on there.
    write_status(used / "runs" / "running", Status(state="running", pid=8))
    app = drawn("watch", used)
    for name, line in (("by-hand", "kill -INT 7"), ("running", "kill -INT 8")):
        app.multiselect(key="watched").set_value([name]).run()
        labels = {button.label for button in app.button}
        assert not labels & {words_in("zh").train.pause, words_in("zh").train.stop}
        assert line in [code.value for code in app.code]


@pytest.mark.parametrize("page", ["base", "data", "train", "compare", "export"])
@pytest.mark.parametrize("name", ["~no-such-person/base", "x" * 300])
def test_a_base_that_cannot_be_looked_into_breaks_no_page(page: str, name: str, empty: Path) -> None:
    app = drawn(page, empty, base=name)
    assert all(error.value.startswith(f"{name}：打不开") for error in app.error)
    # On the page Data beside the loss mask and beside the count of tokens.
    assert len(app.error) == {"base": 1, "data": 2}.get(page, 0)


def test_figures_of_before_a_run_went_on_are_not_shown(used: Path) -> None:
    run = used / "runs" / "made"
    (run / RUN_FILE).write_text("{}")
    (run / "evaluation.md").write_text("# Evaluation of runs/made\n")
    (run / "report.html").write_text("<p>all of it</p>")
    app = drawn("compare", used)
    app.button(key="ask-evaluate").click().run()
    job = next(job.run for job in jobs(used / "runs") if job.request and job.request.verb == "evaluate")
    write_status(job, Status(state="done"))
    shown = "# runs/made 的评测"
    assert shown in [text.value for text in app.run().markdown]
    watched = drawn("watch", used)
    watched.multiselect(key="watched").set_value(["made"]).run()
    assert watched.get("iframe")
    later = (run / ADAPTER).stat().st_mtime + 60
    os.utime(run / ADAPTER, (later, later))
    assert shown not in [text.value for text in app.run().markdown]
    assert not app.button(key="ask-evaluate").disabled
    assert not watched.run().get("iframe")


def test_a_merged_model_is_measured_before_its_tuning_where_its_base_is_here(used: Path) -> None:
    base = str(used / "models" / "bare")
    made = make_sealed(used / "models" / "tuned", read_contract(base_model=base))
    app = drawn("compare", used)
    for model, before in ((made, f" --base {base} "), (used / "models" / "done", " ")):
        app.selectbox(key="measured").set_value(str(model)).run()
        wanted = f"python -m finetune evaluate {model}{before}--data-dir"
        assert [code.value for code in app.code if code.value.startswith(wanted)]


def test_a_model_that_was_merged_before_its_run_went_on_is_not_taken_for_the_runs(used: Path) -> None:
    run, base = used / "runs" / "made", str(used / "models" / "bare")
    (run / RUN_FILE).write_text("{}")
    weights = run / ADAPTER / "adapter_model.safetensors"
    weights.write_bytes(b"1")
    folder = make_sealed(used / "models" / "made", read_contract(base_model=base))
    seal = json.loads((folder / SEAL_FILE).read_text())
    seal["provenance"] = {"run": "made", ADAPTER: {weights.name: sha256(weights)}}
    (folder / SEAL_FILE).write_text(json.dumps(seal))
    older = words_in("zh").export.is_older.format(run="made")

    def shown() -> tuple[bool, bool, bool]:
        compare, export = drawn("compare", used), drawn("export", used, model="made")
        command = f"python -m finetune compare {run} --merged {folder}"
        return (
            command in [code.value for code in compare.code],
            str(folder) in compare.multiselect(key="live-models").value,
            older in [told.value for told in export.warning],
        )

    assert shown() == (True, True, False)
    # It goes on, and writes its adapter anew.
    shutil.rmtree(run / ADAPTER)
    (run / ADAPTER).mkdir()
    weights.write_bytes(b"2")
    assert shown() == (False, False, True)


def test_the_model_that_is_served_is_not_merged_over(used: Path) -> None:
    app = drawn("export", used)
    name = app.text_input(key="merge-name-made")
    assert not app.button(key="ask-merge").disabled
    name.set_value("done").run()
    assert app.button(key="ask-merge").disabled
    assert words_in("zh").export.is_served in [told.value for told in app.info]


def test_only_the_model_that_is_served_is_said_to_be(used: Path) -> None:
    say, link = words_in("zh"), used / "models" / "current"
    make_sealed(used / "models" / "other")

    def promote(name: str) -> AppTest:
        app = drawn("export", used)
        app.selectbox(key="model").set_value(name).run()
        app.button(key="ask-promote").click().run()
        job = jobs(used / "runs")[-1].run
        link.unlink()
        link.symlink_to(name)
        write_status(job, Status(state="done"))
        return app.run()

    def told(app: AppTest) -> tuple[bool, bool]:
        badges = [text.value for text in app.markdown if say.states["done"] in text.value]
        return say.export.restart in [text.value for text in app.markdown], bool(badges)

    link.unlink()
    link.symlink_to("nothing")
    assert told(promote("done")) == (True, True)
    app = promote("other")
    assert told(app) == (True, True)
    app.selectbox(key="model").set_value("done").run()
    assert told(app) == (False, False)
    assert not app.button(key="ask-promote").disabled


def test_a_large_archive_is_fetched_past_the_page(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = used / "models" / "done.tar"
    app = drawn("export", used)
    app.button(key="ask-archive").click().run()
    job = next(job.run for job in jobs(used / "runs") if job.request and job.request.verb == "archive")
    made.write_bytes(b"0" * 1000)
    write_status(job, Status(state="done"))
    assert app.run().get("download_button")
    monkeypatch.setattr(export_page, "MOST_BYTES", 999)
    assert not app.run().get("download_button")
    assert f"docker compose cp studio:{made} ." in [code.value for code in app.code]


def test_a_run_under_way_shows_a_box_for_each_command(used: Path) -> None:
    write_status(used / "runs" / "running", Status(state="running", pid=7))
    commands = [code.value for code in drawn("watch", used).code]
    assert "kill -INT 7" in commands
    assert [command for command in commands if command.endswith(f"finetune keep {used / 'runs' / 'running'}")]


def test_the_list_of_jobs_is_filtered(used: Path) -> None:
    say = words_in("zh").runs
    app = drawn("runs", used)

    def listed() -> set[str]:
        return set(app.dataframe[0].value[say.run])

    assert listed() == {"running", "made", "red", "check", "damaged"}
    app.text_input(key="runs-search").set_value("试一试").run()
    assert listed() == {"running"}
    app.text_input(key="runs-search").set_value("DATA CHECK").run()
    assert listed() == {"check"}
    app.text_input(key="runs-search").set_value("").run()
    app.multiselect(key="runs-state").set_value(["failed"]).run()
    assert listed() == {"red", "check", "damaged"}
    app.segmented_control(key="runs-only").set_value("train").run()
    assert listed() == {"red"}
    app.multiselect(key="runs-state").set_value([]).run()
    assert listed() == {"running", "made", "red"}


def test_a_set_is_searched(empty: Path) -> None:
    say = words_in("zh").data
    app = drawn("data", empty)

    def told(found: int) -> bool:
        return any(
            caption.value.startswith(say.counted.split("{train}")[0].format(found=found)) for caption in app.caption
        )

    assert told(20)
    app.text_input(key="search").set_value("small-07").run()
    assert told(1)
    assert len([caption for caption in app.caption if "small-07" in caption.value]) == 1
    app.text_input(key="search").set_value("nowhere").run()
    assert told(0)


def test_a_set_is_looked_at_by_topic_and_by_side_and_only_answers_have_the_colour_of_what_is_learned(
    empty: Path,
) -> None:
    file = empty / "sets" / "small.json"
    records = [{**one, "topic": ("sky", "sea")[row % 2]} for row, one in enumerate(json.loads(file.read_text()))]
    file.write_text(json.dumps(records, ensure_ascii=False))
    held_out = {one.id for one in conversations("small", empty / "sets")[0] if is_validation(one, 0.5)}
    app = drawn("data", empty)

    def shown() -> set[str]:
        return {word for caption in app.caption for word in caption.value.split(" · ") if word.startswith("small-")}

    app.selectbox(key="topic").set_value("sky").run()
    app.slider(key="share").set_value(0.5).run()
    of_topic = {one["id"] for one in records if one["topic"] == "sky"}
    sides = {"validation": of_topic & held_out, "train": of_topic - held_out}
    assert 0 < len(sides["validation"]) < len(of_topic)
    for side, expected in sides.items():
        app.segmented_control(key="side").set_value(side).run()
        assert shown() == expected, side
    blocks = [block for found in app.get("html") for block in found.proto.body.split('<div class="said ')[1:]]
    asks, answers = ([block for block in blocks if block.startswith(side)] for side in ("asks", "answers"))
    assert len(answers) == len(sides["train"])
    assert not [block for block in asks if 'class="learned"' in block]
    by_id = {one["id"]: one["conversations"][1]["value"] for one in records}
    for block in answers:
        learned = re.findall(r'<span class="learned">(.*?)</span>', block, re.DOTALL)
        assert [html.unescape(text).removesuffix("<|im_end|>") in by_id.values() for text in learned] == [True]


GOOD = [{"from": "human", "value": "为什么天空是蓝色的？"}, {"from": "gpt", "value": "空气把蓝色的光撒得到处都是。"}]


def written(*turns: dict[str, str]) -> bytes:
    """A file of one conversation."""
    return json.dumps([{"conversations": turns or GOOD}], ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (written()[:-20], "第 1 行不是合法的 JSON"),
        (written()[:-1] + b', {"conv', "第 1 行不是合法的 JSON"),
        (b'{"a": 1}', "应当是一个列表"),
        (written({**GOOD[0], "from": "humam"}, GOOD[1]), '是不是 "human"'),
        (written(GOOD[0], GOOD[0], GOOD[1]), "连着两句都是"),
        (written(GOOD[0]), "请补上回答"),
        (b"", "里面没有记录"),
        (b"[]", "里面没有记录"),
        (written({**GOOD[0], "value": ""}, GOOD[1]), "是空的"),
        (written({**GOOD[0], "value": "为什么？" * 3000}, GOOD[1]), "请缩短这一句"),
        (written().decode().encode("gb18030"), "不是 UTF-8"),
        (written().decode().encode("utf-16"), "不是 UTF-8"),
        (written({**GOOD[0], "value": "我的电话是 13907315562"}, GOOD[1]), "手机号"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_sentence_and_registers_nothing(empty: Path, content: bytes, sentence: str) -> None:
    before = {path.name: path.read_bytes() for path in (empty / "sets").iterdir()}
    app = drawn("data", empty)
    app.file_uploader(key="upload").upload("mine.json", content).run()
    app.button(key="ask-add").click().run()
    (job,) = jobs(empty / "runs")
    assert job.request
    assert job.request.words[0] == "add"
    # What the worker runs, and tells of it.
    with pytest.raises(BadInput) as refused:
        add.main(list(job.request.words[1:]), {})
    write_status(job.run, Status(state="failed", message=str(refused.value)))
    (error,) = app.run().error
    assert sentence in error.value
    assert not re.search("[a-z]+ [a-z]+ [a-z]+", error.value), error.value
    assert {path.name: path.read_bytes() for path in (empty / "sets").iterdir()} == before
    assert not app.success


def test_a_live_question_is_sampled_as_the_contract_says_or_freely(used: Path) -> None:
    app = drawn("compare", used)
    model, sampling = str(used / "models" / "done"), read_contract().sampling
    app.multiselect(key="live-models").set_value([model]).run()
    app.text_input(key="live-question").set_value("天为什么是蓝的？")
    next(button for button in app.button if button.label == words_in("zh").compare.ask).click().run()
    app.segmented_control(key="live-mode").set_value("on").run()

    def asked() -> str:
        (command,) = [code.value for code in app.code if code.value.startswith(f"python -m finetune chat {model}")]
        return command.partition("？' ")[2]

    assert asked() == "--thinking --seed 42 --json"
    app.segmented_control(key="live-way").set_value("free").run()
    # From the contract's values on.
    free = f"--temperature {sampling.temperature:g} --top-p {sampling.top_p:g} --max-tokens {sampling.max_tokens}"
    assert asked() == f"--thinking --seed 42 --json {free}"
    app.slider(key="temperature").set_value(1.0).run()
    assert "--temperature 1 " in asked()


def test_how_a_run_goes_is_told_in_the_readers_language(used: Path) -> None:
    write_status(used / "runs" / "running", Status(state="paused", message="paused by a person"))
    told: dict[Language, str] = {"zh": "由人暂停，可以继续", "en": "paused by a person"}
    for language, shown in told.items():
        assert shown in [caption.value for caption in drawn("watch", used, language).caption]
    write_status(used / "runs" / "running", Status(state="paused", message="something that no table knows"))
    assert "something that no table knows" in [caption.value for caption in drawn("watch", used).caption]


def test_a_download_is_weighed_against_the_disk_that_it_goes_to(empty: Path) -> None:
    # A file system of its own, which is always full.
    (empty / "hub").symlink_to("/proc")
    app = drawn("base", empty)
    app.selectbox(key="base").set_value("Qwen/Qwen3-0.6B").run()
    say = words_in("zh").base
    assert {metric.label: metric.value for metric in app.metric}[say.disk_free] == "0 B"
    assert say.disk_short.format(needed="1.5 GB", free="0 B") in [error.value for error in app.error]


@pytest.mark.parametrize("end", ["failed", "stopped"])
def test_a_live_question_that_got_no_answer_can_be_asked_again(end: State, used: Path) -> None:
    app = drawn("compare", used)
    app.multiselect(key="live-models").set_value([str(used / "models" / "done")]).run()

    def ask() -> list[Path]:
        app.text_input(key="live-question").set_value("天为什么是蓝的？")
        next(button for button in app.button if button.label == words_in("zh").compare.ask).click().run()
        assert not app.exception, app.exception
        return [job.run for job in jobs(used / "runs") if job.request and job.request.verb == "chat"]

    (first,) = ask()
    assert ask() == [first], "it waits already"
    write_status(first, Status(state=end))
    second = next(run for run in ask() if run != first)
    write_status(second, Status(state="done"))
    assert len(ask()) == 2, "it is answered"


def test_every_page_shows_the_run_just_begun_and_the_model_just_made(used: Path) -> None:
    older = str(used / "runs" / "made")
    app = drawn("watch", used)
    app.multiselect(key="watched").set_value(["made"]).run()
    assert turned_to(app, "compare").selectbox(key="compared").set_value(older).run().selectbox(key="measured")
    turned_to(app, "export").selectbox(key="model").set_value("done").run()
    assert app.selectbox(key="merge-run").set_value(older).run().selectbox(key="merge-run").value == older
    turned_to(app, "train").text_input(key="note").set_value("neu").run()
    next(button for button in app.button if button.label == words_in("zh").train.start).click().run()
    run = next(job.run for job in jobs(used / "runs") if job.request and job.request.note == "neu")
    assert turned_to(app, "watch").multiselect(key="watched").value == [run.name]
    assert turned_to(app, "runs").selectbox(key="opened").value == run.name
    # There is nothing to merge or to compare yet; then there is.
    assert turned_to(app, "export").selectbox(key="merge-run").value == older
    assert turned_to(app, "compare").selectbox(key="compared").value == older
    (run / ADAPTER).mkdir()
    assert app.run().selectbox(key="compared").value == str(run)
    assert turned_to(app, "export").selectbox(key="merge-run").value == str(run)
    app.button(key="ask-merge").click().run()
    assert app.selectbox(key="model").value == "done"
    make_sealed(used / "models" / run.name)
    assert app.run().selectbox(key="model").value == run.name
    # What a person chooses after that holds, and one who goes on with a run beside others keeps them beside it.
    app.selectbox(key="model").set_value("done").run()
    turned_to(app, "watch").multiselect(key="watched").set_value([run.name, "red"]).run()
    app.button(key="resume-watch-red").click().run()
    assert turned_to(app, "export").selectbox(key="model").value == "done"
    assert turned_to(app, "watch").multiselect(key="watched").value == [run.name, "red"]


def whole() -> None:
    """The studio as it is served."""
    from ui.studio import app

    app.main()


@pytest.fixture
def served(empty: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """A studio in which nothing has been done yet, with its password given."""
    for name, folder in (("RUNS", "runs"), ("MODELS", "models"), ("DATA", "sets"), ("RECIPES", "recipes")):
        monkeypatch.setenv(f"MINDPAL_{name}", str(empty / folder))
    app = AppTest.from_function(whole, default_timeout=60)
    app.session_state["studio_open"] = True
    return app.run()


def test_a_full_disk_is_one_sentence_and_leaves_nothing_behind(served: AppTest, empty: Path) -> None:
    say = words_in("zh")
    with full_disk():
        served.button(key="ask-check").click().run()
    assert not served.exception, served.exception
    assert [error.value for error in served.error] == [say.disk_full]
    assert not jobs(empty / "runs")
    with full_disk():
        served.file_uploader(key="upload").upload("mine.json", written()).run()
    assert not served.exception, served.exception
    assert [error.value for error in served.error] == [say.disk_full]
    assert not list((empty / "runs" / "uploads").iterdir())


def test_a_set_just_registered_is_the_one_looked_at(used: Path) -> None:
    app = drawn("data", used)
    app.file_uploader(key="upload").upload("mine.json", (used / "sets" / "small.json").read_bytes()).run()
    app.button(key="ask-add").click().run()
    assert app.selectbox(key="set").value == "small"
    (job,) = [job.run for job in jobs(used / "runs") if job.request and job.request.words[0] == "add"]
    write_status(job, Status(state="done"))
    index = json.loads((used / "sets" / "dataset_info.json").read_text())
    (used / "sets" / "dataset_info.json").write_text(json.dumps({**index, "mine": index["small"]}))
    assert app.run().selectbox(key="set").value == "mine"
    # By this file, and not by another one.
    say = words_in("zh").data
    assert [told.value for told in app.success] == [say.added.format(name="mine")]
    assert not app.info
    app.file_uploader(key="upload").upload("mine.json", written()).run()
    assert say.taken.format(name="mine") in [told.value for told in app.info]


def test_a_file_is_registered_under_the_name_that_the_page_proposes(empty: Path) -> None:
    app = drawn("data", empty)
    app.file_uploader(key="upload").upload("小班-chat.json", written()).run()
    assert not app.error
    app.button(key="ask-add").click().run()
    (job,) = jobs(empty / "runs")
    assert job.request
    # What the worker runs.
    add.main(list(job.request.words[1:]), {})
    assert datasets_in(empty / "sets") == ["small", "chat"]
    (name,) = [box for box in app.text_input if box.value == "chat"]
    name.set_value("-chat").run()
    assert [error.value for error in app.error] == [words_in("zh").data.bad_name]


def test_a_set_that_was_registered_by_mistake_is_taken_out_again(empty: Path) -> None:
    say = words_in("zh").data
    (empty / "sets" / "child_chat.json").write_bytes(written())
    index = {name: {"file_name": f"{name}.json", "formatting": "sharegpt"} for name in ("small", "child_chat")}
    (empty / "sets" / "dataset_info.json").write_text(json.dumps(index))
    app = drawn("data", empty)
    assert say.remove_sure.format(name="small") in [text.value for text in app.markdown]
    app.button(key="ask-remove").click().run()
    (job,) = jobs(empty / "runs")
    assert job.request
    check_request(job.run, job.request, Places(empty / "runs", empty / "models", empty / "sets"))
    remove.main(list(job.request.words[1:]), {})
    write_status(job.run, Status(state="done"))
    assert app.run().selectbox(key="set").options == ["child_chat"]
    # The project's own stay.
    assert not [one for one in app.button if one.key == "ask-remove"]
    assert not (empty / "sets" / "small.json").exists()


def test_a_wrong_knob_starts_nothing(empty: Path) -> None:
    app = drawn("train", empty)
    app.number_input(key="knob-learning_rate-1").set_value(2.0).run()
    assert any("> 0 < 1" in error.value for error in app.error)
    say = words_in("zh").train
    assert next(button for button in app.button if button.label == say.start).disabled
    # Beside the button, too: its own place may be folded up.
    assert "learning_rate: 应当 > 0 < 1" in [error.value for error in app.error]


def test_only_a_knob_that_may_be_empty_says_so(empty: Path) -> None:
    app, empty_word = drawn("train", empty), words_in("zh").train.none
    shown = {found.key: found.proto.placeholder for found in app.number_input}
    for knob in read_knobs():
        if knob.kind in ("whole", "number"):
            assert (shown[f"knob-{knob.name}-1"] == empty_word) == knob.optional, knob.name


@pytest.mark.parametrize("code", ["", "坏", "right"])
def test_the_first_password_is_set_by_whoever_has_the_code(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINDPAL_STUDIO_PASSWORD_FILE", str(tmp_path / "password.json"))
    monkeypatch.setenv("MINDPAL_STUDIO_CODE", "right")
    app = AppTest.from_function(whole, default_timeout=60)
    app.query_params["code"] = code
    app.run()
    assert not app.exception, app.exception
    assert bool(app.text_input) == (code == "right")


def test_another_recipe_shows_its_own_values(empty: Path) -> None:
    app = drawn("train", empty)
    app.selectbox(key="preset").set_value("tiny").run()
    assert app.number_input(key="knob-r-2").value == 32
    assert any(re.search(r"uploads/[0-9a-f]{12}-tiny\.yaml", code.value) for code in app.code)
