"""A run in the studio, in a real browser with a real worker: begun from a LLaMA-Factory command or YAML, paused, gone on
with and stopped, while the page is killed; met by a full disk and by too little memory, told in red what helps, and mended.
Run: `pytest tests/ui/test_studio_run.py`.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from data.contract import sha256
from data.queue import JOB_LOG
from data.runs import ADAPTER, CHECKPOINTS, RECIPE_FILE, State, read_metrics, read_status
from finetune.checkpoints import checkpoints_in
from finetune.recipe import read_recipe
from tests.finetune.small_runs import make_data, make_recipe
from tests.ui.studio import (
    JOB_MS,
    SAY,
    Studio,
    badge,
    button,
    choose_base,
    go,
    has_worker,
    open_studio,
    serving,
    start,
    upload_recipe,
    wait_until,
    worker_of,
)
from ui.studio.told import in_words

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(1800)]

WEIGHTS = "adapter_model.safetensors"
COMMAND = """llamafactory-cli train \\
    --stage sft --do_train --template qwen3 --model_name_or_path Qwen/Qwen3-0.6B \\
    --dataset small --cutoff_len 256 --lora_rank 16 --learning_rate 3e-5 --output_dir saves/mine
"""
# Steps enough to be paused and stopped in the middle of, on any machine.
YAML = """
stage: sft
finetuning_type: lora
dataset: small
cutoff_len: 128
lora_rank: 4
lora_target: all
learning_rate: 1.0e-3
per_device_train_batch_size: 1
max_steps: 20000
logging_steps: 5
save_steps: 500
save_total_limit: 2
output_dir: saves/mine
"""


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    # Memory can be made scarce for a process, and not for a GPU.
    with serving(tmp_path, CUDA_VISIBLE_DEVICES="") as served:
        yield served


def panel_of(page: Page, run: Path) -> Locator:
    """What the page Watch shows of a run's state."""
    return page.locator(f".st-key-panel-measures-{run.name}")


def use(page: Page, source: str, name: str) -> None:
    """Turn what was given into a recipe, save it under a name, and see it shown."""
    save = button(page, SAY.train.import_use)
    # That of the import before is still there until the page has heard of this one.
    expect(page.get_by_text(re.compile(rf"import-llamafactory \S+-{re.escape(source)} --out")).first).to_be_visible()
    expect(save).to_have_count(0)
    button(page, SAY.train.import_now).click()
    expect(save).to_be_visible(timeout=JOB_MS)
    # What has no place in a recipe is told.
    expect(page.get_by_test_id("stCaptionContainer").filter(has_text="output_dir").first).to_be_visible()
    box = page.locator("[class*=st-key-import-name-] input")
    box.fill(name)
    box.press("Enter")
    save.click()
    expect(page.get_by_text(re.compile(rf"-{re.escape(name)}\.yaml --base")).first).to_be_visible()


def test_an_imported_run_is_paused_gone_on_with_and_stopped(
    browser: Browser, studio: Studio, shot: Callable[[Page, str], None], tmp_path: Path
) -> None:
    shutil.copytree(make_data(tmp_path / "mine"), tmp_path / "sets", dirs_exist_ok=True)
    page = open_studio(browser, studio, first=True)
    go(page, SAY.pages.train)
    choose_base(page, studio)

    # a command, then a file: each is a recipe among one's own
    page.get_by_text(SAY.train.importing).click()
    typed = page.locator(".st-key-import-command textarea")
    typed.fill(COMMAND)
    typed.press("Control+Enter")
    use(page, "command.sh", "from-command")
    (tmp_path / "theirs.yaml").write_text(YAML)
    page.locator(".st-key-import-file input[type=file]").set_input_files(tmp_path / "theirs.yaml")
    use(page, "theirs.yaml", "from-yaml")
    shot(page, "studio-import")
    saved = [read_recipe(str(studio.runs / "recipes" / f"{name}.yaml")) for name in ("from-command", "from-yaml")]
    assert [(one.r, one.max_length, one.learning_rate) for one in saved] == [(16, 256, 3e-5), (4, 128, 1e-3)]

    # a run, which waits and goes on as it is told to, here and in its files
    run = start(page, studio, "导入的")
    go(page, SAY.pages.watch)
    card = panel_of(page, run)
    expect(badge(card, "running")).to_be_visible(timeout=JOB_MS)
    wait_until(lambda: read_status(run).step >= 10)
    assert read_recipe(str(run / RECIPE_FILE)).max_steps == 20000
    button(card, SAY.train.pause).click()
    ended(card, run, "paused")
    paused = read_status(run).step
    assert checkpoints_in(run / CHECKPOINTS)[0][0] == paused, "a pause keeps every step"
    assert not (run / ADAPTER).exists()
    shot(page, "studio-paused")
    button(card, SAY.train.resume).click()
    expect(badge(card, "running")).to_be_visible(timeout=JOB_MS)
    wait_until(lambda: read_status(run).step > paused)
    assert f"going on from checkpoint-{paused}" in (run / JOB_LOG).read_text()

    # the page's process is killed: the run goes on, and a page without a worker of its own finds it
    worker, process = worker_of(studio), psutil.Process(read_status(run).pid)
    studio.kill()
    seen = read_status(run).step
    studio.start()
    page.context.close()
    page = open_studio(browser, studio)
    go(page, SAY.pages.watch)
    card = panel_of(page, run)
    expect(badge(card, "running")).to_be_visible()
    wait_until(lambda: read_status(run).step > seen)
    # That page killed, too: the next one brings a worker, which waits for what is at work.
    studio.kill()
    studio.start("--worker")
    page.context.close()
    page = open_studio(browser, studio)
    go(page, SAY.pages.watch)
    card = panel_of(page, run)
    expect(badge(card, "running")).to_be_visible()
    assert process.is_running()
    assert worker.is_running()

    # what it has learned when it is stopped is kept, and can be merged
    button(card, SAY.train.stop).click()
    ended(card, run, "stopped")
    expect(card.get_by_text(in_words(SAY, read_status(run).message))).to_be_visible()
    assert f"what it learned so far is in {ADAPTER}/" in read_status(run).message
    # Every step is there once, and nobody went on from a checkpoint again.
    steps = [line["step"] for line in read_metrics(run) if "loss" in line]
    assert steps == list(range(5, steps[-1] + 1, 5))
    assert (run / JOB_LOG).read_text().count("going on from") == 1
    step, newest = checkpoints_in(run / CHECKPOINTS)[0]
    assert paused < step < 20000
    assert sha256(run / ADAPTER / WEIGHTS) == sha256(newest / WEIGHTS)
    go(page, SAY.pages.export)
    expect(page.get_by_text(f"finetune merge {run} ").first).to_be_visible()
    # Nobody looks after the first page's worker any more: it has ended with its job, and the new page's has its place.
    worker.wait(60)
    wait_until(lambda: has_worker(studio.runs))
    page.context.close()


def ended(card: Locator, run: Path, state: State) -> None:
    """The page tells the state, and so does the run's file, with no process any more."""
    expect(badge(card, state)).to_be_visible(timeout=JOB_MS)
    status = read_status(run)
    assert (status.state, status.pid) == (state, None)


def failed(page: Page, run: Path, sentence: str) -> None:
    """Red, with the sentence of the run's file in the page's words."""
    ended(panel_of(page, run), run, "failed")
    told = read_status(run).message
    assert sentence in told
    shown = in_words(SAY, told)
    assert shown != told
    expect(panel_of(page, run).get_by_test_id("stAlert").filter(has_text=shown)).to_be_visible()


def test_a_full_disk_and_too_little_memory_are_red_with_what_helps(
    browser: Browser, studio: Studio, shot: Callable[[Page, str], None], tmp_path: Path
) -> None:
    turns = [{"from": "human", "value": "为什么天空是蓝色的？"}, {"from": "gpt", "value": "阳光里藏着所有的颜色。"}]
    make_data(tmp_path / "mine", [{"id": f"long-{number}", "conversations": turns * 60} for number in range(160)])
    shutil.copytree(tmp_path / "mine", tmp_path / "sets", dirs_exist_ok=True)
    page = open_studio(browser, studio, first=True)
    go(page, SAY.pages.train)
    choose_base(page, studio)
    steps = {"max_steps": 120, "num_train_epochs": 120, "logging_steps": 10, "save_steps": 20, "eval_steps": 60}
    upload_recipe(page, make_recipe(tmp_path / "small.yaml", max_samples=20, **steps))
    run = start(page, studio, "磁盘")
    go(page, SAY.pages.watch)

    # the disk fills up in the middle of it: files may grow to so much, which the optimizer's state does not keep to
    wait_until(lambda: read_status(run).step > 20)
    optimizer = run / CHECKPOINTS / "checkpoint-20" / "optimizer.pt"
    worker, process = worker_of(studio), psutil.Process(read_status(run).pid)
    needed = process.memory_info().vms
    room = optimizer.stat().st_size // 2
    for one in (worker, process):
        one.rlimit(psutil.RLIMIT_FSIZE, (room, psutil.RLIM_INFINITY))
    failed(page, run, "the disk is full")
    assert "checkpoint-" in read_status(run).message
    shot(page, "studio-full-disk")

    # with room it goes on to its end
    worker.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
    button(panel_of(page, run), SAY.train.resume).click()
    ended(panel_of(page, run), run, "done")
    assert "going on from checkpoint-" in (run / JOB_LOG).read_text()
    assert [line["step"] for line in read_metrics(run) if "loss" in line] == list(range(10, 121, 10))

    # rows as long and as many as this do not fit into what memory the first run took
    go(page, SAY.pages.train)
    page.locator("summary").filter(has_text=SAY.train.groups["batch"]).click()
    for knob, value in (("max_length", 1024), ("per_device_train_batch_size", 128), ("max_samples", 160)):
        box = page.locator(f"[class*=st-key-knob-{knob}-] input")
        box.fill(str(value))
        box.press("Enter")
        expect(page.get_by_text(f"{knob}={value}").first).to_be_visible()
    worker.rlimit(psutil.RLIMIT_AS, (needed + 500_000_000, psutil.RLIM_INFINITY))
    greedy = start(page, studio, "内存")
    go(page, SAY.pages.watch)
    failed(page, greedy, "out of memory; lower max_length or per_device_train_batch_size")
    shot(page, "studio-out-of-memory")
    page.context.close()
