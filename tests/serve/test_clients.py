"""Every example of serve/CLIENTS.md does what it promises, against the real server."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serve.server import PATIENCE_S, ROOT, Server

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

TEXT = (ROOT / "serve" / "CLIENTS.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```(sh|python|js)\n(.*?)```", TEXT, flags=re.DOTALL)


def test_every_kind_of_client_has_an_example() -> None:
    assert [kind for kind, _ in EXAMPLES] == ["sh", "python", "python", "python", "python", "js"]
    for name in ("curl", "AsyncOpenAI", "stream=True", "langchain_openai", 'from "openai"'):
        assert name in TEXT


@pytest.mark.parametrize(("kind", "example"), EXAMPLES)
def test_an_example_runs(server: Server, tmp_path: Path, kind: str, example: str) -> None:
    assert "http://127.0.0.1:8000" in example
    example = example.replace("http://127.0.0.1:8000", server.address)
    file = tmp_path / f"example.{'mjs' if kind == 'js' else kind}"
    file.write_text(example, encoding="utf-8")
    program, needed = {"sh": ("bash", "curl"), "python": (sys.executable, sys.executable), "js": ("node", "npm")}[kind]
    if not (shutil.which(program) and shutil.which(needed)):
        pytest.skip(f"AN EXAMPLE IS NOT TESTED: this machine has not both {program} and {needed}")
    if kind == "js":
        install = [
            "npm",
            "install",
            "--prefix",
            str(tmp_path),
            "--prefer-offline",
            "--no-audit",
            "--no-fund",
            "openai@6",
        ]
        done = subprocess.run(install, cwd=tmp_path, capture_output=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr.decode()[-2000:]
    # A proxy of the environment must not be asked for this machine's own address.
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run([program, str(file)], cwd=tmp_path, env=environment, capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()[-2000:]
    assert done.stdout.strip()
