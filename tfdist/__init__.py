"""Keras 3 models on every `tf.distribute` strategy: N replicas give what one device gives."""

import importlib

__version__ = "0.1.0"

# Public name -> the module that defines it. Loaded on first use (PEP 562), so that `import tfdist`,
# `--help` and the launcher stay instant: TensorFlow takes seconds to import.
_HOMES = {
    "Cluster": "tfdist.cluster.tf_config",
    "read_cluster": "tfdist.cluster.tf_config",
    "RunConfig": "tfdist.options.run",
    "TfdistError": "tfdist.process.errors",
    "choose_strategy": "tfdist.strategy.choose",
    "global_mean": "tfdist.gradients",
    "regularization": "tfdist.gradients",
    "reduce_gradients": "tfdist.gradients",
    "apply_gradients": "tfdist.gradients",
    "fit": "tfdist.training",
    "evaluate": "tfdist.training",
    "predict": "tfdist.training",
    "open_run": "tfdist.training",
}
_PACKAGES = ("callbacks", "data", "models", "optimizers")

__all__ = [*_HOMES, *_PACKAGES]  # noqa: PLE0604 (the names are strings)


def __getattr__(name):
    if name in _PACKAGES:
        return importlib.import_module(f"tfdist.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tfdist' has no attribute {name!r}. Public names: {__all__}.")


def __dir__():
    return sorted([*__all__, "__version__"])
