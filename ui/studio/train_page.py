"""A run from its recipe to its start: every knob, presets, import, the command, the plan, and who comes before it.

In: recipes, the base chosen, the sets. Out: `runs/recipes/NAME.yaml`, and copies of them for jobs, which read them later;
jobs `import-llamafactory`, `train --plan`, `train`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from data.conversations import datasets_in
from data.queue import Job, is_heard, log_of, write_want
from data.strict import BadInput
from ui.studio import job_card
from ui.studio.base_page import pick
from ui.studio.choices import show_next, take_next
from ui.studio.context import Studio
from ui.studio.jobs import (
    ALIVE,
    Asked,
    answer_of,
    by_hand,
    is_left_open,
    is_started,
    is_training,
    keep_upload,
    queue_training,
    state_of,
)
from ui.studio.knobs import Knob, as_yaml, name_of, overrides, read_values, reasons, recipes, save, wrong_with
from ui.studio.look import in_red, panel
from ui.studio.measures import count, duration, size
from ui.studio.sets import sets_since
from ui.studio.told import in_words

FIRST = "mindpal"
GROUPS = ("data", "method", "rate", "batch", "memory", "record")


def show(studio: Studio) -> None:
    """The recipe on the left, what it comes to on the right."""
    say = studio.words.train
    shipped = recipes(studio.settings.recipes)
    known = recipes(studio.settings.recipes, studio.settings.saved)
    if not known:
        raise BadInput(f"{studio.settings.recipes}: holds no recipe; MINDPAL_RECIPES names the folder.")
    left, right = st.columns([3, 2], gap="medium")
    with left:
        with panel("recipe"):
            name = _preset(studio, known, shipped)
            _import(studio, tuple(shipped))
        values = _knobs(studio, known[name])
    words = _recipe_words(studio, name, known[name], values)
    with right:
        with panel("start"):
            _start(studio, words, values, name)
        with panel("yaml"):
            st.subheader(say.yaml, anchor=False)
            st.code(as_yaml(values), language="yaml", height=280)
            _save(studio, values, tuple(shipped))
    _queue(studio)


def _recipe_words(studio: Studio, name: str, path: Path, values: dict[str, Any]) -> list[str]:
    """The words that name the recipe with these values.

    One of the trainer's own goes by its name. Of any other a copy that never changes is named: a job reads it when its turn
    comes, and a run that goes on reads it again.
    """
    word, read = name, path
    if not studio.settings.is_own(name, path):
        read = keep_upload(studio.settings.uploads, path.name, path.read_bytes())
        word = str(read)
    return [word, *overrides(read_values(read, studio.knobs), values)]


def _preset(studio: Studio, known: dict[str, Path], shipped: dict[str, Path]) -> str:
    say = studio.words.train
    if wanted := take_next("preset", known):
        st.session_state["preset"] = wanted
        st.session_state.pop("draft-of", None)
    name: str = st.selectbox(
        say.preset, list(known), index=list(known).index(FIRST) if FIRST in known else 0, key="preset",
        format_func=lambda one: one if one in shipped else f"{one} · {say.mine}", persist_state="session",
        help=say.preset_help,
    )  # fmt: skip
    if st.session_state.get("draft-of") != name:
        _load(name, read_values(known[name], studio.knobs))
    if st.button(say.reset, icon=":material/restart_alt:", type="tertiary"):
        _load(name, read_values(known[name], studio.knobs))
    return name


def _load(name: str, values: dict[str, Any]) -> None:
    """Show a recipe's values: other widgets than before, or they would keep what was typed."""
    st.session_state["draft-of"] = name
    st.session_state["draft"] = values
    st.session_state["draft-number"] = st.session_state.get("draft-number", 0) + 1


def _knobs(studio: Studio, path: Path) -> dict[str, Any]:
    say = studio.words.train
    draft: dict[str, Any] = st.session_state["draft"]
    preset, why = read_values(path, studio.knobs), reasons(path)
    sets = datasets_in(studio.settings.data)
    for number, group in enumerate(GROUPS):
        # What a person has to choose comes first; the rest has its values, and is there for whoever looks for it.
        with st.expander(say.groups[group], expanded=number == 0, key=f"knobs-{group}"):
            for row in _rows([knob for knob in studio.knobs if knob.group == group]):
                wide = row[0].kind == "list"
                for knob, place in zip(row, st.columns(1 if wide else 2, vertical_alignment="bottom"), strict=False):
                    with place:
                        draft[knob.name] = _knob(studio, knob, draft[knob.name], preset[knob.name], why, sets)
                        if wrong := wrong_with(knob, draft[knob.name]):
                            st.error(in_words(studio.words, wrong))
    return dict(draft)


def _rows(knobs: Sequence[Knob]) -> list[list[Knob]]:
    """Two knobs beside each other, in the recipe's order; a list needs the whole width."""
    rows: list[list[Knob]] = []
    for knob in knobs:
        if rows and len(rows[-1]) == 1 and "list" not in (rows[-1][0].kind, knob.kind):
            rows[-1].append(knob)
        else:
            rows.append([knob])
    return rows


def _knob(
    studio: Studio, knob: Knob, value: Any, preset: Any, why: dict[str, str], sets: Sequence[str]
) -> Any:  # fmt: skip
    say = studio.words.train
    parts = [say.knobs.get(knob.name, knob.description), say.default.format(value=_shown(preset))]
    parts += [say.range.format(range=knob.range)] if knob.range else []
    parts += [say.because.format(reason=why[knob.name])] if knob.name in why else []
    tip = "\n\n".join(parts)
    unit = say.units.get(knob.unit, knob.unit)
    label = f"{say.names[knob.name]} :small[{knob.name}{f' ({unit})' if unit else ''}]"
    key = f"knob-{knob.name}-{st.session_state['draft-number']}"
    if knob.kind == "switch":
        return st.toggle(label, bool(value), key=key, help=tip)
    if knob.kind == "choice":
        return st.selectbox(label, knob.choices, knob.choices.index(value), key=key, help=tip)
    if knob.kind == "list":
        options = list(dict.fromkeys([*value, *preset, *(sets if knob.name == "dataset" else ())]))
        return st.multiselect(
            label, options, value, key=key, help=tip, accept_new_options=knob.name != "dataset", wrap=True
        )
    if knob.kind == "whole":
        return st.number_input(
            label, min_value=None if knob.least is None else int(knob.least), step=1, key=key, help=tip,
            value=None if value is None else int(value), placeholder=say.none if knob.optional else None,
        )  # fmt: skip
    return st.number_input(
        label, value=None if value is None else float(value), step=_step(value), format="%g", key=key, help=tip,
        placeholder=say.none if knob.optional else None,
    )  # fmt: skip


def _step(value: Any) -> float:
    """A tenth of the number's own size, so that one click moves 5e-5 as it moves 0.5."""
    return float(f"{float(value):.0e}") / 10 if value else 0.1


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else "—" if value is None else f"`{value}`"


def _import(studio: Studio, taken: tuple[str, ...]) -> None:
    """A LLaMA-Factory YAML or command becomes a recipe among one's own."""
    say = studio.words.train
    with st.expander(say.importing, icon=":material/input:"):
        st.caption(say.import_under)
        given = st.file_uploader(say.import_file, type=["yaml", "yml", "json", "sh", "txt"], key="import-file")
        typed = st.text_area(
            say.import_command, key="import-command", height=120, placeholder="llamafactory-cli train …"
        )
        text = given.getvalue().decode("utf-8", "replace") if given else typed
        if not text.strip():
            return
        source = keep_upload(studio.settings.uploads, given.name if given else "command.sh", text.encode())
        mark = source.name[:10]
        # Not among one's own: there it may have been changed since.
        made = source.with_name(f"{mark}-recipe.yaml")
        words = (str(source), "--out", str(made))
        asked = Asked("import-llamafactory", words, "import")
        job = job_card.offer(studio, asked, say.import_now, key="import", icon=":material/input:")
        if not job or state_of(job) != "done" or not made.is_file():
            return
        for line in log_of(job.run).read_text(encoding="utf-8").splitlines():
            # The command itself stands above.
            if not line.startswith("$ "):
                st.caption(_told(studio, line))
        name = st.text_input(say.name, f"imported-{mark}", key=f"import-name-{mark}")
        if st.button(say.import_use, type="primary", icon=":material/check:"):
            with in_red(studio.words):
                _use(studio, name, read_values(made, studio.knobs), taken)


def _told(studio: Studio, line: str) -> str:
    """What an import told: a sentence, or an argument and a sentence about it."""
    told = in_words(studio.words, line)
    argument, colon, why = line.partition(": ")
    return told if told != line or not colon else f"{in_words(studio.words, argument)}: {in_words(studio.words, why)}"


def _save(studio: Studio, values: dict[str, Any], taken: tuple[str, ...]) -> None:
    say = studio.words.train
    # Not ticked any more once another recipe is shown.
    over = st.checkbox(say.over, key=f"over-{st.session_state['draft-number']}")
    with st.form("save", border=False):
        name = st.text_input(say.name, placeholder="my-recipe")
        if st.form_submit_button(say.save, icon=":material/save:", width="stretch") and name:
            with in_red(studio.words):
                _use(studio, name, values, taken, over=over)
    st.download_button(
        say.download, as_yaml(values), file_name="recipe.yaml", mime="application/yaml", icon=":material/download:",
        width="stretch", on_click="ignore",
    )  # fmt: skip
    loaded = st.file_uploader(say.load, type=["yaml", "yml"], key="load")
    if loaded is None or st.session_state.get("loaded") == loaded.file_id:
        return
    with in_red(studio.words):
        given = read_values(keep_upload(studio.settings.uploads, loaded.name, loaded.getvalue()), studio.knobs)
        _use(studio, name_of(loaded.name), given, taken, over=over, loaded=loaded.file_id)


def _use(
    studio: Studio, name: str, values: dict[str, Any], taken: tuple[str, ...], *, over: bool = False, loaded: str = ""
) -> None:  # fmt: skip
    """Save a recipe among one's own, and show it from now on. Raises `BadInput`.

    `loaded`: the file that it came in, which stays in its box and is not saved a second time.
    """
    save(studio.settings.saved, name, values, studio.knobs, taken, over=over)
    st.session_state["loaded"] = loaded or st.session_state.get("loaded")
    show_next("preset", name)
    st.rerun()


def _start(studio: Studio, words: list[str], values: dict[str, Any], name: str) -> None:
    say = studio.words.train
    st.subheader(say.start_title, anchor=False)
    words = [*words, "--base", pick(studio), *studio.settings.data_words]
    wrong = {knob.name: told for knob in studio.knobs if (told := wrong_with(knob, values[knob.name]))}
    st.markdown(say.plan_under)
    job = job_card.offer(
        studio, Asked("train", (*words, "--plan", "--json"), "plan"), say.plan, key="plan", icon=":material/calculate:",
        disabled=bool(wrong), since=sets_since(values["dataset"], studio.settings.data),
    )  # fmt: skip
    if job and state_of(job) == "done" and (found := answer_of(job.run)):
        _plan(studio, found)
    st.markdown(say.command)
    st.code(Asked("train", tuple(words), name).command, language="bash", wrap_lines=True)
    for name_of_knob, told in wrong.items():
        # Its own place may be folded up.
        st.error(f"{name_of_knob}: {in_words(studio.words, told)}")
    note = st.text_input(say.note, key="note", placeholder=say.note_hint)
    unfit = bool(wrong) or is_started(studio.jobs, words)
    # A second click may have come before the page showed that there is nothing to click any more.
    if (
        st.button(say.start, type="primary", icon=":material/play_arrow:", width="stretch", disabled=unfit)
        and not unfit
    ):
        run = queue_training(studio.settings.runs, words, name, note)
        st.session_state["started"] = str(run)
        _show(run)
        st.rerun()
    started = st.session_state.get("started")
    # How it ended is told below.
    if any(str(job.run) == started and state_of(job) in ALIVE for job in studio.jobs):
        st.success(say.started.format(run=started), icon=":material/rocket_launch:")


def _show(run: Path) -> None:
    """Every page shows this run from now on, as soon as there is something of it to show."""
    for key in ("watched", "opened"):
        show_next(key, run.name)
    for key in ("compared", "measured", "merge-run"):
        show_next(key, str(run))


def _plan(studio: Studio, found: dict[str, Any]) -> None:
    say = studio.words.train
    plan, machine = found["plan"], found["machine"]
    with st.container(key="measures-plan"):
        columns = st.columns(2)
        columns[0].metric(say.steps, f"{plan['steps']:,}")
        columns[1].metric(say.tokens, count(found["tokens_an_epoch"]))
        columns[0].metric(say.time, duration(found["seconds"]))
        columns[1].metric(say.memory, f"{size(plan['memory'])} / {size(machine['memory'])}")
    for line in found["lines"]:
        st.caption(in_words(studio.words, line).removeprefix("plan: "))
    for remark in found["remarks"][:6]:
        st.warning(in_words(studio.words, remark), icon=":material/warning:")


def _queue(studio: Studio) -> None:
    """The runs that wait or are under way, and those that can go on; deleted on the page Runs, they are gone here, too."""
    say = studio.words.train
    found = [job for job in studio.jobs if is_training(job) and state_of(job) != "done"]
    if not found:
        return
    st.subheader(say.queue, anchor=False)
    for job in reversed(found[-6:]):
        with panel(f"run-{job.run.name}"):
            run_controls(studio, job, key=f"train-{job.run.name}")


def run_controls(studio: Studio, job: Job, *, key: str) -> None:
    """A run's state, and what can be done with it: pause, go on, stop, keep what it has learned."""
    say = studio.words.train
    st.markdown(f"`{job.run}`" + (f" · {job.request.note}" if job.request and job.request.note else ""))
    job_card.follow(studio.words, job, key=key, with_log=False)
    state = state_of(job)
    # On the page Watch this is drawn again by itself, without the page's own `in_red`.
    with in_red(studio.words), st.container(horizontal=True):
        # Nobody here hears a wish for a run that goes on in a terminal; the command for it stands below.
        if state in ALIVE and is_heard(job):
            if st.button(say.pause, key=f"pause-{key}", icon=":material/pause:"):
                write_want(job.run, "pause")
                st.rerun()
            if st.button(say.stop, key=f"halt-{key}", icon=":material/stop:"):
                write_want(job.run, "stop")
                st.rerun()
        elif job.request and state in ("paused", "stopped", "failed"):
            if st.button(say.resume, key=f"resume-{key}", icon=":material/play_arrow:"):
                write_want(job.run, "run")
                _show(job.run)
                st.rerun()
            # What it learned becomes an adapter.
            if is_left_open(job) and st.button(say.stop, key=f"halt-{key}", icon=":material/stop:"):
                write_want(job.run, "stop")
                st.rerun()
    names = {"pause": say.pause, "stop": say.stop, "resume": say.resume}
    for action, command in by_hand(job).items():
        # A box each: its copy button takes all that is in it.
        st.caption(names[action])
        st.code(command, language="bash", wrap_lines=True)
