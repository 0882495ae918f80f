"""What the container tests share: an engine, the images, and one project that serves the stand-in, tuned in a container."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import docker
from finetune.pretrain import STANDIN
from tests.containers import engine
from tests.containers.project import CPU_IMAGES, ROOT, Project
from tests.demo import free_port
from tests.finetune.hub import Hub, running
from tests.ui.walk import daytime

# A file in the volume `runs`.
RECIPE = "runs/short.yaml"


@pytest.fixture(scope="session")
def started() -> Iterator[bool]:
    """See to it that an engine answers; whether it was started here. Such a one is tidied up and ended again."""
    try:
        here = engine.start() or engine.was_left_to_tests()
    except engine.NoEngine as reason:
        pytest.skip(f"NO CONTAINER IS TESTED: {reason}")
    yield here
    if here:
        engine.drop_unnamed()
        engine.stop()


@pytest.fixture(scope="session")
def client(started: bool) -> Iterator[docker.DockerClient]:
    """A client of the engine."""
    connected = docker.from_env(timeout=120)
    yield connected
    connected.close()


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The secrets that `make up` makes."""
    folder = tmp_path_factory.mktemp("secrets")
    subprocess.run([sys.executable, "docker/keys.py", str(folder)], cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def empty_project(started: bool, client: docker.DockerClient, secrets: Path) -> Iterator[Project]:
    """The images, built, and a project of which nothing runs."""
    port = free_port()
    variables = {
        **CPU_IMAGES, "SECRETS": str(secrets), "PAGE_PORT": str(port), "RECIPE": RECIPE, "TZ": daytime(),
    }  # fmt: skip
    project = Project("mindpal-test", client, port, variables)
    project.end()
    project.build()
    # Four gigabytes, on a machine that may have few. Whoever's own engine this is keeps them.
    if started:
        engine.forget_downloads()
    yield project
    project.end()


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a person types `make`: what a clone holds, as it is in this checkout."""
    return tmp_path_factory.mktemp("clone") / "mindpal"


@pytest.fixture(scope="session")
def project(empty_project: Project, clone: Path) -> Project:
    """The server and the page, up and healthy, on a model that was trained and merged from a base which a hub handed out."""
    empty_project.compose(
        "run", "--rm", "--no-deps", "--entrypoint", "sh", "finetune", "-euc",
        f"{{ cat finetune/recipes/tiny.yaml; echo 'max_steps: 4'; }} >{RECIPE}",
    )  # fmt: skip
    # The hub listens where this machine meets the network by which a trainer gets out, and hands the stand-in out by the name
    # of the contract's base.
    outside = empty_project.client.networks.get(f"{empty_project.name}_outside").attrs
    try:
        hub = Hub(STANDIN, host=outside["IPAM"]["Config"][0]["Gateway"])
    except OSError:
        # The engine has a machine of its own, which knows this one by a name.
        hub = Hub(STANDIN, host="0.0.0.0")
        hub.url = f"http://host.docker.internal:{hub.server_port}"
    with running(hub):
        empty_project.with_variables(HF_ENDPOINT=hub.url).make(clone, "download")
    assert len(hub.begun) == 1
    empty_project.compose("run", "--rm", "merge")
    told = empty_project.make(clone, "up")
    assert f"http://127.0.0.1:{empty_project.page_port}" in told
    return empty_project
