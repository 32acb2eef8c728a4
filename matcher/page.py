"""The form of a report: a page that stands alone, and the few elements it is put together from.

All text goes through :func:`text`; nothing is fetched from anywhere, and the page itself forbids it, scripts
too. Colours are variables that follow the reader's choice of a light or a dark page.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

_STYLE = """
:root { color-scheme: light dark; --paper: #faf9f6; --card: #ffffff; --ink: #1c1e22; --soft: #686a70;
  --rule: #d8d5cd; --bad: #b32626; --bar: #3b6ea8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15171a; --card: #1e2125; --ink: #e8e6e1; --soft: #a3a6ad; --rule: #40444b;
    --bad: #ff8f85; --bar: #7fb0e6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0 .8rem; max-width: 45rem; } .soft { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--rule); }
thead th { color: var(--soft); font-weight: 600; } tbody th { font-weight: 500; min-width: 10rem; }
td small { display: block; color: var(--soft); white-space: nowrap; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
figure { margin: 0; padding: .8rem; background: var(--card); border: 1px solid var(--rule);
  border-radius: .4rem; }
figure svg, figure img { display: block; width: 100%; height: auto; }
figure svg { max-width: 34rem; margin: 0 auto; }
figcaption { font-size: .9rem; margin: .1rem 0 .5rem; overflow-wrap: anywhere; }
.bad { color: var(--bad); font-weight: 600; }
.bars { font-size: 13px; font-variant-numeric: tabular-nums; fill: var(--ink); }
.bars rect { fill: var(--bar); }
"""


def text(value: object) -> str:
    """Any value as text that is safe between tags and in attributes."""
    return html.escape(str(value), quote=True)


def page(title: str, parts: Iterable[str]) -> str:
    """The whole page.

    Args:
        title: Plain text.
        parts: HTML.

    Returns:
        HTML that needs no other file.
    """
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # Should anything ever slip through text(), the reader's browser is told not to run or fetch it.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{text(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def section(heading: str, *parts: str, note: str = "") -> str:
    """A heading, a sentence below it, and parts; "" where all parts are empty.

    Args:
        heading: Plain text.
        parts: HTML.
        note: Plain text.

    Returns:
        HTML.
    """
    if not any(parts):
        return ""
    told = f'<p class="soft">{text(note)}</p>' if note else ""
    return f"<section>\n<h2>{text(heading)}</h2>\n{told}\n" + "\n".join(parts) + "\n</section>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls by itself where it is wider than the page; the first cell heads its row.

    Args:
        columns: Plain text.
        rows: HTML, one cell a column.

    Returns:
        HTML; "" without rows.
    """
    lines = [
        f"<tr><th>{row[0]}</th>" + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows
    ]
    if not lines:
        return ""
    head = "".join(f"<th>{text(name)}</th>" for name in columns)
    body = "\n".join(lines)
    content = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    return f'<div class="scroll"><table>\n{content}\n</table></div>'


def plots(*figures: str) -> str:
    """Figures side by side where there is room; "" without any."""
    shown = [figure for figure in figures if figure]
    return '<div class="plots">\n' + "\n".join(shown) + "\n</div>" if shown else ""


def figure(caption: str, content: str) -> str:
    """A framed picture with its caption above.

    Args:
        caption: HTML.
        content: An ``<svg>`` or ``<img>`` element, or other HTML.

    Returns:
        HTML.
    """
    return f"<figure>\n<figcaption>{caption}</figcaption>\n{content}\n</figure>"


def percent(value: float | None) -> str:
    """A share in per cent with one digit; a dash where it is not defined."""
    return "–" if value is None else f"{100 * value:.1f} %"


def number(value: object) -> str:
    """Any plain value: numbers with up to four digits that count, the rest as text."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return text(value)
