"""A compose project of the tests: its name, its variables, and what a test wants to know of its containers."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import pexpect

import docker
from tests.containers import engine

ROOT = Path(__file__).resolve().parents[2]
READY_S = 420
GIB = 2**30
# What of this checkout `make` and `docker compose` need.
CLONE = (
    "Makefile",
    "compose.yaml",
    "pyproject.toml",
    "constraints.txt",
    ".dockerignore",
    "docker",
    "data",
    "finetune",
    "serve",
    "ui",
)
# The images of a family on this machine keep their names.
IMAGES = "mindpal-test"
# By its tag: a base image that was made here has no registry's digest.
CPU_IMAGES = {"DEVICE": "cpu", "PYTHON_IMAGE": engine.BASE_IMAGE, "IMAGES": IMAGES}


@dataclass(frozen=True)
class Project:
    """One `docker compose -p NAME` on this machine."""

    name: str
    client: docker.DockerClient
    page_port: int
    # What .env would hold.
    variables: Mapping[str, str]

    def compose(self, *words: str, check: bool = True, given: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run `docker compose WORDS` on compose.yaml, untouched by a .env of this checkout; `given` is its input."""
        done = subprocess.run(
            ["docker", "compose", "--env-file", os.devnull, "-p", self.name, *words],
            cwd=ROOT, env={**_machine(), **self.variables}, input=given, capture_output=True, text=True, timeout=1200,
            check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"docker compose {' '.join(words)}:\n{done.stderr[-3000:]}"
        return done

    def build(self) -> None:
        """Build the images one after the other: two at once need more memory than some machines have."""
        for service in ("ui", "finetune", "serve"):
            self.compose("build", service)

    def type(self, clone: Path, *words: str) -> "pexpect.spawn[str]":
        """Type `make WORDS` in a terminal: its Ctrl-C is `sendintr`, which reaches every process once.

        Without one it would not: `docker` hands a signal on to its plugin `compose`, which has had the group's own, and
        takes the second for "at once".
        """
        self._fill(clone)
        return pexpect.spawn("make", list(words), cwd=str(clone), env=_machine(), encoding="utf-8", timeout=READY_S)

    def make(self, clone: Path, *words: str, code: int = 0) -> str:
        """`make WORDS` to its end, and with which code; what it said."""
        self._fill(clone)
        done = subprocess.run(
            ["make", *words], cwd=clone, env=_machine(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=1200, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"make {' '.join(words)}:\n{done.stdout[-3000:]}"
        return done.stdout

    def shell(self, clone: Path, lines: str) -> None:
        """Type lines into a shell, as README tells them."""
        self._fill(clone)
        done = subprocess.run(
            ["sh", "-eu", "-c", lines], cwd=clone, env=_machine(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=1200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{lines}:\n{done.stdout[-3000:]}"

    def _fill(self, clone: Path) -> None:
        """Make a clone whose .env holds the variables."""
        if not clone.is_dir():
            clone.mkdir()
            for name in CLONE:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                copy(ROOT / name, clone / name)
        variables = {**self.variables, "COMPOSE_PROJECT_NAME": self.name}
        (clone / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))

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

    def kill(self, container: Any, word: str) -> None:
        """End with -9 the process of a container whose command line has `word`, from the machine that the engine runs on, which
        may be a virtual one: `docker kill` counts as a wanted stop."""
        processes = container.top(ps_args="-eo pid,args")["Processes"]
        number = next(int(process[0]) for process in processes if word in process[1])
        self.client.containers.run(
            container.image, ["-c", f"kill -9 {number}"], entrypoint="sh", user="0", pid_mode="host", remove=True
        )

    def end(self) -> None:
        """Remove the project with its volumes."""
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")

    def with_variables(self, **changed: str) -> Self:
        """The same project with other variables; an empty one is not set."""
        merged = {**self.variables, **changed}
        return replace(self, variables={name: value for name, value in merged.items() if value})


def assert_locked_down(container: Any, *, memory: float, restart: str = "unless-stopped") -> None:
    """What SECURITY.md says of every container, as the engine itself tells it; `memory` in GiB."""
    container.reload()
    host, config = container.attrs["HostConfig"], container.attrs["Config"]
    assert (host["CapAdd"] or [], host["CapDrop"], host["Privileged"]) == ([], ["ALL"], False)
    assert (host["ReadonlyRootfs"], host["Init"]) == (True, True)
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["RestartPolicy"]["Name"] == restart
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
    assert host["Memory"] == memory * GIB
    assert 0 < host["PidsLimit"] <= 2048
    # The limits are in force, not only written down.
    assert int(_cgroup(container, "memory.max", "memory/memory.limit_in_bytes")) == memory * GIB
    assert int(_cgroup(container, "pids.max", "pids/pids.max")) == host["PidsLimit"]
    assert not any("docker.sock" in mount["Source"] for mount in container.attrs["Mounts"])
    assert config["Healthcheck"]["Test"]
    # Seconds, in the engine's nanoseconds.
    assert config["Healthcheck"]["StartPeriod"] >= 60 * 10**9


def _cgroup(container: Any, *places: str) -> str:
    """A limit from where a container sees it: cgroups of version 2, or of version 1."""
    done = container.exec_run(["sh", "-c", " || ".join(f"cat /sys/fs/cgroup/{place} 2>/dev/null" for place in places)])
    assert done.exit_code == 0, done.output
    return str(done.output.decode().strip())


def _machine() -> dict[str, str]:
    """What a container engine's programs need of this environment, and nothing of ours."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "DOCKER_HOST", "TMPDIR")}


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
