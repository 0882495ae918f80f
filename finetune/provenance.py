"""What made a result: the versions of what counts, and the code's commit."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "safetensors", "tokenizers", "numpy")


def versions() -> dict[str, str]:
    """Python's version, and those of the packages that compute."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def code_commit() -> str:
    """The code's commit, with `-dirty` where files differ from it. A container image holds it in a file."""
    stamp = Path(__file__).parents[1] / "COMMIT"
    if stamp.is_file():
        return stamp.read_text(encoding="utf-8").strip()
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent,
    )  # fmt: skip
    return done.stdout.strip() if done.returncode == 0 else "unknown"
