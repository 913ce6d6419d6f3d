"""Which TPU a process controls, and which process of several hosts controls it."""

import pytest

from tfdist.cluster.environments.tpu import read_name
from tfdist.process.errors import UsageError

HOSTS = {"TPU_WORKER_HOSTNAMES": "a,b,c,d"}


@pytest.mark.parametrize(
    ("environ", "asked", "name"),
    [
        ({}, None, "local"),
        ({"TPU_NAME": ""}, None, "local"),
        ({"TPU_NAME": "local"}, None, "local"),
        ({"TPU_NAME": "mine"}, None, "mine"),
        ({"TPU_NAME": "mine"}, "grpc://a:8470", "grpc://a:8470"),
        ({"KUBE_GOOGLE_CLOUD_TPU_ENDPOINTS": "grpc://b:8470"}, None, "grpc://b:8470"),
        # As on Colab, and on a TPU machine of one host.
        ({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, None, "local"),
        (HOSTS | {"TPU_NAME": "pod"}, None, "pod"),
        (HOSTS | {"TPU_NAME": "pod", "TPU_WORKER_ID": "0"}, None, "pod"),
        (HOSTS, "pod", "pod"),
    ],
)
def test_the_tpu_is_the_one_that_is_named_or_else_that_of_this_machine(environ, asked, name):
    assert read_name(environ, asked) == name


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (HOSTS, "lists 4 hosts of one TPU, but without a TPU_NAME each of them would train a model of its own."),
        (HOSTS | {"TPU_NAME": "local"}, "Set TPU_NAME (or choose_strategy(tpu=…)) to the TPU's name or to the"),
        (HOSTS | {"TPU_NAME": "pod", "TPU_WORKER_ID": "2"}, "but TPU_WORKER_ID is 2 here. Start the program on host 0"),
    ],
)
def test_a_host_that_would_train_a_model_of_its_own_is_refused(environ, message):
    with pytest.raises(UsageError) as error:
        read_name(environ)
    assert str(error.value).startswith("strategy: TPU_WORKER_HOSTNAMES ") and message in str(error.value)
