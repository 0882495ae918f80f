"""The base model: which one, what it takes, how it comes here, and whether it speaks.

In: a hub id, a folder or a hub-cache folder. Out: jobs `download` and `chat`. The base chosen here is the one that the
page Train starts from.
"""

import streamlit as st

from data.contract import read_contract
from data.queue import read_job
from data.strict import BadInput
from ui.studio import job_card
from ui.studio.bases import HUB, KNOWN, MIRROR, fetched, folder_of, found_bases, headers, memory_to_load
from ui.studio.context import Studio
from ui.studio.jobs import ALIVE, Asked, latest, state_of
from ui.studio.look import panel
from ui.studio.measures import count, free_disk, free_memory, size
from ui.studio.told import in_words

KEY = "base"


def chosen_base() -> str:
    """The base that was chosen in this tab, or the contract's."""
    return str(st.session_state.get(KEY) or read_contract().base_model)


def pick(studio: Studio) -> str:
    """The box in which a base is chosen or named; the same one on every page."""
    say = studio.words.base
    found = found_bases(studio.settings.hub, studio.settings.models)
    names = list(dict.fromkeys([chosen_base(), *found, *KNOWN]))
    chosen = st.selectbox(
        say.base, names, key=KEY, index=0, accept_new_options=True, persist_state="session", help=say.base_help
    )
    return str(chosen or names[0])


def show(studio: Studio) -> None:
    """Choose, weigh, fetch, try."""
    with panel("base"):
        name = pick(studio)
        there = _weigh(studio, name)
    if "/" in name and not name.startswith((".", "/", "~", "data/")):
        with panel("download"):
            _download(studio, name)
    with panel("chat"):
        _chat(studio, name, there=there)


def _weigh(studio: Studio, name: str) -> bool:
    """Size and needs against what is there; whether the base is on this machine."""
    say = studio.words.base
    # A download goes into the hub's cache, which may lie on a disk of its own.
    disk, memory = free_disk(studio.settings.hub), free_memory()
    try:
        folder_of(name, studio.settings.hub)
    except BadInput as error:
        st.error(in_words(studio.words, str(error)))
        return False
    try:
        found = headers(name, studio.settings.hub)
    except BadInput as error:
        needed = KNOWN.get(name)
        st.warning(say.not_here, icon=":material/cloud_download:")
        if name not in KNOWN:
            st.caption(in_words(studio.words, str(error)))
        else:
            with st.container(key="measures-base"):
                columns = st.columns(3)
                columns[0].metric(say.disk_needed, size(needed or 0))
                columns[1].metric(say.disk_free, size(disk))
                columns[2].metric(say.memory_free, size(memory))
        if needed and needed > disk:
            st.error(say.disk_short.format(needed=size(needed), free=size(disk)))
        return False
    with st.container(key="measures-base"):
        wide = st.columns(4)
        wide[0].metric(say.parameters, count(found.parameters))
        wide[1].metric(say.on_disk, size(found.disk))
        wide[2].metric(say.memory_needed, size(memory_to_load(found)))
        wide[3].metric(say.memory_free, size(memory))
    st.caption(
        say.about.format(
            architecture=found.architecture, layers=found.layers, hidden=found.hidden, positions=found.positions,
            dtype=found.dtype, free=size(disk),
        )
    )  # fmt: skip
    if memory_to_load(found) > memory:
        st.warning(say.memory_short, icon=":material/memory:")
    else:
        st.success(say.here, icon=":material/check_circle:")
    return True


def _download(studio: Studio, name: str) -> None:
    say = studio.words.base
    st.subheader(say.download, anchor=False)
    places = {HUB: say.hub, MIRROR: say.mirror}
    endpoint = st.selectbox(
        say.endpoint, list(places), format_func=lambda url: f"{places[url]} · {url}" if url in places else url,
        accept_new_options=True, key="endpoint", persist_state="session",
    )  # fmt: skip
    words = (name,) if endpoint in (None, HUB) else (name, "--endpoint", str(endpoint))
    asked = Asked("download", words, f"download-{name.rpartition('/')[2]}")
    before = latest(studio.jobs, "download", words)
    again = before is not None and state_of(before) in ("failed", "stopped")
    job = job_card.offer(
        studio, asked, say.resume if again else say.fetch, key="download", primary=True, icon=":material/download:"
    )
    if job is None:
        return
    expected = KNOWN.get(name)

    @st.fragment(run_every=2.0 if state_of(job) in ALIVE else None)
    def progress() -> None:
        so_far = fetched(studio.settings.hub, name)
        if expected and state_of(read_job(job.run)) in ALIVE:
            st.progress(min(1.0, so_far / expected))
        st.caption(say.fetched.format(size=size(so_far), expected=size(expected) if expected else "?"))

    progress()


def _chat(studio: Studio, name: str, *, there: bool) -> None:
    say = studio.words.base
    st.subheader(say.chat, anchor=False)
    st.caption(say.chat_under)
    question = st.text_input(say.question, say.hello, key="base-question", persist_state="session", max_chars=500)
    asked = Asked("chat", (name, f"--question={question}", "--seed", "42", "--json"), f"chat-{name.rpartition('/')[2]}")
    job = job_card.offer(
        studio, asked, say.ask, key="base-chat", icon=":material/send:", disabled=not (there and question.strip())
    )
    if job and state_of(job) == "done":
        job_card.exchange(job.run, question)
