"""The studio's page: fine-tuning from a data set to a model that is served, without a terminal.

In: the environment of `ui/studio/settings.py`, and the jobs in the runs folder. Out: the page; jobs asked for.
Run: `python -m ui.studio` (with `--worker` on one machine).
"""

import os
from collections.abc import Callable

import streamlit as st

from data.queue import is_worker_alive, jobs
from ui.locales import LANGUAGES, Language
from ui.studio import (
    base_page,
    compare_page,
    data_page,
    export_page,
    gate,
    runs_page,
    train_page,
    watch_page,
)
from ui.studio.context import Studio
from ui.studio.jobs import state_of
from ui.studio.knobs import read_knobs
from ui.studio.look import LINGBAN, dress, in_red
from ui.studio.measures import free_disk, size
from ui.studio.password import PasswordFile
from ui.studio.settings import settings_from
from ui.studio.words import words_in

Page = Callable[[Studio], None]


def main() -> None:
    """The door, then the page that the navigation names."""
    st.set_page_config(page_title="灵伴工坊 MindPal Studio", page_icon=LINGBAN, layout="wide")
    dress()
    words = words_in(_language())
    with in_red(words):
        settings = settings_from(os.environ)
        if not gate.is_open():
            gate.show(PasswordFile(settings.secret), os.environ.get(gate.CODE, ""), words)
            return
        studio = Studio(settings, words, read_knobs(), tuple(jobs(settings.runs)))
        st.logo(LINGBAN, size="large")
        pages = _pages(studio)
        chosen = st.navigation(pages)
        _sidebar(studio)
        _links(pages)
        if not is_worker_alive(settings.runs):
            st.warning(words.no_worker, icon=":material/power_off:")
        chosen.run()


def _pages(studio: Studio) -> list[st.Page]:
    say, guide = studio.words.pages, studio.words.guide
    shown: list[tuple[str, Page, str, str, str]] = [
        ("data", data_page.show, say.data, guide.data, ":material/forum:"),
        ("base", base_page.show, say.base, guide.base, ":material/deployed_code:"),
        ("train", train_page.show, say.train, guide.train, ":material/tune:"),
        ("watch", watch_page.show, say.watch, guide.watch, ":material/monitoring:"),
        ("compare", compare_page.show, say.compare, guide.compare, ":material/compare:"),
        ("export", export_page.show, say.export, guide.export, ":material/inventory_2:"),
        ("runs", runs_page.show, say.runs, guide.runs, ":material/history:"),
    ]
    return [_page(studio, *one) for one in shown]


def _page(studio: Studio, path: str, show: Page, title: str, guide: str, icon: str) -> st.Page:
    def page() -> None:
        st.title(title, anchor=False)
        st.caption(guide)
        show(studio)

    return st.Page(page, title=title, icon=icon, url_path=path, default=path == "data")


def _links(pages: list[st.Page]) -> None:
    """The pages once more, at the page's head, where a narrow window has no room for a sidebar beside it.

    `style.css` shows either these or the sidebar's: a sidebar over the page stays open in Streamlit after a choice,
    unless the browser says that it is a phone's.
    """
    with st.container(horizontal=True, gap="xsmall", key="pages"):
        for page in pages:
            st.page_link(page, width="content")


def _sidebar(studio: Studio) -> None:
    words = studio.words
    states = [state_of(job) for job in studio.jobs]
    with st.sidebar:
        st.caption(words.queue.format(running=states.count("running"), waiting=states.count("queued")))
        st.caption(words.disk.format(free=size(free_disk(studio.settings.runs))))
        st.segmented_control(
            words.language, list(LANGUAGES), format_func=LANGUAGES.__getitem__, key="language", required=True,
            default=_language(), persist_state="session",
        )  # fmt: skip
        st.button(words.gate.lock, icon=":material/lock:", type="tertiary", on_click=gate.lock)


def _language() -> Language:
    """What was chosen in this tab; before that English where the browser asks for it, and Chinese elsewhere."""
    chosen: Language | None = st.session_state.get("language")
    return chosen or ("en" if (st.context.locale or "").lower().startswith("en") else "zh")


if __name__ == "__main__":
    main()
