"""The studio's logic: its password, its knobs, its jobs, what it counts and colours. Run: `pytest tests/ui/test_studio.py`."""

import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from data.contract import read_contract
from data.conversations import DATA_DIR, Turn, datasets_in
from data.queue import JOB_LOG, Request, Verb, jobs, read_job, read_request, write_request, write_want
from data.runs import Status, write_status
from data.strict import BadInput
from finetune.base import find_base
from finetune.recipe import RECIPES, Recipe, read_recipe
from tests.finetune.small_runs import make_data
from tests.small_models import make_base
from tests.ui.conftest import ROOT
from ui.pin import Locked, Opened, Wrong
from ui.studio import password
from ui.studio.bases import folder_of, found_bases, headers, holds, is_here, memory_to_load
from ui.studio.jobs import (
    Asked,
    answer_of,
    by_hand,
    delete,
    is_moving,
    is_started,
    is_training,
    keep_upload,
    latest,
    queue,
    queue_training,
    state_of,
    tail,
    weights_since,
)
from ui.studio.knobs import (
    as_yaml,
    name_of,
    overrides,
    read_knobs,
    read_values,
    reasons,
    recipes,
    save,
    values_of,
    wrong_with,
)
from ui.studio.look import coloured
from ui.studio.measures import count, curve, duration, last, size, smoothed
from ui.studio.password import PasswordFile
from ui.studio.sets import Span, counted, read_set, search, sets_since, spans
from ui.studio.settings import settings_from
from ui.studio.words import words_in

PASSWORD = "correct-horse"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


# the door


@pytest.fixture
def secret(tmp_path: Path) -> PasswordFile:
    opened = PasswordFile(tmp_path / "secret" / "password.json")
    opened.change(PASSWORD)
    return opened


def test_only_a_hash_of_the_password_is_kept_for_its_owner_alone(secret: PasswordFile) -> None:
    assert PASSWORD not in secret.file.read_text()
    assert "$argon2id$" in secret.file.read_text()
    assert stat.S_IMODE(secret.file.stat().st_mode) == 0o600
    assert secret.check(PASSWORD, NOW) == Opened()


def test_wrong_tries_lock_the_studio_for_longer_and_longer(secret: PasswordFile) -> None:
    assert [secret.check("nothing", NOW) for _ in range(4)] == [Wrong(4), Wrong(3), Wrong(2), Wrong(1)]
    assert secret.check("nothing", NOW) == Locked(NOW + timedelta(minutes=1))
    assert isinstance(secret.check(PASSWORD, NOW), Locked)
    later = NOW + timedelta(minutes=2)
    assert secret.check("nothing", later) == Locked(later + timedelta(minutes=2))
    assert secret.check(PASSWORD, NOW + timedelta(hours=1)) == Opened()
    assert secret.check("nothing", NOW + timedelta(hours=1)) == Wrong(4)


def test_many_tries_at_once_are_not_more_than_one_after_another(secret: PasswordFile) -> None:
    verdicts: list[Opened | Wrong | Locked] = []
    threads = [threading.Thread(target=lambda: verdicts.append(secret.check("nothing", NOW))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(verdict, Wrong) for verdict in verdicts) == 4


def test_a_login_under_way_does_not_undo_a_new_password(secret: PasswordFile, monkeypatch: pytest.MonkeyPatch) -> None:
    other = PASSWORD[::-1]
    fits = password._fits

    def set_meanwhile(stored: str, typed: str, file: Path) -> bool:
        monkeypatch.setattr(password, "_fits", fits)
        secret.change(other)
        return fits(stored, typed, file)

    monkeypatch.setattr(password, "_fits", set_meanwhile)
    assert secret.check(PASSWORD, NOW) == Wrong(4), "what was right when it was typed is not right any more"
    assert secret.check(other, NOW) == Opened()


def test_a_simple_password_changes_nothing(secret: PasswordFile) -> None:
    for simple in ("short", "aaaaaaaaaaaa"):
        with pytest.raises(BadInput, match="nothing was changed"):
            secret.change(simple)
    assert secret.check(PASSWORD, NOW) == Opened()


def test_a_damaged_secret_is_one_sentence(secret: PasswordFile) -> None:
    secret.file.write_text('{"hash": "none"}')
    with pytest.raises(BadInput, match="holds no argon2 hash"):
        secret.check(PASSWORD, NOW)


def test_the_command_line_sets_the_password_and_starts_nothing_on_a_taken_port(tmp_path: Path) -> None:
    environment = {"MINDPAL_STUDIO_PASSWORD_FILE": str(tmp_path / "password.json")}

    def run(*words: str, typed: str = "") -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "ui.studio", *words]
        return subprocess.run(command, cwd=ROOT, env=environment, input=typed, capture_output=True, text=True)

    refused = run("--new-password", typed="short\n")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert run("--new-password", typed=f"{PASSWORD}\n").returncode == 0
    assert PasswordFile(tmp_path / "password.json").check(PASSWORD) == Opened()
    taken = run("--host", "no.such.host.invalid")
    assert (taken.returncode, taken.stderr.count("\n")) == (2, 1)


def test_a_childs_page_carries_nothing_of_the_studio() -> None:
    files = [*(ROOT / "ui" / "companion").rglob("*.py"), *(ROOT / "ui").glob("*.py")]
    assert len(files) > 20
    for path in files:
        assert "ui.studio" not in path.read_text(encoding="utf-8"), path
    code = "import sys, ui.studio.__main__; print(sorted(set(sys.modules) & {'torch', 'streamlit', 'finetune'}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_settings_name_what_the_trainer_would_not_find_by_itself() -> None:
    assert settings_from({}).data_words == ()
    given = settings_from({"MINDPAL_DATA": "sets", "HF_HOME": "/hub", "MINDPAL_RUNS": "r"})
    assert given.data_words == ("--data-dir", "sets")
    assert (given.hub, given.saved) == (Path("/hub/hub"), Path("r/recipes"))


# knobs


def test_the_knobs_are_the_recipes() -> None:
    knobs = {knob.name: knob for knob in read_knobs()}
    assert knobs.keys() == Recipe.model_fields.keys()
    assert knobs["method"].choices == ("lora", "qlora", "full")
    assert (knobs["max_steps"].optional, knobs["max_steps"].kind, knobs["max_steps"].least) == (True, "whole", 1)
    assert knobs["learning_rate"].range == "> 0 < 1"
    assert {knob.kind for knob in knobs.values()} == {"list", "choice", "switch", "whole", "number"}


def test_every_shipped_recipe_shows_the_values_that_the_trainer_reads() -> None:
    knobs = read_knobs()
    found = recipes(RECIPES)
    assert {"mindpal", "tiny"} <= found.keys()
    for name, path in found.items():
        assert Recipe.parse(read_values(path, knobs), name) == read_recipe(name)
        assert Recipe.parse(yaml.safe_load(as_yaml(read_values(path, knobs))), name) == read_recipe(name)


def test_what_is_changed_becomes_the_words_that_do_the_same(tmp_path: Path) -> None:
    knobs = read_knobs()
    before = read_values(recipes(RECIPES)["mindpal"], knobs)
    changes = {
        "dataset": ["mine"], "learning_rate": 1e-4, "max_samples": None, "packing": False, "r": 16,
        "target_modules": ("q_proj", "v_proj"), "neftune_noise_alpha": None, "method": "full",
    }  # fmt: skip
    after = {**before, **changes}
    words = overrides(before, after)
    assert "learning_rate=0.0001" in words
    assert {word.partition("=")[0] for word in words} == changes.keys()
    assert read_recipe("mindpal", words) == Recipe.parse(after, "after")
    assert overrides(before, dict(before)) == []


def test_reasons_are_the_comments_above_a_key() -> None:
    why = reasons(recipes(RECIPES)["mindpal"])
    assert why["val_size"].startswith("One conversation in ten is never trained on")
    assert "packing" not in reasons(recipes(RECIPES)["tiny"])


def test_every_value_of_the_shipped_recipe_has_its_reason() -> None:
    path = recipes(RECIPES)["mindpal"]
    assert reasons(path).keys() == yaml.safe_load(path.read_text(encoding="utf-8")).keys()


def test_a_saved_recipe_is_found_again_and_takes_no_shipped_name(tmp_path: Path) -> None:
    knobs = read_knobs()
    values = read_values(recipes(RECIPES)["tiny"], knobs)
    path = save(tmp_path / "recipes", "mine", values, knobs, tuple(recipes(RECIPES)))
    assert recipes(RECIPES, tmp_path / "recipes")["mine"] == path
    assert read_recipe(str(path)) == read_recipe("tiny")
    for bad in ("../mine", ".mine", "", "a b"):
        with pytest.raises(BadInput, match="no name for a recipe"):
            save(tmp_path / "recipes", bad, values, knobs)
    with pytest.raises(BadInput, match="comes with MindPal"):
        save(tmp_path / "recipes", "tiny", values, knobs, tuple(recipes(RECIPES)))


def test_a_recipe_is_named_by_its_file() -> None:
    files = ("mine.yaml", "recipe (1).yaml", "我的 配方.yml", ".a/../b.yaml", f"{'x' * 90}.yaml")
    names = [name_of(file) for file in files]
    assert names == ["mine", "recipe-1", "我的-配方", "a-..-b", "x" * 60]


def test_a_recipe_with_other_values_is_replaced_only_where_that_is_wanted(tmp_path: Path) -> None:
    knobs = read_knobs()
    values = read_values(recipes(RECIPES)["tiny"], knobs)
    path = save(tmp_path, "mine", values, knobs)
    assert save(tmp_path, "mine", dict(values), knobs) == path
    with pytest.raises(BadInput, match="is a recipe of yours already, with other values"):
        save(tmp_path, "mine", {**values, "r": 5}, knobs)
    assert read_values(path, knobs) == values
    save(tmp_path, "mine", {**values, "r": 5}, knobs, over=True)
    assert read_values(path, knobs)["r"] == 5
    path.write_text("r: [")
    save(tmp_path, "mine", values, knobs, over=True)
    assert read_values(path, knobs) == values


def test_a_bad_recipe_is_one_sentence() -> None:
    knobs = read_knobs()
    values = read_values(recipes(RECIPES)["tiny"], knobs)
    with pytest.raises(BadInput, match='unknown key "learing_rate"; did you mean "learning_rate"'):
        values_of({**values, "learing_rate": 1}, knobs, "x")
    with pytest.raises(BadInput, match='"r" is 0: it has to be ≥ 1'):
        values_of({**values, "r": 0}, knobs, "x")
    with pytest.raises(BadInput, match='the key "dataset" is missing'):
        values_of({name: value for name, value in values.items() if name != "dataset"}, knobs, "x")
    by_name = {knob.name: knob for knob in knobs}
    assert wrong_with(by_name["learning_rate"], 1.0)
    assert wrong_with(by_name["seed"], None)
    assert not wrong_with(by_name["max_steps"], None)


# jobs


def test_a_job_is_found_again_by_its_command(tmp_path: Path) -> None:
    asked = Asked("data", ("check", "mine", "--json"), "check-mine")
    assert asked.command == "python -m finetune data check mine --json"
    first, second = queue(tmp_path, asked), queue(tmp_path, asked)
    write_request(first, Request(verb="data", words=asked.words, created="2026-01-01T00:00:00.000+00:00"))
    found = latest(jobs(tmp_path), "data", asked.words)
    assert found
    assert found.run == second
    assert latest(jobs(tmp_path), "data", ("check", "other", "--json")) is None


def test_a_job_of_before_the_weights_counts_no_more(tmp_path: Path) -> None:
    run = tmp_path / "made"
    (run / "adapter").mkdir(parents=True)
    job = queue(tmp_path, Asked("evaluate", (str(run),), "evaluate"))

    def newest() -> Path | None:
        found = latest(jobs(tmp_path), "evaluate", (str(run),), weights_since(run))
        return found.run if found else None

    write_status(job, Status(state="done"))
    assert newest() == job
    later = (run / "adapter").stat().st_mtime + 60
    os.utime(run / "adapter", (later, later))
    assert newest() is None
    # One that waits or runs will be of the weights that are there then.
    write_status(job, Status(state="running"))
    assert newest() == job
    write_status(job, Status(state="done"))
    shutil.rmtree(run / "adapter")
    assert (newest(), weights_since(run), weights_since(Path("x" * 300))) == (job, "", "")


def test_the_same_run_is_started_once_at_a_time(tmp_path: Path) -> None:
    words = ["mindpal", "r=4", "--base", "b"]
    run = queue_training(tmp_path, words, "mindpal", "")
    assert is_started(jobs(tmp_path), words)
    assert not is_started(jobs(tmp_path), ["mindpal", "--base", "b"])
    for state in ("running", "paused", "done"):
        write_status(run, Status(state=state))
        assert is_started(jobs(tmp_path), words) == (state == "running")


def test_a_run_trains_in_its_own_folder_and_a_plan_is_no_run(tmp_path: Path) -> None:
    run = queue_training(tmp_path, ["mindpal", "r=4"], "mindpal", "第一次")
    request = read_request(run)
    assert (request.words, request.note) == (("mindpal", "r=4", "--run", str(run)), "第一次")
    assert is_training(read_job(run))
    plan = queue(tmp_path, Asked("train", ("mindpal", "--plan", "--json"), "plan"))
    assert not is_training(read_job(plan))


def test_what_a_job_told_is_read_from_its_end(tmp_path: Path) -> None:
    told = 'a warning\n{"broken\n{"errors": 2, "findings": []}\nfetching: 3 of 9\rfetching: 9 of 9\n'
    (tmp_path / JOB_LOG).write_text(told)
    assert answer_of(tmp_path) == {"errors": 2, "findings": []}
    assert tail(tmp_path / JOB_LOG, 1) == "fetching: 9 of 9"
    # What a model says may hold what ends a line elsewhere.
    said = {"answer": "a\u2028b"}
    (tmp_path / JOB_LOG).write_text(told + json.dumps(said, ensure_ascii=False) + "\n")
    assert answer_of(tmp_path) == said
    assert answer_of(tmp_path / "none") is None
    assert tail(tmp_path / "none", 3) == ""


def test_a_job_under_way_is_not_deleted(tmp_path: Path) -> None:
    run = queue(tmp_path, Asked("merge", ("runs/x",), "merge"))
    with pytest.raises(BadInput, match="stop it before it is deleted"):
        delete(read_job(run))
    write_status(run, Status(state="failed"))
    delete(read_job(run))
    assert not run.exists()
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "status.json").write_text("{")
    assert state_of(read_job(damaged)) == "failed"
    delete(read_job(damaged))
    assert not damaged.exists()


def test_a_paused_run_moves_again_from_the_click_on(tmp_path: Path) -> None:
    run = queue_training(tmp_path, ["mindpal"], "mindpal", "")
    assert is_moving(read_job(run))
    write_status(run, Status(state="paused"))
    assert not is_moving(read_job(run))
    write_want(run, "run")
    assert is_moving(read_job(run))


def test_what_a_terminal_would_do_with_a_run(tmp_path: Path) -> None:
    run = queue_training(tmp_path, ["mindpal"], "mindpal", "")
    assert by_hand(read_job(run)) == {}
    write_status(run, Status(state="running", pid=7))
    waits = "while kill -0 7 2>/dev/null; do sleep 1; done"
    assert by_hand(read_job(run)) == {
        "pause": "kill -INT 7",
        "stop": f"kill -INT 7; {waits}; python -m finetune keep {run}",
    }
    write_status(run, Status(state="failed"))
    assert by_hand(read_job(run)) == {"resume": f"python -m finetune train mindpal --run {run}"}
    (run / "run.json").write_text("{}")
    assert by_hand(read_job(run))["resume"].endswith(" --resume")


def test_a_run_that_was_begun_in_a_terminal_is_ended_there(tmp_path: Path) -> None:
    run = tmp_path / "by-hand"
    run.mkdir()
    write_status(run, Status(state="running", pid=7))
    assert by_hand(read_job(run))["pause"] == "kill -INT 7"
    assert by_hand(read_job(run))["stop"].endswith(f"python -m finetune keep {run}")
    write_status(run, Status(state="stopped"))
    assert by_hand(read_job(run)) == {}
    # Nobody hears what is wanted of it.
    write_want(run, "stop")
    assert not is_moving(read_job(run))


def test_stopping_by_hand_waits_for_the_step(tmp_path: Path) -> None:
    run = queue_training(tmp_path, ["mindpal"], "mindpal", "")
    step = "import time\ntry:\n  print(1, flush=True)\n  time.sleep(60)\nexcept KeyboardInterrupt:\n  time.sleep(1)"
    with subprocess.Popen([sys.executable, "-c", step], stdout=subprocess.PIPE) as training:
        assert training.stdout
        training.stdout.readline()
        write_status(run, Status(state="running", pid=training.pid))
        waits, _, keeps = by_hand(read_job(run))["stop"].rpartition("; ")
        assert keeps.startswith("python -m finetune keep")
        # As the worker does, or it would never be gone.
        threading.Thread(target=training.wait, daemon=True).start()
        subprocess.run(["sh", "-c", waits], check=True, timeout=30)
        assert training.returncode == 0


def test_an_upload_lies_where_it_should_whatever_its_name_is(tmp_path: Path) -> None:
    for name in ("mine.json", "../../etc/x.json", "我的.json", "x.json/../../y", "none"):
        path = keep_upload(tmp_path / "uploads", name, name.encode())
        assert path.parent == tmp_path / "uploads"
        assert re.fullmatch(r"[0-9a-f]{12}-[\w-]+\.[a-z]+", path.name), path.name
        assert path.read_bytes() == name.encode()
    assert keep_upload(tmp_path / "uploads", "mine.json", b"mine.json").name.endswith("-mine.json")
    assert len(list((tmp_path / "uploads").iterdir())) == 5


# numbers


def test_a_smoothed_curve_starts_without_bias_and_follows() -> None:
    assert smoothed([4.0]) == pytest.approx([4.0])
    assert smoothed([2.0, 4.0], 0.5) == pytest.approx([2.0, (0.5 * 1.0 + 0.5 * 4.0) / 0.75])
    assert smoothed([1.0, 2.0, 3.0], 0.0) == pytest.approx([1.0, 2.0, 3.0])


def test_numbers_are_told_in_few_words() -> None:
    assert [size(number) for number in (12, 1500, 2.5e6, 3.2e9)] == ["12 B", "1.5 kB", "2.5 MB", "3.2 GB"]
    assert [duration(seconds) for seconds in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]
    assert [count(number) for number in (999, 12_000, 7.5e8)] == ["999", "12.0 k", "750.0 M"]


def test_a_measure_is_taken_from_the_lines_that_hold_it() -> None:
    lines = [{"step": 1, "loss": 3.0}, {"step": 2, "eval_loss": 2.0}, {"step": 3, "loss": 1.0}]
    assert curve(lines, "loss").steps == (1, 3)
    assert last(lines, "eval_loss") == 2.0
    assert last(lines, "gpu_memory") is None


# sets


def test_sets_are_counted_searched_and_split() -> None:
    names = datasets_in(DATA_DIR)
    assert names
    read = read_set(names[0], DATA_DIR)
    assert not read.problems
    found = counted(read.conversations, 0.1)
    assert 0.05 < found.validation / found.conversations < 0.15
    assert found.topics.total() == found.conversations
    sky = search(read.conversations, "天空 蓝色")
    assert 0 < len(sky) < found.conversations
    assert search(read.conversations, "") == list(read.conversations)


def test_a_set_is_as_new_as_its_file_and_as_its_place_in_the_list(tmp_path: Path) -> None:
    make_data(tmp_path / "sets")
    index = tmp_path / "sets" / "dataset_info.json"
    os.utime(index, (100, 100))
    os.utime(tmp_path / "sets" / "small.json", (200, 200))
    assert sets_since(["small"], tmp_path / "sets") == "1970-01-01T00:03:20.000+00:00"
    assert sets_since(["none"], tmp_path / "sets") == "1970-01-01T00:01:40.000+00:00"
    assert sets_since(["small"], tmp_path) == ""


@pytest.mark.parametrize("thinking", [True, False])
def test_only_answers_are_learned(thinking: bool) -> None:
    contract = read_contract().model_copy(update={"thinking": thinking})
    assert [span.learned for span in spans(Turn("user", "你好"), contract)] == [False]
    answer = spans(Turn("assistant", "<think>\n嗯\n</think>\n\n你好呀"), contract)
    learned = "".join(span.words for span in answer if span.learned)
    assert learned.endswith("你好呀<|im_end|>")
    assert ("嗯" in learned) == thinking


def test_words_of_a_set_never_become_markup() -> None:
    shown = coloured([Span("<script>alert(1)</script>", learned=True)])
    assert "<script>" not in shown
    assert 'class="learned"' in shown


# bases


def test_bases_are_found_and_weighed_without_loading_one(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--org--name" / "snapshots" / "abc"
    make_base(snapshot)
    (tmp_path / "hub" / "models--org--name" / "refs").mkdir()
    (tmp_path / "hub" / "models--org--name" / "refs" / "main").write_text("abc")
    (tmp_path / "hub" / "models--org--half" / "blobs").mkdir(parents=True)
    (tmp_path / "hub" / "models--org--half" / "blobs" / "x.incomplete").write_bytes(b"x")
    assert found_bases(tmp_path / "hub", tmp_path / "none", tmp_path / "none") == ["org/half", "org/name"]
    for name in ("org/name", str(snapshot), str(snapshot.parents[1])):
        told = headers(name, tmp_path / "hub")
        assert (told.layers, told.hidden, told.dtype) == (2, 64, "BF16")
        assert told.parameters * 2 < told.disk < memory_to_load(told)
        assert folder_of(name, tmp_path / "hub") == snapshot
        assert is_here(name, tmp_path / "hub")
    for name in ("org/half", "org/none"):
        assert not is_here(name, tmp_path / "hub")
        with pytest.raises(BadInput, match="is not on this machine yet"):
            headers(name, tmp_path / "hub")


def test_a_base_cut_short_is_one_sentence(tmp_path: Path) -> None:
    make_base(tmp_path / "base")
    index = tmp_path / "base" / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}')
    with pytest.raises(BadInput, match="base: 1 of its files of weights are not there yet; go on with its download"):
        headers(str(tmp_path / "base"), tmp_path)
    assert not is_here(str(tmp_path / "base"), tmp_path)
    index.write_text("[]")
    with pytest.raises(BadInput, match="names no weights"):
        headers(str(tmp_path / "base"), tmp_path)
    index.unlink()
    weights = tmp_path / "base" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(BadInput, match="cut short"):
        headers(str(tmp_path / "base"), tmp_path)


def test_a_base_that_may_not_be_looked_into_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shut = make_base(tmp_path / "models" / "shut")
    make_base(tmp_path / "models" / "open")
    found = os.stat

    def refusing(path: Any, **given: Any) -> os.stat_result:
        # Nothing is shut to the superuser, as whom tests may run.
        if str(path).startswith(f"{shut}/"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return found(path, **given)

    monkeypatch.setattr(os, "stat", refusing)
    assert found_bases(tmp_path, tmp_path / "models", tmp_path / "none") == [str(tmp_path / "models" / "open")]
    assert not holds(shut, "config.json")
    for name, why in (
        (str(shut), "Permission denied"),
        ("~no-such-person/base", "home directory"),
        ("x" * 300, "File name too long"),
    ):
        for look in (lambda name: headers(name, tmp_path), lambda name: folder_of(name, tmp_path), find_base):
            with pytest.raises(BadInput, match=rf"cannot be looked into \(.*{why}"):
                look(name)
        assert not is_here(name, tmp_path)


# words


def test_both_languages_say_everything_with_the_same_blanks() -> None:
    zh, en = words_in("zh").model_dump(), words_in("en").model_dump()

    def blanks(value: object) -> list[str]:
        return re.findall(r"\{\w+\}", json.dumps(value))

    for page, sentences in zh.items():
        if page == "told":
            continue
        if not isinstance(sentences, dict):
            assert blanks(sentences) == blanks(en[page]), page
            continue
        assert sentences.keys() == en[page].keys()
        for key, sentence in sentences.items():
            if key not in ("knobs", "units"):
                assert sentence.keys() == en[page][key].keys() if isinstance(sentence, dict) else True, key
                assert blanks(sentence) == blanks(en[page][key]), key


def test_every_knob_and_unit_and_group_has_chinese_words() -> None:
    say = words_in("zh").train
    knobs = read_knobs()
    assert say.knobs.keys() == say.names.keys() == words_in("en").train.names.keys() == {knob.name for knob in knobs}
    assert {knob.unit for knob in knobs if knob.unit} == say.units.keys()
    assert {knob.group for knob in knobs} == say.groups.keys() == words_in("en").train.groups.keys()


def test_every_job_has_a_name() -> None:
    assert words_in("zh").verbs.keys() == set(get_args(Verb))


def test_every_sentence_is_said_somewhere() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "ui" / "studio").glob("*.py"))
    for page, sentences in words_in("zh").model_dump().items():
        for key in sentences if isinstance(sentences, dict) else [page]:
            assert page in ("states", "told", "verbs") or re.search(rf"\.{key}\b", source), f"{page}.{key}"
