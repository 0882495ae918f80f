"""Take everything away, or delete it; and the log of who looked. In: the store. Out: files, or an empty family."""

import logging
from collections.abc import Callable

import streamlit as st

from ui import export, forget, readable
from ui.companion import gate
from ui.companion.parents_form import pin_again
from ui.companion.safe_text import plain
from ui.database import Gone
from ui.locales import Sentences
from ui.store import Store
from ui.tables import Child
from ui.telling import deed, moment

log = logging.getLogger("mindpal")

Writer = Callable[[export.Kept, Sentences], bytes]
FORMS: tuple[tuple[str, str, str, Writer], ...] = (
    ("HTML", "html", "text/html", readable.as_html),
    ("JSON", "json", "application/json", export.as_json),
    ("CSV", "zip", "application/zip", export.as_zip),
)


def show(store: Store, words: Sentences) -> None:
    """Draw the cards."""
    full = store.household().transcripts == "full"
    for child in store.children():
        with st.container(key=f"panel-data-{child.id}"):
            st.subheader(plain(child.nickname), anchor=False)
            st.caption(words.data.export_under if full else words.data.export_under_alerts)
            with st.container(horizontal=True):
                for form, ending, mime, writer in FORMS:
                    st.download_button(
                        words.data.export.format(form=form),
                        _file(store, child, words, writer),
                        f"mindpal-{child.id}.{ending}",
                        mime,
                        key=f"export-{ending}-{child.id}",
                        icon=":material/download:",
                        on_click="ignore",
                    )
                with st.popover(words.data.delete_child, icon=":material/delete:"):
                    st.markdown(words.data.for_good)
                    if pin_again(store, words.data.delete_child, f"delete-child-{child.id}", words):
                        forget.child(store, child.id)
                        st.rerun()
            # Shown by the style sheet where a download was refused: Streamlit would say so in English.
            with st.container(key=f"refused-{child.id}"):
                st.markdown(words.data.export_failed)
    with st.container(key="panel-delete-all"):
        st.subheader(words.data.delete_all, anchor=False)
        st.caption(words.data.delete_all_under)
        sure = st.checkbox(words.data.sure, key="sure")
        with st.form("delete-all", border=False, clear_on_submit=True):
            typed = gate.current_pin(words, "pin-delete")
            asked = st.form_submit_button(words.data.delete_all, icon=":material/delete_forever:", disabled=not sure)
            if asked and gate.confirmed(store, typed, words):
                forget.everything(store)
                gate.leave()
                st.rerun()
    with st.container(key="panel-log"):
        st.subheader(words.data.log, anchor=False)
        st.caption(words.data.log_under)
        lines = store.audited()
        if lines:  # a table without a row would say so in English
            st.table(
                [
                    {
                        words.data.when: moment(line.at),
                        words.data.what: deed(line.what, words),
                        "\\#": str(line.conversation_id or ""),
                    }
                    for line in lines
                ],
                border="horizontal",
                hide_index=True,
            )


def _file(store: Store, child: Child, words: Sentences, writer: Writer) -> Callable[[], bytes]:
    # Made when it is asked for: an export that nobody takes is neither work nor a line in the log.
    is_open = gate.still_open(store)

    def made() -> bytes:
        try:
            known = store.child(child.id)
            if known is None or not is_open():  # the page looked at the door when it was drawn
                raise Gone("The area was shut, or the child deleted, meanwhile.")
            return writer(export.gather(store, known), words)
        except Exception as error:
            log.warning("export failed error=%s", type(error).__name__)  # its words may be a child's
            raise

    return made
