"""What a guardian agrees to, and what the first run keeps of it. Run: `pytest tests/ui/test_consent.py`."""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.ui.databases import PIN, Database
from ui.locales import LANGUAGES, sentences
from ui.pin import Opened, Wrong, check, hashed
from ui.records import Profile
from ui.store import POLICY_VERSION, RETENTION_DAYS, Store

# The text that was agreed to, by its version, newest last. Who edits a fact or the consent's own sentence, in either
# language, raises `POLICY_VERSION` and adds a line here: every guardian is then asked again. An older line stays.
TEXTS = {
    "2026-11-24": "2b441b47588a745f11e6f872896fa82419791a4a4bead5da607a49495983f678",
    "2026-11-29": "b5e4fdbcda689ad30c35a86d1f8ad146968a00cfc3cae72ec4738ca7779f9386",
}


def test_another_text_is_another_version() -> None:
    asked = [
        (tuple(fact.format(days=RETENTION_DAYS) for fact in words.facts), words.consent)
        for words in map(sentences, LANGUAGES)
    ]
    assert hashlib.sha256(repr(asked).encode()).hexdigest() == TEXTS[POLICY_VERSION], (
        "the text of the consent has changed: raise POLICY_VERSION in ui/store.py, so that guardians are asked again,"
        " and add its hash here"
    )
    assert list(TEXTS)[-1] == POLICY_VERSION
    assert len(set(TEXTS.values())) == len(TEXTS)


def test_who_agreed_to_an_older_text_is_asked_again_and_may_agree_to_the_new_one(
    store: Store, child_id: int, database: Database
) -> None:
    database.rows("UPDATE consents SET policy_version = '2020-01-01'")
    assert store.consent() is None, "nobody may chat meanwhile"
    store.consent_again("爸爸")
    consent = store.consent()
    assert consent is not None
    assert (consent.guardian, consent.policy_version) == ("爸爸", POLICY_VERSION)
    assert [found.policy_version for found in store.consents()] == [POLICY_VERSION, "2020-01-01"]
    assert [child.id for child in store.children()] == [child_id]


def test_who_agreed_before_an_operator_changed_the_text_is_asked_again(
    store: Store, child_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("en: {stop: Halt}", encoding="utf-8")
    monkeypatch.setenv("MINDPAL_SENTENCES_FILE", str(own))
    assert store.consent() is not None, "what is agreed to is the same"
    other = tmp_path / "other.yaml"
    other.write_text("en: {consent: I agree.}", encoding="utf-8")
    monkeypatch.setenv("MINDPAL_SENTENCES_FILE", str(other))
    assert store.consent() is None
    store.consent_again("爸爸")
    consent = store.consent()
    assert consent is not None
    assert re.fullmatch(rf"{POLICY_VERSION}\+[0-9a-f]{{8}}", consent.policy_version)


def test_the_first_run_keeps_who_agreed_when_to_what_and_whose_child_it_is(store: Store) -> None:
    before = datetime.now(UTC)
    child = store.first_run("王妈妈", "外婆 13800000000", hashed(PIN), "en", Profile("豆豆", "4-6", "zh", "frog"))
    (consent,) = store.consents()
    assert store.consent() == consent
    assert (consent.guardian, consent.policy_version, consent.withdrawn_at) == ("王妈妈", POLICY_VERSION, None)
    assert before - timedelta(seconds=1) <= consent.given_at <= datetime.now(UTC)
    assert store.emergency() == "外婆 13800000000"
    home = store.household()
    assert (home.language, home.transcripts, home.retention_days, home.pin_tries) == ("en", "full", 180, 0)
    assert home.pin_hash is not None
    assert store.sealer.open(home.pin_hash).startswith("$argon2id$")
    assert check(store, PIN) == Opened()
    assert isinstance(check(store, "1357"), Wrong)
    (kept,) = store.children()
    assert child is not None
    assert kept.id == child.id
    assert (kept.nickname, kept.age_band, kept.language, kept.avatar) == ("豆豆", "4-6", "zh", "frog")
