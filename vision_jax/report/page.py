"""One self-contained HTML file from headings, texts, tables and pictures: no request, light and dark.

The page forbids itself every request and every script but those of its own blocks (`Embedded.script`), which the
browser enforces by their hashes.
"""

import base64
import dataclasses
import hashlib
import html
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

from vision_jax.metrics.intervals import Interval
from vision_jax.report import embedded
from vision_jax.utils import files

_STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --soft: #5a6068; --back: #ffffff; --card: #f4f5f7; --line: #d5d8dc;
  --figure: #ffffff; --link: #0b57d0; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e7e9; --soft: #a3a9b1; --back: #15171a; --card: #202327; --line: #3a3f45;
  --figure: #202327; --link: #8ab4f8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem 1.25rem 3rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1rem 0 1.25rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.25rem 0 .75rem; padding-bottom: .25rem;
  border-bottom: 1px solid var(--line); }
summary h2 { display: inline; border: 0; }
summary { cursor: pointer; margin: 2rem 0 .75rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
p { max-width: 46rem; }
.headline { font-size: 1.2rem; font-weight: 600; }
.scroll { overflow-x: auto; margin: .75rem 0; background:
  linear-gradient(to right, var(--back) 1rem, transparent 2rem) local,
  linear-gradient(to left, var(--back) 1rem, transparent 2rem) local,
  linear-gradient(to right, rgb(128 128 128 / .45), transparent 1rem) 0 0 / 1rem 100% no-repeat scroll,
  linear-gradient(to left, rgb(128 128 128 / .45), transparent 1rem) 100% 0 / 1rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .35rem; }
caption > span { display: block; position: sticky; left: 0; max-width: min(46rem, calc(100vw - 2.5rem)); }
th, td { padding: .3rem .9rem .3rem .5rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
.number { text-align: right; }
td.number, td.short { white-space: nowrap; }
.middle { min-width: 9rem; }
.long { min-width: 16rem; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; margin: .75rem 0; }
figure { margin: 0; padding: .5rem; background: var(--figure); border: 1px solid var(--line);
  border-radius: .4rem; min-width: min(18rem, 100%); max-width: 100%; overflow-x: auto; }
figure img { display: block; max-width: 100%; height: auto; }
.tiles { position: relative; width: fit-content; max-width: 100%; }
figure .cover { display: none; position: absolute; inset: 0; width: 100%; height: 100%; max-width: none; }
@media (prefers-color-scheme: dark) {
  figure .cover { display: block; }
  figure.drawn img { filter: invert(.87) hue-rotate(180deg); } }
@media (max-width: 40rem) {
  figure[tabindex]::before { content: "↔ scrolls"; position: sticky; left: 0; font-size: .85rem; color: var(--soft); } }
figcaption { font-size: .9rem; padding: .35rem .25rem 0; width: 0; min-width: 100%; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) minmax(0, 1fr); gap: .2rem 1.25rem;
  margin: .75rem 0; }
dt { color: var(--soft); }
dd { margin: 0; }
pre { margin: .75rem 0; padding: .75rem 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .4rem; overflow-x: auto; font: .85rem/1.45 ui-monospace, monospace; white-space: pre-wrap; }
.code { position: relative; }
.code span { display: inline-block; max-width: 100%; }
.code pre { padding-right: 5rem; }
.code button { position: absolute; top: .4rem; right: .4rem; padding: .2rem .6rem; font: .8rem system-ui, sans-serif;
  color: var(--text); background: var(--back); border: 1px solid var(--line); border-radius: .3rem; cursor: pointer; }
@media (max-width: 40rem) { dl { grid-template-columns: minmax(0, 1fr); gap: 0; } dd { margin-bottom: .5rem; } }
@media print { pre { white-space: pre-wrap; } figure { break-inside: avoid; } }
"""

_COPY = """
for (const button of document.querySelectorAll('.code button')) {
  button.hidden = false;
  button.addEventListener('click', async () => {
    const text = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = 'Selected';
    }
  });
}
"""
_FREE_WIDTH = 600  # pixels; pictures up to this width shrink to any screen
_LEAST_SCALE = 0.67  # of larger ones
_SHORT = 22  # characters of a cell, up to which it is a line,
_LONG = 40  # and beyond which its column keeps room for many words, not only for a few, on small screens

Cell = str | int | float | bool | Interval | None


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclasses.dataclass(frozen=True)
class Headline:
    """A paragraph in large type."""

    text: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; columns of numbers are aligned to the right, their decimals alike, intervals in parentheses.

    Columns whose header ends in '%' have one decimal.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG file, embedded; `alt` says in words what it shows, `caption` is read by all."""

    path: str | os.PathLike[str]
    alt: str
    caption: str = ""


def picture(path: str | os.PathLike[str], title: str, caption: str) -> Picture:
    """Returns a picture whose title is its `alt` and heads its caption."""
    return Picture(path, alt=title, caption=f"{title}. {caption}" if caption else title)


@dataclasses.dataclass(frozen=True)
class KeyValues:
    """Names and their values."""

    values: Mapping[str, Cell]


@dataclasses.dataclass(frozen=True)
class Code:
    """Text shown as it is, like a command or a file."""

    text: str


@dataclasses.dataclass(frozen=True)
class Embedded:
    """HTML made by this package, in which all that comes from data is escaped already.

    Attributes:
        html: an element.
        script: JavaScript that brings all such elements of a page to life; equal ones are run once, at the end.
        style: CSS that they need.
    """

    html: str
    script: str = ""
    style: str = ""


Block = Text | Headline | Table | Picture | KeyValues | Code | Embedded


@dataclasses.dataclass(frozen=True)
class Section:
    """Blocks under a heading; a `folded` one is opened by a click."""

    title: str
    blocks: Sequence[Block]
    folded: bool = False


def write(path: str | os.PathLike[str], *, title: str, sections: Sequence[Section]) -> None:
    """Writes the page, whole or not at all.

    Args:
        path: the HTML file to write.
        title: heading of the page and name of the window.
        sections: what it shows, in order.

    Raises:
        ValueError: a picture without `alt`, or a table whose rows do not fit its header.
    """
    path = pathlib.Path(path)
    body = "\n".join(_section(section) for section in sections)
    blocks = [block for section in sections for block in section.blocks]
    own = [block for block in blocks if isinstance(block, Embedded)]
    scripts = list(dict.fromkeys(block.script for block in own if block.script))
    scripts += [_COPY] if any(isinstance(block, Code) for block in blocks) else []
    style = "".join(dict.fromkeys((_STYLE, *(block.style for block in own))))
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests)
    allowed = f"script-src {hashes}; " if hashes else ""
    policy = f"default-src 'none'; {allowed}style-src 'unsafe-inline'; img-src data:"
    ends = "".join(f"<script>{script}</script>\n" for script in scripts)
    text = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'  # else a server is asked for one
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{html.escape(title)}</h1>\n{body}\n</main>\n{ends}</body>\n</html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_write(path) as file:
        file.write(text.encode(errors="backslashreplace"))  # a path may be no UTF-8


def show(value: Cell) -> str:
    """Returns a value as a reader wants it: floats to 5 digits, thousands apart, a dash for nothing."""
    if value is None or value != value:
        return "–"
    if isinstance(value, Interval):
        between = " to " if value.low < 0 else "–"
        return f"{value.value:.5g} ({value.low:.4g}{between}{value.high:.4g})"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _column(cells: Sequence[Cell], *, percent: bool = False) -> list[str]:
    """Returns the cells of a column as `show` does, but its floats with as many decimals as the largest needs."""
    numbers = [cell.value if isinstance(cell, Interval) else cell for cell in cells]
    floats = [abs(number) for number in numbers if isinstance(number, float) and math.isfinite(number)]
    largest = max(floats, default=0.0)
    if not percent and not 1e-3 <= largest < 1e7:
        return [show(cell) for cell in cells]
    decimals = 1 if percent else min(max(3 - math.floor(math.log10(largest)), 0), 4)

    def digits(number: float) -> str:
        return f"{round(number, decimals) + 0.0:,.{decimals}f}"  # Never "-0.0".

    def shown(cell: Cell) -> str:
        if isinstance(cell, Interval):
            between = " to " if cell.low < 0 else "–"
            return f"{digits(cell.value)} ({digits(cell.low)}{between}{digits(cell.high)})"
        if isinstance(cell, float) and cell == cell and (percent or cell == 0 or abs(cell) >= 0.5 * 10**-decimals):
            return digits(cell)
        return show(cell)

    return [shown(cell) for cell in cells]


def _section(section: Section) -> str:
    parts: list[str] = []
    for i, block in enumerate(section.blocks):
        picture = isinstance(block, Picture)
        first = i == 0 or not isinstance(section.blocks[i - 1], Picture)
        last = i + 1 == len(section.blocks) or not isinstance(section.blocks[i + 1], Picture)
        parts.append(('<div class="pictures">\n' if picture and first else "") + _block(block, section.title))
        parts.append("</div>" if picture and last else "")
    body = "\n".join(part for part in parts if part)
    heading = f"<h2>{html.escape(section.title)}</h2>"
    if section.folded:
        return f"<details>\n<summary>{heading}</summary>\n{body}\n</details>"
    return f"<section>\n{heading}\n{body}\n</section>"


def _block(block: Block, section: str) -> str:
    match block:
        case Text(text):
            return f"<p>{html.escape(text)}</p>"
        case Headline(text):
            return f'<p class="headline">{html.escape(text)}</p>'
        case Code(text):
            # A browser breaks lines after the hyphens of a flag, unless it is a box of its own.
            words = re.sub(r"(?<!\S)--\S+", r"<span>\g<0></span>", html.escape(text))
            shown = f'<pre tabindex="0"><code>{words}</code></pre>'
            return f'<div class="code">{shown}<button type="button" hidden>Copy</button></div>'
        case KeyValues(values):
            rows = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(show(v))}</dd>" for name, v in values.items())
            return "<dl>\n" + "\n".join(rows) + "\n</dl>"
        case Table():
            return _table(block, section)
        case Picture():
            return _picture(block)
        case Embedded():
            return block.html


def _table(table: Table, section: str) -> str:
    for row in table.rows:
        if len(row) != len(table.header):
            raise ValueError(f"A row has {len(row)} cells under a header of {len(table.header)}: {list(row)!r}.")
    numeric = [
        all(isinstance(row[i], int | float | Interval | None) for row in table.rows) for i in range(len(table.header))
    ]
    columns = [
        _column([row[i] for row in table.rows], percent=name.endswith("%")) for i, name in enumerate(table.header)
    ]
    classes = [
        "number" if number else _width(max(map(len, column), default=0))
        for number, column in zip(numeric, columns, strict=True)
    ]
    # Long words above narrow columns: few lines of them, where the table is wider than the screen anyway.
    of_head = [
        f"{name} middle" if len(cell) > _SHORT and name in ("number", "short") else name
        for cell, name in zip(table.header, classes, strict=True)
    ]

    def line(tag: str, cells: Sequence[str], names: Sequence[str]) -> str:
        row = (
            f'<{tag} class="{name}">{html.escape(cell)}</{tag[:2]}>' for cell, name in zip(cells, names, strict=True)
        )
        return f"<tr>{''.join(row)}</tr>"

    head = line('th scope="col"', table.header, of_head)
    body = "\n".join(line("td", cells, classes) for cells in zip(*columns, strict=True))
    caption = f"<caption><span>{html.escape(table.caption)}</span></caption>\n" if table.caption else ""
    label = html.escape(table.caption or section)
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table>\n{caption}'
        f"<thead>{head}</thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _width(characters: int) -> str:
    """Returns the class that keeps short cells in a line, or that has room for words in a column of long ones."""
    return "short" if characters <= _SHORT else "middle" if characters <= _LONG else "long"


def _picture(picture: Picture) -> str:
    if not picture.alt.strip():
        raise ValueError(f"The picture {picture.path} needs an `alt` text that says what it shows.")
    found = embedded.of_file(picture.path)
    # Large pictures keep most of their size on small screens, where they scroll: what is written in them stays legible.
    # Of the largest, a matrix of 100 classes, a page of full width shows all.
    wide = found.width > _FREE_WIDTH
    least = f' style="min-width: {round(_LEAST_SCALE * found.width)}px"' if wide else ""
    image = (
        f'<img src="{found.source}" alt="{html.escape(picture.alt)}" '
        f'width="{found.width}" height="{found.height}"{least}>'
    )
    if found.cover:
        image = f'<div class="tiles"{least}>{image}<img class="cover" src="{found.cover}" alt=""></div>'
    caption = f"\n<figcaption>{html.escape(picture.caption)}</figcaption>" if picture.caption else ""
    drawn = ' class="drawn"' if found.drawn else ""
    scroll = ' tabindex="0"' if wide else ""
    return f"<figure{drawn}{scroll}>{image}{caption}</figure>"
