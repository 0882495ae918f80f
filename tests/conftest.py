"""What the tests share: one demo model, trained once and kept, and one server of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from finetune.pretrain import STANDIN
from tests import demo

# Tests that share what one worker alone may have: the engine and its containers; the demo model and the servers.
SHARED = {
    "containers": ("containers/test_profiles.py", "containers/test_project.py"),
    "server": (
        "finetune/test_answers.py",
        "finetune/test_data_synthesize_served.py",
        "finetune/test_proof.py",
        "serve/test_clients.py",
        "serve/test_hard.py",
        "serve/test_server.py",
        "test_demo.py",
        "ui/test_story.py",
    ),
}
GROUP_OF = {f"tests/{file}": group for group, files in SHARED.items() for file in files}

# A hub must never be asked, whatever a test does.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# And a family's records, where this shell knows them, are not written to.
for name in ("DATABASE_URL", "MINDPAL_KEY_FILE"):
    os.environ.pop(name, None)


class ByWhatIsShared(LoadScopeScheduling):  # type: ignore[misc]
    """Give one worker all the tests that share something, or else all of a file, and begin with what takes long."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return GROUP_OF.get(file, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return ByWhatIsShared(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes long first: it would be waited for at the end."""
    assert all((demo.ROOT / file).is_file() for file in GROUP_OF)

    def rank(item: pytest.Item) -> int:
        is_shared = item.nodeid.partition("::")[0] in GROUP_OF
        return 0 if is_shared else 1 if item.get_closest_marker("end_to_end") else 2

    items.sort(key=rank)


@pytest.fixture(scope="session")
def trained_demo() -> demo.Demo:
    """The demo, trained and merged: a minute or two the first time, nothing after that."""
    # By the name that `make demo` gives it: the name goes into the contract.
    planned = demo.plan(str(STANDIN.relative_to(demo.ROOT)))
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
