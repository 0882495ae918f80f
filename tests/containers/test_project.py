"""The whole compose project on a real engine: what README and SECURITY.md say of the containers, seen from outside."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import openai
import pexpect
import pytest
from playwright.sync_api import Page, expect

import docker
from tests.browser import chromium
from tests.containers import engine
from tests.containers.project import GIB, IMAGES, READY_S, ROOT, Project, assert_locked_down, health, until
from tests.demo import QUESTIONS, free_port
from tests.ui.walk import first_run, replies, say
from ui.locales import sentences

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(1800)]
MB = 1_000_000
# About what the official base image takes; the one of these tests also carries this machine's wheels.
OFFICIAL_BASE_MB = 150

# What the page itself reads: every word of every child.
_READ = (
    "import os; from ui.client import settings_from; from ui.database import url_for; from ui.store import Store;"
    "found = settings_from(os.environ); store = Store(url_for(found.family, found.database_url), found.key_file);"
    "chats = [chat for child in store.children() for chat in store.conversations(child.id)];"
    "print(*(message.text for chat in chats for message in store.messages(chat.id)), sep='\\n')"
)

# The page draws itself anew for every message, which takes its time beside a server that starts.
expect.set_options(timeout=60_000)


def test_every_service_is_healthy(project: Project) -> None:
    containers = project.containers()
    assert set(containers) == {"serve", "ui"}
    assert {name: health(one) for name, one in containers.items()} == {"serve": "healthy", "ui": "healthy"}


def test_no_process_runs_as_root(project: Project) -> None:
    for container in project.containers().values():
        top = container.top(ps_args="-eo uid,pid,args")
        assert top["Titles"][0] == "UID"
        assert len(top["Processes"]) >= 2
        assert {process[0] for process in top["Processes"]} == {"10001"}
        # torch and others ask for the user's name.
        assert container.exec_run("id -un").output == b"mindpal\n"


def test_the_engine_tells_of_every_container_what_was_promised(project: Project) -> None:
    containers = project.containers()
    for name, memory, grace_s in (("serve", 16, 60), ("ui", 2, 15)):
        assert_locked_down(containers[name], memory=memory)
        config, host = containers[name].attrs["Config"], containers[name].attrs["HostConfig"]
        assert config["StopTimeout"] == grace_s
        assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
        assert config["Labels"]["org.opencontainers.image.title"].startswith("MindPal: ")
        assert not any("PASSWORD" in one or "KEY=" in one for one in config["Env"])
        assert host["RestartPolicy"]["MaximumRetryCount"] == 0
    assert project.containers()["serve"].attrs["HostConfig"]["ShmSize"] == GIB


def test_the_profile_train_trains_first_and_merges_then(project: Project) -> None:
    # `docker compose run --rm merge`, in the fixture; what it depended on is left.
    trained = project.client.containers.list(
        all=True, filters={"label": [f"com.docker.compose.project={project.name}", "com.docker.compose.service=train"]}
    )
    assert [one.attrs["State"]["ExitCode"] for one in trained] == [0]
    assert trained[0].attrs["HostConfig"]["RestartPolicy"]["Name"] == "no"
    serve = project.containers()["serve"]
    seal = json.loads(serve.exec_run("cat models/current/mindpal.json").output)
    assert "max_steps: 4" in seal["provenance"]["recipe"]
    run = project.compose("run", "--rm", "--no-deps", "--entrypoint", "sh", "finetune", "-c", "cat runs/*/status.json")
    assert '"done"' in run.stdout


def test_a_write_outside_the_volumes_fails(project: Project) -> None:
    containers = project.containers()
    for name, container in containers.items():
        for place in ("/mindpal", "/mindpal/data", "/venv", "/home/mindpal", "/etc", "/run/secrets"):
            done = container.exec_run(["touch", f"{place}/written"])
            assert done.exit_code != 0, f"{name} can write to {place}"
    assert containers["serve"].exec_run("touch /mindpal/models/written").exit_code != 0
    assert containers["ui"].exec_run("sh -c 'touch /mindpal/family/x && rm /mindpal/family/x'").exit_code == 0


def test_only_the_page_is_published_and_only_here(project: Project) -> None:
    published = {
        name: [f"{one['HostIp']}:{one['HostPort']}" for bound in ports.values() for one in bound or []]
        for name, ports in ((name, one.attrs["NetworkSettings"]["Ports"]) for name, one in project.containers().items())
    }
    assert published == {"serve": [], "ui": [f"127.0.0.1:{project.page_port}"]}
    for name in ("model", "records"):
        assert project.client.networks.get(f"{project.name}_{name}").attrs["Internal"] is True
    # The server is on such a network alone: it reaches nothing outside.
    assert set(project.containers()["serve"].attrs["NetworkSettings"]["Networks"]) == {f"{project.name}_model"}


def test_the_api_answers_a_client_with_a_key(project: Project, secrets: Path) -> None:
    key = (secrets / "api_key").read_text().strip()
    address = f"http://{project.address('serve')}:8000/v1"
    stranger = openai.OpenAI(base_url=address, api_key="none", timeout=120, max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.chat.completions.create(model="mindpal", messages=[{"role": "user", "content": QUESTIONS[0]}])
    with openai.OpenAI(base_url=address, api_key=key, timeout=120, max_retries=0) as known:
        answer = known.chat.completions.create(model="mindpal", messages=[{"role": "user", "content": QUESTIONS[0]}])
        assert answer.choices[0].message.content


def test_a_trainer_that_asks_reaches_the_server_with_the_pages_key(project: Project) -> None:
    code = (
        "import pathlib, urllib.request as u; key = pathlib.Path('/run/secrets/api_key').read_text().strip();"
        "asked = u.Request('http://serve:8000/v1/models', headers={'Authorization': f'Bearer {key}'});"
        "print(u.urlopen(asked, timeout=30).status)"
    )
    asking = ("-f", "compose.yaml", "-f", "docker/asking.yaml")
    run = ("run", "--rm", "--no-deps", "--entrypoint", "python", "finetune", "-c", code)
    assert project.compose(*asking, *run).stdout.strip() == "200"
    # Any other one does not.
    assert project.compose(*run, check=False).returncode != 0


def test_two_projects_stand_side_by_side(project: Project) -> None:
    port = free_port()
    other = Project("mindpal-test-two", project.client, port, {**project.variables, "PAGE_PORT": str(port)})
    before = {name: one.id for name, one in project.containers().items()}
    try:
        other.compose("create")
        other.compose("up", "--detach", "--wait", "ui")
        for one in (project, other):
            with urllib.request.urlopen(f"http://127.0.0.1:{one.page_port}/_stcore/health", timeout=10) as answer:
                assert answer.status == 200
        assert {name: one.id for name, one in project.containers().items()} == before
        mine, theirs = (
            {mount["Name"] for one in each.containers().values() for mount in one.attrs["Mounts"] if "Name" in mount}
            for each in (project, other)
        )
        assert mine
        assert theirs
        assert not mine & theirs
    finally:
        other.end()


def test_what_is_missing_is_named(empty_project: Project, tmp_path: Path) -> None:
    done = empty_project.with_variables(DEVICE="").compose("config", check=False)
    assert done.returncode != 0
    assert "DEVICE" in done.stderr
    # Each of them, by itself.
    other = replace(empty_project, name="mindpal-test-bare").with_variables(SECRETS=str(tmp_path))
    names = ("api_key", "family_key", "db_service", "stt_key")
    for name in names:
        (tmp_path / name).touch()
    try:
        for name in names:
            (tmp_path / name).unlink()
            done = other.compose("up", "--detach", "ui", check=False)
            assert done.returncode != 0
            assert str(tmp_path / name) in done.stderr
            (tmp_path / name).touch()
    finally:
        other.end()


def test_a_model_that_is_not_there_is_told_and_nothing_starts_again_and_again(
    empty_project: Project, tmp_path: Path
) -> None:
    other = replace(empty_project, name="mindpal-test-bare")
    try:
        told = other.make(tmp_path / "clone", "up", code=2)
        assert "models/current: no such model folder; `make train merge` makes models/current" in told
        assert other.containers() == {}
    finally:
        other.end()


def test_the_images_are_small_and_tell_their_packages(empty_project: Project) -> None:
    base = empty_project.client.images.get("python:3.11-slim-bookworm").attrs["Size"]
    for name, most in (("ui", 600 - OFFICIAL_BASE_MB), ("serve:cpu", 300 - OFFICIAL_BASE_MB), ("finetune:cpu", 1650)):
        image = empty_project.client.images.get(f"{IMAGES}/{name}")
        own = (image.attrs["Size"] - base) / MB
        told = _run_once(empty_project.client, name, "cat", "/venv/PACKAGES.txt")
        venv = float(_run_once(empty_project.client, name, "du", "-s", "--block-size=1000000", "/venv").split()[0])
        print(f"{IMAGES}/{name}: {own:,.0f} MB beside the base image, {venv:,.0f} of them /venv")
        assert "pydantic" in told
        assert "MIT" in told
        assert own <= (most if name != "serve:cpu" else venv + most), f"{IMAGES}/{name}: {own:.0f} MB"
    missing = _run_once(
        empty_project.client, "ui", "python", "-c", "import importlib.util as u; print(u.find_spec('torch'))"
    )
    assert missing.strip() == "None"


@pytest.mark.parametrize(
    ("part", "argument"), [("ui", "DEVICE=cpu"), ("finetune", "TORCH_BACKEND=cpu"), ("serve", "DEVICE=cpu")]
)
def test_a_changed_source_installs_nothing_again(
    empty_project: Project, tmp_path: Path, part: str, argument: str
) -> None:
    for folder in {"data", "docker", "finetune/recipes", part}:
        shutil.copytree(
            ROOT / folder,
            tmp_path / folder,
            ignore=shutil.ignore_patterns("__pycache__", "standin"),
            dirs_exist_ok=True,
        )
    for name in ("pyproject.toml", "constraints.txt", ".dockerignore"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    with (tmp_path / part / "__main__.py").open("a", encoding="utf-8") as file:
        file.write(f"# changed: {os.getpid()}\n")
    # As a careful person's checkout is, which others may not read.
    for path in (tmp_path / part).rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    done = subprocess.run(
        ["docker", "buildx", "build", "--progress=plain", "--build-arg", f"PYTHON_IMAGE={engine.BASE_IMAGE}",
         "--build-arg", argument, "-f", f"docker/{part}.Dockerfile", "-t", "mindpal-test/changed", "."],
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    steps = done.stderr.splitlines()
    cached = {line.split()[0] for line in steps if line.endswith("CACHED")}
    installing, copying = (
        next(line.split()[0] for line in steps if words in line)
        for words in (f"docker/install.sh {part}", f"COPY {part} {part}")
    )
    told = empty_project.client.containers.run("mindpal-test/changed", ["--help"], remove=True)
    assert f"python -m {part}".encode() in told
    empty_project.client.images.remove("mindpal-test/changed")
    assert installing in cached
    assert copying not in cached


def test_packages_are_asked_of_the_mirror_that_is_named(empty_project: Project) -> None:
    asked: list[str] = []

    class Mirror(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as mirror:
        threading.Thread(target=mirror.serve_forever).start()
        named = f"PIP_INDEX_URL=http://127.0.0.1:{mirror.server_port}/simple"
        # Whether a wheel is found elsewhere or not: pip asked here first.
        subprocess.run(
            ["docker", "buildx", "build", "--network", "host", "--target", "installer", "--build-arg", named,
             "--build-arg", f"PYTHON_IMAGE={engine.BASE_IMAGE}", "-f", "docker/ui.Dockerfile", "."],
            cwd=ROOT, capture_output=True, timeout=300, check=False,
        )  # fmt: skip
        mirror.shutdown()
    assert "/simple/uv/" in asked


@pytest.fixture
def page(project: Project) -> Iterator[Page]:
    """The published page in a browser."""
    with chromium() as browser:
        opened = browser.new_page(locale="zh-CN")
        opened.set_default_timeout(90_000)
        opened.goto(f"http://127.0.0.1:{project.page_port}")
        yield opened


def test_a_child_loses_nothing_when_the_server_dies_or_all_goes_down(
    project: Project, clone: Path, page: Page, tmp_path: Path
) -> None:
    words = sentences("zh")
    first_run(page)
    say(page, QUESTIONS[0])
    expect(replies(page)).to_have_count(1, timeout=120_000)
    expect(page.get_by_test_id("stChatInputTextArea")).to_be_enabled()

    serve = project.containers()["serve"]
    restarts = serve.attrs["RestartCount"]
    project.kill(serve, "api_server")
    said = "我今天画了一只恐龙"
    say(page, said)
    expect(page.get_by_text(said)).to_be_visible()
    until(lambda: _restarts(serve) > restarts, "the server starts again")
    until(lambda: health(serve) == "healthy", "the server is healthy again")
    page.reload()
    expect(page.get_by_text(said)).to_be_visible()
    expect(replies(page).first).to_be_visible()

    # A copy of the records, made as README tells, and put into a new machine's empty volume as it tells: a page that has the
    # key starts on it, and reads what was said.
    project.shell(clone, in_readme("> copy.tar"))
    port = free_port()
    other = replace(project, name="mindpal-test-restored", page_port=port).with_variables(PAGE_PORT=str(port))
    other.end()
    try:
        other.make(tmp_path / "restored", "help")
        shutil.copy(clone / "copy.tar", tmp_path / "restored")
        restore, up = in_readme("< copy.tar").rstrip().rsplit("\n", 1)
        assert up.split()[:2] == ["make", "up"]
        other.shell(tmp_path / "restored", restore)
        other.compose("up", "--detach", "--wait", "--no-deps", "ui")
        read = other.containers()["ui"].exec_run(["python", "-c", _READ])
        assert said in read.output.decode().splitlines()
    finally:
        other.end()
    until(lambda: health(project.containers()["ui"]) == "healthy", "the page that was copied is back")

    project.make(clone, "down")
    assert project.containers() == {}
    project.make(clone, "up")
    served = project.containers()["serve"]
    assert re.fullmatch(r"\S+ [0-9a-f]{8}", served.labels["mindpal.model"])
    page.goto(f"http://127.0.0.1:{project.page_port}")
    # No consent is asked for again: the child is greeted at once.
    expect(page.get_by_test_id("stChatInput")).to_be_visible()
    page.locator(".st-key-history button").first.click()
    expect(page.get_by_text(QUESTIONS[0], exact=True).first).to_be_visible()
    expect(page.get_by_text(said)).to_be_visible()
    assert words.welcome_title not in page.content()
    kept = project.compose(
        "run", "--rm", "--no-deps", "--entrypoint", "sh", "finetune", "-c", "ls runs/*/ models"
    ).stdout
    assert "status.json" in kept
    assert "current" in kept


def test_the_trainers_verbs_typed_as_they_are_told(project: Project, clone: Path, tmp_path: Path) -> None:
    # A base in a folder and a recipe in a file, both of this machine.
    recipe = tmp_path / "mine.yaml"
    recipe.write_text((ROOT / "finetune/recipes/tiny.yaml").read_text() + "max_steps: 2\n")
    said = project.make(
        clone, "train", "merge", "WHERE=containers", "BASE=data/standin", f"RECIPE={recipe}", "RUN=runs/typed"
    )
    assert "runs/typed" in said
    told = project.make(clone, "ps")
    assert re.search(r"-serve-1\b.*\(healthy\)", told)
    assert re.search(r"-ui-1\b.*\(healthy\)", told)
    # Ctrl-C leaves `make logs`, which follows.
    following = project.type(clone, "logs")
    following.expect("serve-1")
    following.sendintr()
    following.expect(pexpect.EOF)
    following.close()
    assert set(project.containers()) == {"serve", "ui"}
    models = project.containers()["serve"].exec_run("readlink models/current").output.decode().strip()
    assert models.endswith("typed")


def test_make_serve_publishes_the_api_of_a_folder_here_and_ends_after_its_answers(
    project: Project, clone: Path, secrets: Path, tmp_path: Path
) -> None:
    port, mine = free_port(), tmp_path / "mine"
    project.compose("cp", "serve:/mindpal/models/current/.", str(mine))
    # Not in the place of the server that the page has.
    refused = subprocess.run(
        ["make", "serve", "WHERE=containers"], cwd=clone, capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0
    assert "The server runs already" in refused.stderr
    project.make(clone, "down")
    serving = project.type(clone, "serve", f"PORT={port}", f"MODEL={mine}")
    # Read all the time: a full terminal would hold it up.
    with ThreadPoolExecutor(1) as beside:
        ended = beside.submit(serving.expect, pexpect.EOF, READY_S * 2)
        try:
            # The key is asked for before anything else: a server that answers so is ready.
            until(lambda: _status(f"http://127.0.0.1:{port}/v1/models") == 401, "the published API answers")
            container = project.containers()["serve"]
            bound = container.attrs["NetworkSettings"]["Ports"]["8000/tcp"]
            assert [(one["HostIp"], one["HostPort"]) for one in bound] == [("127.0.0.1", str(port))]
            mounts = {one["Destination"]: (one["Source"], one["RW"]) for one in container.attrs["Mounts"]}
            assert mounts["/mindpal/given"] == (str(mine), False)
            # Reached from here, and reaching nothing outside.
            networks = {
                name: project.client.networks.get(name).attrs for name in container.attrs["NetworkSettings"]["Networks"]
            }
            assert set(networks) == {f"{project.name}_model", f"{project.name}_published"}
            for network in networks.values():
                masquerades = network["Options"].get("com.docker.network.bridge.enable_ip_masquerade")
                assert network["Internal"] or masquerades == "false"
            key = (secrets / "api_key").read_text().strip()
            finishes = asyncio.run(_stopped_while_it_answers(f"http://127.0.0.1:{port}/v1", key, serving))
            # None broke off.
            assert set(finishes) <= {"stop", "length", "content_filter"}
            ended.result()
        finally:
            serving.close(force=True)
    container.reload()
    # It ended by itself, in time.
    assert (container.attrs["State"]["Running"], container.attrs["State"]["ExitCode"]) == (False, 0)
    project.make(clone, "down")
    assert project.containers() == {}


async def _stopped_while_it_answers(address: str, key: str, serving: "pexpect.spawn[str]") -> list[str | None]:
    """Press Ctrl-C while answers are under way; how each of them ended."""
    begun: set[int] = set()

    async def one(number: int, client: openai.AsyncOpenAI) -> str | None:
        stream = await client.chat.completions.create(
            model="mindpal", messages=[{"role": "user", "content": QUESTIONS[0]}], seed=number, stream=True
        )
        finish = None
        async for chunk in stream:
            begun.add(number)
            finish = (chunk.choices[0].finish_reason if chunk.choices else None) or finish
        return finish

    async with openai.AsyncOpenAI(base_url=address, api_key=key, timeout=300, max_retries=0) as client:
        asked = [asyncio.ensure_future(one(number, client)) for number in range(48)]
        while not (answering := [each for number, each in enumerate(asked) if number in begun and not each.done()]):
            assert not all(each.done() for each in asked), "all had ended before Ctrl-C"
            await asyncio.sleep(0.01)
        serving.sendintr()
        # One whose first word has not come may not have been read yet: the closing server takes no more.
        await asyncio.gather(*asked, return_exceptions=True)
    return [each.result() for each in answering]


def in_readme(words: str) -> str:
    """The lines of README in which these words stand, with what stands around them."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (lines,) = (block for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL) if words in block)
    return str(lines)


def _status(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _restarts(container: "docker.models.containers.Container") -> int:
    container.reload()
    return int(container.attrs["RestartCount"])


def _run_once(client: docker.DockerClient, image: str, program: str, *words: str) -> str:
    said = client.containers.run(f"{IMAGES}/{image}", list(words), entrypoint=program, remove=True, network_mode="none")
    return str(said.decode())
