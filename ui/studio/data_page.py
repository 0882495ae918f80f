"""The sets: what is in them, what is wrong with them, what the model learns of each turn; how one enters and goes.

In: `dataset_info.json`'s folder. Out: jobs `data check`, `data stats`, `data inspect`, `data add`, `data remove`.
"""

import html
import re
from collections import Counter
from pathlib import Path
from typing import Any

import altair as alt
import streamlit as st

from data.contract import Contract, read_contract
from data.conversations import SET_NAME, SHIPPED, Conversation, datasets_in, find_dataset, is_validation
from data.strict import BadInput
from ui.studio import job_card
from ui.studio.base_page import chosen_base
from ui.studio.bases import STANDIN, folder_of, holds
from ui.studio.choices import show_now
from ui.studio.context import Studio
from ui.studio.jobs import Asked, answer_of, keep_upload, latest, state_of
from ui.studio.look import COLOURS, chart, coloured, draw, in_red, panel
from ui.studio.sets import Read, Span, counted, read_set, search, sets_since, spans, stamp, topic_of
from ui.studio.told import in_words
from ui.studio.words import Words

A_PAGE = 8
SHOWN_TOKENS = 3
UPLOADS = ["json", "jsonl"]


def show(studio: Studio) -> None:
    """Choose a set, then look at it from one of four sides; or bring a new one."""
    say = studio.words.data
    names = datasets_in(studio.settings.data)
    with st.container(key="panel-sets"):
        _table(studio, names)
    chosen_at = st.container()
    browse, check, stats, new = st.tabs([say.browse, say.check, say.stats, say.upload], key="data-tabs")
    with new:
        _upload(studio, names)
    if not names:
        return
    with chosen_at:
        show_now("set", names)
        name = st.selectbox(say.set, names, key="set", persist_state="session")
        _remove(studio, name)
    with browse:
        _browse(studio, name)
    with check:
        _check(studio, name)
    with stats:
        _stats(studio, name)


def _table(studio: Studio, names: list[str]) -> None:
    say = studio.words.data
    rows = []
    for name in names:
        try:
            read = _read(studio, name)
        except BadInput as error:
            rows.append(
                {
                    say.set: name,
                    say.file: in_words(studio.words, str(error)),
                    say.conversations: 0,
                    say.bad: 0,
                    say.checked: "—",
                }
            )
            continue
        job = latest(studio.jobs, "data", _check_words(studio, name), sets_since([name], studio.settings.data))
        told = answer_of(job.run) if job and state_of(job) in ("done", "failed") else None
        rows.append(
            {
                say.set: name,
                say.file: find_dataset(name, studio.settings.data).file_name,
                say.conversations: len(read.conversations),
                say.bad: len(read.problems),
                say.checked: say.found.format(errors=told["errors"], warnings=told["warnings"]) if told else "—",
            }
        )
    st.dataframe(rows, hide_index=True, width="stretch")


def _browse(studio: Studio, name: str) -> None:
    say = studio.words.data
    read = _read(studio, name)
    share = st.slider(say.share, 0.0, 0.5, 0.1, 0.05, key="share", persist_state="session", help=say.share_help)
    sides = {"all": say.all, "train": say.train, "validation": say.validation}
    left, right = st.columns([2, 1])
    typed = left.text_input(say.search, key="search", icon=":material/search:", persist_state="session")
    topics = Counter(map(topic_of, read.conversations))
    topic = right.selectbox(say.topic, ["", *sorted(topics)], format_func=lambda one: one or say.all, key="topic")
    side = st.segmented_control(
        say.split, list(sides), default="all", format_func=sides.__getitem__, required=True, key="side"
    )
    found = [
        one
        for one in search(read.conversations, typed)
        if (not topic or topic_of(one) == topic)
        and (side == "all" or is_validation(one, share) == (side == "validation"))
    ]
    held_out = sum(is_validation(one, share) for one in read.conversations)
    st.caption(say.counted.format(found=len(found), train=len(read.conversations) - held_out, validation=held_out))
    for problem in read.problems[:5]:
        st.error(in_words(studio.words, str(problem)))
    pages = max(1, -(-len(found) // A_PAGE))
    number = st.number_input(say.page.format(pages=pages), 1, pages, 1, key=f"page-{name}-{pages}") if pages > 1 else 1
    st.html(
        f'<span class="learned">{html.escape(say.learned)}</span> <span class="given">{html.escape(say.given)}</span>'
    )
    contract = read_contract()
    for one in found[(number - 1) * A_PAGE : number * A_PAGE]:
        with panel(f"said-{one.row}"):
            _conversation(one, contract, studio.words, validation=is_validation(one, share))
    with st.expander(say.tokens), in_red(studio.words):
        _tokens(studio, name)


def _conversation(one: Conversation, contract: Contract, words: Words, *, validation: bool) -> None:
    say = words.data
    told = [f"#{one.row}", one.id, topic_of(one), str(one.columns.get("age", ""))]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(say.validation if validation else say.train, color="violet" if validation else "green")
        st.caption(" · ".join(part for part in told if part))
    persona = one.system if one.system is not None else contract.persona
    blocks = [_block("asks", say.system, [Span(persona, learned=False)])] if persona else []
    for turn in one.turns:
        asks = turn.role in ("user", "tool")
        blocks.append(_block("asks" if asks else "answers", say.roles[turn.role], spans(turn, contract)))
    st.html("".join(blocks))


def _block(side: str, who: str, pieces: list[Span]) -> str:
    return f'<div class="said {side}"><small>{html.escape(who)}</small>{coloured(pieces)}</div>'


def _check_words(studio: Studio, name: str) -> tuple[str, ...]:
    return ("check", name, "--json", *studio.settings.data_words)


def _check(studio: Studio, name: str) -> None:
    say = studio.words.data
    asked = Asked("data", _check_words(studio, name), f"check-{name}")
    job = job_card.offer(
        studio, asked, say.check_now, key="check", primary=True, icon=":material/fact_check:",
        since=sets_since([name], studio.settings.data),
    )  # fmt: skip
    told = answer_of(job.run) if job else None
    if not told:
        return
    left, right = st.columns(2)
    left.metric(say.errors, told["errors"])
    right.metric(say.warnings, told["warnings"])
    levels = {"error": say.errors, "warning": say.warnings}
    level = st.segmented_control(
        say.level,
        list(levels),
        format_func=levels.__getitem__,
        selection_mode="multi",
        default=list(levels),
        key="level",
    )
    rows = [
        {
            say.level: levels[one["level"]],
            say.rule: in_words(studio.words, one["rule"]),
            say.row: one["row"],
            say.turn: one["turn"],
            say.sentence: in_words(studio.words, one["sentence"]),
        }
        for one in told["findings"]
        if one["level"] in level
    ]
    if rows:
        height = min(360, 35 * (len(rows) + 1) + 2)
        st.dataframe(rows, hide_index=True, width="stretch", height=height, placeholder="—")
    elif not told["findings"]:
        st.success(say.nothing_wrong)


def _stats(studio: Studio, name: str) -> None:
    say = studio.words.data
    read = _read(studio, name)
    found = counted(read.conversations, st.session_state.get("share", 0.1))
    with st.container(key="measures-stats"):
        columns = st.columns(4)
        columns[0].metric(say.conversations, f"{found.conversations:,}")
        columns[1].metric(say.train, f"{found.conversations - found.validation:,}")
        columns[2].metric(say.validation, f"{found.validation:,}")
        columns[3].metric(say.exchanges, f"{found.exchanges:,}")
    if found.conversations:
        left, right = st.columns(2)
        for column, title, lengths in ((left, say.lengths, found.lengths), (right, say.answers, found.answers)):
            with column:
                st.caption(title)
                draw(_histogram(lengths, say.characters, say.number))
        topics = [
            {say.topic: topic, say.age: age, say.conversations: number} for (topic, age), number in found.topics.items()
        ]
        if len({row[say.topic] for row in topics}) > 1:
            st.caption(say.topics)
            draw(
                chart(topics)
                .mark_bar(cornerRadius=3)
                .encode(
                    x=alt.X(field=say.conversations, type="quantitative", aggregate="sum", title=None),
                    y=alt.Y(field=say.topic, type="nominal", sort="-x", title=None),
                    color=alt.Color(field=say.age, type="nominal", legend=alt.Legend(orient="top")),
                    tooltip=[alt.Tooltip(field=key, type="nominal") for key in topics[0]],
                ),
                height=max(160, 20 * len({row[say.topic] for row in topics})),
            )
    st.caption(say.stats_under)
    with in_red(studio.words):
        _count_tokens(studio, name)


def _count_tokens(studio: Studio, name: str) -> None:
    """What takes the trainer's tokenizer. Raises `BadInput` where the base may not be looked into."""
    say = studio.words.data
    words = ("stats", name, "--json", *_tokenizer_words(studio), *studio.settings.data_words)
    job = job_card.offer(
        studio, Asked("data", words, f"stats-{name}"), say.stats_now, key="stats", icon=":material/bar_chart:",
        since=sets_since([name], studio.settings.data),
    )  # fmt: skip
    told = answer_of(job.run) if job else None
    if told:
        _token_stats(told, studio.words)


def _token_stats(told: dict[str, Any], words: Words) -> None:
    say = words.data
    rows = [
        {
            say.split: {"train": say.train, "validation": say.validation}.get(split["name"], split["name"]),
            say.conversations: split["conversations"],
            say.exchanges: split["exchanges"],
            say.token_count: split["tokens"],
            say.with_loss: split["with_loss"],
        }
        for split in told.get("splits", ())
    ]
    st.dataframe(rows, hide_index=True, width="stretch")
    st.caption(say.counted_with.format(name=in_words(words, told["measured_by"])))


def _histogram(lengths: list[int], unit: str, number: str) -> alt.Chart:
    drawn: alt.Chart = (
        chart([{"length": length} for length in lengths])
        .mark_bar(color=COLOURS[0], cornerRadiusTopLeft=3, cornerRadiusTopRight=3)
        .encode(
            x=alt.X(field="length", type="quantitative", bin=alt.Bin(maxbins=24, minstep=1), title=unit),
            y=alt.Y(aggregate="count", type="quantitative", title=number, axis=alt.Axis(format="d", tickMinStep=1)),
        )
    )
    return drawn


def _tokenizer_words(studio: Studio) -> tuple[str, str]:
    """`--tokenizer FOLDER` of the base; without it the stand-in's shows the same mask over other tokens."""
    folder = folder_of(chosen_base(), studio.settings.hub)
    return "--tokenizer", str(folder if holds(folder, "tokenizer.json") else STANDIN)


def _tokens(studio: Studio, name: str) -> None:
    """The exact ids and their mask. Raises `BadInput` where the base may not be looked into."""
    say = studio.words.data
    words = ("inspect", name, "--json", *_tokenizer_words(studio), *studio.settings.data_words)
    asked = Asked("data", words, f"inspect-{name}")
    job = job_card.offer(
        studio, asked, say.tokens_now, key="inspect", icon=":material/token:",
        since=sets_since([name], studio.settings.data),
    )  # fmt: skip
    told = answer_of(job.run) if job else None
    for one in (told or {}).get("conversations", ())[:SHOWN_TOKENS]:
        pieces = [Span(str(token["text"]), learned=bool(token["loss"])) for token in one["tokens"]]
        st.html(f'<div class="said tokens"><small>{html.escape(str(one["id"]))}</small>{coloured(pieces)}</div>')


def _upload(studio: Studio, names: list[str]) -> None:
    say = studio.words.data
    st.markdown(say.upload_under)
    given = st.file_uploader(say.file, type=UPLOADS, key="upload")
    if given is None:
        return
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", given.name.rpartition(".")[0]).strip("_-")[:64] or "my_set"
    name = st.text_input(say.name, stem, key=f"name-{given.file_id}")
    if not SET_NAME.fullmatch(name):
        st.error(say.bad_name)
        return
    path = keep_upload(studio.settings.uploads, given.name, given.getvalue())
    asked = Asked("data", ("add", str(path), "--name", name, *studio.settings.data_words), f"add-{name}")
    before = latest(studio.jobs, asked.verb, asked.words)
    # It may be this very file that took the name.
    if name in names and not (before and state_of(before) == "done"):
        st.info(say.taken.format(name=name))
    job = job_card.offer(
        studio, asked, say.add, key="add", primary=True, icon=":material/upload:", disabled=name in names,
        shows={"set": name},
    )  # fmt: skip
    if job and state_of(job) == "done" and name in names:
        st.success(say.added.format(name=name), icon=":material/check_circle:")


def _remove(studio: Studio, name: str) -> None:
    """Take a set out again, after a second question. The project's own stay: its recipes name them."""
    if name in SHIPPED:
        return
    say = studio.words.data
    with st.popover(say.remove, icon=":material/delete:"):
        st.markdown(say.remove_sure.format(name=name))
        job_card.offer(
            studio, Asked("data", ("remove", name, *studio.settings.data_words), f"remove-{name}"), say.remove_yes,
            key="remove", icon=":material/delete_forever:", since=sets_since([name], studio.settings.data),
        )  # fmt: skip


def _read(studio: Studio, name: str) -> Read:
    return _read_once(name, str(studio.settings.data), stamp(name, studio.settings.data))


@st.cache_resource(show_spinner=False, max_entries=20)
def _read_once(name: str, data_dir: str, stamped: tuple[int, ...]) -> Read:
    return read_set(name, Path(data_dir))
