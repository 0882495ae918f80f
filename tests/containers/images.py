"""The project's images for a CPU, built ahead of the container tests, which then find every layer there.

In: this checkout. Out: the images; where no engine can be had, a line that says why. Building waits for packages and a
disk most of the time, so `make test` does it beside the quick tests.

    python -m tests.containers.images
"""

import sys
from contextlib import closing

import docker
from tests.containers import engine
from tests.containers.project import CPU_IMAGES, Project


def main() -> int:
    """Start an engine where none answers, and build. Always 0: the tests tell what they miss."""
    try:
        if engine.start():
            engine.leave_to_tests()
        with closing(docker.from_env()) as client:
            Project("mindpal-images", client, 0, CPU_IMAGES).build()
    except (engine.NoEngine, AssertionError) as reason:
        print(f"NO IMAGE IS BUILT: {reason}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
