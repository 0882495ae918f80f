"""What the tests need from the system: installed here where that is allowed, told in one line where it is not.

python -m tests.system        # before the tests; `make test` calls it
"""

import os
import shutil
import subprocess
import sys

# Chromium without a window's frame: the same engine, and a page opens in it with two thirds of the work.
SHELL = "chromium-headless-shell"
CHROMIUM = shutil.which(SHELL) or shutil.which("chromium")
NO_CHROMIUM = f"the page needs Chromium: apt-get install -y {SHELL} fonts-noto-cjk"
# Program that has to be there, and the Debian packages that bring it.
NEEDED = {SHELL: (SHELL, "fonts-noto-cjk"), "createdb": ("postgresql",)}


def main() -> int:
    """Install what is missing. Always 0: a test whose program is missing skips itself, and says so."""
    missing = [package for program, packages in NEEDED.items() if shutil.which(program) is None for package in packages]
    if not missing:
        return 0
    line = f"apt-get install -y {' '.join(missing)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"SKIPPED: some tests need, or are quicker with, what `sudo {line}` installs.", file=sys.stderr)
        return 0
    print(f"installing {' '.join(missing)} (once)", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-q"], env=environment, capture_output=True, check=False)
    # One by one: not every release has all of them.
    for package in missing:
        command = ["apt-get", "install", "-q", "-y", package]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:]
            print(f"SKIPPED: what needs {package}, which cannot be installed: {' '.join(said)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
