"""One job on the page: the command before it is asked for, how it goes after that, and what it told.

In: a command, or a folder of the queue. Out: a job in the queue; its status, live until it ends.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import streamlit as st

from data.queue import Job, log_of, read_job, write_want
from data.runs import State
from ui.studio.choices import show_next
from ui.studio.context import Studio
from ui.studio.jobs import ALIVE, Asked, answer_of, is_moving, is_training, latest, queue, state_of, tail
from ui.studio.look import in_red
from ui.studio.told import in_words
from ui.studio.words import Words

Colour = Literal["red", "orange", "blue", "green", "gray"]
COLOURS: dict[State, Colour] = {
    "queued": "gray", "running": "blue", "paused": "orange", "stopped": "orange", "failed": "red", "done": "green",
}  # fmt: skip
ICONS: dict[State, str] = {
    "queued": ":material/hourglass_empty:",
    "running": ":material/play_circle:",
    "paused": ":material/pause_circle:",
    "stopped": ":material/stop_circle:",
    "failed": ":material/error:",
    "done": ":material/check_circle:",
}
# How often a card looks, in seconds.
LOOK_S = 2.0


def offer(
    studio: Studio, asked: Asked, label: str, *, key: str, primary: bool = False, icon: str | None = None,
    disabled: bool = False, shows: Mapping[str, str] | None = None, since: str = "",
) -> Job | None:  # fmt: skip
    """The command, the button that queues it, and the newest job of exactly this command, which is returned.

    `shows` are the boxes that are to show what comes of it, and its name there. A job that ended before `since`, when the
    weights or sets that it is about were made, counts no more.
    """
    st.code(asked.command, language="bash", wrap_lines=True)
    job = latest(studio.jobs, asked.verb, asked.words, since)
    unfit = disabled or (job is not None and state_of(job) in ALIVE)
    # A second click may have come before the page showed that there is nothing to click any more.
    if (
        st.button(label, key=f"ask-{key}", type="primary" if primary else "secondary", icon=icon, disabled=unfit)
        and not unfit
    ):
        queue(studio.settings.runs, asked)
        for box, name in (shows or {}).items():
            show_next(box, name)
        st.rerun()
    if job is not None:
        follow(studio.words, job, key=key)
    return job


def follow(words: Words, drawn: Job, *, key: str, lines: int = 14, with_log: bool = True) -> None:
    """How a job goes, looked at anew while it waits or runs; the page is drawn anew when its state is another.

    `drawn`: the job as the page around it shows it, with the buttons of that state.
    """
    moving = is_moving(drawn)

    @st.fragment(run_every=LOOK_S if moving else None)
    def card() -> None:
        job = read_job(drawn.run)
        badge(words, job)
        _controls(words, job, key)
        if with_log:
            log(words, job.run, key=key, lines=lines)
        if state_of(job) != state_of(drawn) or (moving and not is_moving(job)):
            st.rerun()

    card()


def badge(words: Words, job: Job) -> None:
    """The state in its colour, and the sentence that belongs to it."""
    state = state_of(job)
    message = in_words(words, job.wrong or (job.status.message if job.status else ""))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(words.states[state], color=COLOURS[state], icon=ICONS[state])
        if job.status and job.status.steps:
            st.caption(f"{job.status.step} / {job.status.steps}")
    if job.status and job.status.steps and state in ("running", "paused"):
        st.progress(min(1.0, job.status.step / job.status.steps))
    if state == "failed":
        st.error(f"{words.why}\n\n{message}", icon=":material/error:")
    elif message and state != "done":
        st.caption(message)


def log(words: Words, run: Path, *, key: str, lines: int) -> None:
    """The last lines of what a job told."""
    text = tail(log_of(run), lines)
    if text:
        with st.expander(words.log, key=f"log-{key}"):
            st.code(text, language=None, wrap_lines=True)


def _controls(words: Words, job: Job, key: str) -> None:
    """A job that waits or runs can be stopped."""
    stoppable = state_of(job) in ALIVE and job.request is not None and not is_training(job)
    if stoppable and st.button(words.stop, key=f"stop-{key}", icon=":material/stop:", type="tertiary"):
        # A fragment is drawn again by itself, without the page's own `in_red`.
        with in_red(words):
            write_want(job.run, "stop")


def exchange(run: Path, question: str) -> None:
    """What a job of the verb chat was asked, what the model thought where it did, and what it answered."""
    told = answer_of(run) or {}
    with st.chat_message("user"):
        st.text(question)
    with st.chat_message("assistant"):
        if told.get("thought"):
            st.caption(str(told["thought"]))
        st.text(str(told["answer"]) if "answer" in told else tail(log_of(run), 40))
