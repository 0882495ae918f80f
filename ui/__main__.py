"""Serve the child's page, send alerts, and delete what is too old. In: a host, a port, the environment of
`ui/companion/app.py`, and MINDPAL_HOSTS, the names of a proxy in front. Out: a page.

Run: `python -m ui [--host 127.0.0.1] [--port 8501]`; `python -m ui --new-pin` sets the parents' PIN anew, for whoever
may run commands on this machine; `--numbers` prints the sentences that name a help line. Everything else stands in `ui/companion/.streamlit/config.toml`.
"""

import argparse
import getpass
import logging
import os
import sys

from data.strict import BadInput
from ui.serving import ROOT, address, check_port, names_from, serve

APP = ROOT / "ui" / "companion" / "app.py"
_ENVIRONMENT = """\
environment:
  MINDPAL_API_URL       where the model answers (http://127.0.0.1:8000/v1)
  MINDPAL_API_KEY_FILE  the file with its key, where the server has keys
  MINDPAL_FAMILY        the folder of the family's records (family)
  MINDPAL_KEY_FILE      the file with their key (key, in that folder)
  DATABASE_URL          PostgreSQL instead of a file in that folder
  STT_URL               a speech server with OpenAI's API, in your own network; without one there is no microphone
  STT_KEY_FILE          the file with its key, if it wants one
  MINDPAL_SENTENCES_FILE  YAML file in the form of --numbers: what it names is said in the place of the page's own sentences,
                        such as those with a country's help lines; all others stay
  MINDPAL_HOSTS         the names of a proxy in front, with commas between them
  TZ                    the family's time zone, for quiet hours (the machine's)
"""
_NUMBERS = """\
# What the page says with a help line's number, or as China's. Write your country's in their place, each number in quotes,
# take out what may stay as it is, and name the file in MINDPAL_SENTENCES_FILE. A list is said as a whole.
"""


def main() -> None:
    """Open the records, check the port, then be Streamlit. Exit code 2 when one of them cannot be had."""
    parser = argparse.ArgumentParser(
        prog="python -m ui",
        description="Serve MindPal's page for a child.",
        epilog=_ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8501, help="the port to listen on (default: 8501)")
    parser.add_argument("--new-pin", action="store_true", help="ask for a new parents' PIN, set it, and end")
    parser.add_argument(
        "--numbers", action="store_true", help="print the sentences that name a help line, to be edited, and end"
    )
    asked = parser.parse_args()
    try:
        if asked.new_pin:
            _new_pin()
            return
        if asked.numbers:
            from ui.locales import numbers

            print(f"{_NUMBERS}{numbers()}", end="")
            return
        check_port(asked.host, asked.port)
        _serve(asked.host, asked.port)
    except BadInput as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def _serve(host: str, port: int) -> None:
    # Streamlit takes a second to import: a mistake in the records is told before that.
    from ui import chores
    from ui.client import check_addresses, settings_from
    from ui.clock import check_zone
    from ui.database import url_for
    from ui.locales import LANGUAGES, sentences
    from ui.store import Store

    for language in LANGUAGES:
        sentences(language)
    check_zone(os.environ.get("TZ"))
    settings = settings_from(os.environ)
    check_addresses(settings)
    store = Store(url_for(settings.family, settings.database_url), settings.key_file)
    _log_to_stderr()
    chores.start(store, settings)  # in this process, so that the two live and die together

    print(f"灵伴: {address(host, port)}", file=sys.stderr, flush=True)
    serve(APP, host, port, names_from(os.environ))


def _log_to_stderr() -> None:
    """Our own lines only: what the libraries tell is for their makers."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
    log = logging.getLogger("mindpal")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    # It prints whatever an export failed on, and all that led there; the export tells its own failures.
    logging.getLogger("streamlit.runtime.backend_operation_handler").addFilter(lambda _: False)


def _new_pin() -> None:
    from ui import pin
    from ui.client import settings_from
    from ui.database import url_for
    from ui.store import Store

    settings = settings_from(os.environ)
    store = Store(url_for(settings.family, settings.database_url), settings.key_file)
    typed = getpass.getpass("New PIN (4 to 8 digits): ") if sys.stdin.isatty() else sys.stdin.readline().strip()
    if not pin.is_fit(typed):
        raise BadInput("A PIN has four to eight digits and is not as simple as 1111 or 1234; nothing was changed.")
    pin.change(store, typed)
    store.close()
    print("The PIN is set.")


if __name__ == "__main__":
    main()
