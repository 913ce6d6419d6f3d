"""Keeps what is compiled for a strategy or a model between calls: the one place where such things are kept."""


def kept(owner, name, make, version=None):
    """Returns what `make()` returned for this owner and name, made once.

    It is kept on the owner itself and ends with it. A `WeakKeyDictionary` would keep the owner alive, because compiled
    functions refer to the strategy and the model that they were compiled for.

    Args:
        owner: a `tf.distribute.Strategy` or a `keras.Model`.
        name: a hashable name, which has in it all that `make` depends on.
        make: a function without arguments.
        version: if it differs from that of the kept value, the value is made anew in its place.
    """
    # Not by `setattr`, because Keras would track the value as a part of the model.
    values = vars(owner).setdefault("_tfdist_kept", {})
    if name not in values or values[name][0] != version:
        values[name] = version, make()
    return values[name][1]


def recalled(owner, name, version=None, default=None):
    """Returns what was kept for this owner and name; a default if there is nothing of this version."""
    values = vars(owner).get("_tfdist_kept", {})
    return values[name][1] if name in values and values[name][0] == version else default


def forget(owner):
    """Drops all that is kept for this owner, so that it is made anew: for a model whose layers have changed."""
    vars(owner).pop("_tfdist_kept", None)
