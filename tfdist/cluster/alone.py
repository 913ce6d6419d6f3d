"""Refuses to train alone in one of several processes: each would train a model of its own, in silence."""

from collections.abc import Mapping

from tfdist.cluster.environments.launchers import find_sign
from tfdist.process.errors import UsageError


def check_sole(environ: Mapping[str, str]) -> None:
    """Refuses a process without a cluster that a launcher has started beside others.

    Args:
        environ: the environment variables, in which no cluster was found.

    Raises:
        ValueError: the message names the launcher's variable.
    """
    # TF_CONFIG='{}' says that there is no cluster.
    if environ.get("TF_CONFIG", "").strip():
        return
    sign = find_sign(environ)
    if sign is None:
        return
    value = sign.value if len(sign.value) <= 60 else f"{sign.value[:60]}…"
    started = f"started {sign.processes} processes" if sign.processes else "numbered its processes"
    raise UsageError(
        f"{sign.name} is {value!r}: a launcher has {started}, but no cluster is described from which tfdist could read "
        "the others, so each would train a model of its own. Set TF_CONFIG in each process, or start them with "
        "tfdist.launch or srun. If this process is to train alone, use --alone, or choose_strategy(alone=True)."
    )
