"""What every verb of the trainer begins with."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# torch's own word on whether it will compile kernels of its own, asked after a verb has run.
_ASK = """
import sys
from finetune.__main__ import main
sys.argv = ["finetune", "recipe", "schema"]
assert main() == 0
from torch._native.common_utils import check_native_jit_disabled
print("off" if check_native_jit_disabled() else "on")
"""


def test_no_kernel_is_compiled_where_there_may_be_no_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", _ASK], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.stdout.splitlines()[-1:] == ["off"], done.stderr
