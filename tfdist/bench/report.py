"""Makes a report as JSON types and as a plot: the figures, the hardware and the versions."""

import dataclasses
import importlib.util
import os
import pathlib
import platform
import subprocess

from tfdist.bench import table
from tfdist.cluster.cores import processors
from tfdist.measure.summary import summarize
from tfdist.process.versions import read_versions

FORMAT = 1


def make_result(contender, workers, replicas, samples, *, about, base=None, peak_bytes=None, split=None, error=None):
    """Returns one line of a report as JSON types.

    Args:
        contender: its name.
        workers, replicas: the numbers of workers and replicas.
        samples: seconds per step, round by round.
        about: its process' answer to "start", or None without one.
        base: median examples per second on one replica, or None.
        peak_bytes: the peak memory of its process.
        split: the result of `parts.split`, or None.
        error: why it failed, or None.
    """
    result = {"contender": contender, "workers": workers, "replicas": replicas, "error": error}
    if error or not samples:
        return result | {"error": error or "it was not measured"}
    batch = about["global_batch"]
    rates = summarize([batch / seconds for seconds in samples])
    return result | {
        "global_batch": batch,
        "examples_per_second": dataclasses.asdict(rates),
        "seconds_per_step": summarize(samples).median,
        "samples_seconds_per_step": samples,
        "efficiency": table.efficiency(rates.median, base, workers * replicas),
        "wire_bytes": table.wire_bytes(about["summed_bytes"], workers, about["gathered_bytes"]),
        "peak_memory_bytes": peak_bytes,
        "split": split,
        "versions": about.get("versions"),
        "loss": {"first": about["loss_before"], "after_warm_up": about["loss_after"]},
    }


def make_report(config, results, devices):
    """Returns a whole report as JSON types.

    Args:
        config: a `BenchConfig`.
        results: results of `make_result`.
        devices: the result of `describe_devices` in the processes.
    """
    return {
        "format": FORMAT,
        "measured": config.measured(),
        "rounds": config.rounds,
        "seconds": config.seconds,
        "hardware": describe_machine() | devices,
        "versions": read_versions(),
        "commit": read_commit(pathlib.Path(__file__).parent),
        "results": results,
    }


def describe_machine():
    """Returns the processors and the memory of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    gib = memory and round(memory / 2**30)
    return {"machine": platform.machine(), "system": platform.system(), "cores": processors(), "memory_gib": gib}


def describe_devices():
    """Returns the GPUs that TensorFlow sees, which loads TensorFlow."""
    import tensorflow as tf

    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return {"gpus": [item.get("device_name", "GPU") for item in details]}


def read_commit(folder):
    """Returns the git commit of a folder, with "+" appended if files differ; None outside a clone."""

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def draw(report, path):
    """Draws examples per second, and over several numbers of replicas the efficiency; returns where, or why not."""
    if importlib.util.find_spec("matplotlib") is None:
        return "no plot: matplotlib is not installed (pip install matplotlib)."
    from matplotlib.figure import Figure

    results = [result for result in report["results"] if not result["error"]]
    counts = {result["workers"] * result["replicas"] for result in results}
    panels = [_draw_rates, _draw_scaling] if len(counts) > 1 else [_draw_rates]
    figure = Figure(figsize=(7 * len(panels), max(3.2, 0.8 + 0.4 * len(results))), layout="constrained")
    for panel, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        panel(axes, results)
    figure.suptitle(f"{report['measured']['model']}, {report['measured']['replica_batch']} rows per replica")
    figure.savefig(path, dpi=80)
    return f"plot: {path}"


def _draw_rates(axes, results):
    """Draws a bar for each result."""
    names = [f"{result['contender']}  {result['workers']}×{result['replicas']}" for result in results]
    rates = [result["examples_per_second"] for result in results]
    colors = ["tab:orange" if result["contender"] == "tfdist_fit" else "tab:gray" for result in results]
    errors = [rate["error"] for rate in rates]
    axes.barh(range(len(names)), [rate["mean"] for rate in rates], xerr=errors, color=colors)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("examples per second (mean ± standard error)")


def _draw_scaling(axes, results):
    """Draws each contender's rate over the number of replicas, with its efficiency, and what N times one would be."""
    for contender in dict.fromkeys(result["contender"] for result in results):
        own = [result for result in results if result["contender"] == contender]
        own = sorted(((result["workers"] * result["replicas"], result) for result in own), key=lambda pair: pair[0])
        counts, rates = zip(*((count, result["examples_per_second"]["median"]) for count, result in own), strict=True)
        (line,) = axes.plot(counts, rates, marker="o", label=contender)
        if counts[0] == 1:
            axes.plot(counts, [count * rates[0] for count in counts], color=line.get_color(), linestyle=":")
        for count, rate, (_, result) in zip(counts, rates, own, strict=True):
            if count > 1 and result["efficiency"] is not None:
                axes.annotate(f"{result['efficiency']:.0%}", (count, rate), (4, 4), textcoords="offset points")
    axes.set_xticks(sorted({result["workers"] * result["replicas"] for result in results}))
    axes.set_xlabel("replicas of all workers")
    axes.set_ylabel("examples per second (dotted: N × one)")
    axes.set_ylim(bottom=0)
    axes.legend()
