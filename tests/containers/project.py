"""A compose project of the tests: its name, its variables, and what a test wants to know of its containers."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import docker

ROOT = Path(__file__).resolve().parents[2]
READY_S = 420


@dataclass(frozen=True)
class Project:
    """One `docker compose -p NAME` on this machine."""

    name: str
    client: docker.DockerClient
    page_port: int
    # What .env would hold.
    variables: Mapping[str, str]

    def compose(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run `docker compose WORDS` on compose.yaml, untouched by a .env of this checkout."""
        ours = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "DOCKER_HOST", "TMPDIR")}
        done = subprocess.run(
            ["docker", "compose", "--env-file", os.devnull, "-p", self.name, *words],
            cwd=ROOT, env={**ours, **self.variables}, capture_output=True, text=True, timeout=1200, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"docker compose {' '.join(words)}:\n{done.stderr[-3000:]}"
        return done

    def up(self) -> None:
        """Bring the server and the page up, and wait until both are healthy."""
        done = self.compose("up", "--detach", "--wait", "--wait-timeout", str(READY_S), check=False)
        if done.returncode:
            said = self.compose("logs", "--no-color", "--tail", "60", check=False).stdout
            raise AssertionError(f"{done.stderr[-1000:]}\n{said}")

    def containers(self) -> dict[str, Any]:
        """The running containers by service."""
        found = self.client.containers.list(filters={"label": f"com.docker.compose.project={self.name}"})
        return {one.labels["com.docker.compose.service"]: one for one in found}

    def address(self, service: str) -> str:
        """A container's address on the network `model`, which this machine alone can reach."""
        networks = self.containers()[service].attrs["NetworkSettings"]["Networks"]
        return str(networks[f"{self.name}_model"]["IPAddress"])

    def end(self) -> None:
        """Remove the project with its volumes."""
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")

    def with_variables(self, **changed: str) -> Self:
        """The same project with other variables; an empty one is not set."""
        merged = {**self.variables, **changed}
        return replace(self, variables={name: value for name, value in merged.items() if value})


def health(container: Any) -> str:
    """What the engine says of a container: starting, healthy, unhealthy."""
    container.reload()
    return str(container.attrs["State"].get("Health", {}).get("Status", "none"))


def until(condition: Callable[[], bool], what: str, seconds: float = READY_S) -> None:
    """Wait for `condition`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)
