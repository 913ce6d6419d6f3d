"""The text that describes what each worker reads in an epoch. It needs no TensorFlow."""

from typing import TYPE_CHECKING

from tfdist.data import order
from tfdist.process.errors import UsageError

if TYPE_CHECKING:
    from tfdist.data.source import Plan, Source


def worker_rows(
    rows: int, global_batch: int, *, replicas: int, workers: int, worker: int, drop_remainder: bool = False
) -> int:
    """Counts a worker's rows of one epoch: those of all its replicas."""
    first = worker * replicas // workers
    last = (worker + 1) * replicas // workers - 1

    def share(batch_rows: int) -> int:
        low, _ = order.replica_bounds(batch_rows, replicas, first)
        _, high = order.replica_bounds(batch_rows, replicas, last)
        return high - low

    full, rest = divmod(rows, global_batch)
    return full * share(global_batch) + (0 if drop_remainder else share(rest))


def describe(source: "Source", *, replicas: int, workers: int = 1) -> str:
    """Describes the rows, steps and files of an epoch, in all and for each worker.

    Args:
        source: a `Source`.
        replicas: number of replicas in sync, over all workers.
        workers: number of workers, each with the same number of replicas.

    Returns:
        One line for all workers together, then one per worker.

    Example:
        ```python
        from tfdist import data

        print(data.describe(data.digits(global_batch=64), replicas=4, workers=2))
        ```
    """
    if replicas % workers:
        raise UsageError(f"{source.name}: {replicas} replicas on {workers} workers. Use a multiple of {workers}.")
    plan = source.plan
    lines = [_summary(source.name, plan)]
    for worker in range(workers):
        count = worker_rows(
            plan.rows,
            plan.global_batch,
            replicas=replicas,
            workers=workers,
            worker=worker,
            drop_remainder=plan.drop_remainder,
        )
        lines.append(_line(worker, count, replicas // workers, source.reader.files))
    return "\n".join(lines)


def _summary(name: str, plan: "Plan") -> str:
    rest = plan.rows % plan.global_batch
    if not rest:
        last = ""
    elif plan.drop_remainder:
        last = f" ({_count(rest, 'row')} dropped)"
    else:
        last = f" (the last one {rest})"
    steps = _count(plan.steps, "step")
    return f"{name}: {_count(plan.rows, 'row')}, {steps} of {plan.global_batch}{last}."


def _line(worker: int, rows: int, replicas: int, files: tuple[str, ...]) -> str:
    reads = f"; reads all of {_count(len(files), 'file')}" if files else ""
    return f"worker {worker}: {_count(rows, 'row')} on {_count(replicas, 'replica')}{reads}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
