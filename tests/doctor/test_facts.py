"""The facts that are read about a machine, from planted files."""

import json
import os

import pytest

from tfdist.doctor import facts
from tfdist.doctor.facts import Memory

MEMINFO = "MemTotal:       8388608 kB\nMemFree:         100000 kB\nMemAvailable:    4194304 kB\n"
GIB = 2**30


@pytest.fixture
def plant(tmp_path):
    """Returns a function that writes files, and returns their folder."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def places(folder):
    return folder / "groups", folder / "own"


VERSION_2 = {
    "own": "0::/job/step\n",
    "groups/job/memory.max": f"{2 * GIB}\n",
    "groups/job/memory.current": f"{GIB}\n",
    "groups/job/memory.stat": f"anon 5\ninactive_file {GIB // 2}\n",
    "groups/job/step/memory.max": "max\n",
    "groups/job/cpu.max": "150000 100000\n",
    "groups/job/step/cpu.max": "max 100000\n",
}
VERSION_1 = {
    "own": "4:memory:/job\n2:cpu,cpuacct:/job\n0::/\n",
    "groups/memory/job/memory.limit_in_bytes": f"{2 * GIB}\n",
    "groups/memory/job/memory.usage_in_bytes": f"{GIB}\n",
    "groups/memory/job/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB // 2}\n",
    "groups/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "groups/cpu,cpuacct/job/cpu.cfs_quota_us": "150000\n",
    "groups/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
    "groups/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
}
# The view of a container: its path does not exist, and its group is at the top.
CONTAINER = {
    "own": "0::/docker/1\n",
    "groups/memory.max": f"{2 * GIB}\n",
    "groups/memory.current": f"{GIB // 2}\n",
    "groups/cpu.max": "150000 100000\n",
}


@pytest.mark.parametrize("files", [VERSION_2, VERSION_1, CONTAINER], ids=["version 2", "version 1", "container"])
def test_the_limits_of_control_groups_are_read(plant, files):
    folder = plant(files | {"meminfo": MEMINFO})
    if "groups/memory/job/memory.stat" in files:
        # Its own cache counts in the first version too.
        plant({"groups/memory/job/memory.stat": f"inactive_file {GIB // 2}\n"})
    memory = facts.read_memory(folder / "meminfo", *places(folder))
    assert memory == Memory(3 * GIB // 2, 8 * GIB, 2 * GIB)
    assert facts.read_processors(*places(folder)).quota == 1.5


def test_without_limits_the_machine_tells(plant):
    folder = plant({"meminfo": MEMINFO})
    assert facts.read_memory(folder / "meminfo", *places(folder)) == Memory(4 * GIB, 8 * GIB)
    processors = facts.read_processors(*places(folder))
    assert (processors.present, processors.quota) == (os.cpu_count(), None)
    assert 1 <= processors.allowed <= processors.present
    assert facts.read_memory(folder / "nothing") is None


def test_this_machine_is_read():
    memory = facts.read_memory()
    assert memory is None or 0 <= memory.available <= memory.total


def test_a_folder_that_is_not_there_yet_is_judged_by_the_one_above(tmp_path):
    disk = facts.read_disk(tmp_path / "runs" / "a-1")
    assert (disk.folder, disk.problem) == (str(tmp_path), None)
    assert disk.free > 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_cannot_be_written(tmp_path):
    (tmp_path / "a").write_text("")
    assert facts.read_disk(tmp_path / "a" / "b").problem == "Not a directory"


@pytest.mark.parametrize(
    ("environ", "text", "backend"),
    [
        ({}, None, "tensorflow"),
        ({"KERAS_BACKEND": "jax"}, None, "jax"),
        ({}, json.dumps({"backend": "torch"}), "torch"),
        ({"KERAS_BACKEND": "tensorflow"}, json.dumps({"backend": "torch"}), "tensorflow"),
        ({}, "[]", "tensorflow"),
        ({}, "no json", "tensorflow"),
    ],
)
def test_the_backend_is_read_as_keras_reads_it(plant, environ, text, backend):
    home = plant({".keras/keras.json": text} if text else {})
    assert facts.read_keras_backend(environ, home) == backend
