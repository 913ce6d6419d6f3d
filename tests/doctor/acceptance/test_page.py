"""The page as text: each result, the bounds of its size, and the comparison of two trainings."""

import math

import pytest

from tfdist.cluster.members import Cluster, Task
from tfdist.doctor.acceptance import page
from tfdist.doctor.acceptance.checks import CHECKS, NAMES, TOLERANCES
from tfdist.doctor.acceptance.page import Outcome

ABOUT = {"strategy": "OneDeviceStrategy", "replicas": 1, "gpus": [], "tf32": False, "tpu": False, "libraries": []}
GPUS = ABOUT | {
    "strategy": "MirroredStrategy",
    "replicas": 2,
    "gpus": ["NVIDIA H200", "NVIDIA H200"],
    "tf32": True,
    "libraries": ["CUDA 12.5.1", "cuDNN 9"],
}
VERSIONS = {"python": "3.11", "tensorflow": "2.21.0", "keras": None}


def head(about=ABOUT, cluster=None):
    return page.head(about, VERSIONS, "Linux-6.1, 2 processors, 8.0 GiB", "2026-11-30 18:20 UTC", cluster)


def test_the_head_has_versions_devices_strategy_and_tolerances():
    lines = head()
    assert lines[:4] == [
        "tfdist acceptance, 2026-11-30 18:20 UTC",
        "python 3.11, tensorflow 2.21.0, keras is not installed",
        "Linux-6.1, 2 processors, 8.0 GiB; no GPU",
        "Two places: machine is OneDeviceStrategy, 1 replica; split is two logical CPU devices, mirrored.",
    ]
    assert "float32 3.5e-04, TF32 3.1e-02, float16 3.1e-02, bfloat16 8.8e-02." in " ".join(lines)


def test_the_head_names_gpus_their_libraries_and_their_types():
    text = " ".join(head(GPUS))
    assert "2 x NVIDIA H200, CUDA 12.5.1, cuDNN 9" in text
    assert "machine is MirroredStrategy, 2 replicas; split is two logical GPUs of one card, mirrored." in text
    assert "TF32 is off but in the check tf32." in text
    assert "GiB; TPU" in " ".join(head(ABOUT | {"tpu": True}))
    assert "its tolerance is bfloat16's" in " ".join(head(ABOUT | {"tpu": True}))


def test_the_head_says_why_there_is_no_strategy():
    assert "machine has no strategy, because ImportError: libcudart;" in " ".join(
        head({"error": "ImportError: libcudart"})
    )


def test_a_row_has_place_check_result_figure_and_seconds():
    row = page.row(Outcome("machine", "mlp", "right", "1.2e-07, at most 3.5e-04 (float32)", 2.345))
    assert row.split() == ["machine", "mlp", "right", "1.2e-07,", "at", "most", "3.5e-04", "(float32)", "2.3"]
    assert page.row(Outcome("split", "tf32", "not here", "no GPU")).endswith(" -")


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        (["right", "measured", "not here"], "ALL RIGHT: 1 right, 1 measured, 1 not here; 42 s in all."),
        (["right", "differs"], "NOT RIGHT: 1 right, 1 differs; 42 s in all."),
        (["right", "failed"], "NOT RIGHT: 1 right, 1 failed; 42 s in all."),
        (["not here"], "NOT RIGHT: 1 not here; 42 s in all."),
        ([], "NOT RIGHT: nothing was checked; 42 s in all."),
    ],
)
def test_the_last_line_sums_up_and_nothing_checked_is_not_right(results, verdict):
    outcomes = [Outcome("machine", "mlp", result, seconds=1.0) for result in results]
    # Not the sum of the checks' own seconds: most of the time may go into starting processes.
    assert page.end(outcomes, 10, seconds=42.4) == ["", verdict]
    assert page.is_right(outcomes) == verdict.startswith("ALL RIGHT")


def test_an_interrupted_page_says_so():
    last = page.end([Outcome("machine", "mlp", "right")], 10, seconds=1.0, interrupted=True)[-1]
    assert last.startswith("INTERRUPTED: 1 right")


def test_a_cluster_that_is_left_out_is_named():
    two, one = (Cluster(jobs={"worker": workers}, task=Task("worker", 0)) for workers in (("a:1", "b:1"), ("a:1",)))
    assert "mirrored. TF_CONFIG describes 2 workers, but the checks use this machine alone." in " ".join(
        head(cluster=two)
    )
    assert head(cluster=one) == head()


def test_a_child_that_is_late_may_need_more_time():
    late = {"error": "no answer within 1 s", "deadline": True}
    assert page.describe_error(late) == "no answer within 1 s. It hangs, or needs more time: raise --timeout_seconds."
    assert page.describe_error({"error": "ImportError: x", "code": 1}) == "ImportError: x"
    assert "no strategy, because no answer within 1 s. It hangs" in " ".join(head(late))


@pytest.mark.parametrize("about", [ABOUT, GPUS, {"error": "UnavailableError: " + "no driver " * 40}])
def test_a_page_of_failures_alone_has_at_most_60_lines_of_100_columns(about):
    outcomes = [
        Outcome(place, check.name, "failed", f"Error {check.name} {place}: " + "a long message " * 30, 120.0)
        for check in CHECKS
        for place in check.places
    ]
    lines = [*head(about), *map(page.row, outcomes)]
    lines += page.end(outcomes, len(head(about)), seconds=4200.0)
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100
    assert lines[-1].startswith(f"NOT RIGHT: {len(outcomes)} failed")


def test_a_message_that_is_cut_stands_whole_at_the_end_once_for_all_checks():
    message = "UnavailableError: a message of the network that does not fit into one line of the page"
    outcomes = [Outcome("machine", name, "failed", message) for name in ("mlp", "predict")]
    assert "…" in page.row(outcomes[0])
    told = " ".join(page.end(outcomes, 10, seconds=1.0))
    assert told.count(message) == 1 and f"machine mlp, machine predict: {message}" in told


@pytest.mark.parametrize(
    ("many", "dtype", "result"),
    [
        ({"a": [1.0, -2.0], "b": [1e-9]}, "float32", "right"),
        ({"a": [1.0, -2.0001], "b": [1e-9]}, "float32", "right"),
        ({"a": [1.0, -2.01], "b": [1e-9]}, "float32", "differs"),
        ({"a": [1.0, -2.01], "b": [1e-9]}, "float16", "right"),
        # Only rounding moves such a weight.
        ({"a": [1.0, -2.0], "b": [3e-9]}, "float32", "right"),
        ({"a": [1.0, math.nan], "b": [1e-9]}, "bfloat16", "differs"),
        ({"a": [1.0, math.inf], "b": [1e-9]}, "bfloat16", "differs"),
        ({"a": [1.0], "b": [1e-9]}, "bfloat16", "failed"),
        ({"a": [1.0, -2.0]}, "bfloat16", "failed"),
    ],
)
def test_trainings_are_compared_by_the_rounding_of_their_type(many, dtype, result):
    found, detail = page.compare({"a": [1.0, -2.0], "b": [1e-9]}, many, dtype)
    assert found == result
    assert result == "failed" or f"at most {TOLERANCES[dtype]:.1e} ({dtype})" in detail


def test_a_difference_is_a_part_of_the_largest_number():
    assert page.compare({"a": [4.0, 0.0]}, {"a": [4.0, 2.0]}, "float32")[1] == "by 5.0e-01, at most 3.5e-04 (float32)"


def test_speeds_are_told_as_their_ratio():
    assert page.describe_speed(["arrays", "stock_fit"], {"stock_fit": 50_000, "arrays": 125_000}) == (
        "125,000 rows/s, 2.50 times stock_fit"
    )
    assert page.describe_speed(["arrays", "stock_fit"], {"stock_fit": 0, "arrays": 1e5}) == (
        "100,000 rows/s; stock_fit fails here"
    )


def test_each_check_has_a_name_of_its_own():
    assert len(set(NAMES)) == len(NAMES) == len(CHECKS)
