"""What the tests of the page share: both databases, a browser, a page that is being served."""

import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import Error as PlaywrightError

from tests.browser import chromium
from tests.commands import serve
from tests.demo import free_port
from tests.ui.databases import Database, family, postgres, postgres_programs
from tests.ui.walk import daytime
from ui.database import url_for
from ui.records import Profile
from ui.store import Store
from ui.tables import Child

ROOT = Path(__file__).parents[2]
PATIENCE_MS = 60_000
NUMBERS = itertools.count()

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[tuple[str, Path]]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    # Not pytest's own folder: a socket's path has room for 107 characters, and the server's user has to reach it.
    with tempfile.TemporaryDirectory(prefix="mindpal-") as folder:
        Path(folder).chmod(0o755)
        with postgres(programs, Path(folder) / "pg") as server:
            yield server


@pytest.fixture(scope="session")
def sqlite_made(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """A database that holds nothing yet but its tables: making them takes longer than most tests."""
    folder = tmp_path_factory.mktemp("made")
    made = Database(url_for(folder / "family", None), folder / "key", folder / "family")
    made.open().close()
    return made


@pytest.fixture(scope="session")
def postgresql_made(tmp_path_factory: pytest.TempPathFactory, postgres_server: tuple[str, Path]) -> Database:
    """The same."""
    made = _created(postgres_server, tmp_path_factory.mktemp("made") / "key", "made", "template1")
    made.open().close()
    return made


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """An empty database of each kind; with its tables, a copy of them, where the test wants a store."""
    made: Database | None = None
    if "store" in request.fixturenames:
        made = request.getfixturevalue(f"{request.param}_made")
        shutil.copy(made.key_file, tmp_path / "key")
    if request.param == "sqlite":
        if made:
            shutil.copytree(made.files, tmp_path / "family")
        return Database(url_for(tmp_path / "family", None), tmp_path / "key", tmp_path / "family")
    server = request.getfixturevalue("postgres_server")
    return _created(server, tmp_path / "key", f"family_{next(NUMBERS)}", "made" if made else "template1")


def _created(server: tuple[str, Path], key_file: Path, name: str, template: str) -> Database:
    url, files = server
    subprocess.run(["createdb", "-h", url.partition("host=")[2], "-U", "postgres", "-T", template, name], check=True)
    return Database(url.replace("/postgres?", f"/{name}?"), key_file, files)


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    opened = database.open()
    yield opened
    opened.close()


@pytest.fixture
def child_id(store: Store) -> int:
    return family(store).id


@pytest.fixture
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    """A time zone: the C library goes by it, as in a process that was started with it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


class Site:
    """A page that is being served, its model's port, its family folder and what its process tells."""

    def __init__(self, folder: Path, more_environment: dict[str, str], program: tuple[str, ...]) -> None:
        self.program = program
        self.port, self.model_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder / "family"
        self.log = folder / "log"
        self.environment = {
            **os.environ,
            "MINDPAL_API_URL": f"http://127.0.0.1:{self.model_port}/v1",
            "MINDPAL_FAMILY": str(self.folder),
            "TZ": daytime(),
            **more_environment,
        }
        self.start()

    def start(self) -> None:
        """Serve, until the page answers on its port."""
        self.process = serve((*self.program, "--port", str(self.port)), self.environment, self.log)
        wait_for(self.port, self.process)

    def kill(self) -> None:
        """End the page's process as `kill -9` does."""
        self.process.kill()
        self.process.join()

    def end(self) -> None:
        """End it kindly, and look at what it told."""
        self.process.terminate()
        self.process.join(20)
        ended = not self.process.is_alive()
        self.process.kill()
        assert ended, "the page does not end"
        told = self.log.read_text()
        assert "Traceback" not in told, told

    def store(self) -> Store:
        return Store(url_for(self.folder, None), self.folder / "key")

    def family(self, *nicknames: str) -> list[Child]:
        """A family that has been through the first run, with these children."""
        store = self.store()
        first, *others = nicknames or ("豆豆",)
        family(store, first)
        for nickname in others:
            store.add_child(Profile(nickname, avatar="bear"))
        children = store.children()
        store.close()
        return children


@pytest.fixture
def more_environment() -> dict[str, str]:
    """What a test module adds to the environment of its page."""
    return {}


@pytest.fixture
def program() -> tuple[str, ...]:
    """The module that serves the page, and its first words."""
    return ("ui",)


@pytest.fixture
def site(tmp_path: Path, more_environment: dict[str, str], program: tuple[str, ...]) -> Iterator[Site]:
    served = Site(tmp_path, more_environment, program)
    yield served
    served.end()


def wait_for(port: int, process: Any) -> None:
    """Until the page answers on its port."""
    for _ in range(1800):
        assert process.is_alive(), "the page ended before it was there"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the page was not there after three minutes")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for a module: Playwright keeps an event loop running in this thread, and the client has its own."""
    with chromium("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as opened:
        yield opened


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where a test failed, its report shows what stood on each of its pages: seldom does it fail a second time."""
    report = yield
    opened = getattr(item, "funcargs", {}).get("browser")
    if report.when == "call" and report.failed and opened:
        for shown in (page for context in opened.contexts for page in context.pages):
            with suppress(PlaywrightError):
                state = shown.get_by_test_id("stApp").get_attribute("data-test-script-state", timeout=1000)
                report.sections.append((f"{shown.url} ({state})", shown.locator("body").aria_snapshot(timeout=5000)))
    return report


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="zh-CN")
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    yield opened
    context.close()


@pytest.fixture(scope="session")
def shot() -> Callable[[Page, str], None]:
    """Write a picture of the page to MINDPAL_SHOTS, when it names a folder."""
    folder = os.environ.get("MINDPAL_SHOTS")

    def take(page: Page, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.wait_for_timeout(700)
            page.screenshot(path=Path(folder) / f"{name}.png")

    return take
