"""The real policy and guard on a port of this machine, before an engine that always says the same."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from serve.limits import Limits
from serve.policy import Policy, Settings
from tests.demo import free_port
from tests.serve.test_policy import Engine


@contextmanager
def guarded(folder: Path, *pieces: str, keys: Any = None) -> Iterator[tuple[str, Engine]]:
    """The address of a server of a sealed model folder, and its engine, which records what it was asked."""
    engine, port = Engine(*pieces), free_port()
    policy = Policy(engine, Settings(folder, keys, Limits(per_minute=0, at_once=0)))
    server = uvicorn.Server(uvicorn.Config(policy, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}", engine
    finally:
        server.should_exit = True
        thread.join()
