"""Points of runs → charts as SVG, whose colours are variables of the page's style sheet."""

import collections
import io
import re

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tfdist.report.goodput import CHECKPOINT, KINDS, PAUSE, STEPS, VALIDATION, number
from tfdist.report.tables import metrics_of

# Colours that stand for variables of the style sheet: the ink, and one for each run or kind of time.
_INK, _SERIES, _KIND = "#010101", "#0200{:02x}", "#0300{:02x}"
# Marks and hatches, because a colour alone is not enough.
_MARKERS, _HATCHES = "os^Dv", ("", "", "|||", "++", "////", "xxxx", "---")
_LOOKS = {
    kind: {"facecolor": _KIND.format(place), "hatch": _HATCHES[place], "edgecolor": _INK, "linewidth": 0.4}
    for place, kind in enumerate(KINDS)
}
_STYLE = {
    **{"font.size": 8, "svg.fonttype": "none", "text.parse_math": False, "hatch.linewidth": 0.5},
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), _INK),
    **{"xtick.major.size": 2, "ytick.major.size": 0, "grid.alpha": 0.15, "legend.frameon": False},
}
# What an SVG does not need: names of groups, its size, fonts, rotations by nothing.
_NEEDLESS = re.compile(
    r'(?<=<g) id="[^"]*"| (width|height)="[\d.]+pt"| font-family: [^;"]*;| transform="rotate\(-0 [^"]*"'
)
_NARROW_INCHES, _LETTERS = 4.2, 20
# Kinds of time that take turns within epochs, and how many times the shortest visible piece they are drawn together.
_IN_EPOCHS, _SLOT = (STEPS, CHECKPOINT, VALIDATION), 10


def make_charts(runs):
    """Returns (title, SVG) of each number that changes with the steps, or the epochs if lines have no step."""
    by = "step" if all(run.points("step", "step") for run in runs) else "epoch"
    lines = [line for run in runs for line in run.lines]
    charts = {name: {"training": name, "validation": f"val_{name}"} for name in metrics_of(lines)}
    charts["rows per second"] = {"": "examples_per_second"}
    charts["waiting for input, share of a step"] = {"": "input_share"}
    charts["learning rate"] = {"": "learning_rate"}
    found = [
        (title, [(run.name, label, run.points(by, key)) for run in runs for label, key in keys.items()])
        for title, keys in charts.items()
    ]
    picks = {"fastest": min, "slowest": max}
    own = [(run.name, label, _own_work(run, by, pick)) for run in runs for label, pick in picks.items()]
    found.append(("own work of a worker in a step, ms", own))
    return [(title, _draw(title, by, series)) for title, series in found if any(points for *_, points in series)]


def make_time_line(runs, width=_NARROW_INCHES):
    """Returns the SVG of where the time went, a bar for each run, so many inches wide; "" if no time is known."""
    runs = [run for run in reversed(runs) if run.account.pieces]
    if not runs:
        return ""
    longest = max(run.account.pieces[-1].end - run.account.pieces[0].begin for run in runs)
    size, unit = (3600, "hours") if longest > 36_000 else (60, "minutes") if longest > 600 else (1, "seconds")
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, 1.0 + 0.4 * len(runs)), layout="constrained")
        axes = figure.subplots(subplot_kw={"frame_on": False})
        shown = set()
        for y, run in enumerate(runs):
            first = run.account.pieces[0].begin
            for kind, begin, end in _merge(run.account.pieces, longest / 400):
                shown.add(kind)
                axes.broken_barh([((begin - first) / size, (end - begin) / size)], (y - 0.3, 0.6), **_LOOKS[kind])
            for place, failure in enumerate(run.account.failures, 1):
                axes.annotate(f"✕{place}", ((failure.time - first) / size, y + 0.33), ha="center")
        axes.set_yticks(range(len(runs)), [run.name[:_LETTERS] * (len(runs) > 1) for run in runs])
        axes.set_ylim(-0.4, len(runs) - 0.3)
        axes.set_xlabel(f"{unit} since the first start (✕: a failure)")
        # When a step waited is not recorded, only for how long in an epoch.
        labels = {STEPS: f"{STEPS}, with their input"}
        patches = [Patch(label=labels.get(kind, kind), **_LOOKS[kind]) for kind in KINDS if kind in shown]
        figure.legend(handles=patches, loc="outside upper left", ncols=3 if width == _NARROW_INCHES else len(KINDS))
        return _svg(figure, f"where the time went, {width}")


def _own_work(run, by, pick):
    """Returns (x, ms) of the own work of the worker that is picked in each epoch; nothing of a single worker."""
    found = {}
    for line in run.lines:
        workers = line["workers"] if isinstance(line.get("workers"), list) else []
        own = [number(item, "own_seconds") for item in workers if isinstance(item, dict)]
        if len(own) > 1 and None not in own and number(line, by) is not None:
            found[line[by]] = 1e3 * pick(own)
    return sorted(found.items())


def _draw(title, by, series):
    """Returns the SVG of series: (name of the run, label, points)."""
    names = list(dict.fromkeys(name for name, *_ in series))
    ends = []
    with rc_context(_STYLE):
        figure = Figure(figsize=(_NARROW_INCHES, 2.3), layout="constrained")
        axes = figure.subplots(subplot_kw={"frame_on": False})
        for name, label, points in series:
            if points:
                place, dash = names.index(name), "--" if label in ("validation", "slowest") else "-"
                look = {"color": _SERIES.format(place % 6), "marker": _MARKERS[place % 5], "linestyle": dash}
                # Equal runs lie upon each other: an earlier one is wider, so that it is seen under the next.
                under = min(len(names) - 1 - place, 3)
                look |= {"linewidth": 1.3 + 1.7 * under, "ms": 3.5 + 2.5 * under}
                axes.plot(*zip(*points, strict=True), markevery=-(-len(points) // 9), **look)
                ends.append((points[-1][1], f"{name[:_LETTERS]} {label}" if len(names) > 1 else label))
        axes.grid()
        if "training" not in (label for _, label, _ in series):
            # Otherwise a small change would look large.
            axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        axes.set_xlabel(by)
        axes.xaxis.get_major_locator().set_params(integer=True)
        for height, text in _spread(ends, *axes.get_ylim()):
            axes.annotate(text, (1.02, height), xycoords="axes fraction", va="center")
        return _svg(figure, title)


def _spread(ends, low, high):
    """Returns (height, text) of labels at the ends of lines, 0 to 1, so far from each other that all can be read."""
    placed = []
    for y, text in sorted(ends):
        lowest = placed[-1][0] + 0.08 if placed else 0.0
        placed.append((max(lowest, (y - low) / (high - low)), text))
    above = max(0.0, placed[-1][0] - 1.0)
    return [(height - above, text) for height, text in placed]


def _merge(pieces, least):
    """Returns (kind, begin, end) of what is drawn: short pieces of an epoch with their neighbours, kind by kind."""
    groups = []
    for piece in pieces:
        last = groups[-1] if groups else []
        fits = last and piece.kind in _IN_EPOCHS and last[-1].kind in _IN_EPOCHS
        if fits and last[-1].end - last[0].begin < _SLOT * least:
            last.append(piece)
        elif piece.seconds > (0 if piece.kind in _IN_EPOCHS else least):
            groups.append([piece])
    merged = []
    for kind, begin, end in (part for group in groups for part in _sorted_by_kind(group, least)):
        if merged and kind == merged[-1][0] != PAUSE:
            merged[-1][2] = end
        else:
            merged.append([kind, begin, end])
    return [piece for piece in merged if piece[0] != PAUSE]


def _sorted_by_kind(group, least):
    """Yields (kind, begin, end) of pieces; if one is too short to be seen, those of a kind are put together."""
    spent, now = collections.Counter(), group[0].begin
    for place, piece in enumerate(group):
        spent[piece.kind if min(each.seconds for each in group) < least else (piece.kind, place)] += piece.seconds
    for key, seconds in spent.items():
        yield key if isinstance(key, str) else key[0], now, now + seconds
        now += seconds


def _svg(figure, title):
    figure.patch.set_visible(False)
    out = io.StringIO()
    # The names of the parts of all SVGs of a page must differ.
    with rc_context({"svg.hashsalt": title}):
        FigureCanvasSVG(figure).print_svg(out, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = _NEEDLESS.sub("", out.getvalue()[out.getvalue().index("<svg") :])
    for colour, name in ((_INK, "ink"), ("#0200(..)", r"s\1"), ("#0300(..)", r"k\1")):
        text = re.sub(colour, f"var(--{name})", text)
    return re.sub(r"\s+", " ", text)
