"""The profiles of compose.yaml beside the server and the page: the studio with its worker, PostgreSQL, the guard's model."""

import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import expect

from data.contract import read_contract
from serve.launch import gpu_share_from
from tests.browser import chromium
from tests.containers.project import IMAGES, READY_S, ROOT, Project, assert_locked_down, health, until
from tests.demo import free_port
from tests.ui.walk import first_run
from ui.locales import sentences

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]

SERVE_DOCKERFILE = ROOT / "docker" / "serve.Dockerfile"
# What the page's button does; the queue's folder is told.
_QUEUE = (
    "import pathlib; from ui.studio.jobs import Asked, queue;"
    "print(queue(pathlib.Path('runs'), Asked('data', {words}, 'containers')))"
)


@pytest.fixture(scope="module")
def studio(empty_project: Project) -> Iterator[Project]:
    """The studio's page and its worker, up and healthy, in a project of their own."""
    port = free_port()
    own = replace(empty_project, name="mindpal-test-studio", page_port=port).with_variables(STUDIO_PORT=str(port))
    own.end()
    own.compose("up", "--detach", "--wait", "studio", "worker")
    yield own
    own.end()


def _job(studio: Project, *words: str) -> str:
    """Ask for a job of the verb `data` the way the page does; its folder."""
    done = studio.containers()["studio"].exec_run(["python", "-c", _QUEUE.format(words=words)])
    assert done.exit_code == 0, done.output
    return str(done.output.decode().strip())


def _state(studio: Project, run: str) -> str:
    told = studio.containers()["studio"].exec_run(["cat", f"{run}/status.json"]).output
    return str(json.loads(told)["state"])


def _container(studio: Project, name: str) -> Any:
    return studio.containers()[name]


def test_the_studio_and_its_worker_are_healthy_and_locked_down(studio: Project) -> None:
    containers = studio.containers()
    assert {name: health(one) for name, one in containers.items()} == {"studio": "healthy", "worker": "healthy"}
    for name, container in containers.items():
        assert {process[0] for process in container.top(ps_args="-eo uid,pid,args")["Processes"]} == {"10001"}
        assert_locked_down(container, memory={"studio": 2, "worker": 24}[name])
        for place in ("/mindpal", "/mindpal/data", "/venv", "/etc", "/run/secrets"):
            assert container.exec_run(["touch", f"{place}/written"]).exit_code != 0, f"{name} can write to {place}"
    # The page asks and reads; only the worker makes models and data sets.
    for place, page_too in (("runs", True), ("models", False), ("sets", False), ("hub", False)):
        write = ["sh", "-c", f"touch {place}/.written && rm {place}/.written"]
        assert (containers["studio"].exec_run(write).exit_code == 0) == page_too, place
        assert containers["worker"].exec_run(write).exit_code == 0, place
    published = {
        name: [one["HostIp"] for bound in container.attrs["NetworkSettings"]["Ports"].values() for one in bound or []]
        for name, container in containers.items()
    }
    assert published == {"studio": ["127.0.0.1"], "worker": []}


def test_a_queued_job_is_done_and_a_killed_worker_does_the_next(studio: Project) -> None:
    first = _job(studio, "check", "--data-dir", "sets", "--json")
    until(lambda: _state(studio, first) == "done", "the worker did the job", 120)
    log = _container(studio, "studio").exec_run(["cat", f"{first}/job.log"]).output.decode()
    assert '"errors": 0' in log, log

    worker = _container(studio, "worker")
    studio.kill(worker, "worker")
    second = _job(studio, "check", "--data-dir", "sets")
    until(lambda: _state(studio, second) == "done", "the worker that came back did the job", 120)
    worker.reload()
    assert worker.attrs["RestartCount"] == 1
    # Asked to end, it ends by itself, long before the engine would kill it.
    studio.compose("stop", "worker")
    worker.reload()
    assert worker.attrs["State"]["ExitCode"] == 0


def test_the_records_in_postgresql_outlive_the_containers(empty_project: Project) -> None:
    port = free_port()
    files = "compose.yaml"
    if empty_project.compose("--profile", "db", "pull", "--quiet", "db", check=False).returncode:
        files += ":tests/containers/postgres/compose.yaml"
    own = replace(empty_project, name="mindpal-test-db", page_port=port).with_variables(
        PAGE_PORT=str(port), DATABASE_URL="postgresql+psycopg:///?service=mindpal", COMPOSE_FILE=files
    )
    rows = ["psql", "-U", "mindpal", "-Atc", "select count(*) from consents"]
    try:
        own.end()
        # Together, on an empty volume: the page waits until its records can be had.
        own.compose("up", "--build", "--detach", "--wait", "db", "ui")
        with chromium() as browser:
            page = browser.new_page(locale="zh-CN")
            page.set_default_timeout(90_000)
            page.goto(f"http://127.0.0.1:{port}")
            first_run(page)
            assert own.containers()["db"].exec_run(rows).output.strip() == b"1"
            assert own.containers()["ui"].exec_run("ls family").output.strip() == b""
            own.compose("--profile", "db", "down")
            assert own.containers() == {}
            own.compose("up", "--detach", "--wait", "db", "ui")
            assert own.containers()["db"].exec_run(rows).output.strip() == b"1"

            # As README copies them, and puts them into an empty volume.
            dump = own.compose(*in_readme("> copy.sql")).stdout
            assert "COPY public.consents " in dump
            own.end()
            own.compose("up", "--detach", "--wait", "db")
            own.compose(*in_readme("< copy.sql"), given=dump)
            own.compose("up", "--detach", "--wait", "ui")
            assert own.containers()["db"].exec_run(rows).output.strip() == b"1"
            page.goto(f"http://127.0.0.1:{port}")
            # No consent is asked for again: the child is greeted at once.
            expect(page.get_by_test_id("stChatInput")).to_be_visible()
            assert sentences("zh").welcome_title not in page.content()
        # Nothing but the companion reaches it.
        db = own.containers()["db"]
        assert set(db.attrs["NetworkSettings"]["Networks"]) == {f"{own.name}_records"}
        assert not any(db.attrs["NetworkSettings"]["Ports"].values())
        assert_locked_down(db, memory=1)
        assert "0" not in {process[0] for process in db.top(ps_args="-eo uid,pid,args")["Processes"]}
    finally:
        own.end()


def in_readme(words: str) -> list[str]:
    """The words of README's `docker compose` that reads or writes this file."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (line,) = (line for line in readme.splitlines() if line.partition("  #")[0].rstrip().endswith(words))
    return shlex.split(line.partition(words)[0])[2:]


def test_the_time_to_end_grows_with_the_servers_and_the_page_reaches_who_hears(empty_project: Project) -> None:
    for grace_s, told, answers in (("", "1m0s", ""), ("300", "5m5s", "docker/keys.py"), ("0", "5s", "")):
        variables = {
            "MINDPAL_GRACE_S": grace_s,
            "STT_URL": "http://192.168.1.20:8000/v1",
            "STT_KEY_FILE": "docker/keys.py",
            "MINDPAL_ANSWERS_FILE": answers,
            "MINDPAL_SENTENCES_FILE": answers,
        }
        config = empty_project.with_variables(**variables).compose("config", "--format", "json")
        project = json.loads(config.stdout)
        serve, ui = project["services"]["serve"], project["services"]["ui"]
        assert (serve["environment"]["MINDPAL_GRACE_S"], serve["stop_grace_period"]) == (grace_s, told)
        # A file that is named is the one that is mounted where server or page is told; none is named, and they read their own.
        for reader, variable, name, own in (
            (serve, "MINDPAL_ANSWERS_FILE", "answers", "serve/guard/answers.yaml"),
            (ui, "MINDPAL_SENTENCES_FILE", "sentences", "ui/locales/en.yaml"),
        ):
            (mounted,) = reader["configs"]
            assert reader["environment"][variable] == (mounted["target"] if answers else "")
            assert project["configs"][name]["file"] == str(ROOT / (answers or own))
        assert ui["environment"]["STT_URL"] == variables["STT_URL"]
        # Not on an internal network alone.
        assert [name for name in ui["networks"] if not project["networks"][name].get("internal")] == ["outside"]
        # The file that is named, by the name that the page reads.
        assert project["secrets"]["stt_key"]["file"] == str(ROOT / variables["STT_KEY_FILE"])
        (mounted,) = (one for one in ui["secrets"] if one["source"] == "stt_key")
        # Compose tells the target as a name or as a whole path.
        assert ui["environment"]["STT_KEY_FILE"] == os.path.join("/run/secrets", mounted.get("target", "stt_key"))


def test_the_guards_model_gets_a_gpu_and_is_reached_by_the_server_alone(empty_project: Project) -> None:
    url = "http://guard:8000/v1"
    told = empty_project.with_variables(DEVICE="cuda", GUARD_URL=url).compose(
        "--profile", "guard", "config", "--format", "json"
    )
    services = json.loads(told.stdout)["services"]
    guard, serve = services["guard"], services["serve"]
    # The image of the server: the same version of vLLM for both.
    assert guard["image"] == serve["image"] == f"{IMAGES}/serve:cuda"
    assert re.search(r"^ARG VLLM_IMAGE=vllm/vllm-openai:v0\.32\.0\S*$", SERVE_DOCKERFILE.read_text(), re.MULTILINE)
    for service in (guard, serve):
        reserved = service["deploy"]["resources"]["reservations"]["devices"]
        assert [(one["driver"], one["count"], one["capabilities"]) for one in reserved] == [("nvidia", 1, ["gpu"])]
    assert "ports" not in guard
    assert set(guard["networks"]) == set(serve["networks"]) == {"model"}
    assert "secrets" not in guard
    # It answers to the name by which the server asks it.
    assert serve["environment"]["GUARD_URL"] == url
    assert serve["environment"]["GUARD_MODEL"] == guard["command"][guard["command"].index("--model") + 1]
    assert "--served-model-name" not in guard["command"]
    # Both find room on one GPU, though nobody shared it out.
    share = float(guard["command"][guard["command"].index("--gpu-memory-utilization") + 1])
    assert 0.5 < share + gpu_share_from(serve["environment"]) <= 0.9


def test_the_guards_model_runs_beside_the_server_and_is_reached_by_it(project: Project) -> None:
    # The stand-in lies in the volume under the name of the contract's base, and is nobody's guard: it starts and answers.
    own = project.with_variables(GUARD_MODEL=read_contract().base_model)
    try:
        own.compose("--profile", "guard", "up", "--detach", "--wait", "--wait-timeout", str(READY_S), "guard")
        guard = own.containers()["guard"]
        assert health(guard) == "healthy"
        assert_locked_down(guard, memory=16)
        assert {process[0] for process in guard.top(ps_args="-eo uid,pid,args")["Processes"]} == {"10001"}
        asked = (
            "import urllib.request as u; print(u.urlopen('http://guard:8000/v1/models', timeout=60).read().decode())"
        )
        told = own.containers()["serve"].exec_run(["python3", "-c", asked])
        assert json.loads(told.output)["data"][0]["id"] == read_contract().base_model
    finally:
        own.compose("--profile", "guard", "rm", "--stop", "--force", "guard")
