"""vLLM's API server in this process, and on a CPU its engine as a fork of it.

In: vLLM's own flags and variables, as `launch` derives them. Out: a server, until it is ended.

On two cores more than half of a start are imports, and vLLM's CPU platform has the engine's process do all of them again
("spawn"). Where vLLM makes that process nothing has computed yet and no other thread runs, so that it can be a fork.
"""

import ctypes
import gc
import os
import signal
import socket
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
        # What the engine computes with, too: imported once, before there are two processes. Of a model that it has not
        # imported vLLM asks a third one, which imports everything again.
        import vllm.v1.worker.cpu_worker  # noqa: F401
        from vllm.model_executor.models import ModelRegistry
        from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM

        del ModelRegistry.models[Qwen3ForCausalLM.__name__]
        ModelRegistry.register_model(Qwen3ForCausalLM.__name__, Qwen3ForCausalLM)
        check, method = current_platform.check_and_update_config, os.environ["VLLM_WORKER_MULTIPROC_METHOD"]

        def check_and_keep(config: object) -> None:
            check(config)
            # Which the CPU platform has just overwritten.
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = method

        current_platform.check_and_update_config = check_and_keep
    gc.freeze()
    gc.enable()
    os.register_at_fork(after_in_child=leave_to_parent)
    entry.main()


def leave_to_parent() -> None:
    """In a process that the server made: hold nothing that is the server's, and end with it, also after `kill -9`.

    An engine that lived on would keep its memory and its GPU. A port that it held, too, would still take connections which
    nobody answers, once the server is asked to end; and by the inherited wakeup socket a signal to the engine would look
    like one to the server.
    """
    signal.set_wakeup_fd(-1)
    null = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/proc/self/fd") if sys.platform == "linux" else []:
        if _is_port(int(name)):
            # Not closed: the socket's object in this process still has the number.
            os.dup2(null, int(name))
    os.close(null)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _is_port(number: int) -> bool:
    """Whether it is a socket for connections to come: vLLM binds it before it forks, and listens only later."""
    try:
        found = socket.socket(fileno=number)
    except OSError:
        return False
    try:
        if found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM:
            found.getpeername()
        return False
    except OSError:
        # Connected to nobody.
        return True
    finally:
        # The number is not ours to close.
        found.detach()


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    # An engine that was spawned, as on a GPU, imports this module by this name.
    leave_to_parent()
