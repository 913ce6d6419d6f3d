"""LARS, learning-rate scaling and warm-up, each loaded on first use (PEP 562) together with Keras where it needs it.

Example:
    ```python
    from tfdist import optimizers

    rate = optimizers.scale_learning_rate(0.1, global_batch=1024, base_batch=256)
    optimizer = optimizers.LARS(optimizers.WarmUp(rate, epochs=5, global_batch=1024, rows=50_000))
    ```
"""

import importlib
from typing import TYPE_CHECKING

from tfdist.process.nearest import missing_attribute

_HOMES = {
    "describe": "tfdist.optimizers.scaling",
    "scale_learning_rate": "tfdist.optimizers.scaling",
    "warmup_steps": "tfdist.optimizers.scaling",
    "WarmUp": "tfdist.optimizers.schedules",
    "LARS": "tfdist.optimizers.lars",
}

__all__ = [*_HOMES]  # noqa: PLE0604  (strings, all of them)


if TYPE_CHECKING:
    from tfdist.optimizers.lars import LARS as LARS
    from tfdist.optimizers.scaling import describe as describe
    from tfdist.optimizers.scaling import scale_learning_rate as scale_learning_rate
    from tfdist.optimizers.scaling import warmup_steps as warmup_steps
    from tfdist.optimizers.schedules import WarmUp as WarmUp
else:

    def __getattr__(name):
        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        raise missing_attribute(__name__, name, __all__)


def __dir__() -> list[str]:
    return sorted(__all__)
