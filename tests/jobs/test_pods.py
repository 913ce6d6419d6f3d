"""The pod of a worker: its share of the node, its volumes, and what it names without carrying it."""

import dataclasses

from tfdist.jobs import JobConfig
from tfdist.jobs.pods import make_pod

CONFIG = JobConfig(target="tfjob", image="image:1", node_count=2, command=("a.py",))


def pod(**changes):
    return make_pod(dataclasses.replace(CONFIG, **changes), "script", environment={}, ports=[])


def test_a_worker_has_its_share_of_the_node():
    made = pod(process_count_per_node=2, gpus_per_node=8, cpus_per_node=33, memory_gib_per_node=64)
    requests = {"cpu": 16, "memory": "32Gi"}
    assert made["containers"][0]["resources"] == {"requests": requests, "limits": {"nvidia.com/gpu": 4}}
    assert "resources" not in pod()["containers"][0]


def test_each_mount_has_its_volume():
    made = pod(volumes=("runs:/runs", "my.data:/data"))
    mounts = {mount["name"]: mount["mountPath"] for mount in made["containers"][0]["volumeMounts"]}
    assert mounts == {"shm": "/dev/shm", "claim-runs": "/runs", "claim-my-data": "/data"}
    assert [volume["name"] for volume in made["volumes"]] == [*mounts]
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in made["volumes"][1:]]
    assert claims == ["runs", "my.data"]


def test_a_secret_and_an_identity_are_named_and_a_pod_without_one_gets_no_token():
    made = pod(secrets=("a", "b"), identity="trainer")
    assert made["containers"][0]["envFrom"] == [{"secretRef": {"name": "a"}}, {"secretRef": {"name": "b"}}]
    assert (made["serviceAccountName"], made["automountServiceAccountToken"]) == ("trainer", True)
    assert (pod().get("serviceAccountName"), pod()["automountServiceAccountToken"]) == (None, False)


def test_it_has_time_to_save():
    assert pod(grace_seconds=300)["terminationGracePeriodSeconds"] == 300
