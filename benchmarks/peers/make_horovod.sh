#!/bin/sh
# Makes a virtual environment with Horovod on TensorFlow 2.12, which Keras 3 cannot share: `make_horovod.sh VENV`. It
# takes about ten minutes. PYTHON names a Python 3.10 that is not `python3.10` on the PATH.
set -eu

[ $# -eq 1 ] || { echo "use: make_horovod.sh VENV: the folder of the new virtual environment." >&2; exit 2; }
venv=$1
python=${PYTHON:-python3.10}
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null || {
    echo "$python is not Python 3.10, the newest that TensorFlow 2.12 and Horovod build with. Set PYTHON." >&2
    exit 2
}
command -v "${CXX:-g++}" >/dev/null || {
    echo "no C++ compiler (${CXX:-g++}): Horovod is built from source. Set CXX." >&2
    exit 2
}

"$python" -m venv "$venv"
install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
install "setuptools<70" wheel packaging "cmake<4" "numpy==1.24.*" cloudpickle psutil pyyaml cffi
install "tensorflow-cpu==2.12.1" "numpy==1.24.*"
# No isolation, because Horovod's build reads its flags from the installed TensorFlow.
PATH="$venv/bin:$PATH" HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_PYTORCH=1 \
    HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITHOUT_MPI=1 \
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation "horovod==0.28.1"
"$venv/bin/python" -c 'import horovod.tensorflow as hvd; assert hvd.gloo_built()' 2>/dev/null || {
    echo "Horovod was installed in $venv but does not import with Gloo." >&2
    exit 1
}
echo "Horovod 0.28.1 with Gloo on TensorFlow 2.12.1: $venv"
