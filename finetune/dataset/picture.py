"""Draw what is in the sets: a PNG, and an HTML page that needs nothing beside it.

In: `Counts`. Out: `data.png`, `data.html`. Topics are drawn by their keys, which are ASCII: no font is needed.
"""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from data.runs import write_whole
from finetune.dataset.counts import AGES_UNKNOWN, PERCENTILES, Counts

PNG_FILE, HTML_FILE = "data.png", "data.html"
# Colours that differ in brightness too: for the colour-blind, and on paper.
_COLOURS = ("#2a6f97", "#61a5c2", "#a9d6e5", "#d9d9d9")
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.15rem .7rem;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}"
)


def png(counts: Counts) -> bytes:
    """Topics by age, lengths of conversations, lengths of answers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    topics = [topic for topic, _ in counts.topics()]
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(13, max(4.0, 1.5 + 0.2 * len(topics))), width_ratios=(3, 2), layout="constrained"
    )
    start = [0] * len(topics)
    for age, colour in zip(counts.ages(), _COLOURS, strict=False):
        width = [counts.topic_age[topic][age] for topic in topics]
        left.barh(topics, width, left=start, color=colour, label=age)
        start = [before + more for before, more in zip(start, width, strict=True)]
    left.invert_yaxis()
    left.set_title("conversations by topic and age")
    left.tick_params(axis="y", labelsize=8)
    left.margins(y=0.005)
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.03), ncols=len(_COLOURS))
    splits = list(counts.splits.values())
    right.hist(
        [one.lengths for one in splits], bins=40, stacked=True, color=_COLOURS[:2], label=[one.name for one in splits]
    )
    right.set_title(f"length of a conversation ({counts.unit})")
    right.set_ylabel("conversations")
    right.legend()
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi=110)
    pyplot.close(figure)
    return made.getvalue()


def write(counts: Counts, folder: Path) -> tuple[Path, Path]:
    """Write both files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = png(counts)
    (folder / PNG_FILE).write_bytes(picture)
    write_whole(folder / HTML_FILE, page(counts, picture))
    return folder / PNG_FILE, folder / HTML_FILE


def page(counts: Counts, picture: bytes) -> str:
    """The whole page; the picture stands in it."""
    image = base64.b64encode(picture).decode()
    splits = _table(
        ("split", "conversations", "exchanges", counts.unit, "with loss"),
        [(one.name, len(one.lengths), one.exchanges, one.tokens, one.with_loss) for one in counts.splits.values()],
    )
    lengths = _table(
        ("length of", *(f"{share}%" for share in PERCENTILES)),
        [(name, *values) for name, values in counts.percentiles().items()],
    )
    ages = counts.ages()
    topics = _table(
        ("topic", *(age or AGES_UNKNOWN for age in ages), "all"),
        [(topic, *(found[age] for age in ages), found.total()) for topic, found in counts.topics()],
    )
    title = html.escape(f"{', '.join(counts.names)}: {counts.conversations} conversations")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1><p>Lengths by {html.escape(counts.measured_by)}.</p>{splits}{lengths}"
        f'<img alt="conversations by topic and age, and their lengths" src="data:image/png;base64,{image}">{topics}</body></html>\n'
    )


def _table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    names = "".join(f"<th>{html.escape(str(name))}</th>" for name in head)
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{names}</tr>{cells}</table>"
