"""Everything that is kept of a child as one page to read or print, in a parent's words. It loads nothing and runs nothing.

In: what `ui/export.py` gathered. Out: HTML, labelled as AI-generated in its text and in its metadata.
"""

import json
from datetime import datetime
from html import escape

from ui import telling
from ui.export import Kept, label
from ui.locales import LANGUAGES, Sentences
from ui.records import Conversation, Message
from ui.tables import Alert
from ui.telling import Rows, moment

STYLE = """
body { font: 1rem/1.6 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; color: #3D2F26; }
p { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #F1D9BF; border-radius: 1rem; padding: .6rem 1rem; }
p.user { background: #DDEEF9; margin-left: 3rem; } p.assistant { background: #FFF9F1; margin-right: 3rem; }
table { border-collapse: collapse; width: 100%; } td { border-bottom: 1px solid #F1D9BF; padding: .3rem .6rem .3rem 0; vertical-align: top; overflow-wrap: anywhere; }
td:first-child { width: 40%; }
.label { background: #FFF3D6; padding: .8rem 1rem; border-radius: 1rem; } small { font-weight: normal; color: #755F4E; }
"""


def as_html(kept: Kept, words: Sentences) -> bytes:
    """The page: who the child is and what is set, what happened, what was said, and who looked."""
    name = escape(f"{words.name} · {kept.child.nickname}")
    metadata = escape(json.dumps(label(kept.child)), quote=True)
    parts = [
        _table(words.home.profile, telling.profile(kept.child, words), words),
        _table(words.data.limits, telling.limits(kept.child, words), words),
        _table(words.home.family, _family(kept, words), words),
        _table(
            words.alerts_title,
            [(moment(it.created), _alert(it, kept.sent.get(it.id, []), words)) for it in kept.alerts],
            words,
        ),
        _table(
            words.overview.mood_chart, [(moment(it.created), words.talk.moods[it.mood]) for it in kept.moods], words
        ),
        _table(words.data.feedback, [(moment(it.created), _feedback(it, words)) for it in kept.feedback], words),
        _table(words.data.visits, [(moment(it.began), moment(it.seen)) for it in kept.visits], words),
        f"<h2>{escape(words.chats.title)}</h2>",
        f"<div>{escape(telling.access(kept.household.transcripts, words))}</div>",
        *(_chat(chat, said, kept, words) for chat, said in kept.chats),
        _table(words.data.log, [(moment(it.at), _line(it.what, it.conversation_id, words)) for it in kept.log], words),
    ]
    return f"""<!doctype html>
<html lang="{escape(kept.household.language)}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="AIGC" content="{metadata}">
<title>{name}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{name} <small>{moment(kept.at)}</small></h1>
<div class="label">{escape(words.data.ai_label)}</div>
{"".join(parts)}
</body>
</html>
""".encode()


def _family(kept: Kept, words: Sentences) -> Rows:
    return [
        *((words.consent_title, telling.consent(given, words)) for given in kept.consents),
        (words.first_run.emergency, kept.emergency),
        (words.home.transcripts, telling.access(kept.household.transcripts, words)),
        (words.home.retention, str(kept.household.retention_days)),
        (words.language, LANGUAGES[kept.household.language]),
        (words.sending.channels, words.overview.comma.join(kept.channels) or words.data.none),
    ]


def _alert(alert: Alert, sent: list[datetime], words: Sentences) -> str:
    told = [telling.category(alert.category, words)]
    return " · ".join(told + [words.data.sent.format(when=moment(when)) for when in sent])


def _feedback(message: Message, words: Sentences) -> str:
    return words.chats.feedback[message.feedback or ""]


def _line(what: str, conversation_id: int | None, words: Sentences) -> str:
    return telling.deed(what, words) + (f" #{conversation_id}" if conversation_id else "")


def _table(title: str, rows: Rows, words: Sentences) -> str:
    told = "".join(f"<tr><td>{escape(left)}</td><td>{escape(right)}</td></tr>" for left, right in rows)
    return f"<h2>{escape(title)}</h2>" + (f"<table>{told}</table>" if told else f"<div>{escape(words.data.none)}</div>")


def _chat(chat: Conversation, said: list[Message], kept: Kept, words: Sentences) -> str:
    title = chat.title if kept.full else ""
    put_away = f" · {words.chats.hidden}" if chat.hidden else ""
    head = f"{escape(title)} <small>#{chat.id} · {moment(chat.created)}{escape(put_away)}</small>"
    return f"<h3>{head}</h3>" + "".join(_message(message, kept, words) for message in said)


def _message(message: Message, kept: Kept, words: Sentences) -> str:
    made = message.role == "assistant"
    notes = [
        words.name if made else kept.child.nickname,
        words.data.ai_mark if made else "",
        words.chats.replaced if message.state == "replaced" else "",
        words.chats.feedback.get(message.feedback or "", ""),
    ]
    head = escape(" · ".join(note for note in notes if note))
    return f'<p class="{message.role}"><b>{head}</b> <small>{moment(message.created)}</small><br>{escape(message.text)}</p>'
