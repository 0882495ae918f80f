"""The tests' browser hears nothing of the network's changes, and has all else of the network. Run: `pytest tests/test_deaf.py`."""

import subprocess
import sys

import pytest

from tests.browser import DEAF

ASKS = """
import socket
socket.socket(socket.AF_INET).close()
socket.socket(socket.AF_UNIX).close()
try:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
def test_a_program_gets_no_word_of_interfaces() -> None:
    done = subprocess.run(
        [sys.executable, DEAF, sys.executable, "-c", ASKS], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("Address family not supported by protocol\n", "")
