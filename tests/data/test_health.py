"""Whether a container's own page or server answers, as an exit code. Run: `pytest tests/data/test_health.py`."""

import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from tests.demo import free_port

ROOT = Path(__file__).parents[2]


def test_health_is_an_exit_code_and_no_proxy_is_asked() -> None:
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    # What an engine takes over from ~/.docker/config.json.
    nobody = f"http://127.0.0.1:{free_port()}"
    environment = {**os.environ, "http_proxy": nobody, "HTTP_PROXY": nobody, "no_proxy": ""}

    def health(address: str) -> int:
        command = [sys.executable, "-m", "data.health", address]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False
        )
        # One sentence where nothing answers, whatever is wrong.
        assert done.stderr.count("\n") <= 1, done.stderr
        return done.returncode

    with HTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert health(f"http://127.0.0.1:{server.server_port}/health") == 0
        assert health(f"http://127.0.0.1:{server.server_port}/none") == 1
        server.shutdown()
    assert health(f"{nobody}/health") == 1
    assert health("http://127.0.0.1:80 80/health") == 1


def test_every_container_is_asked_so() -> None:
    files = [*(ROOT / "docker").glob("*.Dockerfile"), ROOT / "compose.yaml"]
    asked = [line for path in files for line in path.read_text().splitlines() if "http://127.0.0.1:" in line]
    assert len(asked) == 3
    assert all(re.search(r'-m"?, "?data\.health"?, "http://127', line) for line in asked), asked
