"""What every verb of the trainer begins with."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# After a verb has run: torch's own word on whether it will compile kernels of its own, and the hub's client's on whether it
# will ask other servers than the hub's.
_ASK = """
import sys
from finetune.__main__ import main
sys.argv = ["finetune", "recipe", "schema"]
assert main() == 0
from torch._native.common_utils import check_native_jit_disabled
print("off" if check_native_jit_disabled() else "on")
from huggingface_hub.utils._runtime import is_xet_available
print("on" if is_xet_available() else "off")
"""


def test_no_kernel_is_compiled_where_there_may_be_no_compiler_and_no_server_asked_that_no_mirror_has() -> None:
    done = subprocess.run([sys.executable, "-c", _ASK], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.stdout.splitlines()[-2:] == ["off", "off"], done.stderr
