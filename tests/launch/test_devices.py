"""How the workers of a host divide or share its GPUs, and what is said about it."""

import pytest

from tfdist.cluster import gpus
from tfdist.launch.devices import describe, gpu_share
from tfdist.process.errors import UsageError


@pytest.mark.parametrize(
    ("visible", "index", "count", "share", "sharing"),
    [
        ("0,1,2,3", 1, 2, "2,3", None),
        ("GPU-a, GPU-b", 0, 2, "GPU-a", None),
        ("5,6,-1,7", 1, 2, "6", None),
        ("0,1", 0, 1, None, None),
        ("", 0, 2, None, None),
        ("3", 0, 2, "3", "2"),
        ("3", 1, 2, "3", "2"),
        ("GPU-a,GPU-b", 1, 4, "GPU-a", "2"),
        ("GPU-a,GPU-b", 2, 4, "GPU-b", "2"),
    ],
)
def test_the_gpus_of_a_host_are_divided_or_shared(visible, index, count, share, sharing):
    expected = {} if share is None else {"CUDA_VISIBLE_DEVICES": share}
    expected |= {"TFDIST_WORKERS_PER_GPU": sharing} if sharing else {}
    assert gpu_share({"CUDA_VISIBLE_DEVICES": visible}, index, count) == expected


@pytest.mark.parametrize(("visible", "problem"), [("0,1,2", "do not divide evenly among"), ("0,1", "too few for")])
def test_gpus_that_come_out_uneven_are_refused(visible, problem):
    with pytest.raises(UsageError, match=problem):
        gpu_share({"CUDA_VISIBLE_DEVICES": visible}, 0, {"0,1,2": 2, "0,1": 3}[visible])


@pytest.mark.parametrize(
    ("visible", "count", "text"),
    [
        ("0,1", 2, None),
        ("0,1", 1, None),
        ("0,1", 3, None),
        ("0", 2, "2 workers share each GPU, because this host has 1 GPU for 2 workers. They sum"),
        ("0,1", 6, "3 workers share each GPU, because this host has 2 GPUs for 6 workers. They sum"),
        ("", 2, "the workers train on the CPU, because CUDA_VISIBLE_DEVICES is '' and hides 2 GPUs."),
        ("-1", 1, "the workers train on the CPU, because CUDA_VISIBLE_DEVICES is '-1' and hides 2 GPUs."),
    ],
)
def test_workers_that_share_a_gpu_or_see_none_are_told(monkeypatch, visible, count, text):
    monkeypatch.setattr(gpus, "count_gpus", lambda environ: 2)
    found = describe({"CUDA_VISIBLE_DEVICES": visible}, count)
    assert found == text if text is None else found.startswith(text)


@pytest.mark.parametrize("environ", [{}, {"CUDA_VISIBLE_DEVICES": ""}])
def test_without_gpus_nothing_is_said(monkeypatch, environ):
    monkeypatch.setattr(gpus, "count_gpus", lambda environ: 0)
    assert describe(environ, 2) is None


def test_two_workers_share_the_only_gpu_and_the_launcher_says_so_once(launch, script):
    worker = script('print(os.environ["CUDA_VISIBLE_DEVICES"], os.environ["TFDIST_WORKERS_PER_GPU"])')
    ended = launch("--workers=2", "--tee=all", "--", worker, environ={"CUDA_VISIBLE_DEVICES": "7"})
    assert (ended.code, sorted(ended.out.splitlines())) == (0, ["[0] 7 2", "[1] 7 2"]), ended.err
    assert ended.err.count("tfdist.launch: 2 workers share each GPU, because this host has 1 GPU for 2 workers.") == 1
