"""The versions of Python and of the packages of this process, read without importing them."""

import importlib.metadata
import importlib.util
import sys

import tfdist
from tfdist.process.errors import MissingPackageError

# The names under which TensorFlow is published.
TENSORFLOW = (
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-intel",
    "tensorflow-cpu-aws",
    "tensorflow-rocm",
    "tensorflow-macos",
    "tensorflow-aarch64",
    "tensorflow-tpu",
    "tf-nightly",
    "tf-nightly-cpu",
)

# All of them fill the same folder, so one environment has only one.
_FOR_TPU = "'tensorflow-tpu>=2.20' 'libtpu>=0.0.14,<0.0.22'"
INSTALL_TENSORFLOW = (
    "pip install 'tensorflow>=2.20' for CPUs, 'tensorflow[and-cuda]>=2.20' for NVIDIA GPUs on Linux, or "
    f"{_FOR_TPU} for TPUs."
)
INSTALL_FOR_TPU = f"pip uninstall tensorflow; pip install {_FOR_TPU}"


def check_tensorflow() -> None:
    """Checks that TensorFlow is installed, without importing it.

    Raises:
        MissingPackageError: the message names the distribution for each kind of device.
    """
    spec = importlib.util.find_spec("tensorflow")
    # What pip leaves of an uninstalled package may be a folder without a module.
    if spec is None or spec.origin is None:
        raise MissingPackageError(
            "TensorFlow is not installed, and tfdist does not install it, because CPUs, GPUs and TPUs need different "
            f"builds. Run: {INSTALL_TENSORFLOW}"
        ) from None


def read_versions() -> dict[str, str | None]:
    """Returns the versions of Python and of the packages that decide results and communication."""
    return {
        # The third number is left out, because it changes only with bug fixes.
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "tfdist": tfdist.__version__,
        "tensorflow": next(filter(None, map(version_of, TENSORFLOW)), None),
        "keras": version_of("keras"),
        "numpy": version_of("numpy"),
    }


def version_of(distribution: str) -> str | None:
    """Returns the version of a distribution, or None where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
