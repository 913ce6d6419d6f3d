"""Facts about the machine → lines. All functions are pure."""

import math
import re
import signal

from tfdist.cluster.environments import tpu
from tfdist.doctor.lines import FAIL, OK, WARN, Line, fail_with
from tfdist.process.errors import UsageError
from tfdist.process.versions import INSTALL_FOR_TPU, INSTALL_TENSORFLOW

FLOORS = {"python": (3, 11), "tensorflow": (2, 20), "keras": (3, 13), "numpy": (1, 26)}
GIB = 2**30
# TensorFlow alone takes half of the first; a small model and its data fit into the second.
LEAST_MEMORY, LITTLE_MEMORY = 1 * GIB, 4 * GIB
LEAST_DISK, LITTLE_DISK = GIB // 4, 5 * GIB


def check_version(name, version):
    """Compares a version with the oldest supported one.

    Args:
        name: a key of FLOORS.
        version: such as "2.21.0"; None if it is not installed.
    """
    floor = ".".join(map(str, FLOORS[name]))
    cure = "Use a newer Python." if name == "python" else f"Run: pip install --upgrade '{name}>={floor}'"
    if version is None:
        return Line(FAIL, name, "not installed", f"Run: {INSTALL_TENSORFLOW}" if name == "tensorflow" else cure)
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < FLOORS[name]:
        return Line(FAIL, name, f"{version}, but tfdist needs {floor} or newer", cure)
    return Line(OK, name, version)


def check_distributions(names):
    """Checks the installed distributions of TensorFlow, because two of them overwrite each other's files."""
    if len(names) < 2:
        return []
    cure = f"Run: pip uninstall {' '.join(names)}, then install one of them."
    return [Line(WARN, "tensorflow", f"installed {len(names)} times: {', '.join(names)}", cure)]


def check_backend(name):
    """Checks the backend that Keras will use."""
    if name == "tensorflow":
        return []
    cure = "Set KERAS_BACKEND=tensorflow, or change ~/.keras/keras.json."
    return [Line(FAIL, "keras", f"its backend is {name}, but tf.distribute needs tensorflow", cure)]


def check_memory(memory):
    """Checks a `Memory`; None stands for unknown."""
    if memory is None:
        return Line(OK, "memory", "unknown: this system does not report it")
    limit = f", limited to {_gib(memory.limit)} by the control group" if memory.limit else ""
    text = f"{_gib(memory.available)} available of {_gib(memory.total)}{limit}"
    cure = "End other programs, or give this " + ("container more memory." if memory.limit else "machine more memory.")
    if memory.available < LEAST_MEMORY:
        return Line(FAIL, "memory", text, cure)
    return Line(WARN, "memory", text, cure) if memory.available < LITTLE_MEMORY else Line(OK, "memory", text)


def check_processors(processors):
    """Checks the `Processors`: TensorFlow starts a thread for each allowed one, whatever the quota."""
    count = min(processors.allowed, processors.quota or math.inf)
    text = f"{processors.present} present, {processors.allowed} allowed"
    if processors.quota:
        text += f", time for {processors.quota:g} (quota of the control group)"
    if processors.quota and processors.quota < processors.allowed:
        threads = max(1, math.floor(count))
        cure = (
            f"Set TF_NUM_INTRAOP_THREADS={threads} and TF_NUM_INTEROP_THREADS={threads}, or raise the quota: more "
            "threads than that only take turns."
        )
        return Line(WARN, "processors", text, cure)
    if processors.allowed < processors.present:
        return Line(WARN, "processors", text, "To use all of them, check taskset, numactl or the job's CPU request.")
    return Line(OK, "processors", text)


def check_disk(disk):
    """Checks the disk that a run will be written to."""
    text = f"{_gib(disk.free)} free at {disk.folder}"
    if disk.problem:
        cure = "Choose another --run_dir, or change the permissions of this one."
        return Line(FAIL, "disk", f"{disk.folder} cannot be written: {disk.problem}", cure)
    cure = "Free some space, or choose a --run_dir on another disk."
    if disk.free < LEAST_DISK:
        return Line(FAIL, "disk", text, cure)
    return Line(WARN, "disk", text, cure) if disk.free < LITTLE_DISK else Line(OK, "disk", text)


def check_devices(loaded, device_files, visible):
    """Checks that TensorFlow sees all GPUs.

    Args:
        loaded: the answer of `tfdist.doctor.child` to "load".
        device_files: number of GPUs that the system offers to this process.
        visible: the value of CUDA_VISIBLE_DEVICES, or None.
    """
    names, tpu = loaded["gpus"], loaded["tpu_signs"]
    if tpu and not loaded["tpu_kernels"] and not names:
        text = f"signs of a TPU: {', '.join(tpu)}; but this TensorFlow is not built for TPUs"
        return Line(WARN, "devices", text, f"On a TPU machine run: {INSTALL_FOR_TPU}")
    beside = f"; signs of a TPU: {', '.join(tpu)}" if tpu else ""
    if len(names) < device_files:
        text = f"{_count(device_files, 'GPU')} on this machine, but TensorFlow sees {len(names) or 'none'}"
        with_cuda = "Its CUDA libraries do not load: run nvidia-smi, and pip install 'tensorflow[and-cuda]'."
        without = "This TensorFlow is built without CUDA. Run: pip install 'tensorflow[and-cuda]'"
        return Line(FAIL, "devices", text + beside, with_cuda if loaded["cuda"] else without)
    if names:
        return Line(OK, "devices", f"{_count(len(names), 'GPU')}: {', '.join(sorted(set(names)))}{beside}")
    hidden = f" (CUDA_VISIBLE_DEVICES is {visible!r})" if visible is not None else ""
    return Line(OK, "devices", f"no GPU{hidden}: the CPU{beside}")


def check_tpu(environ):
    """Checks the TPU that the variables name; without one, or for that of this machine, there is no line."""
    try:
        name = tpu.read_name(environ)
    except UsageError as error:
        return [fail_with("tpu", error)]
    if name == tpu.LOCAL:
        return []
    return [Line(WARN, "tpu", f"{name!r} is a TPU elsewhere, which is not tried here", tpu.CHECK_NAME)]


def check_loading(answer, deadline_seconds):
    """Checks whether TensorFlow has loaded.

    Args:
        answer: the answer of `tfdist.doctor.child` to "load", or the error that `ChildGroup.ask` returns.
        deadline_seconds: the time limit that it had.
    """
    if "error" not in answer:
        return Line(OK, "loading", f"TensorFlow {answer['tensorflow']} and Keras {answer['keras']} load")
    text = f"TensorFlow does not load: {answer['error']}"
    if answer.get("deadline"):
        text = f"TensorFlow has not loaded within {deadline_seconds:g} s"
        return Line(FAIL, "loading", text, "Keep the packages on a local disk, or wait longer (--timeout_seconds).")
    if answer.get("code") == -signal.SIGILL:
        cure = "It needs CPU instructions that this machine lacks (AVX). Use another machine or another build."
    elif answer.get("code") == -signal.SIGKILL:
        cure = "Its process was killed, as the kernel does when memory runs out. Check this machine's memory."
    elif answer.get("code") == -signal.SIGABRT:
        cure = f"Its native libraries do not fit together. On a TPU machine run: {INSTALL_FOR_TPU}"
    else:
        cure = "Run: pip install --force-reinstall tensorflow keras"
    return Line(FAIL, "loading", text, cure)


def _gib(size):
    return f"{size / GIB:.1f} GiB"


def _count(number, noun):
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
