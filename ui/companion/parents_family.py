"""The family's settings: consent, emergency contact, the PIN, and who is answering. In: the store. Out: what was saved."""

import streamlit as st

from data.strict import BadInput
from ui import outbox, pin, telling
from ui.companion import gate
from ui.companion.parents_form import number, pin_again, saved
from ui.companion.welcome import facts, pin_trouble, two_pins
from ui.locales import Sentences
from ui.store import Store


def show(store: Store, words: Sentences) -> None:
    """Draw the cards."""
    with st.container(border=True, key="consent-card"):
        _consent(store, words)
    with st.container(border=True, key="settings-card"):
        _settings(store, words)
    with st.container(key="panel-days"):
        _days(store, words)
    with st.container(border=True, key="pin-card"), st.form("new-pin", border=False, clear_on_submit=True):
        st.subheader(words.home.new_pin, anchor=False)
        current = gate.current_pin(words, "pin-now")
        typed = two_pins(words, "new")
        if st.form_submit_button(words.save):
            trouble = pin_trouble(typed, words)
            if trouble:
                st.warning(trouble)
            elif gate.confirmed(store, current, words):
                pin.change(store, typed[0])
                gate.unlock(store)
                st.success(words.saved)
    with st.container(key="panel-channels"):
        _channels(store, words)
    with st.container(border=True, key="contract-card"):
        st.subheader(words.contract_title, anchor=False)
        contract = store.last_contract()
        if contract is None:
            st.caption(words.contract_none)
        else:
            st.code(contract[:8], language=None)
            st.caption(words.contract_under)


def _consent(store: Store, words: Sentences) -> None:
    st.subheader(words.consent_title, anchor=False)
    consent = store.consent()
    if consent is not None:
        st.text(telling.consent(consent, words))
        st.caption(words.withdraw_under)
        if st.button(words.withdraw, icon=":material/block:", key="withdraw"):
            store.withdraw()
            st.rerun()
        return
    st.markdown(words.home.no_consent)
    facts(words, store.household().retention_days)
    with st.form("consent-again", border=False):
        guardian = st.text_input(words.guardian_name, max_chars=40, autocomplete="off", key="guardian-again").strip()
        agreed = st.checkbox(words.consent, key="agreed-again")
        if st.form_submit_button(words.home.consent_again, type="primary"):
            if agreed and guardian:
                store.consent_again(guardian)
                st.rerun()
            st.warning(words.missing)


def _settings(store: Store, words: Sentences) -> None:
    home, contact = store.household(), store.emergency()
    with st.form("settings", border=False):
        st.subheader(words.home.settings, anchor=False)
        emergency = st.text_input(
            words.first_run.emergency, contact, max_chars=80, autocomplete="off", key=f"emergency-now-{contact}"
        )
        transcripts = st.radio(
            words.home.transcripts,
            ["full", "alerts"],
            index=["full", "alerts"].index(home.transcripts),
            format_func=lambda access: telling.access("full" if access == "full" else "alerts", words),
            key=f"transcripts-{home.transcripts}",
        )
        if st.form_submit_button(words.save, type="primary"):
            if not emergency.strip():
                st.warning(words.home.no_emergency)
                return
            store.set_household(
                emergency=emergency.strip(),
                transcripts="full" if transcripts == "full" else "alerts",
            )
            saved()


def _days(store: Store, words: Sentences) -> None:
    say, now = words.home, store.household().retention_days
    with st.form("days", border=False, clear_on_submit=True):
        st.subheader(say.retention, anchor=False)
        st.caption(say.retention_under)
        left, right = st.columns(2)
        with left:
            days = number(say.days, 1, 3650, now, "days", words)
        with right:
            typed = gate.current_pin(words, "pin-days")
        if not st.form_submit_button(words.save) or days is None:
            return
        if days < now and not gate.confirmed(store, typed, words):  # fewer days delete what was said
            return
        store.set_retention(days)
        st.rerun()


def _channels(store: Store, words: Sentences) -> None:
    say = words.sending
    st.subheader(say.channels, anchor=False)
    st.caption(say.under)
    for channel_id, name in outbox.channels(store):
        with st.container(horizontal=True, vertical_alignment="center", key=f"sent-to-{channel_id}"):
            st.markdown(f"`{name}`", width="stretch")
            if st.button(say.try_it, icon=":material/send:", key=f"try-{channel_id}"):
                st.toast(say.tried if outbox.try_channel(store, channel_id) else say.not_tried)
            with st.popover(say.remove, icon=":material/delete:"):
                if pin_again(store, say.remove, f"remove-{channel_id}", words):
                    outbox.remove_channel(store, channel_id)
                    st.rerun()
    with st.form("new-channel", border=False, clear_on_submit=True):
        address = st.text_input(say.address, placeholder="json://…", autocomplete="off", key="channel").strip()
        if st.form_submit_button(say.add) and address:
            try:
                outbox.add_channel(store, address)
                st.rerun()
            except outbox.Several:
                st.warning(say.several)
            except BadInput:
                st.warning(say.unknown)
    waiting = outbox.waiting(store)
    if waiting:
        st.caption(say.waiting.format(count=waiting))
    if lost := outbox.given_up(store):
        st.warning(say.given_up_under.format(count=len(lost)))
