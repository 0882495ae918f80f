"""What the tests of the server share: one running server."""

from collections.abc import Iterator

import pytest

from tests.serve.server import Server, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for every test that only asks it something."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    with running(
        tmp_path_factory.mktemp("model"),
        log,
        MINDPAL_REQUESTS_PER_MINUTE="0",
        VLLM_CACHE_ROOT=str(log.parent / "cache"),
    ) as (made, _):
        yield made
