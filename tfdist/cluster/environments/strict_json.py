"""JSON from an environment variable or a file, with a message for each mistake."""

import json
from typing import Any

from tfdist.cluster.addresses import ClusterError, show


def parse(text: str, source: str) -> Any:
    """Parses JSON more strictly than `json.loads`: no key appears twice, and NaN is no number.

    Raises:
        ClusterError: the text is wrong; the message begins with `source`.
    """

    def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ClusterError(f"{source}: the key {show(twice)} appears twice. Keep one of them.")
        return result

    def make_int(digits: str) -> int:
        # Python itself refuses to convert very long numbers, with a message about security.
        if len(digits) > 20:
            raise ClusterError(f"{source}: the number {digits[:20]}... is too long. Shorten it.")
        return int(digits)

    def refuse_constant(name: str) -> Any:
        raise ClusterError(f"{source}: {name} is not JSON. Write a number, or null.")

    try:
        return json.loads(text, object_pairs_hook=make_object, parse_int=make_int, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        near = show(text[max(0, error.pos - 15) : error.pos + 15])
        raise ClusterError(
            f"{source}: not JSON at line {error.lineno}, column {error.colno}, near {near}: "
            f"{error.msg}. In a shell, put single quotes around the whole value."
        ) from None
    except RecursionError:
        raise ClusterError(
            f'{source}: its lists or objects are nested too deeply. Only "cluster" and "task" are needed.'
        ) from None
