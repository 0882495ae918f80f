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


# What is made once, for several files: the containers' engine, the demo and its server, the small server.
SHARED = ("started", "trained_demo", "server")
DEMO_S = 1800


# Before the plugin looks at the groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes run the tests, what is shared is made by one of them, and a file is run by one."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        shared = next((name for name in SHARED if name in fixtures), item.path.name)
        item.add_marker(pytest.mark.xdist_group(shared))
        if shared == "trained_demo":
            # Whichever comes first trains it, beside other tests.
            item.add_marker(pytest.mark.timeout(DEMO_S))


@pytest.fixture(scope="session")
def trained_demo() -> demo.Demo:
    """The demo, trained and merged: minutes the first time, nothing after that."""
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
