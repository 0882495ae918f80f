"""The queue and its history: every job, with filters; one of them whole, with its note, its log and its deletion.

In: the runs folder. Out: notes; folders removed after a second question.
"""

import shlex
from collections.abc import Sequence

import streamlit as st

from data.queue import Job, disk_used, write_note
from data.runs import LOSS_FILE, RECIPE_FILE
from ui.studio import job_card
from ui.studio.choices import show_now
from ui.studio.context import Studio
from ui.studio.jobs import ALIVE, by_hand, delete, is_training, state_of
from ui.studio.look import in_red, panel
from ui.studio.measures import free_disk, size
from ui.studio.train_page import run_controls

A_PAGE = 200


def show(studio: Studio) -> None:
    """The list, then one of it."""
    say = studio.words.runs
    jobs = list(reversed(studio.jobs))
    if not jobs:
        st.info(say.none, icon=":material/history:")
        return
    used = {job.run.name: disk_used(job.run) for job in jobs}
    with st.container(key="measures-runs"):
        columns = st.columns(4)
        columns[0].metric(say.waiting, sum(state_of(job) == "queued" for job in jobs))
        columns[1].metric(say.running, sum(state_of(job) == "running" for job in jobs))
        columns[2].metric(say.used, size(sum(used.values())))
        columns[3].metric(say.free, size(free_disk(studio.settings.runs)))
    found = _filtered(studio, jobs)
    rows = [
        {
            say.state: studio.words.states[state_of(job)],
            say.run: job.run.name,
            say.verb: studio.words.verbs[job.request.verb if job.request else "train"],
            say.note: job.request.note if job.request else "",
            say.created: job.created[:16].replace("T", " "),
            say.disk: size(used[job.run.name]),
        }
        for job in found[:A_PAGE]
    ]
    short = {name: st.column_config.TextColumn(width="small") for name in (say.state, say.verb, say.disk)}
    long = {say.note: st.column_config.TextColumn(width="medium")}
    st.dataframe(
        rows, hide_index=True, width="stretch", height=min(420, 35 * (len(rows) + 1) + 2), column_config=short | long
    )
    if not found:
        return
    show_now("opened", [job.run.name for job in found])
    name = st.selectbox(say.open, [job.run.name for job in found], key="opened", persist_state="session")
    job = next((job for job in found if job.run.name == name), found[0])
    with panel("job"):
        _one(studio, job, used[job.run.name])


def _filtered(studio: Studio, jobs: Sequence[Job]) -> list[Job]:
    say = studio.words.runs
    states = list(dict.fromkeys(state_of(job) for job in jobs))
    left, middle, right = st.columns([2, 2, 2])
    typed = left.text_input(say.search, key="runs-search", icon=":material/search:", persist_state="session")
    state = middle.multiselect(
        say.state,
        states,
        key="runs-state",
        placeholder=say.all,
        format_func=studio.words.states.__getitem__,
        persist_state="session",
    )
    only = right.segmented_control(
        say.show,
        ["train", "all"],
        default="all",
        key="runs-only",
        required=True,
        format_func={"train": say.only_runs, "all": say.all}.__getitem__,
    )
    return [
        job
        for job in jobs
        if (not state or state_of(job) in state)
        and (only == "all" or is_training(job))
        and (
            not typed
            or typed.lower()
            in f"{job.run.name} {job.request.command if job.request else ''} {job.request.note if job.request else ''}".lower()
        )
    ]


def _one(studio: Studio, job: Job, used: int) -> None:
    say = studio.words.runs
    name = job.run.name
    if is_training(job):
        run_controls(studio, job, key=f"runs-{name}")
    else:
        st.markdown(f"`{job.run}`")
        job_card.follow(studio.words, job, key=f"runs-{name}", with_log=False)
    if job.request and not (is_training(job) and job.request.command in by_hand(job).values()):
        st.code(job.request.command, language="bash", wrap_lines=True)
    job_card.log(studio.words, job.run, key=f"runs-{name}", lines=200)
    if (job.run / LOSS_FILE).is_file():
        with st.expander(say.curve):
            st.image(str(job.run / LOSS_FILE))
    if (job.run / RECIPE_FILE).is_file():
        with st.expander(say.recipe):
            st.code((job.run / RECIPE_FILE).read_text(encoding="utf-8"), language="yaml")
    if job.request:
        with st.form(f"note-{name}", border=False):
            note = st.text_input(say.note, job.request.note)
            if st.form_submit_button(say.save_note, icon=":material/save:"):
                write_note(job.run, note)
                st.rerun()
    _delete(studio, job, used)


def _delete(studio: Studio, job: Job, used: int) -> None:
    say = studio.words.runs
    name = job.run.name
    if state_of(job) in ALIVE and not job.wrong:
        st.caption(say.delete_later)
        return
    with st.popover(say.delete, icon=":material/delete:"):
        st.markdown(say.sure.format(name=name, size=size(used)))
        st.code(f"rm -r {shlex.quote(str(job.run))}", language="bash", wrap_lines=True)
        if st.button(say.delete_yes, type="primary", key=f"delete-{name}", icon=":material/delete_forever:"):
            with in_red(studio.words):
                delete(job)
                st.rerun()
