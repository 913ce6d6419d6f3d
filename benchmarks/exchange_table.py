"""Computes ratios, goals and a table from reports of `benchmarks.exchange`; plain arithmetic."""

import functools

from benchmarks.goal import Goal
from tfdist.bench import table

OURS, BFLOAT16, PLAIN = "tfdist_fit", "tfdist_bfloat16", "plain_multi_worker"
BEST_HOROVOD = "best Horovod"
# (model, network) → (ours, the other, the least ratio of our rows per second to the other's).
TARGETS = {
    ("dense", "loopback"): ((OURS, BEST_HOROVOD, 1.5),),
    ("dense", "1gbit"): ((OURS, PLAIN, 5.0),),
    ("vgg16", "loopback"): ((OURS, BEST_HOROVOD, 1.2),),
    ("vgg16", "1gbit"): ((OURS, PLAIN, 1.5),),
    ("resnet50", "loopback"): ((OURS, BEST_HOROVOD, 1.0), (BFLOAT16, BEST_HOROVOD, 1.1)),
    ("resnet50", "1gbit"): ((OURS, PLAIN, 1.2), (BFLOAT16, PLAIN, 1.7)),
    ("mobilenet", "loopback"): ((OURS, BEST_HOROVOD, 1.1),),
    ("transformer", "loopback"): ((OURS, BEST_HOROVOD, 1.0),),
    ("transformer", "1gbit"): ((OURS, PLAIN, 1.2),),
}


def report_name(model, network, workers):
    """Returns the name of a report's folder below `benchmarks/results`."""
    return f"exchange_{network}_{workers}_{model}"


def goals(model, network, workers):
    """Returns the `Goal`s of one report; one of them is always to be as fast as plain MultiWorkerMirrored."""
    targets = TARGETS.get((model, network), ())
    if not any((ours, other) == (OURS, PLAIN) for ours, other, _ in targets):
        targets = (*targets, (OURS, PLAIN, 1.0))
    return [
        Goal(
            report_name(model, network, workers),
            f"rows/s of {ours} ÷ of {other}",
            functools.partial(_figure, ours=ours, other=other, workers=workers),
            least=least,
        )
        for ours, other, least in targets
    ]


def _figure(report, *, ours, other, workers):
    return ratio(report["results"], ours, other, workers)


def ratio(results, ours, other, workers):
    """Returns the ratio of one contender's median rows per second to another's.

    Args:
        results: dicts from `report.make_result`.
        ours, other: contenders; the other may be BEST_HOROVOD.
        workers: the number of workers on which both ran.

    Returns:
        The ratio; None if one of them did not take part, 0 if one failed.
    """
    rates = [best_rate(results, name, workers) for name in (ours, other)]
    if None in rates:
        return None
    return rates[0] / rates[1] if rates[1] else 0.0


def best_rate(results, name, workers):
    """Returns the median rows per second of a contender, or of the fastest Horovod; 0 if it failed, None without it."""
    lines = [line for line in results if line["workers"] == workers]
    if name == BEST_HOROVOD:
        lines = [line for line in lines if line["contender"].startswith("horovod")]
    else:
        lines = [line for line in lines if line["contender"] == name]
    return max((_rate(line) for line in lines), default=None)


def _rate(line):
    return 0.0 if line["error"] else line["examples_per_second"]["median"]


def alone(contender):
    """Returns the contender whose speed on one worker is this one's limit: the same step without an exchange."""
    for family in ("tfdist", "horovod"):
        if contender.startswith(family):
            return {"tfdist": OURS}.get(family, family)
    return contender


COLUMNS = (
    ("contender", "<"),
    ("workers", ">"),
    ("TensorFlow", "<"),
    ("rows/s", ">"),
    ("mean ± error", ">"),
    ("jitter", ">"),
    (f"÷ {PLAIN}", ">"),
    (f"÷ {BEST_HOROVOD}", ">"),
    ("÷ limit", ">"),
)


def render(report, notes=()):
    """Returns the text of a report.

    Args:
        report: as `benchmarks.exchange` writes it.
        notes: further lines.
    """
    results = report["results"]
    place = report["place"]
    errors = [f"{line['contender']} × {line['workers']}: {line['error']}" for line in results if line["error"]]
    explained = [
        "rows/s: the median of interleaved rounds; mean ± error: its standard error; jitter: 1.4826 × the median",
        "absolute deviation. ÷: the ratio of the medians. Lines on one worker show what each TensorFlow does alone;",
        "÷ limit: relative to N × the same step on one worker, with the TensorFlow of that line.",
        place["cores"],
        place["horovod"],
    ]
    rows = [_row(line, results, fair=place["is_pinned"]) for line in results]
    parts = table.render_split(results)
    return "\n".join([table.lay_out(COLUMNS, rows), "", *filter(None, explained), *parts, *errors, *notes])


def _row(line, results, *, fair):
    name, workers = line["contender"], line["workers"]
    versions = line.get("versions") or {}
    begin = [name, str(workers), versions.get("tensorflow", "")]
    if line["error"]:
        return [*begin, "failed", *[""] * (len(COLUMNS) - 4)]
    rate = line["examples_per_second"]
    others = [ratio(results, name, other, workers) if workers > 1 else None for other in (PLAIN, BEST_HOROVOD)]
    base = best_rate(results, alone(name), 1) if fair and workers > 1 else None
    return [
        *begin,
        f"{rate['median']:.4g}",
        f"{rate['mean']:.4g} ± {rate['error']:.2g}",
        f"{rate['jitter']:.2g}",
        *("" if not other else f"{other:.2f}" for other in others),
        f"{rate['median'] / (workers * base):.2f}" if base else "",
    ]
