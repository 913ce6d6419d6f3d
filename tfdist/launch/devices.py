"""The GPUs of one host, as its agent gives them to the workers, and the words about what is unusual."""

from tfdist.cluster import gpus


def gpu_share(environ, index, count):
    """Returns the variables that restrict a worker to its share of this host's GPUs.

    Args:
        environ: the worker's environment.
        index: the index of its slot on the host.
        count: the number of slots of the host.

    Raises:
        UsageError: the GPUs can neither be divided among the workers, nor the workers among the GPUs.
    """
    if count == 1:
        return {}
    ids = _ids(environ)
    if sharing := _workers_per_gpu(len(ids), count):
        return gpus.visible([ids[index // sharing]]) | {gpus.SHARING: str(sharing)}
    return gpus.visible(gpus.divide_gpus(ids, count, index)) if ids else {}


def describe(environ, count):
    """Returns a message about workers that share GPUs, or from which the GPUs are hidden; None where none do.

    Args:
        environ: the workers' environment.
        count: the number of slots of the host.
    """
    ids = _ids(environ)
    if sharing := _workers_per_gpu(len(ids), count):
        return (
            f"{sharing} workers share each GPU, because this host has {_count(len(ids))} for {count} workers. They sum "
            "their gradients without NCCL, which needs a GPU for each worker. One worker for each GPU is faster; "
            f'{gpus.VARIABLE}="" trains on the CPU.'
        )
    hidden = 0 if ids else gpus.count_gpus({})
    if hidden:
        value = environ[gpus.VARIABLE]
        return f"the workers train on the CPU, because {gpus.VARIABLE} is {value!r} and hides {_count(hidden)}."
    return None


def _ids(environ):
    visible = gpus.read_visible(environ)
    return tuple(map(str, range(gpus.count_gpus(environ)))) if visible is None else visible


def _workers_per_gpu(there, count):
    """Returns how many workers use each GPU; 0 where each has one of its own, or where that does not come out even."""
    return count // there if 0 < there < count and count % there == 0 else 0


def _count(number):
    return f"{number} GPU{'s' * (number > 1)}"
