"""Put a model folder onto a hub.

In: a sealed model folder, ORG/NAME, a file with a token that may write there (HF_ENDPOINT names another hub than Hugging
Face's). Out: the repository, made where it is not there; what was uploaded before is not sent again.

    python -m finetune push models/try my-family/mindpal --token-file secrets/hub/token --private
"""

import argparse
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from data.strict import BadInput
from finetune.base import HUB_ID
from finetune.download import DEFAULT_ENDPOINT, reach
from finetune.merge import check_sealed


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """`python -m finetune push`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune push", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a sealed model folder")
    parser.add_argument("repository", metavar="ORG/NAME", help="the repository on the hub")
    parser.add_argument("--token-file", type=Path, required=True, help="a file that holds nothing but the token")
    parser.add_argument("--private", action="store_true", help="a repository that is made now is not for everybody")
    given = parser.parse_args(words)
    # The client would send each file that it has begun to its end first; nothing shows on the hub before all is there.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    endpoint = environment.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
    print(push(given.model, given.repository, _token(given.token_file), endpoint, private=given.private))
    return 0


def push(folder: Path, repository: str, token: str, endpoint: str, *, private: bool) -> str:
    """Upload the folder; the address of what was made. Raises `BadInput`."""
    check_sealed(folder)
    if not HUB_ID.fullmatch(repository):
        raise BadInput(f"{repository}: is no name on a hub; write ORG/NAME.")
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    reach(endpoint, "/api/whoami-v2")
    hub = HfApi(endpoint=endpoint, token=token)
    print(f"{folder} to {endpoint}", file=sys.stderr)
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        return str(hub.upload_folder(repo_id=repository, folder_path=folder, commit_message="MindPal"))
    except HfHubHTTPError as error:
        code = error.response.status_code
        if code in (401, 403):
            raise BadInput(
                f"{repository}: {endpoint} does not let this token write there ({code}); make one with the right to "
                "write, and put it into the token's file."
            ) from None
        raise BadInput(f"{repository}: {endpoint} answered {code}; try again later.") from None
    except (httpx2.HTTPError, OSError) as error:
        raise BadInput(
            f"{repository}: the upload broke off ({type(error).__name__}); the same command goes on where it stopped."
        ) from None


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise BadInput(f"{path}: the token's file cannot be read.") from None
    if not token or len(token.split()) != 1:
        raise BadInput(f"{path}: holds no token; write the hub's token into it, and nothing else.")
    return token
