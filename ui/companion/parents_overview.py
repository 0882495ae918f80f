"""The week of each child: minutes, moods, alerts, themes. In: the store. Out: charts. No word of a chat."""

from collections.abc import Mapping, Sequence

import streamlit as st

from ui.companion.look import avatar
from ui.companion.safe_text import plain
from ui.insight import Leaning, Week, week
from ui.locales import Sentences
from ui.store import Store
from ui.tables import Child, Mood

TIME_COLOUR, ALERT_COLOUR = "#E8743B", "#C0503E"
MOOD_COLOURS: dict[Mood, str] = {
    "great": "#3E8E5A",
    "good": "#8FC9A0",
    "so_so": "#F0C766",
    "sad": "#6FA8DC",
    "angry": "#D9705E",
}


def show(store: Store, words: Sentences) -> None:
    """Draw one panel for each child."""
    children = store.children()
    if not children:
        st.info(words.picker.none)
    for child in children:
        with st.container(key=f"panel-week-{child.id}"):
            _week(week(store, child), child, words)


def _week(seen: Week, child: Child, words: Sentences) -> None:
    say = words.overview
    with st.container(horizontal=True, vertical_alignment="center"):
        st.image(avatar(child.avatar), width=48, alt=child.nickname)
        st.subheader(plain(child.nickname), anchor=False)
    with st.container(key=f"figures-{child.id}"):
        for column, name, value in zip(
            st.columns(4),
            (say.minutes, say.chats, say.questions, say.alerts),
            (round(seen.minutes), seen.chats, seen.questions, seen.alerts),
            strict=True,
        ):
            column.metric(name, value)
    st.markdown(summary(seen, words))
    if seen.leaning:
        with st.container(key=f"leaning-{child.id}"):
            for sentence in leaning(seen.leaning, words):
                st.markdown(sentence)
    st.caption(say.time_chart)
    _bars(seen, say.day, {say.minutes: [day.minutes for day in seen.days]}, [TIME_COLOUR])
    left, right = st.columns(2)
    with left:
        st.caption(say.mood_chart)
        felt = {
            words.talk.moods[mood]: [sum(found == mood for found in day.moods) for day in seen.days]
            for mood in MOOD_COLOURS
        }
        if any(any(counts) for counts in felt.values()):
            _bars(seen, say.day, felt, list(MOOD_COLOURS.values()))
        else:
            st.markdown(say.no_moods)
    with right:
        st.caption(say.alert_chart)
        _bars(seen, say.day, {say.alerts: [day.alerts for day in seen.days]}, [ALERT_COLOUR])
    if seen.themes:
        st.caption(say.theme_chart)
        _themes(seen, say.themes, say.questions)


def _bars(seen: Week, day: str, counts: Mapping[str, Sequence[float]], colours: list[str]) -> None:
    """A bar for each day, in as many colours as there are counts; whole numbers only."""
    names = list(counts)
    # Streamlit's own bar chart lays a ground of the page's colour on a panel, and cuts off a legend on a phone.
    st.vega_lite_chart(
        {day: [found.date.strftime("%m-%d") for found in seen.days], **counts},
        {
            "background": "transparent",
            "height": 180,
            "transform": [{"fold": names, "as": ["name", "count"]}],
            "mark": "bar",
            "encoding": {
                "x": {"field": day, "type": "ordinal", "title": None, "axis": {"labelAngle": 0, "labelOverlap": True}},
                "y": {"field": "count", "type": "quantitative", "title": None, "axis": {"tickMinStep": 1}},
                "color": {
                    "field": "name",
                    "scale": {"domain": names, "range": colours},
                    "legend": {"orient": "bottom", "columns": 3, "title": None} if len(names) > 1 else None,
                },
                "tooltip": [{"field": name} for name in (day, *names)],
            },
        },
    )


def _themes(seen: Week, names: Mapping[str, str], questions: str) -> None:
    """How many questions each theme had, the most asked first."""
    st.vega_lite_chart(
        {"theme": [names[theme] for theme, _ in seen.themes], questions: [number for _, number in seen.themes]},
        {
            "background": "transparent",
            "height": {"step": 26},
            "mark": {"type": "bar", "color": TIME_COLOUR},
            "encoding": {
                "y": {"field": "theme", "type": "nominal", "sort": None, "title": None},
                "x": {"field": questions, "type": "quantitative", "title": None, "axis": {"tickMinStep": 1}},
                "tooltip": [{"field": "theme"}, {"field": questions}],
            },
        },
    )


def leaning(seen: Leaning, words: Sentences) -> list[str]:
    """Signs that a child leans on 灵伴: what was seen, and what may do good."""
    say = words.overview
    told = [say.leaning_told.format(days=seen.days, chats=seen.chats)] if seen.days else []
    full = [say.leaning_full.format(days=seen.full_days)] if seen.full_days else []
    return [*told, *full, say.leaning_under]


def summary(seen: Week, words: Sentences) -> str:
    """The week in a sentence or two."""
    say = words.overview
    told = say.summary.format(minutes=round(seen.minutes), chats=seen.chats)
    if seen.themes:
        told += say.summary_themes.format(themes=say.comma.join(say.themes[theme] for theme, _ in seen.themes[:3]))
    return told + (say.summary_alerts.format(alerts=seen.alerts) if seen.alerts else say.summary_calm)
