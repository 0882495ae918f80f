"""Whether an address leads out of this network: a child's words and voice go to servers in it, and to no other.

In: an address as the environment names it. Out: nothing, or `BadInput`. The server asks it of GUARD_URL, the page of
MINDPAL_API_URL and STT_URL.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from data.strict import BadInput

# For measuring networks, so in nobody's house; what a proxy program answers for every name in the world, to lead it out.
_FAKE = ipaddress.ip_network("198.18.0.0/15")


def check_inside(name: str, url: str) -> None:
    """Raise `BadInput`, naming the variable `name`, where `url` is no address of a server, or a public one.

    A name that is not known yet passes: its server may still be starting.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:  # half an IPv6 address, or no port
        host = None
    if not host or not url.lower().startswith(("http://", "https://")):
        raise BadInput(f"{name} is {url!r}: it should be an address like http://127.0.0.1:8000/v1.")
    if is_public(host):
        raise BadInput(
            f"{name} is {url!r}, a public address: what a child says would leave this network; name a server in it, by its "
            "private address or by the end of a tunnel on this machine."
        )


def is_public(host: str) -> bool:
    """Whether one of the addresses that the name has now leads out of this network.

    Private are those of the house (RFC 1918, fc00::/7), of one cable, of this machine, and those that carriers and VPNs
    such as Tailscale share (100.64.0.0/10). A global IPv6 address is public though its machine may stand in the house.
    """
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return any(leads_out(str(address[4][0])) for address in found)


def leads_out(number: str) -> bool:
    """Whether an address in numbers is one outside this network."""
    address = ipaddress.ip_address(number.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_global or address in _FAKE
