"""Whether what is described there is the same run as here: the one place that compares such descriptions."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple


class Changed(NamedTuple):
    """A value that differs between an earlier start of a run and this one.

    Attributes:
        name: its name.
        there, here: the earlier value and that of now, of JSON types.
    """

    name: str
    there: Any
    here: Any


def changes(there: Mapping[str, Any], here: Mapping[str, Any], names: Iterable[str] | None = None) -> list[Changed]:
    """Finds what has changed since an earlier start of a run.

    Args:
        there: the description that was saved. What it lacks counts as equal, because an earlier version of tfdist may
            not have saved it.
        here: the description of now.
        names: what is compared; None for all names of `here`.
    """
    compared = here if names is None else [name for name in names if name in here]
    both = [Changed(name, there[name], here[name]) for name in compared if name in there]
    return [one for one in both if one.there != one.here]


def narrowed(changed: Changed) -> Iterator[Changed]:
    """Yields the values within two nested dicts that differ, named by their paths, such as "model.config.units".

    Of objects of two classes that is the class alone, because their other settings are not comparable.
    """
    name, there, here = changed
    if not (isinstance(there, Mapping) and isinstance(here, Mapping)):
        yield changed
        return
    keys = ["class"] if there.get("class") != here.get("class") else dict.fromkeys([*here, *there])
    for key in keys:
        inner = Changed(f"{name}.{key}", there.get(key, "nothing"), here.get(key, "nothing"))
        if inner.there != inner.here:
            yield from narrowed(inner)


def differences(hellos: Sequence[Mapping[str, Any]]) -> list[str]:
    """Finds where the workers of a run differ.

    Args:
        hellos: what each worker runs, by rank; of JSON types.

    Returns:
        One text for each difference, such as "config.global_batch: 64 on worker 0, 128 on worker 1".
    """
    flat = [dict(_flatten(hello)) for hello in hellos]
    paths = dict.fromkeys(path for worker in flat for path in worker)
    found = []
    for path in paths:
        groups: dict[str, list[int]] = {}
        for rank, worker in enumerate(flat):
            value = json.dumps(worker[path], ensure_ascii=False, sort_keys=True) if path in worker else "nothing"
            groups.setdefault(value, []).append(rank)
        if len(groups) > 1:
            parts = [f"{_shorten(value)} on {_name(ranks)}" for value, ranks in groups.items()]
            found.append(f"{path}: {', '.join(parts)}")
    return found


def _flatten(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yields (path, value) of all values that are not dicts; an empty dict counts as a value."""
    if not isinstance(value, Mapping) or not value:
        yield path, value
        return
    for key, item in value.items():
        yield from _flatten(item, f"{path}.{key}" if path else str(key))


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}…"


def _name(ranks: Sequence[int]) -> str:
    if len(ranks) == 1:
        return f"worker {ranks[0]}"
    shown = ", ".join(map(str, ranks[:5]))
    return f"workers {shown}" + (f" and {len(ranks) - 5} more" if len(ranks) > 5 else "")
