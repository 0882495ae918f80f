"""A container engine for the tests: the one that answers here, or one from Debian's packages where none does.

In: nothing, or `stop`. Out: Docker Engine, Compose v2, Buildx and the image python:3.11-slim-bookworm; or `NoEngine`
with the reason. Where no image registry can be reached, the image is made from Debian itself, so that the project's
own Dockerfiles build unchanged. Takes two or three minutes the first time, on Debian as root.

    python -m tests.containers.engine          # start it and leave it running
    python -m tests.containers.engine stop     # stop what that started
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BASE_IMAGE = "python:3.11-slim-bookworm"
STATE = Path(tempfile.gettempdir()) / "mindpal-engine"
PID_FILE = STATE / "dockerd.pid"
# The tests end the engine for which this stands.
LEFT_TO_TESTS = STATE / "left-to-tests"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Compose v2 and Buildx came to Debian with 13, and run on 12 as they are.
PLUGINS_RELEASE = "trixie"
PLUGINS = {"compose": "docker-compose", "buildx": "docker-buildx"}
# What the official slim image leaves out, too.
LEFT_OUT = ("var/lib/apt/lists", "var/cache", "usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale")
PULL_S = 120
START_S = 60


class NoEngine(Exception):
    """No container engine can be had on this machine; says why."""


def main() -> int:
    """Start or stop, and say what is there."""
    if sys.argv[1:] == ["stop"]:
        stop()
        return 0
    try:
        start()
    except NoEngine as error:
        print(error, file=sys.stderr)
        return 1
    print(_run("docker", "version", "--format", "Docker Engine {{.Server.Version}}").stdout.strip())
    return 0


def start() -> bool:
    """See to it that an engine answers; whether it was started here. Raises `NoEngine`."""
    STATE.mkdir(parents=True, exist_ok=True)
    if STATE.stat().st_uid != os.geteuid():
        raise NoEngine(f"{STATE} belongs to another user, who could name a process to be ended: remove it")
    for program in ("docker", "dockerd", "iptables"):
        if not _answers() and shutil.which(program) is None:
            _tell("installing Docker Engine (once)")
            _apt("install", "docker.io", "iptables")
    missing = [package for plugin, package in PLUGINS.items() if not _works("docker", plugin, "version")]
    if missing:
        _tell(f"installing {' and '.join(missing)} (once)")
        _install_plugins(missing)
    started = False
    if not _answers():
        _start_daemon()
        started = True
    if not _works("docker", "image", "inspect", BASE_IMAGE) and not _works("docker", "pull", "-q", BASE_IMAGE):
        _tell(f"no registry answers: making {BASE_IMAGE} from Debian's packages (once)")
        _make_base_image()
    return started


def leave_to_tests() -> None:
    """Whoever asks `was_left_to_tests` first ends the engine that `start` started."""
    LEFT_TO_TESTS.touch()


def was_left_to_tests() -> bool:
    """Whether the engine is the caller's to end; said once."""
    left = LEFT_TO_TESTS.is_file() and _daemon() is not None
    LEFT_TO_TESTS.unlink(missing_ok=True)
    return left


def forget_downloads() -> None:
    """Drop the packages that building fetched; what they became stays in the images, and builds on them stay quick."""
    _run("docker", "builder", "prune", "--force", "--filter", "type=exec.cachemount")


def drop_unnamed() -> None:
    """Drop what no image of a name needs: earlier builds of this checkout, and what the builder kept of them."""
    _run("docker", "image", "prune", "--force")
    _run("docker", "builder", "prune", "--force")


def stop() -> None:
    """End the engine that `start` started, and its containers with it."""
    number = _daemon()
    PID_FILE.unlink(missing_ok=True)
    if number is None:
        return
    try:
        os.kill(number, signal.SIGTERM)
        for _ in range(START_S):
            os.kill(number, 0)
            # Its parent may be this very process, which then has to hear that it ended.
            if os.waitpid(number, os.WNOHANG)[0]:
                return
            time.sleep(1)
    except (ProcessLookupError, ChildProcessError):
        return


def _daemon() -> int | None:
    """The process that `start` started, if it still runs: its number may be another's by now."""
    try:
        number = int(PID_FILE.read_text())
        name = Path(f"/proc/{number}/comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return number if name == "dockerd" else None


def _start_daemon() -> None:
    if os.geteuid() != 0:
        raise NoEngine("no container engine answers here, and only root may start one: start Docker, then try again")
    log = STATE / "dockerd.log"
    # Not a Popen: the engine is meant to outlive the object, which would warn of it.
    daemon = os.posix_spawnp(
        "dockerd",
        ["dockerd"],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    PID_FILE.write_text(str(daemon))
    LEFT_TO_TESTS.unlink(missing_ok=True)
    for _ in range(START_S):
        if _answers():
            return
        if os.waitpid(daemon, os.WNOHANG)[0]:
            break
        time.sleep(1)
    last = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise NoEngine(f"dockerd does not start here: {' '.join(last)}")


def _install_plugins(packages: list[str]) -> None:
    """Unpack the newer release's packages beside the client; nothing of it is installed into the system."""
    _need_debian()
    listed = Path("/etc/apt/sources.list.d/mindpal-engine.list")
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "cli-plugins"
    try:
        keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
        listed.write_text(f"deb [signed-by={keys}] {_mirror()} {PLUGINS_RELEASE} main\n")
        _apt("update")
        with tempfile.TemporaryDirectory(dir=STATE) as aside:
            Path(aside).chmod(0o755)
            _must("apt-get", "download", *(f"{package}/{PLUGINS_RELEASE}" for package in packages), folder=aside)
            for package in Path(aside).glob("*.deb"):
                _must("dpkg", "-x", str(package), aside)
            folder.mkdir(parents=True, exist_ok=True)
            for plugin in Path(aside).glob("usr/libexec/docker/cli-plugins/*"):
                shutil.copy(plugin, folder)
    finally:
        listed.unlink(missing_ok=True)
    _apt("update")


def _make_base_image() -> None:
    if shutil.which("debootstrap") is None:
        _apt("install", "debootstrap")
    _need_debian()
    with tempfile.TemporaryDirectory(dir=STATE) as aside:
        root = Path(aside) / "root"
        packages = "ca-certificates,python3,python3-venv,python3-pip"
        _must("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root), _mirror())
        for name in LEFT_OUT:
            shutil.rmtree(root / name, ignore_errors=True)
            (root / name).mkdir()
        # The official image lets pip write beside it.
        for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        environment = {"LANG": "C.UTF-8"}
        # What this machine's own pip trusts and knows holds inside, too.
        if CERTIFICATES.is_file():
            shutil.copyfile(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
            environment |= {"PIP_CERT": str(CERTIFICATES), "SSL_CERT_FILE": str(CERTIFICATES)}
        links = os.environ.get("PIP_FIND_LINKS", "")
        if links and Path(links).is_dir():
            shutil.copytree(links, root / links.lstrip("/"), dirs_exist_ok=True)
            environment |= {"PIP_FIND_LINKS": links, "UV_FIND_LINKS": links}
        changes = [f"ENV {name}={value}" for name, value in environment.items()] + ['CMD ["python3"]']
        changed = [word for change in changes for word in ("--change", change)]
        with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as packed:
            imported = subprocess.run(
                ["docker", "import", *changed, "-", BASE_IMAGE], stdin=packed.stdout, capture_output=True, text=True
            )
        if packed.returncode or imported.returncode:
            raise NoEngine(f"{BASE_IMAGE} cannot be made: {imported.stderr.strip()}")


def _mirror() -> str:
    """Where this machine's own packages come from."""
    for path in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        if path.is_file() and (found := re.search(r"^(?:URIs:|deb)\s+(https?://\S+)", path.read_text(), re.MULTILINE)):
            return found[1]
    raise NoEngine("the system's package sources name no Debian mirror: install Docker by hand")


def _need_debian() -> None:
    # Ubuntu's packages have other names, and its keys are not Debian's.
    system = Path("/etc/os-release").read_text(encoding="utf-8") if Path("/etc/os-release").is_file() else ""
    if os.geteuid() != 0 or not re.search(r"^ID=debian$", system, re.MULTILINE):
        raise NoEngine("no whole container engine here, and only root on Debian can install one: install Docker")


def _apt(*words: str) -> None:
    _need_debian()
    if words[0] == "install":
        _must("apt-get", "update", "-q")
    _must("apt-get", "-q", "-y", *words)


def _must(*command: str, folder: str | None = None) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NoEngine(f"`{' '.join(command[:3])}` failed here: {' '.join(said)}")


def _answers() -> bool:
    return shutil.which("docker") is not None and _works("docker", "info")


def _works(*command: str) -> bool:
    try:
        return _run(*command).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=PULL_S, check=False)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
