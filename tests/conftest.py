"""What the tests share: one demo model, trained once and kept, and one server of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune.pretrain import STANDIN
from tests import demo

# A hub must never be asked, whatever a test does.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# And a family's records, where this shell knows them, are not written to.
for name in ("DATABASE_URL", "MINDPAL_KEY_FILE"):
    os.environ.pop(name, None)


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes longest begins first: at the end one worker would wait for the other's."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")
