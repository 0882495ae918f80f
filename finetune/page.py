"""One page for a browser that needs nothing but itself: no network, no script, light or dark as the reader has it.

In: a title and what stands below it, as HTML. Out: the whole page.
"""

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from finetune.dataset.house import language_of

STYLE_FILE = Path(__file__).parent / "page.css"
_CELL_END = re.compile(r"(?<!\\)\|")
_CODE = re.compile(r"`([^`]+)`")
# 12, 1,234, -0.5 and 98.1 %; a dash where there is none.
_NUMBER = re.compile(r"[−-]?\d[\d,]*(\.\d+)?( ?%)?|[–—-]")


def page(title: str, body: str) -> str:
    """The page. A phone shows it at its own width."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{escape(title)}</title>
<style>
{STYLE_FILE.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def words(text: str, kind: str = "") -> str:
    """What somebody said, its line breaks kept and its language told: Chinese gets Chinese glyphs."""
    language = ' lang="zh-Hans"' if language_of(text) == "zh" else ""
    return f'<div class="words {kind}"{language}>{escape(text)}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "") -> str:
    """A table of plain text; a column of numbers stands on the right. A narrow screen scrolls the table alone."""
    kinds = [' class="number"' if all(map(_is_number, column)) else "" for column in zip(*rows, strict=True)]
    kinds += [""] * (len(head) - len(kinds))
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    heads = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(head, kinds, strict=True))
    lines = "".join(
        f"<tr>{''.join(f'<td{kind}>{escape(value)}</td>' for value, kind in zip(row, kinds, strict=True))}</tr>\n"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table>{told}<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>{lines}</tbody></table></div>"
    )


def markdown(lines: Iterable[str]) -> str:
    """What our own tables in Markdown use of it: headings, paragraphs, tables, and words in backticks."""
    parts: list[str] = []
    rows: list[list[str]] = []
    for line in [*lines, ""]:
        if line.startswith("|"):
            rows.append([cell.strip().replace("\\|", "|") for cell in _CELL_END.split(line)[1:-1]])
            continue
        if rows:
            # The second row rules the head off.
            parts.append(table(rows[0], rows[2:]))
            rows = []
        level = len(line) - len(line.lstrip("#"))
        if level:
            parts.append(f"<h{level + 1}>{escape(line[level:].strip())}</h{level + 1}>")
        elif line:
            paragraph = _CODE.sub(r"<code>\1</code>", escape(line))
            parts.append(f"<p>{paragraph}</p>")
    return "\n".join(parts)


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values, one below the other."""
    return (
        '<dl class="facts">'
        + "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
        + "</dl>"
    )


def _is_number(value: str) -> bool:
    return bool(_NUMBER.fullmatch(value))
