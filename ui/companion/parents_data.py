"""Take everything away, or delete it; and the log of who looked. In: the store. Out: files, or an empty family."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from ui import export
from ui.companion import gate
from ui.companion.parents_alerts import moment
from ui.companion.safe_text import safe
from ui.locales import Sentences
from ui.store import Store
from ui.tables import Child

Writer = Callable[[dict[str, Any], Sentences], bytes]
FORMS: tuple[tuple[str, str, Writer], ...] = (
    ("html", "text/html", export.as_html),
    ("json", "application/json", export.as_json),
    ("csv", "text/csv", export.as_csv),
)


def show(store: Store, words: Sentences) -> None:
    """Draw the cards."""
    for child in store.children():
        with st.container(key=f"panel-data-{child.id}"):
            st.subheader(safe(child.nickname), anchor=False)
            st.caption(words.data.export_under)
            with st.container(horizontal=True):
                for form, mime, writer in FORMS:
                    st.download_button(
                        words.data.export.format(form=form.upper()),
                        _file(store, child, words, writer),
                        f"mindpal-{child.id}.{form}",
                        mime,
                        key=f"export-{form}-{child.id}",
                        icon=":material/download:",
                        on_click="ignore",
                    )
                with st.popover(words.data.delete_child, icon=":material/delete:"):
                    st.markdown(words.data.for_good)
                    if st.button(words.data.delete_child, key=f"delete-child-{child.id}", type="primary"):
                        store.delete_child(child.id)
                        st.rerun()
    with st.container(key="panel-delete-all"):
        st.subheader(words.data.delete_all, anchor=False)
        st.caption(words.data.delete_all_under)
        sure = st.checkbox(words.data.sure, key="sure")
        if st.button(words.data.delete_all, icon=":material/delete_forever:", key="delete-all", disabled=not sure):
            store.delete_all()
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
                        words.data.what: told(line.what, words),
                        "\\#": str(line.conversation_id or ""),
                    }
                    for line in lines
                ],
                border="horizontal",
                hide_index=True,
            )


def told(what: str, words: Sentences) -> str:
    """A line of the log in the guardian's language; one that an older version wrote is told as it was written."""
    deed, _, detail = what.partition(": ")
    seen = {"full": words.home.transcripts_full, "alerts": words.home.transcripts_alerts}
    sentence = {str(name): sentence for name, sentence in words.data.acts.items()}.get(deed, what)
    return sentence.format(detail=seen.get(detail, detail.removesuffix(" deleted")))


def _file(store: Store, child: Child, words: Sentences, writer: Writer) -> Callable[[], bytes]:
    # Made when it is asked for: an export that nobody takes is neither work nor a line in the log.
    return lambda: writer(export.gather(store, child), words)
