"""Be Streamlit for one page of this project. In: the page's script, a host, a port, the names that it is opened by.
Out: a page, until it is ended.

Run: `check_port(host, port); serve(app, host, port, names_from(os.environ))`, as the programs of both pages do.
"""

import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.strict import BadInput

ROOT = Path(__file__).parent.parent


def check_port(host: str, port: int) -> None:
    """Raise `BadInput` when nobody can listen there."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except (OSError, OverflowError) as error:
        raise BadInput(f"{host}:{port} cannot be listened on ({error}); choose another port with --port.") from None


def address(host: str, port: int) -> str:
    """What a person on this machine types to see the page."""
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"


def names_from(environment: Mapping[str, str]) -> list[str]:
    """The names in `MINDPAL_HOSTS`, with commas between them: what a proxy in front of the page is called."""
    return [name.strip() for name in environment.get("MINDPAL_HOSTS", "").split(",") if name.strip()]


def allowed_hosts(host: str, names: Sequence[str]) -> list[str]:
    """By which names the page answers: this machine, addresses in numbers, and `names`.

    A website that a child opens may let its own name point to 127.0.0.1, and would then read the page as if it were its
    own (DNS rebinding). It cannot do that with a number: no name ends with one.
    """
    numbers = [f"*.{last}" for last in range(256)]
    return ["localhost", "::1", *([] if host in ("0.0.0.0", "::") else [host]), *numbers, *names]


def serve(app: Path, host: str, port: int, names: Sequence[str]) -> None:
    """Serve `app` until the process is told to end. Its settings lie in `.streamlit/config.toml` beside it."""
    from streamlit.web import cli

    stay_at_home()
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    cli.main(
        [
            *("run", str(app), f"--server.address={host}", f"--server.port={port}"),
            *(f"--server.allowedHosts={name}" for name in allowed_hosts(host, names)),
        ],
        prog_name="streamlit",
        standalone_mode=False,
    )


def stay_at_home() -> None:
    """Streamlit asks the internet for this machine's address when it checks where a request comes from. Ours does not."""
    from streamlit import net_util

    net_util.get_external_ip = lambda: None
