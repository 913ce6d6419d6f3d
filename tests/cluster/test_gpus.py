"""Which GPUs of a host a process may use, and how its tasks divide them."""

import pathlib

import pytest

from tfdist.cluster.gpus import count_gpus, divide_gpus, read_visible, visible
from tfdist.process.errors import UsageError


@pytest.mark.parametrize(
    ("listed", "ids"),
    [
        ("", ""),
        ("2,0", "2 0"),
        ("GPU-a, MIG-b", "GPU-a MIG-b"),
        ("0,-1,1", "0"),
        ("0,-2,1", "0"),
        ("0,,1", "0"),
        ("0,none,1", "0"),
        ("NoDevFiles", ""),
    ],
)
def test_the_list_of_gpus_ends_at_what_is_no_device(listed, ids):
    assert read_visible({"CUDA_VISIBLE_DEVICES": listed}) == tuple(ids.split())


def test_without_the_variable_all_gpus_are_visible_and_what_is_written_is_read_again():
    assert read_visible({}) is None
    assert read_visible(visible(())) == ()
    assert read_visible(visible(("4", "GPU-a"))) == ("4", "GPU-a")


@pytest.mark.parametrize(
    ("visible", "count"),
    [(None, 3), ("", 0), ("-1", 0), ("0", 1), ("2,0", 2), ("0,-1,1", 1), ("GPU-a,GPU-b", 2), ("0,1,2,3,4", 3)],
)
def test_gpus_are_counted_from_device_files_and_the_variable(visible, count, tmp_path):
    for name in ("nvidia0", "nvidia1", "nvidia7", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert count_gpus(environ, tmp_path) == count
    assert count_gpus({"CUDA_VISIBLE_DEVICES": "0"}, pathlib.Path(tmp_path / "none")) == 0


@pytest.mark.parametrize(
    ("gpus", "tasks", "shares"),
    [
        (4, 2, [("0", "1"), ("2", "3")]),
        (["5", "7"], 2, [("5",), ("7",)]),
        (["GPU-a", "MIG-b"], 1, [("GPU-a", "MIG-b")]),
    ],
)
def test_gpus_are_divided_evenly_and_in_order(gpus, tasks, shares):
    assert [divide_gpus(gpus, tasks, index) for index in range(tasks)] == shares


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        (3, "GPUs: this host has 3 GPUs, which do not divide evenly among its 2 tasks."),
        (1, "GPUs: this host has 1 GPU, too few for its 2 tasks. Start a number of tasks "),
    ],
)
def test_gpus_that_cannot_be_divided_are_refused(gpus, message):
    with pytest.raises(UsageError) as error:
        divide_gpus(gpus, 2, 0)
    assert message in str(error.value)
