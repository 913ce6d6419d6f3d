"""Data sets by name or by kind. Each public name, and TensorFlow with it, is loaded on first use (PEP 562)."""

import importlib

_HOMES = {
    "check_name": "tfdist.data.by_name",
    "load": "tfdist.data.by_name",
    "names": "tfdist.data.by_name",
    "Plan": "tfdist.data.source",
    "Reader": "tfdist.data.source",
    "Source": "tfdist.data.source",
    "make_source": "tfdist.data.source",
    "digits": "tfdist.data.sources.arrays",
    "from_function": "tfdist.data.sources.shards",
    "from_arrays": "tfdist.data.sources.arrays",
    "from_images": "tfdist.data.sources.images",
    "from_records": "tfdist.data.sources.records",
    "from_tfds": "tfdist.data.sources.tfds",
    "make_synthetic": "tfdist.data.sources.synthetic",
    "describe": "tfdist.data.report",
}
_MODULES = ("augment",)

__all__ = [*_HOMES, *_MODULES]  # noqa: PLE0604  (the names are strings)


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"tfdist.data.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tfdist.data' has no attribute {name!r}. Public names: {__all__}.")


def __dir__():
    return sorted(__all__)
