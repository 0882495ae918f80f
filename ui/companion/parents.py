"""The guardian's area: the consent and its withdrawal, alerts, and who is answering. It shows no word of a chat."""

from datetime import datetime

import streamlit as st

from ui.companion.look import brand
from ui.locales import Sentences
from ui.store import Consent, Store


def show(store: Store, words: Sentences, consent: Consent) -> None:
    """Draw the area."""
    with st.sidebar:
        brand(words)
    st.button(words.back_to_chat, icon=":material/arrow_back:", on_click=_leave)
    st.title(words.for_parents, anchor=False)
    st.markdown(words.parents_under)
    with st.container(border=True):
        st.subheader(words.consent_title, anchor=False)
        st.text(
            words.consent_given.format(
                guardian=consent.guardian, when=_when(consent.given_at), version=consent.policy_version
            )
        )
        st.caption(words.withdraw_under)
        if st.button(words.withdraw, icon=":material/block:", key="withdraw"):
            store.withdraw()
            st.query_params.clear()
            st.rerun()
    with st.container(border=True, key="alerts"):
        st.subheader(words.alerts_title, anchor=False)
        alerts = store.alerts()
        if not alerts:
            st.caption(words.alerts_none)
        for alert in alerts:
            told = words.categories.get(alert.category, words.category_other)
            row = words.alert_row.format(when=_when(alert.created), category=told)
            st.markdown(row if alert.seen else f"{row} :orange-badge[{words.alert_new}]")
        store.alerts_seen()
    with st.container(border=True):
        st.subheader(words.contract_title, anchor=False)
        contract = store.last_contract()
        if contract is None:
            st.caption(words.contract_none)
        else:
            st.code(contract[:8], language=None)
            st.caption(words.contract_under)


def _leave() -> None:
    st.query_params.pop("p", None)


def _when(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")
