"""vLLM's API server in this process, and its engine as a fork of it.

In: vLLM's own flags and variables, as `launch` derives them. Out: a server, until it is ended.

More than half of a start on two cores are imports, and vLLM's CPU platform has the engine's process do all of them again
("spawn"). On a GPU vLLM forks at the same place, where nothing has computed yet; here that holds on a CPU, too.
"""

import ctypes
import gc
import os
import signal
import sys

# linux/prctl.h
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become vLLM's server."""
    # Imports make a million objects and no garbage: looking for some takes a fifth of their time, and would later touch
    # every page that both processes share.
    gc.disable()
    from vllm.entrypoints.launchers.api_server import entry
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        # What the engine computes with, too: imported once, before there are two processes.
        import vllm.v1.worker.cpu_worker  # noqa: F401

        check, method = current_platform.check_and_update_config, os.environ["VLLM_WORKER_MULTIPROC_METHOD"]

        def check_and_keep(config: object) -> None:
            check(config)
            # Which the CPU platform has just overwritten.
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = method

        current_platform.check_and_update_config = check_and_keep
    gc.freeze()
    gc.enable()
    os.register_at_fork(after_in_child=end_with_parent)
    entry.main()


def end_with_parent() -> None:
    """Have the system kill this process when the one that forked it is gone. An engine that outlived its server would hold
    its memory and, inherited, its port."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
