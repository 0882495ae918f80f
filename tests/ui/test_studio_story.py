"""The studio in a real browser, with a real worker and a real base: from an uploaded data set to a promoted model
without a terminal, with browser and worker killed in the middle of the run; a run is asked, measured, told on one page,
archived and pushed; a base is fetched from a hub, stopped and fetched on; a job that cannot work says why.
Run: `pytest tests/ui/test_studio_story.py`.
"""

import json
import re
import shlex
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Locator, Page, expect
from safetensors.torch import load_file, save_file

from data.contract import open_sealed, sha256
from data.conversations import datasets_in
from data.queue import JOB_LOG, jobs
from data.runs import read_metrics, read_status
from finetune.compare import read_compared
from tests.finetune.hub import TOKEN, Hub, running
from tests.finetune.small_runs import make_data, make_recipe, make_run
from tests.small_models import make_base
from tests.ui.conftest import PATIENCE_MS, ROOT
from tests.ui.studio import (
    JOB_MS,
    SAY,
    Studio,
    badge,
    button,
    carried,
    choose,
    doomed,
    go,
    name_it,
    noted,
    open_studio,
    serving,
    start,
    upload,
    upload_recipe,
    wait_until,
    worker_of,
)
from ui.studio.told import in_words, page_in_words
from ui.studio.words import words_in

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(1800)]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub that has one model, and takes its time to hand out its weights: 60 MB, which come in 10 at a time."""
    served = make_base(tmp_path / "served")
    weights = load_file(served / "model.safetensors")
    save_file({**weights, "filler": torch.zeros(15_000_000)}, served / "model.safetensors")
    with running(Hub(served, slowly_s=30)) as found:
        yield found


@pytest.fixture
def token() -> Iterator[Path]:
    """A file with the hub's token, where a job may read one."""
    secrets = ROOT / "secrets"
    is_new = not secrets.exists()
    secrets.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=secrets, prefix="test-") as folder:
        (Path(folder) / "token").write_text(f"{TOKEN}\n")
        yield (Path(folder) / "token").relative_to(ROOT)
    if is_new:
        secrets.rmdir()


@pytest.fixture
def studio(tmp_path: Path, hub: Hub) -> Iterator[Studio]:
    # The tests' own process is told that it is offline.
    with serving(tmp_path, HF_HUB_OFFLINE="0", HF_ENDPOINT=hub.url) as served:
        yield served


def ground(shown: Locator) -> str:
    """The colour that lies behind a text."""
    colour: str = shown.first.evaluate("found => getComputedStyle(found).backgroundColor")
    return colour


def test_from_an_uploaded_set_to_a_promoted_model(
    browser: Browser, studio: Studio, shot: Callable[[Page, str], None], tmp_path: Path
) -> None:
    with doomed(browser) as (closing, process):
        page = open_studio(closing, studio, first=True)
        before = datasets_in(tmp_path / "sets")

        # a set is checked and registered, and its answers alone have the colour of what is learned
        make_data(tmp_path / "mine")
        upload(page, tmp_path / "mine" / "small.json")
        expect(page.get_by_text(SAY.data.added.format(name="small"))).to_be_visible(timeout=JOB_MS)
        assert datasets_in(tmp_path / "sets") == [*before, "small"]
        page.get_by_role("tab", name=SAY.data.browse).click()
        learned, given = (ground(page.get_by_text(words, exact=True)) for words in (SAY.data.learned, SAY.data.given))
        answer, question = page.locator(".said.answers").first, page.locator(".said.asks").first
        assert ground(answer.locator(".learned")) == learned != given == ground(question.locator(".given"))
        expect(question.locator(".learned")).to_have_count(0)

        # the base is there
        go(page, SAY.pages.base)
        base = str(studio.models / "small-base")
        choose(page, SAY.base.base, base)
        expect(page.get_by_text(SAY.base.here).first).to_be_visible()

        # a recipe, and a start
        go(page, SAY.pages.train)
        recipe = make_recipe(
            tmp_path / "small.yaml", max_steps=100, num_train_epochs=100, logging_steps=10, save_steps=25, eval_steps=50
        )
        upload_recipe(page, recipe)
        copied = rf"finetune train {re.escape(str(studio.runs))}/uploads/\w{{12}}-small\.yaml --base {re.escape(base)}"
        expect(page.get_by_text(re.compile(copied)).first).to_be_visible()
        run = start(page, studio, "第一次")
        # The browser is killed in the middle of it,
        process.kill()
        process.wait(60)

    # and the worker with -9: the run goes on from its checkpoint
    wait_until(lambda: read_status(run).step > 30)
    worker_of(studio).kill()
    page = open_studio(browser, studio)
    go(page, SAY.pages.watch)
    expect(page.get_by_test_id("stMetric").filter(has_text=SAY.watch.loss).first).to_be_visible()
    expect(page.get_by_text("第一次").first).to_be_visible()
    shot(page, "studio-watch")
    expect(badge(page, "done")).to_be_visible(timeout=JOB_MS)
    assert "--resume" in (run / JOB_LOG).read_text()
    assert [line["step"] for line in read_metrics(run) if "loss" in line] == list(range(10, 101, 10))

    # merged, sealed, promoted
    go(page, SAY.pages.export)
    button(page, SAY.export.merge).click()
    expect(page.get_by_text(SAY.export.merged.partition("{")[0]).first).to_be_visible(timeout=JOB_MS)
    button(page, SAY.export.promote).click()
    expect(page.get_by_text(SAY.export.is_current).first).to_be_visible(timeout=JOB_MS)
    shot(page, "studio-export")
    sampling = open_sealed(studio.models / "current").contract.sampling
    assert (studio.models / "current").resolve() == (studio.models / run.name).resolve()
    assert open_sealed(studio.models / "current").contract.base_model == base

    # before, after and merged, side by side, thinking, with a question of one's own beside the tutorial's
    go(page, SAY.pages.compare)
    panel = page.locator(".st-key-panel-report")
    panel.get_by_text(SAY.compare.thinking_on, exact=True).click()
    panel.get_by_label(SAY.compare.questions).fill("蚂蚁会做梦吗？")
    panel.get_by_label(SAY.compare.questions).press("Control+Enter")
    shown = panel.locator("code").filter(has_text=re.compile(r"--thinking --questions \S+-questions\.txt --out"))
    expect(shown).to_be_visible()
    button(panel, SAY.compare.compare).click()
    frame = page.frame_locator("iframe")
    for asked in ("为什么天空是蓝色的？", "蚂蚁会做梦吗？"):
        expect(frame.get_by_text(asked).first).to_be_visible(timeout=JOB_MS)
    shot(page, "studio-compare")
    # It is the report that the command shown writes.
    words = shlex.split(shown.first.inner_text())
    assert words[:5] == ["python", "-m", "finetune", "compare", str(run)]
    written = Path(words[-1])
    told = page_in_words(SAY, (written / "report.html").read_bytes().decode())
    assert carried(page, SAY.compare.download).read_bytes() == told.encode()
    lines = read_compared(written / "report.jsonl")
    assert [line.model for line in lines] == [name for name in ("base", "adapter", "merged") for _ in range(5)]
    assert {(line.thinking, line.sampling.temperature, line.sampling.max_tokens) for line in lines} == {
        (True, sampling.temperature, sampling.max_tokens)
    }

    # all of it is in the history
    go(page, SAY.pages.runs)
    expect(page.get_by_test_id("stMetric").filter(has_text=SAY.runs.used)).to_be_visible()
    shot(page, "studio-runs")
    page.context.close()


def test_the_base_speaks_a_plan_is_told_and_what_cannot_work_is_red(
    browser: Browser, studio: Studio, shot: Callable[[Page, str], None], tmp_path: Path
) -> None:
    shutil.copytree(make_data(tmp_path / "mine"), tmp_path / "sets", dirs_exist_ok=True)
    page = open_studio(browser, studio, first=True)
    # a bad set changes nothing, and says why
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps([{"conversations": [{"from": "human", "value": "你好"}]}]))
    upload(page, bad)
    expect(page.get_by_test_id("stAlert").filter(has_text="bad.json 的记录 0")).to_be_visible(timeout=JOB_MS)
    expect(badge(page, "failed")).to_be_visible()
    assert datasets_in(tmp_path / "sets") == ["small"]
    shot(page, "studio-bad-set")

    go(page, SAY.pages.base)
    choose(page, SAY.base.base, str(studio.models / "small-base"))
    expect(page.get_by_text(SAY.base.here).first).to_be_visible()
    button(page, SAY.base.ask).click()
    expect(page.get_by_test_id("stChatMessage").nth(1)).to_be_visible(timeout=JOB_MS)
    shot(page, "studio-base")
    go(page, SAY.pages.train)
    upload_recipe(page, make_recipe(tmp_path / "good.yaml"))
    button(page, SAY.train.plan).click()
    expect(page.get_by_test_id("stMetric").filter(has_text=SAY.train.time)).to_be_visible(timeout=JOB_MS)
    shot(page, "studio-train")
    page.locator(".st-key-load").get_by_role("button", name="Remove good.yaml").click()
    upload_recipe(page, make_recipe(tmp_path / "quantised.yaml", method="qlora"))
    start(page, studio, "四比特")
    go(page, SAY.pages.watch)
    # 4 bits need a GPU of NVIDIA's: told before anything is loaded.
    sentence = "要用 NVIDIA 显卡" if shutil.which("nvidia-smi") is None else "没有安装 bitsandbytes"
    expect(page.get_by_test_id("stAlert").filter(has_text=sentence)).to_be_visible(timeout=JOB_MS)
    expect(badge(page, "failed")).to_be_visible()
    shot(page, "studio-failed")
    # deleted, after a second question
    go(page, SAY.pages.runs)
    number = len(jobs(studio.runs))
    button(page, SAY.runs.delete).click()
    button(page, SAY.runs.delete_yes).click()
    wait_until(lambda: len(jobs(studio.runs)) == number - 1)
    page.context.close()


def test_a_run_is_measured_told_on_one_page_and_carried_to_a_hub(
    browser: Browser, studio: Studio, hub: Hub, token: Path, shot: Callable[[Page, str], None], tmp_path: Path
) -> None:
    shutil.copytree(make_data(tmp_path / "mine"), tmp_path / "sets", dirs_exist_ok=True)
    run = make_run(studio.runs / "made", studio.models / "small-base")
    make_recipe(run / "recipe.yaml")
    page = open_studio(browser, studio, first=True)

    # merged, so that three can be asked
    go(page, SAY.pages.export)
    button(page, SAY.export.merge).click()
    expect(page.get_by_text(SAY.export.merged.partition("{")[0]).first).to_be_visible(timeout=JOB_MS)

    # live: base, adapter and merged model answer side by side, thinking, with sampling of one's own
    go(page, SAY.pages.compare)
    page.get_by_role("tab", name=SAY.compare.live).click()
    live = page.locator(".st-key-panel-live")
    live.get_by_text(SAY.compare.thinking_on, exact=True).click()
    live.get_by_text(SAY.compare.free, exact=True).click()
    live.get_by_label(SAY.compare.max_tokens).fill("16")
    live.get_by_label(SAY.compare.max_tokens).press("Enter")
    live.get_by_label(SAY.compare.question).fill("你好呀")
    button(live, SAY.compare.ask).click()
    expect(live.get_by_test_id("stChatMessage")).to_have_count(6, timeout=2 * JOB_MS)
    asked = [job.request.words for job in jobs(studio.runs) if job.request and job.request.verb == "chat"]
    assert {words[0] for words in asked} == {str(studio.models / "small-base"), str(run), str(studio.models / "made")}
    assert all({"--thinking", "--temperature", "--max-tokens"} <= set(words) for words in asked)
    shot(page, "studio-live")

    # measured on what was held out
    page.get_by_role("tab", name=SAY.compare.measured).click()
    measured = page.locator(".st-key-panel-measured")
    button(measured, SAY.compare.measure).click()
    expect(measured.get_by_role("cell", name=in_words(SAY, "loss on answers"))).to_be_visible(timeout=2 * JOB_MS)
    shot(page, "studio-measured")

    # everything about it on one page
    go(page, SAY.pages.watch)
    button(page, SAY.watch.report_now).click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="made")).to_be_visible(timeout=JOB_MS)
    expect(frame.get_by_text("BLEU").first).to_be_visible()
    told = page_in_words(SAY, (run / "report.html").read_bytes().decode())
    assert carried(page, SAY.compare.download).read_bytes() == told.encode()
    shot(page, "studio-report")

    # one file, which holds all of it with its checksums; and a hub, which gets all of it
    go(page, SAY.pages.export)
    button(page, SAY.export.archive).click()
    download = page.get_by_role("button", name=re.compile(re.escape(SAY.export.download.partition("{")[0])))
    expect(download).to_be_visible(timeout=JOB_MS)
    with page.expect_download() as waiting:
        download.click()
    assert waiting.value.suggested_filename == "made.tar"
    with tarfile.open(waiting.value.path()) as tar:
        inside = {Path(name).name for name in tar.getnames()}
    sealed = {path.name for path in (studio.models / "made").iterdir()}
    assert inside == sealed | {"SHA256SUMS"}
    page.get_by_label(SAY.export.repository).fill("family/mindpal")
    page.get_by_label(SAY.export.repository).press("Enter")
    page.get_by_label(SAY.export.token).fill(str(token))
    page.get_by_label(SAY.export.token).press("Enter")
    push = page.locator(".st-key-panel-push")
    button(push, SAY.export.push).click()
    expect(badge(push, "done")).to_be_visible(timeout=JOB_MS)
    assert sealed <= hub.uploaded.keys()
    assert not any(
        TOKEN in (job.run / JOB_LOG).read_text() for job in jobs(studio.runs) if (job.run / JOB_LOG).is_file()
    )
    button(page, SAY.export.promote).click()
    expect(page.get_by_text(SAY.export.is_current).first).to_be_visible(timeout=JOB_MS)

    # a note; the other language; the door
    go(page, SAY.pages.runs)
    page.locator(".st-key-panel-job").get_by_label(SAY.runs.note).fill("发布的那次")
    button(page, SAY.runs.save_note).click()
    wait_until(lambda: noted(studio, "发布的那次") is not None)
    page.get_by_test_id("stSidebar").get_by_text("English", exact=True).click()
    expect(page.get_by_role("heading", name=words_in("en").pages.runs, exact=True)).to_be_visible()
    button(page, words_in("en").gate.lock).click()
    expect(page.get_by_label(words_in("en").gate.field, exact=True)).to_be_visible()
    page.context.close()


def test_a_base_is_fetched_from_a_mirror_stopped_and_fetched_on(browser: Browser, studio: Studio, hub: Hub) -> None:
    page = open_studio(browser, studio, first=True)
    go(page, SAY.pages.base)
    name_it(page, SAY.base.base, "family/tiny")
    expect(page.get_by_text(SAY.base.not_here)).to_be_visible()
    name_it(page, SAY.base.endpoint, hub.url)
    expect(page.get_by_text(f"finetune download family/tiny --endpoint {hub.url}")).to_be_visible()
    button(page, SAY.base.fetch).click()
    # so much of so much, while it comes
    expect(page.get_by_text(re.compile(r"^[1-9]\d* / \d+$")).first).to_be_visible(timeout=JOB_MS)
    button(page.locator(".st-key-panel-download"), SAY.stop).click()
    expect(badge(page, "stopped")).to_be_visible(timeout=JOB_MS)
    (fetching,) = jobs(studio.runs)
    assert read_status(fetching.run).step < 60
    hub.slowly_s = 0
    button(page, SAY.base.resume).click()
    expect(page.get_by_text(SAY.base.here)).to_be_visible(timeout=JOB_MS)
    expect(badge(page, "done")).to_be_visible()
    assert hub.begun[0] == 0
    assert hub.begun[-1] > 5_000_000, "what had come was fetched again"
    weights = next((studio.folder / "hub").rglob("snapshots/*/model.safetensors"))
    assert sha256(weights) == sha256(studio.folder / "served" / "model.safetensors")
    page.context.close()


def test_nobody_gets_in_without_the_password(browser: Browser, studio: Studio) -> None:
    page = browser.new_context(locale="zh-CN").new_page()
    page.set_default_timeout(PATIENCE_MS)
    address = studio.url.partition("?")[0]
    # Neither without the code of the terminal, nor with another.
    for url in (address, f"{address}?code=guessed", f"{address}runs"):
        page.goto(url)
        expect(page.get_by_text("--new-password")).to_be_visible()
        expect(page.get_by_label(SAY.gate.new, exact=True)).to_have_count(0)
    page.context.close()
    opened = open_studio(browser, studio, first=True)
    # A reload shuts it, and a wrong password is counted.
    opened.reload()
    opened.get_by_label(SAY.gate.field, exact=True).fill("something else")
    button(opened, SAY.gate.open).click()
    expect(opened.get_by_text(SAY.gate.wrong.format(left=4))).to_be_visible()
    opened.context.close()
