"""Runs while they learn: curves, speed, memory, time left, the log's end; several side by side.

In: metrics.jsonl, status.json and job.log of run folders, read anew every two seconds. Out: charts; pause, resume, stop;
jobs `report`.
"""

import re
from typing import Any

import altair as alt
import streamlit as st

from data.queue import Job, log_of, read_job
from data.runs import read_metrics
from ui.studio import job_card
from ui.studio.choices import take_next
from ui.studio.context import Studio
from ui.studio.export_page import model_words
from ui.studio.jobs import (
    Asked,
    has_result,
    is_moving,
    is_training,
    record_of,
    state_of,
    tail,
    time_of,
    titled,
    weights_since,
)
from ui.studio.look import COLOURS, QUIET, chart, draw, framed, panel
from ui.studio.measures import count, curve, duration, last, size, smoothed
from ui.studio.train_page import run_controls
from ui.studio.words import Words

LOOK_S = 2.0
MOST = 6
LOG_LINES = 14
REPORT = "report.html"


def show(studio: Studio) -> None:
    """Choose runs; the newest is chosen at first, and one that is started in this tab."""
    say = studio.words.watch
    found = {job.run.name: titled(job) for job in reversed(studio.jobs) if is_training(job)}
    if not found:
        st.info(say.none, icon=":material/monitoring:")
        return
    new = take_next("watched", found)
    watched = st.session_state.setdefault("watched", list(found)[:1])
    if new and new not in watched:
        st.session_state["watched"] = [new]
    chosen = st.multiselect(
        say.runs, list(found), key="watched", max_selections=MOST, persist_state="session",
        format_func=lambda name: found.get(name, name),
    ) or list(found)[:1]  # fmt: skip
    weight = st.slider(say.smoothing, 0.0, 0.95, 0.6, 0.05, key="smoothing", persist_state="session")
    folders = [studio.settings.runs / name for name in chosen if name in found]
    moving = any(is_moving(read_job(folder)) for folder in folders)

    @st.fragment(run_every=LOOK_S if moving else None)
    def live() -> None:
        jobs = [read_job(folder) for folder in folders]
        metrics = {job.run.name: list(read_metrics(job.run)) for job in jobs}
        for job in jobs:
            with panel(f"measures-{job.run.name}"):
                run_controls(studio, job, key=f"watch-{job.run.name}")
                _numbers(studio.words, job, metrics[job.run.name])
        if any(metrics.values()):
            _curves(studio.words, metrics, weight)
        elif any(is_moving(job) for job in jobs):
            st.info(say.waiting, icon=":material/hourglass_empty:")
        for job in jobs:
            if text := tail(log_of(job.run), LOG_LINES):
                with st.expander(f"{studio.words.log} · {job.run.name}", expanded=len(jobs) == 1):
                    st.code(text, language=None, wrap_lines=True)
        if moving and not any(is_moving(job) for job in jobs):
            st.rerun()

    live()
    if len(folders) == 1 and not moving:
        _report(studio, read_job(folders[0]))
    with st.expander(say.tensorboard, icon=":material/query_stats:"):
        st.markdown(say.tensorboard_under)
        st.code(f"tensorboard --logdir {studio.settings.runs}", language="bash")


def _report(studio: Studio, job: Job) -> None:
    """Everything about a run that has ended on one page, as `finetune report` writes it."""
    if not has_result(job):
        return
    say = studio.words.watch
    words = (str(job.run), *model_words(studio.settings, job.run, "--model"), *studio.settings.data_words)
    with panel("report"):
        st.subheader(say.report, anchor=False)
        st.markdown(say.report_under)
        asked = Asked("report", words, "report")
        since = weights_since(job.run)
        made = job_card.offer(studio, asked, say.report_now, key="report", icon=":material/article:", since=since)
        page = job.run / REPORT
        if page.is_file() and time_of(page) >= since and not (made and is_moving(made)):
            framed(studio.words, page, f"{job.run.name}.html")


def _numbers(words: Words, job: Job, lines: list[dict[str, Any]]) -> None:
    say = words.watch
    record = record_of(job)
    if record:
        st.caption(
            say.about.format(
                base=record.base, sets=", ".join(record.dataset), conversations=record.conversations,
                device=record.device,
            )
        )  # fmt: skip
    if not lines:
        return
    shown: list[tuple[str, str | None]] = [
        (say.loss, _told(last(lines, "loss"), "{:.4f}")),
        (say.eval_loss, _told(last(lines, "eval_loss"), "{:.4f}")),
        (say.left, duration(last(lines, "seconds_left") or 0) if state_of(job) == "running" else None),
        (say.speed, _told(last(lines, "tokens_per_second"), "{:,.0f}")),
        (say.share, _told(last(lines, "share_of_peak"), "{:.0%}")),
        (say.gpu, _pair(lines, "gpu_memory", "gpu_memory_free")),
        (say.gpu_use, _told(last(lines, "gpu_percent"), "{:.0f} %")),
        (say.memory, _pair(lines, "memory", "memory_free")),
        (say.cpu, _told(last(lines, "cpu_percent"), "{:.0f} %")),
        (say.tokens, count(last(lines, "num_input_tokens_seen") or 0)),
    ]
    there = [(name, value) for name, value in shown if value is not None]
    with st.container(key=f"measures-numbers-{job.run.name}"):
        for start in range(0, len(there), 4):
            for column, (name, value) in zip(st.columns(4), there[start : start + 4], strict=False):
                column.metric(name, value)


def _told(value: float | None, form: str) -> str | None:
    return None if value is None else form.format(value)


def _pair(lines: list[dict[str, Any]], used: str, free: str) -> str | None:
    taken, left = last(lines, used), last(lines, free)
    if taken is None:
        return None
    told = size(taken) if left is None else f"{size(taken)} · {size(left)}"
    # A number and its unit stay on one line.
    return re.sub(r"(?<=\d) ", "\N{NO-BREAK SPACE}", told)


def _curves(words: Words, metrics: dict[str, list[dict[str, Any]]], weight: float) -> None:
    say = words.watch
    with panel("loss"):
        st.subheader(say.loss_title, anchor=False)
        draw(_loss(say.step, metrics, weight, (say.train, say.smooth, say.validation)), height=300)
    columns = st.columns(2)
    shown = [
        ("learning_rate", say.rate, ".1e"),
        ("grad_norm", say.gradient, "~r"),
        ("tokens_per_second", say.speed, "~s"),
        ("share_of_peak", say.share, "%"),
        ("memory", say.memory, "~s"),
        ("gpu_memory", say.gpu, "~s"),
        ("gpu_percent", say.gpu_use, ".0f"),
        ("cpu_percent", say.cpu, ".0f"),
    ]
    there = [one for one in shown if any(curve(lines, one[0]).steps for lines in metrics.values())]
    for number, (name, title, form) in enumerate(there):
        with columns[number % 2], panel(f"curve-{name}"):
            st.caption(title)
            draw(_lines(say.step, metrics, name, form), height=160)


def _loss(
    step: str, metrics: dict[str, list[dict[str, Any]]], weight: float, names: tuple[str, str, str]
) -> alt.LayerChart:
    several = len(metrics) > 1
    raw, smooth, held_out = names
    rows = []
    for run, lines in metrics.items():
        loss, validation = curve(lines, "loss"), curve(lines, "eval_loss")
        for kind, steps, values in (
            (raw, loss.steps, loss.values),
            (smooth, loss.steps, smoothed(loss.values, weight)),
            (held_out, validation.steps, validation.values),
        ):
            label = f"{run} · {kind}" if several else kind
            rows += [
                {"run": run, "kind": kind, "label": label, "step": at, "loss": value}
                for at, value in zip(steps, values, strict=True)
            ]
    x = alt.X(field="step", type="quantitative", title=step)
    y = alt.Y(field="loss", type="quantitative", title=None, scale=alt.Scale(zero=False))
    tip = [
        alt.Tooltip(field="label", type="nominal"),
        alt.Tooltip(field="step", type="quantitative"),
        alt.Tooltip(field="loss", type="quantitative", format=".4f"),
    ]
    # One name below the other, whole: a phone has room for one beside the two kinds of line at most.
    names_below = alt.Legend(orient="bottom", title=None, columns=1, labelLimit=0, symbolOpacity=1)
    colour = alt.Color(field="run", type="nominal", legend=names_below if several else None)
    drawn = chart(rows)
    dash = alt.StrokeDash(
        field="kind", type="nominal", sort=[smooth, held_out],
        scale=alt.Scale(domain=[smooth, held_out], range=[[1, 0], [6, 4]]),
        # A piece of the line itself: the points on it would tell the two apart no more.
        legend=alt.Legend(
            orient="top", title=None, symbolType="stroke", symbolSize=400, symbolStrokeWidth=2.5, symbolStrokeColor=QUIET,
            symbolFillColor="transparent",
        ),
    )  # fmt: skip
    faint = (
        drawn.transform_filter(alt.FieldEqualPredicate(field="kind", equal=raw))
        .mark_line(opacity=0.25)
        .encode(x=x, y=y, color=colour, tooltip=tip)
    )
    lines = drawn.transform_filter(alt.FieldOneOfPredicate(field="kind", oneOf=[smooth, held_out])).mark_line(
        strokeWidth=2.5, point=alt.OverlayMarkDef(size=18)
    ).encode(x=x, y=y, color=colour, strokeDash=dash, tooltip=tip)  # fmt: skip
    layered: alt.LayerChart = faint + lines
    return layered


def _lines(step: str, metrics: dict[str, list[dict[str, Any]]], name: str, form: str) -> alt.Chart:
    curves = {run: curve(lines, name) for run, lines in metrics.items()}
    rows = [
        {"run": run, "step": at, "value": value}
        for run, one in curves.items()
        for at, value in zip(one.steps, one.values, strict=True)
    ]
    several = len(metrics) > 1
    drawn: alt.Chart = (
        chart(rows)
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X(field="step", type="quantitative", title=step),
            y=alt.Y(field="value", type="quantitative", title=None, axis=alt.Axis(format=form)),
            color=alt.Color(field="run", type="nominal", legend=None) if several else alt.value(COLOURS[0]),
            tooltip=[
                alt.Tooltip(field="run", type="nominal"),
                alt.Tooltip(field="step", type="quantitative"),
                alt.Tooltip(field="value", type="quantitative", format=form),
            ],
        )
    )
    return drawn
