"""Runs → one HTML page that loads nothing from elsewhere."""

import base64
import datetime
import html
import io
import pathlib

from PIL import Image

from tfdist.report.charts import make_charts, make_time_line
from tfdist.report.read import path_text
from tfdist.report.tables import make_tables, state

# A sheet of predictions is made smaller, so that the page stays small.
_SHEET_PIXELS = (900, 1400)
_STYLE = pathlib.Path(__file__).with_name("page.css")


def make_page(runs, refresh_seconds=None):
    """Returns the page as text.

    Args:
        runs: `RunRecord`s.
        refresh_seconds: after how long a browser loads the page again; None for never.
    """
    title = html.escape(", ".join(run.name for run in runs))
    refresh = f'<meta http-equiv="refresh" content="{refresh_seconds}">' if refresh_seconds else ""
    pictures = [_picture(f"{run.name}, {path_text(path.stem)}", path) for run in runs for path in run.sheets]
    missing = [f"{run.name}: {line}" for run in runs for line in run.missing]
    missing += [line for line, figure in pictures if not figure]
    wide, narrow = make_time_line(runs, 11), make_time_line(runs)
    time_line = _figure("", wide, "wide") + _figure("", narrow, "narrow") if wide else ""
    tables = {table.title: _table(table, len(runs)) for table in make_tables(runs)}
    if time_line:
        tables["Where the time went"] = tables["Where the time went"].replace("</h2>", f"</h2>{time_line}")
    now = f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M:%S}"
    parts = [
        f"<header><h1>{title}</h1><p>{html.escape('; '.join(map(state, runs)))}</p></header>",
        "".join(f'<p class="missing">{html.escape(line)}</p>' for line in missing),
        *tables.values(),
        _grid("Curves", [_figure(name, svg) for name, svg in make_charts(runs)]),
        _grid("Predictions", [figure for _, figure in pictures if figure]),
    ]
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>{refresh}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE.read_text()}</style></head><body>{''.join(parts)}<footer>{now}</footer></body></html>\n"
    )


def _table(table, runs):
    """Returns a table: the figures of one run as a list, those of several in columns, or else rows."""
    look = "rows" if table.columns[0] else "list" if runs == 1 else "beside"
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in table.columns)
    rows = "".join(f"<tr>{''.join(map(_cell, table.columns, row))}</tr>" for row in table.rows)
    return f'<h2>{table.title}</h2><div class="scroll"><table class="{look}"><tr>{head}</tr>{rows}</table></div>'


def _cell(head, text):
    return f'<td data-head="{html.escape(head)}"{" class=long" if len(text) > 24 else ""}>{html.escape(text)}</td>'


def _grid(title, figures):
    return f'<h2>{title}</h2><div class="grid">{"".join(figures)}</div>' if figures else ""


def _figure(title, content, look=""):
    svg = content.replace("<svg", f'<svg role="img" aria-label="{html.escape(title or "Where the time went")}"', 1)
    caption = f"<figcaption>{html.escape(title)}</figcaption>" if title else ""
    return f'<figure class="{look}">{caption}{svg}</figure>'


def _picture(title, path):
    """Returns (a line that says what is wrong, the figure): one of them is empty."""
    out = io.BytesIO()
    try:
        with Image.open(path) as image:
            image.thumbnail(_SHEET_PIXELS)
            image.convert("RGB").save(out, "WEBP", quality=70)
    # Pillow raises all of these for damaged files.
    except (OSError, ValueError, SyntaxError) as error:
        return f"{title} cannot be read and is left out ({error}).", ""
    data = base64.b64encode(out.getvalue()).decode()
    return "", _figure(title, f'<img alt="{html.escape(title)}" src="data:image/webp;base64,{data}">')
