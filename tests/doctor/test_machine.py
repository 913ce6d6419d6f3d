"""Facts about a machine, planted: each red and yellow line, and its remedy."""

import signal

import pytest

from tfdist.cluster.environments.tpu import CHECK_NAME, read_name
from tfdist.doctor import machine
from tfdist.doctor.facts import Disk, Memory, Processors
from tfdist.doctor.machine import GIB
from tfdist.process.errors import UsageError

LOADED = {
    **{"tensorflow": "2.21.0", "keras": "3.15.1", "cuda": False, "gpus": []},
    **{"tpu_signs": [], "tpu_kernels": False},
}


@pytest.mark.parametrize(
    ("name", "version", "level", "text"),
    [
        ("python", "3.11.0", "ok", "3.11.0"),
        ("python", "3.10.13", "FAIL", "3.10.13, but tfdist needs 3.11 or newer"),
        ("tensorflow", "2.20.0rc1", "ok", "2.20.0rc1"),
        ("tensorflow", "2.9.0", "FAIL", "2.9.0, but tfdist needs 2.20 or newer"),
        ("tensorflow", None, "FAIL", "not installed"),
        ("keras", "3.13.0", "ok", "3.13.0"),
        ("keras", "2.15.0", "FAIL", "2.15.0, but tfdist needs 3.13 or newer"),
        ("numpy", "10.0", "ok", "10.0"),
        ("numpy", None, "FAIL", "not installed"),
    ],
)
def test_versions_are_held_against_the_oldest_that_works(name, version, level, text):
    line = machine.check_version(name, version)
    assert (line.level, line.name, line.text) == (level, name, text)
    cure = "Use a newer Python." if name == "python" else f"Run: pip install --upgrade '{name}>="
    if (name, version) == ("tensorflow", None):
        cure = "Run: pip install 'tensorflow>=2.20' for CPUs, 'tensorflow[and-cuda]>=2.20' for NVIDIA GPUs"
    assert line.cure.startswith(cure) if level == "FAIL" else line.cure == ""


def test_two_tensorflows_in_one_place_are_yellow():
    assert machine.check_distributions(["tensorflow"]) == []
    (line,) = machine.check_distributions(["tensorflow", "tensorflow-cpu"])
    assert (line.level, line.text) == ("warn", "installed 2 times: tensorflow, tensorflow-cpu")
    assert line.cure.startswith("Run: pip uninstall tensorflow tensorflow-cpu")


def test_another_backend_of_keras_is_red():
    assert machine.check_backend("tensorflow") == []
    (line,) = machine.check_backend("jax")
    assert (line.level, line.text) == ("FAIL", "its backend is jax, but tf.distribute needs tensorflow")
    assert line.cure.startswith("Set KERAS_BACKEND=tensorflow")


@pytest.mark.parametrize(
    ("memory", "level", "text"),
    [
        (None, "ok", "unknown: this system does not report it"),
        (Memory(8 * GIB, 16 * GIB), "ok", "8.0 GiB available of 16.0 GiB"),
        (Memory(3 * GIB, 16 * GIB), "warn", "3.0 GiB available of 16.0 GiB"),
        (
            Memory(GIB // 2, 16 * GIB, 2 * GIB),
            "FAIL",
            "0.5 GiB available of 16.0 GiB, limited to 2.0 GiB by the control group",
        ),
    ],
)
def test_little_memory_is_yellow_and_too_little_is_red(memory, level, text):
    line = machine.check_memory(memory)
    assert (line.level, line.text) == (level, text)
    assert bool(line.cure) == (level != "ok")
    assert ("container" in line.cure) == (level == "FAIL")


@pytest.mark.parametrize(
    ("processors", "level", "text"),
    [
        (Processors(8, 8), "ok", "8 present, 8 allowed"),
        (Processors(8, 2), "warn", "8 present, 2 allowed"),
        (Processors(8, 8, 16.0), "ok", "8 present, 8 allowed, time for 16 (quota of the control group)"),
        (Processors(8, 8, 2.5), "warn", "8 present, 8 allowed, time for 2.5 (quota of the control group)"),
    ],
)
def test_fewer_processors_than_there_seem_to_be_are_yellow(processors, level, text):
    line = machine.check_processors(processors)
    assert (line.level, line.text) == (level, text)
    assert ("TF_NUM_INTRAOP_THREADS=2 " in line.cure) == (processors.quota == 2.5)


@pytest.mark.parametrize(
    ("disk", "level", "text"),
    [
        (Disk("/a", 80 * GIB), "ok", "80.0 GiB free at /a"),
        (Disk("/a", GIB), "warn", "1.0 GiB free at /a"),
        (Disk("/a", 0), "FAIL", "0.0 GiB free at /a"),
        (Disk("/a", 80 * GIB, "Permission denied"), "FAIL", "/a cannot be written: Permission denied"),
    ],
)
def test_a_full_or_closed_disk_is_red(disk, level, text):
    line = machine.check_disk(disk)
    assert (line.level, line.text) == (level, text)
    assert bool(line.cure) == (level != "ok")


@pytest.mark.parametrize(
    ("changes", "files", "visible", "level", "text"),
    [
        ({}, 0, None, "ok", "no GPU: the CPU"),
        ({}, 0, "", "ok", "no GPU (CUDA_VISIBLE_DEVICES is ''): the CPU"),
        ({"gpus": ["H", "H"]}, 2, None, "ok", "2 GPUs: H"),
        ({"gpus": ["H"], "tpu_signs": ["TPU_NAME"]}, 1, "0", "ok", "1 GPU: H; signs of a TPU: TPU_NAME"),
        ({"tpu_signs": ["TPU_NAME"], "tpu_kernels": True}, 0, None, "ok", "no GPU: the CPU; signs of a TPU: TPU_NAME"),
        ({"cuda": True}, 4, None, "FAIL", "4 GPUs on this machine, but TensorFlow sees none"),
        ({}, 1, None, "FAIL", "1 GPU on this machine, but TensorFlow sees none"),
        ({"gpus": ["H"], "cuda": True}, 2, None, "FAIL", "2 GPUs on this machine, but TensorFlow sees 1"),
    ],
)
def test_gpus_that_tensorflow_does_not_see_are_red(changes, files, visible, level, text):
    line = machine.check_devices(LOADED | changes, files, visible)
    assert (line.level, line.text) == (level, text)
    if level == "FAIL":
        assert ("built without CUDA" in line.cure) == ("cuda" not in changes)


def test_a_tpu_with_a_tensorflow_that_is_not_built_for_it_is_yellow():
    line = machine.check_devices(LOADED | {"tpu_signs": ["/dev/accel0"]}, 0, None)
    assert (line.level, line.cure.startswith("On a TPU machine run: pip uninstall tensorflow")) == ("warn", True)
    assert line.text == "signs of a TPU: /dev/accel0; but this TensorFlow is not built for TPUs"


def test_the_variables_of_a_tpu_are_read_as_training_reads_them():
    assert machine.check_tpu({}) == machine.check_tpu({"TPU_NAME": "local"}) == []
    (line,) = machine.check_tpu({"TPU_NAME": "x"})
    assert (line.level, line.text, line.cure) == ("warn", "'x' is a TPU elsewhere, which is not tried here", CHECK_NAME)
    several = {"TPU_WORKER_HOSTNAMES": "a,b"}
    with pytest.raises(UsageError) as refused:
        read_name(several)
    (line,) = machine.check_tpu(several)
    assert (line.level, f"{line.text}. {line.cure}") == ("FAIL", str(refused.value))


@pytest.mark.parametrize(
    ("answer", "text", "cure"),
    [
        ({"error": "late", "deadline": True}, "TensorFlow has not loaded within 5 s", "Keep the packages on a local"),
        ({"error": "x", "code": -signal.SIGILL}, "TensorFlow does not load: x", "It needs CPU instructions that"),
        ({"error": "x", "code": -signal.SIGKILL}, "TensorFlow does not load: x", "Its process was killed, as"),
        ({"error": "x", "code": -signal.SIGABRT}, "TensorFlow does not load: x", "Its native libraries do not fit"),
        ({"error": "ImportError: y"}, "TensorFlow does not load: ImportError: y", "Run: pip install --force-reinstall"),
    ],
)
def test_a_tensorflow_that_does_not_load_is_red(answer, text, cure):
    line = machine.check_loading(answer, 5)
    assert (line.level, line.text) == ("FAIL", text)
    assert line.cure.startswith(cure)
    assert machine.check_loading(LOADED, 5).level == "ok"
