"""Results of trials → lines: the all-reduce, the data set, the run's checkpoints. All functions are pure."""

import re

from tfdist.doctor.lines import FAIL, OK, WARN, Line, fail_with

# Gigabytes per second, a little less than 1 Gbit/s Ethernet reaches.
_SLOW = 0.1


def check_all_reduce(answer):
    """Checks the answer of `tfdist.doctor.child` to "all_reduce"."""
    if "error" in answer:
        cure = (
            "The workers met, but TensorFlow's own connections fail: open the workers' ports for TCP in both "
            "directions, and see the other workers' lines. With NCCL, try NCCL_DEBUG=INFO and NCCL_SOCKET_IFNAME."
        )
        return Line(FAIL, "all-reduce", answer["error"].splitlines()[0][:300], cure)
    if answer["wrong_by"]:
        text = f"the sum over {answer['replicas']} replicas is wrong by {answer['wrong_by']:g}"
        return Line(
            FAIL, "all-reduce", text, "Do not train here: check memory, drivers and network links of the machines."
        )
    speed = answer["bytes"] / answer["seconds"] / 1e9
    text = (
        f"{answer['bytes'] / 2**20:.0f} MiB over {answer['replicas']} replicas in {answer['seconds'] * 1e3:.0f} ms, "
        f"{speed:.2f} GB/s; the sums are right"
    )
    if speed < _SLOW:
        return Line(WARN, "all-reduce", text, "The exchange of gradients will be slow: use a faster network interface.")
    return Line(OK, "all-reduce", text)


def check_dataset(answer, *, global_batch, replicas, workers):
    """Checks the answer of `tfdist.doctor.child` to "dataset"."""
    if "error" in answer:
        return [fail_with("data", re.sub(r"^\w+Error: ", "", answer["error"]))]
    shown = answer["lines"][:9]
    lines = [Line(OK, "data", line.rstrip(".")) for line in shown]
    if len(answer["lines"]) > len(shown):
        lines.append(Line(OK, "data", f"and {len(answer['lines']) - len(shown)} more workers"))
    if 0 < answer["files"] < workers:
        text = f"{answer['files']} files for {workers} workers: each worker reads all of them"
        cure = "The result is right, but reading does not scale: write the rows into as many files as workers, or more."
        lines.append(Line(WARN, "data", text, cure))
    if global_batch < replicas:
        text = f"global_batch is {global_batch}, but there are {replicas} replicas: some never get a row"
        lines.append(Line(WARN, "data", text, f"Use --global_batch={replicas} or more."))
    return lines


def checkpoint_lines(entries):
    """Checks the checkpoints of a run.

    Args:
        entries: (step, problem or None, manifest as a dict) of each checkpoint, oldest first.
    """
    if not entries:
        return [
            Line(WARN, "checkpoints", "none: a run in this folder would start from the beginning", "Check the folder.")
        ]
    good = [step for step, problem, _ in entries if problem is None]
    fallback = f"A run goes on from step {good[-1]}" if good else "No checkpoint is whole: a run cannot go on from here"
    lines = []
    for step, problem, _ in entries:
        if problem is None:
            lines.append(Line(OK, "checkpoints", f"step {step} is whole"))
        else:
            cure = f"{fallback}. Bring the checkpoint back, or remove its folder."
            lines.append(Line(FAIL, "checkpoints", f"step {step}: {str(problem).rstrip('.')}", cure))
    return lines
