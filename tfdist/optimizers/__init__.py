"""LARS, learning-rate scaling and warm-up, each loaded on first use (PEP 562) together with Keras where it needs it."""

import importlib

_HOMES = {
    "describe": "tfdist.optimizers.scaling",
    "scale_learning_rate": "tfdist.optimizers.scaling",
    "warmup_steps": "tfdist.optimizers.scaling",
    "WarmUp": "tfdist.optimizers.schedules",
    "LARS": "tfdist.optimizers.lars",
}

__all__ = [*_HOMES]  # noqa: PLE0604  (strings, all of them)


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tfdist.optimizers' has no attribute {name!r}. Public names: {__all__}.")


def __dir__():
    return sorted(__all__)
