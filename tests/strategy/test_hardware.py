"""Devices: the signs of a TPU, logical CPU devices, precision and seeds."""

import keras
import numpy as np
import pytest

from tfdist.internals.access import runtime
from tfdist.strategy import hardware

VARIABLES = (
    *("TPU_NAME", "COLAB_TPU_ADDR", "KUBE_GOOGLE_CLOUD_TPU_ENDPOINTS"),
    *("TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES"),
)


@pytest.fixture
def devices(tmp_path, monkeypatch):
    """A folder as /dev, without an accelerator, and a TensorFlow that is not built for TPUs."""
    monkeypatch.setattr(hardware, "has_tpu_kernels", lambda: False)
    (tmp_path / "vfio").mkdir()
    for name in ("accel", "acceleration", "null", "accelx", "vfio/vfio"):
        (tmp_path / name).touch()
    return tmp_path


def test_a_machine_without_a_tpu_has_no_signs_of_one(devices):
    assert hardware.tpu_signs({"TPU_NAME": "", "HOME": "/root"}, devices) == []
    assert hardware.tpu_signs({}, devices / "none") == []


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_is_a_sign_of_a_tpu(devices, variable):
    assert hardware.tpu_signs({variable: "0"}, devices) == [variable]


@pytest.mark.parametrize("names", [("accel0", "accel1"), ("vfio/0", "vfio/1")])
def test_device_files_are_signs_of_a_tpu(devices, names):
    for name in names:
        (devices / name).touch()
    assert hardware.tpu_signs({}, devices) == [str(devices / name) for name in names]


def test_a_tensorflow_for_tpus_is_a_sign_and_comes_last(monkeypatch, devices):
    (devices / "accel0").touch()
    monkeypatch.setattr(hardware, "has_tpu_kernels", lambda: True)
    found = hardware.tpu_signs({"TPU_NAME": "local"}, devices)
    assert found == ["TPU_NAME", str(devices / "accel0"), "a TensorFlow for TPUs"]


def test_the_kernels_tell_for_what_tensorflow_is_built():
    # That of this environment is not built for TPUs. The look-up itself finds kernels.
    assert not hardware.has_tpu_kernels() and runtime.has_kernel("MatMul")


@pytest.mark.parametrize("count", [1, 2, 4])
def test_logical_devices_that_are_there_are_named(cpus, count):
    assert hardware.logical_cpus(count) == ["CPU:0", "CPU:1", "CPU:2", "CPU:3"][:count]


def test_more_logical_devices_than_there_are_need_a_new_process(cpus):
    # Listing them starts the runtime.
    present = len(hardware.tf.config.list_logical_devices("CPU"))
    with pytest.raises(RuntimeError) as error:
        hardware.logical_cpus(present + 1)
    assert str(error.value) == (
        f"strategy: mirrored needs {present + 1} logical CPU devices, but TensorFlow has already "
        f"started with {present}. Call tfdist.choose_strategy before anything else uses TensorFlow "
        "(in a notebook: restart the runtime and run that cell first)."
    )


@pytest.fixture
def restored_precision():
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("name", "compute", "variable", "floatx"),
    [
        ("float32", "float32", "float32", "float32"),
        ("float64", "float64", "float64", "float64"),
        ("mixed_float16", "float16", "float32", "float32"),
        ("mixed_bfloat16", "bfloat16", "float32", "float32"),
    ],
)
@pytest.mark.parametrize("before", ["float32", "float64"])
@pytest.mark.usefixtures("restored_precision")
def test_a_precision_holds_whatever_was_set_before(name, compute, variable, floatx, before):
    hardware.set_precision(before)
    hardware.set_precision(name)
    policy = keras.config.dtype_policy()
    assert (policy.compute_dtype, policy.variable_dtype) == (compute, variable)
    assert keras.config.floatx() == floatx


@pytest.mark.usefixtures("cpus")
def test_a_seed_fixes_numpy_and_keras():
    def draw(seed):
        hardware.set_seeds(seed)
        return np.random.random(), float(keras.random.uniform([]))

    assert draw(3) == draw(3)
    assert draw(3)[0] != draw(4)[0]
    assert draw(3)[1] != draw(4)[1]


def test_deterministic_kernels_are_enabled_only_on_request(monkeypatch):
    asked = []
    monkeypatch.setattr(hardware.tf.config.experimental, "enable_op_determinism", lambda: asked.append(True))
    hardware.set_seeds(0)
    assert asked == []
    hardware.set_seeds(0, deterministic=True)
    assert asked == [True]
