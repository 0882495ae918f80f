"""Make the secrets that compose.yaml needs and that are not there yet. Standard library alone: it runs before any install.

In: a folder (secrets/). Out: one file a secret in it; what is there is never replaced.

    python3 docker/keys.py secrets

`family_key` opens the family's records: keep a copy of it apart from the machine, or a broken disk takes them all.
"""

import base64
import hashlib
import os
import secrets
import sys
from pathlib import Path

# The client whose key the page holds; `python -m serve key add NAME` adds others.
PAGE = "page"


def main() -> int:
    """Make what is missing and name it."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "secrets")
    try:
        for name in make(folder):
            print(f"{folder / name}: made", file=sys.stderr)
    except OSError as error:
        print(f"{folder}: the secrets cannot be written: {error.strerror}.", file=sys.stderr)
        return 2
    return 0


def make(folder: Path) -> list[str]:
    """The names of the files that were made."""
    # The folder keeps others of this machine out. The files are readable, because a container's user, who has another
    # number than whoever owns them here, sees the file alone.
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    password = secrets.token_urlsafe(32)
    fresh = {
        "api_key": f"mp-{secrets.token_urlsafe(32)}\n",
        "family_key": base64.b64encode(os.urandom(32)).decode() + "\n",
        "db_password": password + "\n",
        # For who pushes a model to a hub, and for whose speech server wants a key: both are written into a file by hand, and
        # compose wants it to be there.
        "hub_token": "\n",
        "stt_key": "\n",
    }
    made = []
    for name, text in fresh.items():
        if not (folder / name).exists():
            _write(folder / name, text)
            made.append(name)
    key, password = ((folder / name).read_text(encoding="utf-8").strip() for name in ("api_key", "db_password"))
    if not (folder / "db_service").exists():
        # libpq's service file, which is read where a password file would have to belong to the container's user.
        _write(folder / "db_service", f"[mindpal]\nhost=db\nuser=mindpal\ndbname=mindpal\npassword={password}\n")
        made.append("db_service")
    path = folder / "api_keys"
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    line = f"{PAGE}:{hashlib.sha256(key.encode()).hexdigest()}"
    if line not in before:
        others = [one for one in before if not one.startswith(f"{PAGE}:")]
        _write(path, "\n".join([line, *others]) + "\n")
        made.append("api_keys")
    return made


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)


if __name__ == "__main__":
    sys.exit(main())
