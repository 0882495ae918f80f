"""What the tests share: one demo model, trained once and kept, and one server of it."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from finetune.pretrain import STANDIN
from tests import demo

# A hub must never be asked, whatever a test does.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# And a family's records, where this shell knows them, are not written to.
for name in ("DATABASE_URL", "MINDPAL_KEY_FILE"):
    os.environ.pop(name, None)


# Files that share what takes long to make: the containers' engine, the demo's server, the small server.
TOGETHER = {
    "containers": ("tests/containers/",),
    "demo": (
        "tests/test_demo.py",
        "tests/ui/test_story.py",
        "tests/finetune/test_answers.py",
        "tests/finetune/test_data_synthesize_served.py",
        "tests/finetune/test_proof.py",
    ),
    "server": ("tests/serve/",),
}
LONGEST = ("test_worker.py", "test_train.py", "test_profiles.py", "test_project.py", "test_studio_story.py")
# Whichever test comes first trains the demo, beside others.
DEMO_S = 1800


class _Together(LoadScopeScheduling):  # type: ignore[misc]
    """Where several processes run the tests, one runs a file, and all files that share something."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((name for name, paths in TOGETHER.items() if file.startswith(paths)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Together | None:
    """With `--dist loadgroup` the groups are ours: xdist's own need an item's id changed, which this pytest does not let them."""
    return _Together(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where the tests of one mark are asked for, a file that does not name it is not imported: that takes half a minute."""
    mark = config.getoption("markexpr").partition(" ")[0]
    if mark not in ("end_to_end", "alone") or collection_path.suffix != ".py":
        return None
    return True if f"mark.{mark}" not in collection_path.read_text(encoding="utf-8") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The files that take longest begin: at the end one process would wait for the other's.
    items.sort(key=lambda item: item.path.name not in LONGEST)
    for item in items:
        if "trained_demo" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(DEMO_S))


@pytest.fixture(scope="session")
def trained_demo() -> demo.Demo:
    """The demo, trained and merged: minutes the first time, nothing after that."""
    # By the name that `make demo` gives it: the name goes into the contract.
    planned = demo.plan(str(STANDIN.relative_to(demo.ROOT)))
    planned.run.parent.mkdir(exist_ok=True)
    with (planned.run.parent / ".demo-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        demo.make(planned)
    return planned


@pytest.fixture(scope="session")
def demo_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo model's server tells what it does."""
    return tmp_path_factory.mktemp("demo") / "serve.log"


@pytest.fixture(scope="session")
def demo_server(trained_demo: demo.Demo, demo_log: Path) -> Iterator[str]:
    """The address of the demo model's server."""
    with demo.serving(trained_demo.model, demo.free_port(), demo_log) as address:
        yield address
