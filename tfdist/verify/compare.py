"""The differences between two trainings, and whether they are rounding: only NumPy is needed."""

import dataclasses

import numpy as np

# The distance from 1 to the next larger number, finest type first.
ROUNDING = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
QUANTITIES = ("loss", "gradients", "weights", "metrics")
# If reordering the rows of a batch on one device changes a result by this much, it cannot be compared.
UNCERTAIN = 1e-2


@dataclasses.dataclass
class Evidence:
    """The results of one training.

    Attributes:
        logs: the entries of `History`, one number each.
        values: (path, array) of each weight: the gradients of a step, or the weights after several.
        outputs: (path, array) for each call of a layer, in order; empty if they were not recorded.
        trained: the paths of the trainable weights.
        moved: the largest change of a trainable weight.
    """

    logs: dict[str, float]
    values: list[tuple[str, np.ndarray]]
    outputs: list[tuple[str, np.ndarray]] = dataclasses.field(default_factory=list)
    trained: frozenset[str] = frozenset()
    moved: float = 0.0


@dataclasses.dataclass(frozen=True)
class Difference:
    """The largest difference of one quantity, relative to its size, and the first place where it is too large.

    Attributes:
        size: 0 for equal; NaN or infinite where something is missing or not finite.
        where: the name of the first weight or entry of the logs whose difference exceeds the tolerance, or "".
        exists: False if the model does not have this quantity.
    """

    size: float
    where: str = ""
    exists: bool = True


@dataclasses.dataclass
class Result:
    """The result of one case.

    Attributes:
        rows: rows of the case's batches.
        differences: quantity → `Difference`; empty where the replicas failed.
        first_layer: the path of the first layer whose outputs differ, or "".
        ratio: the replicas' gradient as a multiple of one device's; None if it is not one.
        error: the error of the replicas, or "".
    """

    rows: int
    differences: dict[str, Difference]
    first_layer: str = ""
    ratio: float | None = None
    error: str = ""

    def equal(self, tolerances):
        """Returns whether all quantities that can be compared agree."""
        return not self.error and not self.differing(tolerances)

    def differing(self, tolerances):
        """Returns the names of the quantities that differ by more than their tolerance; one of None is not compared."""
        return [
            name
            for name, difference in self.differences.items()
            if tolerances[name] is not None and not difference.size <= tolerances[name]
        ]


def coarsest(dtypes):
    """Returns the type that rounds most; types other than floats are ignored."""
    return max(({*dtypes} & {*ROUNDING}) or {"float32"}, key=ROUNDING.__getitem__)


def tolerance(dtype, noise):
    """Returns the largest relative difference that counts as rounding.

    Half of the digits must agree. If the sums of a model lose more, the tolerance is ten times the difference on one
    device when the rows of a batch come in another order.

    Args:
        dtype: the coarsest type of numbers in the model.
        noise: the largest relative difference between two orders of the rows on one device.

    Returns:
        A float, or None if one device itself is too uncertain.
    """
    return max(ROUNDING[dtype] ** 0.5, 10 * noise) if noise < UNCERTAIN else None


def differences(one, many, *, dtype):
    """Compares the evidence of two trainings.

    Args:
        one, many: (`Evidence` of a step's gradients, `Evidence` of the weights after several steps), the first on one
            device.
        dtype: the coarsest type of numbers in the model.

    Returns:
        dict quantity → `Difference`, in the order in which a step computes them.
    """
    limit = ROUNDING[dtype] ** 0.5
    (one_step, one_run), (step, run) = one, many
    largest = max((np.max(np.abs(g), initial=0) for _, g in one_step.values), default=0)
    gradients = [(name, _gap(a, b, largest)) for name, a, b in _pairs(one_step.values, step.values)]
    weights = [
        (name, _gap(a, b, _scale_of_weight(name, a, one_run, limit)))
        for name, a, b in _pairs(one_run.values, run.values)
    ]
    return {
        "loss": _worst(_numbers({"loss": one_step.logs.get("loss")}, {"loss": step.logs.get("loss")}), limit),
        "gradients": _worst(gradients if largest else [], limit),
        "weights": _worst(weights, limit),
        "metrics": _worst(_numbers(one_run.logs, run.logs), limit),
    }


def first_layer(one, many, *, dtype):
    """Returns the path of the first layer, in the order of calls, whose outputs for the same rows differ; or ""."""
    limit = ROUNDING[dtype] ** 0.5
    for (name, a), (_, b) in zip(one.outputs, many.outputs, strict=False):
        if a.shape == b.shape and not _gap(a, b, max(1.0, _size(a))) <= limit:
            return name
    return ""


def ratio(one, many):
    """Returns the gradient of `many` as a multiple of that of `one`, or None if it is not one."""
    a, b = (np.concatenate([value.ravel() for _, value in item.values] or [np.zeros(1)]) for item in (one, many))
    if a.shape != b.shape or not np.any(a) or not np.all(np.isfinite(b)):
        return None
    multiple = float(a @ b / (a @ a))
    return multiple if np.linalg.norm(b - multiple * a) <= 1e-3 * np.linalg.norm(b) else None


def _scale_of_weight(name, value, run, limit):
    """Returns the scale for a weight's difference: training's largest change if it is trainable, else its size."""
    return max(run.moved, limit * _size(value)) if name in run.trained else max(1.0, _size(value))


def _numbers(one, many):
    """Returns (name, gap) for each entry of two logs; the gap is infinite if one of them lacks the entry."""

    def gap(a, b):
        return _gap(a, b, max(1.0, abs(a))) if None not in (a, b) else 0.0 if a is b else np.inf

    return [(name, gap(one.get(name), many.get(name))) for name in {**one, **many}]


def _pairs(one, many):
    return [(name, a, b) for (name, a), (_, b) in zip(one, many, strict=True)]


def _gap(a, b, scale):
    """Returns the largest difference as a multiple of `scale`; NaN where only one of them is not finite."""
    with np.errstate(invalid="ignore"):
        gap = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))
    # Values that are not finite count as equal if they are the same on one device and on the replicas.
    same = np.equal(a, b) | (np.isnan(a) & np.isnan(b))
    largest = float(np.max(np.where(same, 0, gap), initial=0))
    return largest / max(float(scale), 1e-6) if np.isfinite(scale) else largest


def _worst(gaps, limit):
    if not gaps:
        return Difference(0.0, exists=False)
    sizes = [np.inf if np.isnan(size) else size for _, size in gaps]
    where = next((name for (name, _), size in zip(gaps, sizes, strict=True) if not size <= limit), "")
    return Difference(max(sizes), where)


def _size(array):
    return float(np.max(np.abs(array), initial=0))
