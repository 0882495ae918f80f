"""A set grown with our own served model as the teacher: it goes wrong politely, and nothing bad is kept."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]


def test_a_small_teacher_is_listened_to_and_refused(demo_server: str, tmp_path: Path) -> None:
    words = ["--teacher", f"{demo_server}/v1", "--model", "mindpal", "--count", "1", "--out", str(tmp_path / "grown")]
    done = subprocess.run(
        [sys.executable, "-m", "finetune", "data", "synthesize", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    # The stand-in cannot write a conversation in the form that is asked for.
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = (tmp_path / "grown" / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines
    assert all(json.loads(line)["reasons"] for line in lines)
    assert (tmp_path / "grown" / "grown.jsonl").read_text(encoding="utf-8") == ""
