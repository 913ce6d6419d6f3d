"""Which TPU a process controls, by the variables that Cloud TPU, GKE and Colab set."""

from collections.abc import Mapping

from tfdist.process.errors import UsageError

# A TPU in this machine, for TensorFlow's resolver.
LOCAL = "local"
CHECK_NAME = "Check the TPU's name and state (TPU_NAME=local is the TPU of this machine), or use another strategy."
# TensorFlow too reads the second one, as a list of addresses.
_NAMES = ("TPU_NAME", "KUBE_GOOGLE_CLOUD_TPU_ENDPOINTS")
_HOSTS, _INDEX = "TPU_WORKER_HOSTNAMES", "TPU_WORKER_ID"


def read_name(environ: Mapping[str, str], asked: str | None = None) -> str:
    """Returns the name or address of the TPU that this process controls; `LOCAL` for the TPU of this machine.

    Args:
        environ: the environment variables.
        asked: the name that the user gave; None takes that of the environment.

    Raises:
        UsageError: the TPU has several hosts, and this process is not the one that is to control it.
    """
    name = asked or next(filter(None, map(environ.get, _NAMES)), LOCAL)
    hosts = [host for host in environ.get(_HOSTS, "").split(",") if host.strip()]
    if len(hosts) < 2:
        return name
    what = f"strategy: {_HOSTS} lists {len(hosts)} hosts of one TPU"
    if name == LOCAL:
        raise UsageError(
            f"{what}, but without a TPU_NAME each of them would train a model of its own. Set TPU_NAME (or "
            "choose_strategy(tpu=…)) to the TPU's name or to the addresses of its hosts, as in "
            "grpc://a:8470,grpc://b:8470, and start the program on host 0 alone."
        )
    index = environ.get(_INDEX, "").strip() or "0"
    if index != "0":
        raise UsageError(
            f"{what}, and one process controls all of them, but {_INDEX} is {index} here. Start the program on host 0 "
            "alone."
        )
    return name
