"""Runs a program deaf to the network's changes: `python tests/deaf.py PROGRAM WORD...`.

Chromium ends every request when any interface comes or goes, and a container that starts or ends makes and unmakes one:
a page beside it stays half loaded. It hears of interfaces by a netlink socket, and goes on without where it gets none.
"""

import errno
import os
import socket
import sys

try:
    import pyseccomp as seccomp

    no_netlink = seccomp.SyscallFilter(seccomp.ALLOW)
    refused = seccomp.ERRNO(errno.EAFNOSUPPORT)
    no_netlink.add_rule(refused, "socket", seccomp.Arg(0, seccomp.EQ, socket.AF_NETLINK))
    no_netlink.load()
except (ImportError, RuntimeError, OSError) as error:
    print(f"the browser hears of the network's changes: {error}", file=sys.stderr)

os.execv(sys.argv[1], sys.argv[1:])
