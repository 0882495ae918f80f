"""Whether a container's own page or server answers, by the standard library alone.

In: the address. Out: exit code 0, or 1 with a sentence.

    python -m data.health http://127.0.0.1:8000/health
"""

import http.client
import sys
import urllib.request

# A container engine asks every few seconds; an answer that takes longer is none.
TIMEOUT_S = 5


def main() -> int:
    """Ask once."""
    address = sys.argv[1]
    # A proxy of the environment must not be asked for this machine's own address.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=TIMEOUT_S) as answer:
            return 0 if answer.status == 200 else 1
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"{address}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
