"""What the tests share: one demo model, trained once and kept, and one server of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune.pretrain import STANDIN
from tests import demo

ROOT = Path(__file__).parent
# Tests that share what one worker alone may have: the engine and its containers, and the demo model with its server.
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
        "test_readme.py",
        "ui/test_story.py",
    ),
}
GROUP_OF = {ROOT / file: group for group, files in SHARED.items() for file in files}

# A hub must never be asked, whatever a test does.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# And a family's records, where this shell knows them, are not written to.
for name in ("DATABASE_URL", "MINDPAL_KEY_FILE"):
    os.environ.pop(name, None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests for the workers, by what they share or else by file; what takes long comes first."""
    assert all(path.is_file() for path in GROUP_OF)

    def is_slow(item: pytest.Item) -> bool:
        return item.get_closest_marker("end_to_end") is not None

    def group(item: pytest.Item) -> str | None:
        return GROUP_OF.get(item.path) if is_slow(item) else None

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item) or str(item.path.relative_to(ROOT))))
    items.sort(key=lambda item: 0 if group(item) else 1 if is_slow(item) else 2)


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
