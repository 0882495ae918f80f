"""The drawing of the design as a test: who may import whom, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A part and what of ours it may import besides itself.
MAY_IMPORT = {"data": set(), "finetune": {"data"}, "serve": {"data"}, "ui": {"data"}}


def imports(path: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the whole name of what is imported"
            found.add(str(node.module).split(".")[0])
    return found


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_the_arrows_hold(part: str) -> None:
    files = sorted((ROOT / part).rglob("*.py"))
    assert len(files) > 3
    ours = {*MAY_IMPORT, "tests"}
    for path in files:
        assert imports(path) & ours <= MAY_IMPORT[part] | {part}, path


def test_the_names_of_the_protocol_are_written_once() -> None:
    written = [
        path for part in MAY_IMPORT for path in (ROOT / part).rglob("*.py") if "x-mindpal-" in path.read_text("utf-8")
    ]
    assert written == [ROOT / "data" / "protocol.py"]


def test_a_page_holds_no_torch() -> None:
    files = sorted((ROOT / "ui").rglob("*.py"))
    assert len(files) > 10
    for path in files:
        assert not imports(path) & {"torch", "transformers", "vllm", "trl", "peft"}, path


@pytest.mark.parametrize(
    "module", ["finetune.__main__", "finetune.recipe", "serve.__main__", "ui.__main__", "data.contract"]
)
def test_importing_a_command_line_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; print(sorted(set(sys.modules) & {{'torch', 'transformers', 'vllm', 'streamlit'}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
