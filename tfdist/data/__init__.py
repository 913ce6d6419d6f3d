"""Data sets by name or by kind. Each public name, and TensorFlow with it, is loaded on first use (PEP 562).

Example:
    ```python
    from tfdist import data

    train, test = data.digits("train", global_batch=64), data.digits("test")
    print(data.describe(train, replicas=2))
    ```
"""

import importlib
from typing import TYPE_CHECKING

from tfdist.process.nearest import missing_attribute

_HOMES = {
    "check_name": "tfdist.data.by_name",
    "load": "tfdist.data.by_name",
    "names": "tfdist.data.by_name",
    "Plan": "tfdist.data.source",
    "Reader": "tfdist.data.source",
    "Source": "tfdist.data.source",
    "make_source": "tfdist.data.source",
    "digits": "tfdist.data.sources.arrays",
    "from_idx": "tfdist.data.sources.idx",
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


if TYPE_CHECKING:
    from tfdist.data import augment as augment
    from tfdist.data.by_name import check_name as check_name
    from tfdist.data.by_name import load as load
    from tfdist.data.by_name import names as names
    from tfdist.data.report import describe as describe
    from tfdist.data.source import Plan as Plan
    from tfdist.data.source import Reader as Reader
    from tfdist.data.source import Source as Source
    from tfdist.data.source import make_source as make_source
    from tfdist.data.sources.arrays import digits as digits
    from tfdist.data.sources.arrays import from_arrays as from_arrays
    from tfdist.data.sources.idx import from_idx as from_idx
    from tfdist.data.sources.images import from_images as from_images
    from tfdist.data.sources.records import from_records as from_records
    from tfdist.data.sources.shards import from_function as from_function
    from tfdist.data.sources.synthetic import make_synthetic as make_synthetic
    from tfdist.data.sources.tfds import from_tfds as from_tfds
else:

    def __getattr__(name):
        if name in _MODULES:
            return importlib.import_module(f"tfdist.data.{name}")
        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        raise missing_attribute(__name__, name, __all__)


def __dir__() -> list[str]:
    return sorted(__all__)
