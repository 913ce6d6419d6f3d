"""The versions of Python and of the packages of this process, read without importing them."""

import importlib.metadata
import sys

import tfdist

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
