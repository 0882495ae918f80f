"""From an adapter to a model that is served: merge and seal, look at the card, promote, push, carry away.

In: runs that have made something, model folders. Out: jobs `merge`, `promote`, `push`, `archive`.
"""

import shlex
from contextlib import suppress
from pathlib import Path

import streamlit as st

from data.contract import SEAL_FILE, Seal, open_sealed
from data.queue import disk_used
from data.runs import is_older
from data.strict import BadInput
from ui.studio import job_card
from ui.studio.choices import show_now
from ui.studio.context import Studio
from ui.studio.jobs import Asked, has_result, state_of, time_of_link, titled, weights_since
from ui.studio.look import panel
from ui.studio.measures import free_disk, size
from ui.studio.settings import MODELS, Settings
from ui.studio.told import in_words

CARD = "README.md"
CURRENT = "current"
# The page holds what it hands over in memory, at worst once to keep and once to send; it takes 0.3 GB itself, and has 2
# (compose.yaml).
MOST_BYTES = 800_000_000


def show(studio: Studio) -> None:
    """Merge first; then everything that can be done with a model folder."""
    say = studio.words.export
    with panel("merge"):
        st.subheader(say.merge_title, anchor=False)
        _merge(studio)
    folders = models(studio.settings.models)
    if not folders:
        st.info(say.no_models, icon=":material/inventory_2:")
        return
    with panel("model"):
        show_now("model", folders)
        name = st.selectbox(say.model, folders, key="model", persist_state="session")
        folder = studio.settings.models / name
        _about(studio, folder)
    left, right = st.columns(2)
    with left, panel("promote"):
        st.subheader(say.promote_title, anchor=False)
        _promote(studio, folder)
    with right, panel("archive"):
        st.subheader(say.archive_title, anchor=False)
        _archive(studio, folder)
    with panel("push"):
        st.subheader(say.push_title, anchor=False)
        _push(studio, folder)


def models(folder: Path) -> list[str]:
    """The sealed model folders, the newest first."""
    found = [
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if not path.is_symlink() and not path.name.startswith(".") and (path / SEAL_FILE).is_file()
    ]
    return [path.name for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]


def model_words(settings: Settings, run: Path, option: str) -> list[str]:
    """`OPTION FOLDER` for a run's model folder, where it does not lie where the trainer looks by itself."""
    folder = settings.models / run.name
    is_usual = settings.models == MODELS
    return [] if is_usual or not (folder / SEAL_FILE).is_file() else [option, str(folder)]


def is_of(folder: Path, run: Path) -> bool:
    """Whether a model folder is there, and holds what the run has learned by now."""
    with suppress(BadInput):
        times = (weights_since(folder), weights_since(run))
        return (folder / SEAL_FILE).is_file() and not _is_older(str(folder), str(run), *times)
    return False


@st.cache_resource(max_entries=32, show_spinner=False)
def _is_older(folder: str, run: str, *made: str) -> bool:
    """By the hashes of both, which are computed once for all that were `made` at these times."""
    return is_older(Path(folder), Path(run))


def current(folder: Path) -> str:
    """The name of the folder that `current` means, or nothing."""
    link = folder / CURRENT
    return link.resolve().name if link.is_symlink() else ""


def _merge(studio: Studio) -> None:
    say = studio.words.export
    runs = {str(job.run): titled(job) for job in reversed(studio.jobs) if has_result(job)}
    if not runs:
        st.info(say.no_runs, icon=":material/tune:")
        return
    show_now("merge-run", runs)
    run = st.selectbox(
        say.run, list(runs), key="merge-run", persist_state="session", format_func=runs.__getitem__
    )  # fmt: skip
    name = st.text_input(say.name, Path(run).name, key=f"merge-name-{Path(run).name}")
    if not name or "/" in name or name.startswith(".") or name == CURRENT:
        st.error(say.bad_name)
        return
    out = studio.settings.models / name
    is_served = name == current(studio.settings.models)
    if is_served:
        st.info(say.is_served, icon=":material/lock:")
    asked = Asked("merge", (run, "--out", str(out), "--keep-current"), f"merge-{name}")
    job = job_card.offer(
        studio, asked, say.merge, key="merge", primary=True, icon=":material/merge:", disabled=is_served,
        shows={"model": name}, since=weights_since(Path(run)),
    )  # fmt: skip
    if job and state_of(job) == "done" and (out / SEAL_FILE).is_file():
        st.success(say.merged.format(folder=out), icon=":material/verified:")


def _about(studio: Studio, folder: Path) -> None:
    say = studio.words.export
    try:
        state = [(path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.iterdir())]
        sealed = _opened(str(folder), tuple(state))
    except BadInput as error:
        st.error(in_words(studio.words, str(error)))
        return
    with st.container(key="measures-model"):
        columns = st.columns(3)
        columns[0].metric(say.fingerprint, sealed.contract.fingerprint[:8])
        columns[1].metric(say.size, size(disk_used(folder)))
        columns[2].metric(say.free, size(free_disk(studio.settings.models)))
    run = sealed.provenance.get("run")
    if run and not is_of(folder, studio.settings.runs / str(run)):
        st.warning(say.is_older.format(run=run), icon=":material/history:")
    if current(studio.settings.models) == folder.name:
        st.badge(say.is_current, color="green", icon=":material/check_circle:")
    card = folder / CARD
    if card.is_file():
        with st.expander(say.card, icon=":material/description:"):
            st.markdown(_without_front_matter(card.read_text(encoding="utf-8")))


@st.cache_resource(max_entries=8, show_spinner=False)
def _opened(folder: str, state: tuple[tuple[str, int, int], ...]) -> Seal:
    """The seal, every file checked against it: hashed once for each state of the files, not at every click."""
    return open_sealed(Path(folder))


def _without_front_matter(text: str) -> str:
    """A card as it is read: the hub's own lines at its head are left out."""
    parts = text.split("---\n", 2)
    return parts[2] if text.startswith("---\n") and len(parts) == 3 else text


def _promote(studio: Studio, folder: Path) -> None:
    say = studio.words.export
    st.markdown(say.promote_under)
    is_current = current(studio.settings.models) == folder.name
    asked = Asked("promote", (str(folder),), f"promote-{folder.name}")
    # A folder that was promoted before another one is not what is served now.
    job_card.offer(
        studio, asked, say.promote, key="promote", primary=True, icon=":material/upgrade:", disabled=is_current,
        since=time_of_link(studio.settings.models / CURRENT),
    )  # fmt: skip
    if is_current:
        st.success(say.promoted.format(folder=folder), icon=":material/check_circle:")
        st.markdown(say.restart)
        st.code("docker compose restart serve\nmake serve", language="bash")


def _archive(studio: Studio, folder: Path) -> None:
    say = studio.words.export
    st.markdown(say.archive_under)
    made = studio.settings.models / f"{folder.name}.tar"
    asked = Asked("archive", (str(folder), "--out", str(made)), f"archive-{folder.name}")
    since = weights_since(folder)
    job = job_card.offer(studio, asked, say.archive, key="archive", icon=":material/folder_zip:", since=since)
    if not (job and state_of(job) == "done" and made.is_file()):
        return
    if made.stat().st_size > MOST_BYTES:
        st.info(say.too_large.format(path=made, size=size(made.stat().st_size)))
        # From a volume of the containers; there the page and the command name the same place.
        st.code(f"docker compose cp studio:{shlex.quote(str(made.absolute()))} .", language="bash", wrap_lines=True)
        return
    st.download_button(
        say.download.format(size=size(made.stat().st_size)), made.read_bytes, file_name=made.name,
        mime="application/x-tar", icon=":material/download:", on_click="ignore",
    )  # fmt: skip


def _push(studio: Studio, folder: Path) -> None:
    say = studio.words.export
    st.markdown(say.push_under)
    left, right = st.columns(2)
    repository = left.text_input(
        say.repository, key="push-repository", placeholder="my-family/mindpal-0.6b", persist_state="session"
    )
    token = right.text_input(say.token, key="push-token", placeholder="secrets/hub/token", persist_state="session")
    private = st.toggle(say.private, value=True, key="push-private", persist_state="session")
    words = (
        str(folder), repository or "ORG/NAME", "--token-file", token or "FILE", *(("--private",) if private else ())
    )  # fmt: skip
    job_card.offer(
        studio, Asked("push", words, f"push-{folder.name}"), say.push, key="push", icon=":material/cloud_upload:",
        disabled=not (repository and token), since=weights_since(folder),
    )  # fmt: skip
