"""Facts about this machine: they are read here, and judged elsewhere."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import tempfile

from tfdist.cluster.cores import processors

CGROUPS = "/sys/fs/cgroup"
OWN_CGROUP = "/proc/self/cgroup"


@dataclasses.dataclass(frozen=True)
class Memory:
    """Main memory in bytes; `limit` is that of the control group, or None without one."""

    available: int
    total: int
    limit: int | None = None


@dataclasses.dataclass(frozen=True)
class Processors:
    """The processors of the machine, those that this process may use, and its quota of their time or None."""

    present: int
    allowed: int
    quota: float | None = None


@dataclasses.dataclass(frozen=True)
class Disk:
    """The disk below a folder: the folder that was read, the free bytes, and the reason if it cannot be written."""

    folder: str
    free: int
    problem: str | None = None


def read_memory(meminfo="/proc/meminfo", cgroups=CGROUPS, own=OWN_CGROUP):
    """Reads the `Memory`; returns None where the system does not report it."""
    if not os.path.exists(meminfo):
        return None
    values = {
        key: int(number) * 1024
        for key, number in re.findall(r"^(\w+):\s+(\d+) kB", pathlib.Path(meminfo).read_text(), re.MULTILINE)
    }
    total, available, limit = values["MemTotal"], values.get("MemAvailable", values["MemFree"]), None
    for group in own_groups("memory", cgroups, own):
        most = _read_number(group, "memory.max", "memory.limit_in_bytes")
        # Without a limit, version 1 of control groups reports a number larger than any machine's memory.
        if most is None or most >= total:
            continue
        used = _read_number(group, "memory.current", "memory.usage_in_bytes") or 0
        limit = min(most, limit or most)
        available = min(available, max(0, most - used + _reclaimable(group)))
    return Memory(available, total, limit)


def read_processors(cgroups=CGROUPS, own=OWN_CGROUP):
    """Reads the `Processors`."""
    present = os.cpu_count() or 1
    quotas = [quota for group in own_groups("cpu", cgroups, own) if (quota := _read_quota(group))]
    return Processors(present, processors(), min(quotas, default=None))


def read_disk(folder):
    """Reads the `Disk` of a folder, or of the nearest existing one above it, by writing a temporary file."""
    path = pathlib.Path(folder).expanduser().absolute()
    while not os.path.exists(path):
        path = path.parent
    problem = None
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"tfdist")
    except OSError as error:
        problem = error.strerror or str(error)
    return Disk(str(path), shutil.disk_usage(path).free, problem)


def read_keras_backend(environ=os.environ, home=None):
    """Returns the name of the backend that Keras will use."""
    if environ.get("KERAS_BACKEND"):
        return environ["KERAS_BACKEND"]
    folder = environ.get("KERAS_HOME") or (pathlib.Path(home) if home else pathlib.Path.home()) / ".keras"
    try:
        return json.loads((pathlib.Path(folder) / "keras.json").read_text()).get("backend", "tensorflow")
    except (OSError, ValueError, AttributeError):
        return "tensorflow"


def own_groups(controller, cgroups=CGROUPS, own=OWN_CGROUP):
    """Returns the folders of this process' control groups for "memory" or "cpu": its own and those above."""
    found = []
    text = pathlib.Path(own).read_text() if os.path.exists(own) else ""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Version 2 has one tree, and version 1 has one per controller.
        top = pathlib.Path(cgroups, controllers)
        folder = top / path.lstrip("/")
        found += [group for group in (folder, *folder.parents) if group.is_relative_to(top) and group.is_dir()]
    return found


def _read_number(group, *names):
    """Returns the number in the first of the files that exists; None for "max", or without a file."""
    for name in names:
        if (group / name).is_file():
            text = (group / name).read_text().split()[0]
            return int(text) if text.lstrip("-").isdigit() else None
    return None


def _read_quota(group):
    """Returns a control group's quota, in processors; None without one."""
    if (group / "cpu.max").is_file():
        most, period = (group / "cpu.max").read_text().split()
        return None if most == "max" else int(most) / int(period)
    most, period = _read_number(group, "cpu.cfs_quota_us"), _read_number(group, "cpu.cfs_period_us")
    return most / period if most and period and most > 0 else None


def _reclaimable(group):
    """Returns the bytes of a group's file cache that the kernel frees on demand."""
    if not (group / "memory.stat").is_file():
        return 0
    match = re.search(r"^(?:total_)?inactive_file (\d+)", (group / "memory.stat").read_text(), re.MULTILINE)
    return int(match[1]) if match else 0
