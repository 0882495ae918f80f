"""The same questions to base, adapter and merged model, side by side: as a report, or one at a time.

In: a run, a model folder or a base. Out: jobs `compare` and `chat`; the report that `finetune compare` writes.
"""

import hashlib
from pathlib import Path

import streamlit as st

from data.contract import SEAL_FILE, Seal, read_contract
from data.queue import Job, Verb
from data.runs import RUN_FILE
from data.strict import read_json
from ui.studio import job_card
from ui.studio.base_page import chosen_base
from ui.studio.bases import holds, is_here
from ui.studio.choices import show_now
from ui.studio.context import Studio
from ui.studio.export_page import is_of, model_words, models
from ui.studio.jobs import Asked, has_result, keep_upload, latest, queue, record_of, state_of, weights_since
from ui.studio.look import framed, panel
from ui.studio.told import table_in_words

REPORT = "report.html"
COMPARED = "compare"
EVALUATION = "evaluation.md"
MODES = ("both", "off", "on")


def show(studio: Studio) -> None:
    """The report, and the live question."""
    say = studio.words.compare
    subjects = _subjects(studio)
    report, live, measured = st.tabs([say.report, say.live, say.measured], key="compare-tabs")
    with report, panel("report"):
        _report(studio, subjects)
    with live, panel("live"):
        _live(studio, subjects)
    with measured, panel("measured"):
        _measured(studio, subjects)


def _subjects(studio: Studio) -> dict[str, str]:
    """What can be asked, by the word that the trainer takes: runs, model folders, the base."""
    say = studio.words.compare
    made = [job for job in reversed(studio.jobs) if has_result(job)]
    runs = {str(job.run): f"{say.adapter} · {job.run.name}" for job in made}
    merged = {str(studio.settings.models / name): f"{say.merged} · {name}" for name in models(studio.settings.models)}
    begun_from = [record.base for job in made if (record := record_of(job))]
    return {**runs, **merged, **{name: f"{say.base} · {name}" for name in [chosen_base(), *begun_from]}}


def _report(studio: Studio, subjects: dict[str, str]) -> None:
    say = studio.words.compare
    st.markdown(say.report_under)
    show_now("compared", subjects)
    what = st.selectbox(
        say.what, list(subjects), format_func=subjects.__getitem__, key="compared", persist_state="session"
    )
    left, right = st.columns(2)
    names = {"both": say.both, "off": say.thinking_off, "on": say.thinking_on}
    mode = left.segmented_control(
        say.thinking,
        MODES,
        default="both",
        format_func=names.__getitem__,
        required=True,
        key="mode",
        persist_state="session",
    )
    ways = {"contract": say.contract, "greedy": say.greedy}
    way = right.segmented_control(
        say.sampling,
        list(ways),
        default="contract",
        format_func=ways.__getitem__,
        required=True,
        key="way",
        persist_state="session",
    )
    own = st.text_area(
        say.questions, key="questions", height=100, placeholder=say.questions_hint, persist_state="session"
    )
    given = st.file_uploader(say.questions_file, type=["txt", "json", "jsonl"], key="questions-file")
    merged = _merged(studio, Path(what))
    words = [what, *merged]
    if mode != "both":
        words.append("--thinking" if mode == "on" else "--no-thinking")
    if way == "greedy":
        words.append("--greedy")
    uploads = studio.settings.uploads
    if own.strip():
        words += ["--questions", str(keep_upload(uploads, "questions.txt", own.strip().encode()))]
    if given:
        words += ["--questions", str(keep_upload(uploads, given.name, given.getvalue()))]
    # As it comes without a choice, it belongs to the run's own report.
    usual = words == [what, *merged] and _is_run(studio, Path(what))
    asked, out = _asked(studio, "compare", words, Path(what) / COMPARED if usual else None)
    job = job_card.offer(
        studio, asked, say.compare, key="compare", primary=True, icon=":material/compare:",
        since=weights_since(Path(what)),
    )  # fmt: skip
    page = out / REPORT
    if job and state_of(job) == "done" and page.is_file():
        framed(studio.words, page, REPORT)


def _asked(studio: Studio, verb: Verb, words: list[str], usual: Path | None) -> tuple[Asked, Path]:
    """The command, and the folder that it writes: `usual`, which the trainer takes by itself, or one by the words.

    By its words the same report has one place, and another one never takes it.
    """
    if usual:
        return Asked(verb, tuple(words), verb), usual
    mark = hashlib.sha256("\0".join([verb, *words]).encode()).hexdigest()[:12]
    out = studio.settings.runs / "reports" / f"{verb}-{mark}"
    return Asked(verb, (*words, "--out", str(out)), verb), out


def _merged(studio: Studio, what: Path) -> list[str]:
    """`--merged FOLDER` for a run whose model folder lies elsewhere than the trainer looks, and is not older than it."""
    if holds(what, SEAL_FILE) or not is_of(studio.settings.models / what.name, what):
        return []
    return model_words(studio.settings, what, "--merged")


def _is_run(studio: Studio, folder: Path) -> bool:
    """Whether it is one of the runs here: into a folder elsewhere the worker does not write."""
    return folder.parent == studio.settings.runs and holds(folder, RUN_FILE)


def _measured(studio: Studio, subjects: dict[str, str]) -> None:
    """Loss, text scores and rubric on the conversations held out, before and after tuning."""
    say = studio.words.compare
    st.markdown(say.measured_under)
    show_now("measured", subjects)
    what = st.selectbox(
        say.what, list(subjects), format_func=subjects.__getitem__, key="measured", persist_state="session"
    )
    words = [what, *_before(studio, Path(what)), *studio.settings.data_words]
    asked, out = _asked(studio, "evaluate", words, Path(what) if _is_run(studio, Path(what)) else None)
    job = job_card.offer(
        studio, asked, say.measure, key="evaluate", primary=True, icon=":material/speed:",
        since=weights_since(Path(what)),
    )  # fmt: skip
    if job and state_of(job) == "done" and (out / EVALUATION).is_file():
        st.markdown(table_in_words(studio.words, (out / EVALUATION).read_text(encoding="utf-8")))


def _before(studio: Studio, folder: Path) -> list[str]:
    """`--base NAME` for a merged model whose base is on this machine: it is measured before its tuning, too."""
    if not holds(folder, SEAL_FILE):
        return []
    name = Seal.parse(read_json(folder / SEAL_FILE), str(folder / SEAL_FILE)).contract.base_model
    return ["--base", name] if is_here(name, studio.settings.hub) else []


def _live(studio: Studio, subjects: dict[str, str]) -> None:
    say = studio.words.compare
    st.markdown(say.live_under)
    chosen = st.multiselect(
        say.models,
        list(subjects),
        _side_by_side(studio, subjects),
        format_func=subjects.__getitem__,
        key="live-models",
        max_selections=3,
    )
    left, right = st.columns(2)
    names = {"off": say.thinking_off, "on": say.thinking_on}
    mode = left.segmented_control(
        say.thinking, list(names), default="off", format_func=names.__getitem__, required=True, key="live-mode"
    )
    ways = {"contract": say.contract, "free": say.free}
    way = right.segmented_control(
        say.sampling, list(ways), default="contract", format_func=ways.__getitem__, required=True, key="live-way"
    )
    words = ["--thinking" if mode == "on" else "--no-thinking", "--seed", "42", "--json"]
    if way == "free":
        words += _free(studio)
    with st.form("live", border=False):
        question = st.text_input(say.question, key="live-question", max_chars=500)
        asked = st.form_submit_button(say.ask, type="primary", icon=":material/send:")
    if not question.strip() or not chosen:
        return
    commands = {what: Asked("chat", (what, f"--question={question}", *words), "chat") for what in chosen}
    if asked:
        for one in commands.values():
            before = latest(studio.jobs, one.verb, one.words, weights_since(Path(one.words[0])))
            # The same question has the same answer; one that never came can be asked for again.
            if before is None or state_of(before) in ("failed", "stopped"):
                queue(studio.settings.runs, one)
        st.rerun()
    for column, (what, one) in zip(st.columns(len(commands)), commands.items(), strict=True):
        with column:
            st.caption(subjects[what])
            st.code(one.command, language="bash", wrap_lines=True)
            job = latest(studio.jobs, one.verb, one.words, weights_since(Path(what)))
            if job:
                _answer(studio, job, question)


def _free(studio: Studio) -> list[str]:
    """Sampling of one's own, from the contract's values on."""
    say, sampling = studio.words.compare, read_contract().sampling
    columns = st.columns(3)
    temperature = columns[0].slider(say.temperature, 0.0, 1.5, sampling.temperature, 0.05, key="temperature")
    top_p = columns[1].slider("top_p", 0.05, 1.0, sampling.top_p, 0.05, key="top-p")
    most = columns[2].number_input(say.max_tokens, 16, 4096, sampling.max_tokens, key="max-tokens")
    return ["--temperature", f"{temperature:g}", "--top-p", f"{top_p:g}", "--max-tokens", str(most)]


def _answer(studio: Studio, job: Job, question: str) -> None:
    if state_of(job) == "done":
        job_card.exchange(job.run, question)
    else:
        job_card.follow(studio.words, job, key=f"live-{job.run.name}")


def _side_by_side(studio: Studio, subjects: dict[str, str]) -> list[str]:
    """Base, adapter and merged model of the newest run, as far as they are there."""
    newest = next((job for job in reversed(studio.jobs) if has_result(job)), None)
    if newest is None:
        return list(subjects)[:1]
    record = record_of(newest)
    merged = studio.settings.models / newest.run.name
    wanted = [
        record.base if record else chosen_base(),
        str(newest.run),
        *([str(merged)] if is_of(merged, newest.run) else []),
    ]
    return [one for one in wanted if one in subjects]
