"""The main job from end to end: tune the stand-in base, merge, serve with vLLM, open the companion.

In: the shipped stand-in base and conversations. Out: `runs/demo-KEY`, `models/demo-KEY`, a running page with records of its
own in `runs/demo-family`.

    make demo       # for a person: ends with Ctrl-C, and every process that it started with it
    make smoke      # without one: chats as a client and through the page, ends everything, exit code 0 or a step's name

A finished step is kept: KEY is a hash of everything that goes in, and a folder of that name is not made again.
"""

import argparse
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from data.contract import CONTRACT_FILE, SEAL_FILE
from data.conversations import DATA_DIR, find_dataset
from data.runs import STATUS_FILE, read_status
from data.strict import BadInput
from finetune.base import Base, find_base
from finetune.merge import CURRENT, point_current
from finetune.pretrain import STANDIN, check_standin
from finetune.progress import progress
from finetune.questions import TUTORIAL
from finetune.recipe import RECIPES, read_recipe
from tests.system import CHROMIUM, NO_CHROMIUM

ROOT = Path(__file__).resolve().parents[1]
# A family's own records, `family/` or a database, are no place for what is said to try it out.
FAMILY = Path("runs") / "demo-family"
QUESTIONS = TUTORIAL
# A server on a busy machine may take this long; about half a minute is usual.
READY_S = 300.0
USUAL_S = 40.0


class StepFailed(Exception):
    """A step of the main job did not end well. `step` names it; what it said stands above."""

    def __init__(self, step: str, code: int):
        super().__init__(f"{step}: failed with exit code {code}")
        self.step, self.code = step, code


@dataclass(frozen=True)
class Demo:
    """Where everything of one demo lies."""

    base: Base
    recipe: str
    run: Path
    model: Path


def main() -> int:
    """Read the command line, do the steps."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="without a person: chat, then end everything")
    parser.add_argument(
        "--base", default=str(STANDIN.relative_to(ROOT)), help="the base to tune (default: the stand-in)"
    )
    parser.add_argument("--recipe", help="the recipe (default: tiny for the stand-in, mindpal for any other base)")
    parser.add_argument("--port", type=int, default=8000, help="the model's port (default: 8000)")
    parser.add_argument("--page-port", type=int, default=8501, help="the page's port (default: 8501)")
    given = parser.parse_args()
    os.chdir(ROOT)
    # Also where the shell started this with SIGINT ignored, as it does for a command in the background.
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, _as_interrupt)
    began = time.monotonic()
    try:
        demo = plan(given.base, given.recipe)
        make(demo)
        if given.smoke:
            _smoke(demo, began)
        else:
            _open(demo, given.port, given.page_port)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    except StepFailed as failed:
        print(f"{'smoke' if given.smoke else 'demo'}: {failed}", file=sys.stderr)
        return 2 if failed.code == 2 else 1
    except KeyboardInterrupt:
        print("\nended; `make demo` starts again where it was", file=sys.stderr)
        return 130
    return 0


def plan(base_name: str, recipe: str | None = None) -> Demo:
    """What would be made, without making anything."""
    standin = Path(base_name).resolve() == STANDIN
    if standin:
        check_standin()
    base = find_base(base_name)
    recipe = recipe or ("tiny" if standin else "mindpal")
    key = _key(base, recipe)
    return Demo(base, recipe, Path("runs") / f"demo-{key}", Path("models") / f"demo-{key}")


def make(demo: Demo) -> None:
    """Train and merge what is not there yet."""
    if not _trained(demo.run):
        # What a broken-off run left is of no use: the whole takes two minutes.
        shutil.rmtree(demo.run, ignore_errors=True)
        _step("train", "finetune", "train", demo.recipe, "--base", demo.base.name, "--run", str(demo.run))
    else:
        print(f"train: {demo.run} is there", file=sys.stderr)
    if not (demo.model / SEAL_FILE).is_file():
        _step("merge", "finetune", "merge", str(demo.run), "--out", str(demo.model), "--keep-current")
    else:
        print(f"merge: {demo.model} is there", file=sys.stderr)
    # `make serve` and `make ui` go on from here; a model of the family's own is never replaced.
    current = demo.model.parent / CURRENT
    if not current.exists() or current.resolve().name.startswith("demo-"):
        point_current(demo.model)


@contextmanager
def serving(model: Path, port: int, log: Path | None = None) -> Iterator[str]:
    """The model served by vLLM on a port of this machine; gives its address. Raises `StepFailed`."""
    with _process("serve", log, "serve", str(model), "--port", str(port)) as process:
        address = f"http://127.0.0.1:{port}"
        _until_ready("serve", process, f"{address}/health", "starting vLLM")
        yield address


@contextmanager
def page(
    model_address: str, port: int, family: Path, log: Path | None = None, zone: str | None = None
) -> Iterator[str]:
    """The companion's page on a port of this machine; gives its address. Raises `StepFailed`."""
    # Nothing of the shell's leads to other records or to another key.
    environment = {
        "MINDPAL_API_URL": f"{model_address}/v1", "MINDPAL_FAMILY": str(family), "DATABASE_URL": "", "MINDPAL_KEY_FILE": "",
    }  # fmt: skip
    if zone is not None:
        environment["TZ"] = zone
    with _process("ui", log, "ui", "--port", str(port), **environment) as process:
        address = f"http://127.0.0.1:{port}"
        _until_ready("ui", process, f"{address}/_stcore/health", "starting the page")
        yield address


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _open(demo: Demo, port: int, page_port: int) -> None:
    with ExitStack() as stack:
        address = stack.enter_context(serving(demo.model, port))
        where = stack.enter_context(page(address, page_port, FAMILY))
        print(f"\n灵伴 is awake: {where}   (the API: {address}/v1; Ctrl-C ends both)\n", file=sys.stderr, flush=True)
        if demo.base.folder.resolve() == STANDIN:
            print(
                "This is the small stand-in model: it shows the way, it knows little. README.md tells the real one.\n",
                file=sys.stderr,
            )
        webbrowser.open(where)
        signal.pause()


def _smoke(demo: Demo, began: float) -> None:
    log = Path("runs") / "smoke"
    shutil.rmtree(log, ignore_errors=True)
    log.mkdir(parents=True)
    with ExitStack() as stack:
        address = stack.enter_context(serving(demo.model, free_port(), log / "serve.log"))
        first = _chat(address, began)
        where = stack.enter_context(page(address, free_port(), log / "family", log / "page.log", _daytime()))
        _through_the_page(where, log)
    print(f"smoke: ok, first reply {first:.0f} s after install")


def _chat(address: str, began: float) -> float:
    """Ask the tutorial's questions, plain and streaming; seconds from the start to the first reply."""
    import openai

    client = openai.OpenAI(
        base_url=f"{address}/v1",
        api_key="none",
        timeout=120,
        max_retries=0,
        # The server is on this machine: a proxy of the environment cannot reach it.
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )
    first = 0.0
    try:
        for question in QUESTIONS:
            plain = client.chat.completions.create(
                model="mindpal", messages=[{"role": "user", "content": question}], seed=1
            )
            first = first or time.monotonic() - began
            stream = client.chat.completions.create(
                model="mindpal", messages=[{"role": "user", "content": question}], seed=1, stream=True
            )
            streamed = "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)
            print(f"  {question}\n    {streamed}", flush=True)
            if not streamed or streamed != plain.choices[0].message.content or plain.choices[0].finish_reason != "stop":
                print(
                    f"chat: plain and streamed answers differ, or do not end by themselves: {plain.choices[0]}",
                    file=sys.stderr,
                )
                raise StepFailed("chat", 1)
    except openai.OpenAIError as error:
        print(f"chat: {type(error).__name__}: {error}", file=sys.stderr)
        raise StepFailed("chat", 1) from None
    return first


def _through_the_page(where: str, log: Path) -> None:
    """A guardian's consent, a child's first word, and its answer, in a real browser."""
    if CHROMIUM is None:
        print(f"SKIPPED: {NO_CHROMIUM}", file=sys.stderr)
        return
    from playwright.sync_api import Error, expect, sync_playwright

    from tests.ui.walk import first_run, replies, say

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            opened = browser.new_page(locale="zh-CN")
            opened.set_default_timeout(60_000)
            opened.goto(where)
            first_run(opened)
            say(opened, QUESTIONS[0])
            expect(replies(opened)).to_have_count(1, timeout=60_000)
            print(f"  page: {replies(opened).first.inner_text().strip()}", flush=True)
        except (Error, AssertionError) as error:
            opened.screenshot(path=log / "page.png")
            print(f"page: {error}; see {log / 'page.png'}", file=sys.stderr)
            raise StepFailed("page", 1) from None
        finally:
            browser.close()


def _daytime() -> str:
    """A time zone (TZ) in which it is about noon: at night the page rightly lets no child in."""
    return f"NOON{time.gmtime().tm_hour - 12:+d}"


def _trained(run: Path) -> bool:
    return (run / STATUS_FILE).is_file() and read_status(run).state == "done"


def _key(base: Base, recipe: str) -> str:
    """Eight hex digits of everything that decides what the demo's model is."""
    named = Path(recipe) if Path(recipe).suffix else RECIPES / f"{recipe}.yaml"
    files = [CONTRACT_FILE, named, *sorted((ROOT / "finetune").rglob("*.py")), *sorted(DATA_DIR.glob("*.py"))]
    files += [DATA_DIR / find_dataset(name).file_name for name in read_recipe(recipe).dataset]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    for name, weights in base.hashes().items():
        digest.update(f"{name}{weights}".encode())
    return digest.hexdigest()[:8]


def _step(name: str, module: str, *words: str) -> None:
    """Run one command of ours to its end and tell how long it took. Raises `StepFailed`."""
    began = time.monotonic()
    print(f"{name}: python -m {module} {' '.join(words)}", file=sys.stderr, flush=True)
    with _process(name, None, module, *words) as process:
        code = process.wait()
    if code:
        raise StepFailed(name, code)
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


@contextmanager
def _process(
    name: str, log: Path | None, module: str, *words: str, **environment: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """A command of ours in a process group of its own, which is ended with the block."""
    with ExitStack() as stack:
        out = stack.enter_context(log.open("wb")) if log else None
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=ROOT, env={**os.environ, **environment}, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        except StepFailed:
            if log:
                print(f"{name}: the end of {log}:\n{log.read_text(errors='replace')[-2000:]}", file=sys.stderr)
            raise
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    # The command first, which ends in order what it started; then whatever of its group is still there.
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        print(f"process {process.pid}: does not end, killed", file=sys.stderr)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _until_ready(name: str, process: "subprocess.Popen[bytes]", address: str, title: str) -> None:
    began = time.monotonic()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with progress(title, USUAL_S) as advance:
        while time.monotonic() - began < READY_S:
            if (code := process.poll()) is not None:
                raise StepFailed(name, code or 1)
            try:
                if opener.open(address, timeout=5).status == 200:
                    advance(USUAL_S)
                    break
            except (OSError, urllib.error.URLError):
                time.sleep(0.3)
            advance(min(int(USUAL_S) - 1, int(time.monotonic() - began)), "s")
        else:
            raise StepFailed(name, 1)
    print(f"{name}: ready after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _as_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
