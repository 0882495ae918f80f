"""How a moment, a line of the log and a family's settings are told to a guardian, on the page and in a file.

In: records. Out: sentences of one language. Run: `rows = limits(child, sentences("zh"))`.
"""

from datetime import datetime

from ui.locales import LANGUAGES, Sentences
from ui.records import Consent
from ui.tables import Access, Child

Rows = list[tuple[str, str]]


def moment(when: datetime) -> str:
    """A moment as the family's clock shows it."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M")


def deed(what: str, words: Sentences) -> str:
    """A line of the log in the guardian's language; one that an older version wrote is told as it was written."""
    name, _, detail = what.partition(": ")
    seen = {"full": words.home.transcripts_full, "alerts": words.home.transcripts_alerts}
    sentence = {str(act): sentence for act, sentence in words.data.acts.items()}.get(name, what)
    return sentence.format(detail=seen.get(detail, detail.removesuffix(" deleted")))


def access(transcripts: Access, words: Sentences) -> str:
    """Which chats a guardian can read."""
    return words.home.transcripts_full if transcripts == "full" else words.home.transcripts_alerts


def category(name: str, words: Sentences) -> str:
    """What an alert is about."""
    return words.categories.get(name, words.category_other)


def consent(given: Consent, words: Sentences) -> str:
    """Who agreed, when, to which text, and when that was withdrawn."""
    told = words.consent_given.format(
        guardian=given.guardian, when=moment(given.given_at), version=given.policy_version
    )
    ended = words.consent_ended.format(when=moment(given.withdrawn_at)) if given.withdrawn_at else ""
    return f"{told} {ended}".strip()


def profile(child: Child, words: Sentences) -> Rows:
    """Who the child is."""
    return [
        (words.child_nickname, child.nickname),
        (words.child_age, words.age_suffix.format(band=child.age_band)),
        (words.child_language, LANGUAGES[child.language]),
        (words.first_run.avatar, words.avatars.get(child.avatar, child.avatar)),
    ]


def limits(child: Child, words: Sentences) -> Rows:
    """What the child is allowed."""
    say = words.home
    return [
        (say.minutes_a_day, str(child.minutes_a_day)),
        (say.break_minutes, str(child.break_minutes)),
        (say.quiet_from, child.quiet_from),
        (say.quiet_to, child.quiet_to),
        (say.blocked_topics, words.overview.comma.join(child.blocked_topics.splitlines()) or words.data.none),
        (say.read_aloud, words.data.yes if child.read_aloud else words.data.no),
        (say.voice, words.data.yes if child.voice else words.data.no),
    ]
