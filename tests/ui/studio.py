"""The studio as the stories use it: served with a real worker, opened in a real browser, and used as a person does."""

import fcntl
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Locator, Page, expect
from playwright.sync_api import TimeoutError as NotYet

from data.queue import jobs
from data.runs import State
from tests.browser import launch
from tests.commands import serve
from tests.demo import free_port
from tests.small_models import make_base
from tests.ui.conftest import PATIENCE_MS, wait_for
from ui.studio.words import words_in

PASSWORD = "correct-horse"
SAY = words_in("zh")
# A job starts Python and torch anew, on a machine that may be busy.
JOB_MS = 300_000


class Studio:
    """A studio that is being served with its worker: the address that it told first, its folders, and its process."""

    def __init__(self, folder: Path, more: dict[str, str]) -> None:
        self.folder, self.runs, self.models = folder, folder / "runs", folder / "models"
        self.log, self._port = folder / "log", free_port()
        self._environment = {
            **os.environ,
            "MINDPAL_RUNS": str(self.runs),
            "MINDPAL_MODELS": str(self.models),
            "MINDPAL_DATA": str(folder / "sets"),
            "MINDPAL_STUDIO_PASSWORD_FILE": str(folder / "secret" / "password.json"),
            "HF_HOME": str(folder / "hub"),
            # Two threads would wait for one another longer than so small a model computes.
            "OMP_NUM_THREADS": "1",
            **more,
        }
        self.start("--worker")
        told = re.search(r"http://\S+", self.log.read_text())
        assert told
        self.url = told[0]

    def start(self, *words: str) -> None:
        """Serve, until the page answers on its port."""
        self.process = serve(("ui.studio", "--port", str(self._port), *words), self._environment, self.log)
        wait_for(self._port, self.process)

    def kill(self) -> None:
        """End the page's process, and no other one, as `kill -9` does."""
        self.process.kill()
        self.process.join()


@contextmanager
def serving(folder: Path, **more: str) -> Iterator[Studio]:
    """Serve a studio that has one small base, with these variables `more`, and look at what its processes told."""
    make_base(folder / "models" / "small-base")
    studio = Studio(folder, more)
    try:
        yield studio
    finally:
        os.kill(studio.process.pid, signal.SIGINT)
        studio.process.join(150)
        assert not studio.process.is_alive(), "the studio does not end"
    told_all = studio.log.read_text()
    assert "Traceback" not in told_all, told_all
    assert not has_worker(studio.runs), "the worker outlived the page"


def has_worker(runs: Path) -> bool:
    """Whether a process holds the worker's lock on this runs folder."""
    with (runs / ".worker").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def go(page: Page, name: str) -> None:
    """Turn to another page."""
    heading = page.get_by_role("heading", name=name, exact=True)
    for _ in range(5):
        page.get_by_test_id("stSidebarNavLink").filter(has_text=name).click()
        # Streamlit forgets a click while a page is drawn anew by itself, as it is when a run ends: a person clicks again.
        with suppress(NotYet):
            heading.wait_for(timeout=PATIENCE_MS / 4)
            return
    expect(heading).to_be_visible()


def button(page: Page | Locator, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def badge(page: Page | Locator, state: State) -> Locator:
    """The coloured word for a job's state."""
    # What is not in the tab that is open has its badges, too.
    return page.locator(".stMarkdownBadge").filter(has_text=SAY.states[state], visible=True).first


def choose(page: Page, label: str, option: str) -> None:
    """Choose in a box with a list, by typing as a person would."""
    box = page.get_by_role("combobox", name=re.compile(re.escape(label))).first
    box.click()
    box.fill(option)
    page.get_by_role("option").filter(has_text=option).first.click()


def open_studio(browser: Browser, studio: Studio, *, first: bool = False) -> Page:
    context = browser.new_context(viewport={"width": 1360, "height": 1000}, locale="zh-CN")
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    if first:
        page.goto(studio.url)
        page.get_by_label(SAY.gate.new, exact=True).fill(PASSWORD)
        page.get_by_label(SAY.gate.again).fill(PASSWORD)
        button(page, SAY.gate.set_it).click()
    else:
        page.goto(studio.url.partition("?")[0])
        page.get_by_label(SAY.gate.field, exact=True).fill(PASSWORD)
        button(page, SAY.gate.open).click()
    expect(page.get_by_role("heading", name=SAY.pages.data, exact=True)).to_be_visible()
    return page


def choose_base(page: Page, studio: Studio) -> str:
    """Choose the studio's small base on the page Train, and see it in the command; its name."""
    base = str(studio.models / "small-base")
    choose(page, SAY.base.base, base)
    # What is done before the page has heard of it can be lost when it is drawn anew.
    expect(page.get_by_text(f"--base {base}").first).to_be_visible()
    return base


def upload(page: Page, file: Path) -> None:
    """Bring a file to the page Data."""
    page.get_by_role("tab", name=SAY.data.upload).click()
    page.locator(".st-key-upload input[type=file]").set_input_files(file)
    expect(page.get_by_text(f"--name {file.stem}").first).to_be_visible()
    button(page, SAY.data.add).click()


def upload_recipe(page: Page, file: Path) -> None:
    """Load a recipe on the page Train, and see that it is the one shown."""
    page.locator(".st-key-load input[type=file]").set_input_files(file)
    expect(page.get_by_text(re.compile(rf"-{re.escape(file.stem)}\.yaml --base")).first).to_be_visible()


def start(page: Page, studio: Studio, note: str) -> Path:
    """Start the run that the page Train shows; its folder."""
    page.get_by_label(SAY.train.note).fill(note)
    page.get_by_label(SAY.train.note).press("Enter")
    button(page, SAY.train.start).click()
    # Streamlit forgets a click that another page follows before it was heard.
    wait_until(lambda: noted(studio, note) is not None)
    run = noted(studio, note)
    assert run
    # That it waits or goes on, or how it ended, as some do at once.
    expect(page.get_by_text(str(run)).first).to_be_visible()
    return run


def noted(studio: Studio, note: str) -> Path | None:
    """The job with this note."""
    return next((job.run for job in jobs(studio.runs) if job.request and job.request.note == note), None)


def carried(page: Page, name: str) -> Path:
    """What a download button hands over."""
    with page.expect_download() as waiting:
        button(page, name).click()
    return Path(waiting.value.path())


def worker_of(studio: Studio) -> psutil.Process:
    (worker,) = psutil.Process(studio.process.pid).children()
    return worker


@contextmanager
def doomed(browser: Browser) -> Iterator[tuple[Browser, psutil.Process]]:
    """One more browser, and its process, which can be killed without harm to the others."""
    before = set(_browsers())
    opened = launch(browser.browser_type)
    (process,) = set(_browsers()) - before
    try:
        yield opened, process
    finally:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _browsers() -> Iterator[psutil.Process]:
    """The main process of each browser of these tests."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            words = process.cmdline()
            # A script may stand before it, which waits for its end.
            is_script = words[:1] == ["/bin/sh"]
            if "--remote-debugging-pipe" in words and not is_script and not any("--type=" in word for word in words):
                yield process


def wait_until(what: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.3)


def name_it(page: Page, label: str, name: str) -> None:
    """Write into a box with a list what is not on it."""
    box = page.get_by_role("combobox", name=re.compile(re.escape(label))).first
    box.click()
    box.fill(name)
    box.press("Enter")
