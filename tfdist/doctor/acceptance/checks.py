"""What the acceptance checks: a table, which the command line reads without TensorFlow."""

import dataclasses
from collections.abc import Mapping

# The places that are compared with plain Keras on one CPU device: the strategy that `choose_strategy` takes here, and
# two logical devices of one GPU, or of the CPU where there is no GPU.
MACHINE, SPLIT = "machine", "split"
ORACLE = "oracle"
# The distance from 1 to the next larger number of a type.
_ROUNDING = {"float32": 2.0**-23, "TF32": 2.0**-10, "float16": 2.0**-10, "bfloat16": 2.0**-7}
# Half of the digits of a type must agree.
TOLERANCES = {dtype: rounding**0.5 for dtype, rounding in _ROUNDING.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One check; it has a line of the page for each place.

    Attributes:
        name: its name on the page and for `--only`.
        do: "train" to compare with one CPU device, "speed" to measure two loops, or the name of a function in `runs`.
        places: where it is done.
        what: the kind of the training, a name in `kinds`; or the two loops in `speed`, with "/" between.
        dtype: the type whose rounding is the tolerance.
        settings: further values of the request to the place and to the oracle.
        here: further values of the request to the place alone.
        needs: what the place must have: "replicas" (several), "TF32" or nothing.
    """

    name: str
    do: str = "train"
    places: tuple[str, ...] = (MACHINE, SPLIT)
    what: str = ""
    dtype: str = "float32"
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    here: Mapping[str, str | bool] = dataclasses.field(default_factory=dict)
    needs: str = ""


def _exchange(dtype: str) -> Check:
    return Check(name=f"compression_{dtype}", what="mlp", dtype=dtype, here={"compression": dtype}, needs="replicas")


def _mixed(dtype: str) -> Check:
    return Check(name=f"mixed_{dtype}", what="mlp", dtype=dtype, settings={"policy": f"mixed_{dtype}"})


CHECKS = (
    Check(name="mlp", what="mlp"),
    Check(name="cnn_batchnorm", what="cnn_batchnorm"),
    Check(name="lstm_masks", what="lstm_masks"),
    Check(name="attention", what="attention"),
    Check(name="accumulation", what="accumulation"),
    Check(name="clipping_ema", what="clipping_ema"),
    # Keras scales the loss of a mixed_float16 model.
    _mixed("float16"),
    _mixed("bfloat16"),
    Check(name="tf32", what="mlp", dtype="TF32", here={"tf32": True}, needs="TF32", places=(MACHINE,)),
    _exchange("bfloat16"),
    _exchange("float16"),
    Check(name="evaluate", what="evaluate"),
    Check(name="predict", what="predict"),
    Check(name="loop_by_hand", what="loop_by_hand"),
    Check(name="gather_rows", what="gather_rows"),
    Check(name="tf_data_speed", do="speed", what="tf_data/arrays", places=(MACHINE,)),
    Check(name="stock_fit_speed", do="speed", what="arrays/stock_fit", places=(MACHINE,)),
    Check(name="kill_and_resume", do="kill_and_resume", places=(MACHINE,)),
    Check(name="deterministic", do="twice_the_same", places=(MACHINE,)),
)
NAMES = tuple(check.name for check in CHECKS)
