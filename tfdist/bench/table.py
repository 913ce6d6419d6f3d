"""Computes figures from samples, and lays them out as text; plain arithmetic."""


def efficiency(rate, base_rate, replicas):
    """Returns the rate of N replicas as a fraction of N times that of one; None without a base."""
    return rate / (replicas * base_rate) if base_rate else None


def wire_bytes(summed, workers, gathered=0):
    """Returns the bytes that each worker sends in a step with rings: 2 (N-1) / N times the summed, N-1 the gathered.

    Args:
        summed: bytes of a worker that are summed over all workers.
        workers: the number N of workers.
        gathered: bytes of a worker that all workers gather.
    """
    return round(ring(workers) * summed + (workers - 1) * gathered)


def ring(workers):
    """Returns how often a ring all-reduce sends each byte."""
    return 2 * (workers - 1) / workers


def sent_growth(few_bytes, few, many_bytes, many):
    """Returns the growth of a worker's sent bytes from few workers to many, as a multiple of a ring's growth."""
    return (many_bytes / few_bytes) / (ring(many) / ring(few))


def time_ratio(other, ours):
    """Returns another's time per step as a multiple of ours, from their median examples per second."""
    return ours / other


def added_growth(ours_one, other_one, ours_many, other_many):
    """Returns how much our additional time grows from one worker to many, as a fraction of the other's step on many.

    Args:
        ours_one, other_one: seconds per step on one worker.
        ours_many, other_many: seconds per step on many workers.
    """
    return ((ours_many - other_many) - (ours_one - other_one)) / other_many


COLUMNS = (
    ("contender", "<"),
    ("workers×replicas", "<"),
    ("examples/s", ">"),
    ("mean ± error", ">"),
    ("jitter", ">"),
    ("µs/step", ">"),
    ("time ÷ tfdist's", ">"),
    ("efficiency", ">"),
    ("wire/step", ">"),
    ("peak memory", ">"),
)
SPLIT_COLUMNS = (
    ("µs of a tfdist_fit step", "<"),
    ("input", ">"),
    ("compute", ">"),
    ("update", ">"),
    ("reduce", ">"),
    ("wait", ">"),
    ("host", ">"),
    ("overhead", ">"),
    ("whole", ">"),
)
NOTES = """All figures are from interleaved rounds, each contender in its own process, without tracing and warm-up.
mean ± error: the standard error of the mean; jitter: 1.4826 × the median absolute deviation.
On one replica the other contenders train without a strategy, as a user would write it.
Each of several workers, of every contender, is pinned to its share of the cores, as tfdist.launch does.
efficiency: relative to N × the same contender on one replica; a replica's batch is the same for all N.
wire/step: computed from what the step gives to its collectives: in rings, each worker sends each byte of a sum
2 (N-1) / N times, and of a gather of factors N-1 times; the other contenders' gradients count whole.
peak memory: the largest of a worker's process, including TensorFlow."""
SPLIT_NOTE = """Medians ± jitter, from loops and not from time stamps in the graph: after the rounds, in as many rounds
of their own, fit and its parts run in turns, each as one call of many steps; differences are taken within a round.
compute: the gradients of one kept batch; update: what the optimizer adds; reduce: the step's own reduction of such
gradients alone, with rounding, gathering and multiplying factors; wait: what the whole step on that batch takes beyond
these, such as waiting for the slower worker; input: what reading each batch adds to it (reading ahead hides the rest);
host: what fit takes beyond that loop. overhead: input, wait and host. A value below zero is noise, and medians need not
add up."""


def render(results, notes=()):
    """Returns the text of a report's results.

    Args:
        results: dicts from `report.make_result`.
        notes: further lines.
    """
    parts = [lay_out(COLUMNS, [_row(result, results) for result in results]), "", NOTES, *render_split(results)]
    errors = [f"{_name(result)}: {result['error']}" for result in results if result.get("error")]
    return "\n".join([*parts, *([""] if errors or notes else []), *errors, *notes])


def render_split(results):
    """Returns the lines of the table of parts, none if no step was split; arguments as for `render`."""
    split = [_split_row(result) for result in results if result.get("split")]
    return ["", lay_out(SPLIT_COLUMNS, split), "", SPLIT_NOTE] if split else []


def _name(result):
    return f"{result['contender']} {result['workers']}×{result['replicas']}"


def _row(result, results):
    where = f"{result['workers']}×{result['replicas']}"
    if result.get("error"):
        return [result["contender"], where, "failed", *[""] * (len(COLUMNS) - 3)]
    rate = result["examples_per_second"]
    ours = _find(results, "tfdist_fit", result["workers"], result["replicas"])
    ratio = time_ratio(rate["median"], ours["examples_per_second"]["median"]) if ours else None
    return [
        result["contender"],
        where,
        f"{rate['median']:.0f}",
        f"{rate['mean']:.0f} ± {rate['error']:.0f}",
        f"{rate['jitter']:.0f}",
        f"{1e6 * result['seconds_per_step']:.0f}",
        "" if ratio is None else f"{ratio:.2f}",
        "" if result["efficiency"] is None else f"{result['efficiency']:.0%}",
        _bytes(result["wire_bytes"]),
        _bytes(result["peak_memory_bytes"]),
    ]


def _find(results, contender, workers, replicas):
    for result in results:
        same = (result["contender"], result["workers"], result["replicas"]) == (contender, workers, replicas)
        if same and not result.get("error"):
            return result
    return None


def _split_row(result):
    parts = [result["split"][name] for name, _ in SPLIT_COLUMNS[1:]]
    return [_name(result), *(f"{1e6 * part['median']:.0f} ± {1e6 * part['jitter']:.0f}" for part in parts)]


def _bytes(count):
    if not count:
        return "0" if count == 0 else ""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"


def lay_out(columns, rows):
    """Returns a table as text.

    Args:
        columns: a (title, "<" or ">" for left or right alignment) per column.
        rows: lists with a cell of text per column.
    """
    cells = [[title for title, _ in columns], *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = [side for _, side in columns]
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in cells
    )
