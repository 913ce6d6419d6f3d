"""A step's variables become addresses, ranks and GPUs; nothing but ClusterError escapes."""

import itertools
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.cluster.addresses import ClusterError
from tfdist.cluster.environments.readers import read_cluster
from tfdist.cluster.environments.slurm import expand_counts, expand_hosts, place_tasks, read_step
from tfdist.cluster.members import Cluster, Task

STEP = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "3",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "n[08-09]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_PROCID": "2",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "0",
}

quick = settings(max_examples=150, deadline=2000)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("login", ["login"]),
        ("a.b.c,d-e_f", ["a.b.c", "d-e_f"]),
        ("n[1-2,7]-ib", ["n1-ib", "n2-ib", "n7-ib"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("n[8-11]", ["n8", "n9", "n10", "n11"]),
        ("b3,a[2,1],c", ["b3", "a2", "a1", "c"]),
        ("[1-2]", ["1", "2"]),
    ],
)
def test_a_host_list_expands_in_slurms_order(text, hosts):
    assert expand_hosts(text) == tuple(hosts)


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("", 1, "a name or a range in brackets is expected"),
        ("a,,b", 3, "a name or a range"),
        ("a,", 3, "a name or a range"),
        ("n[1-2", 2, "a name or a range"),
        ("n]", 2, "a name or a range"),
        ("n[]", 2, "a name or a range"),
        ("n[[1]]", 2, "a name or a range"),
        ("a b", 2, "a name or a range"),
        ("n[1,2-]", 5, "a number or a range such as 08-11 is expected"),
        ("n[1-2-3]", 3, "a number or a range"),
        ("n[4,3-1]", 5, "the range 3-1 runs backwards"),
        ("n[0-999999999999]", 3, "the list exceeds 65536 hosts"),
        ("n[0-9999][0-9999]", 10, "the list exceeds 65536 hosts"),
        ("a[0-65535],b", 12, "the list exceeds 65536 hosts"),
    ],
)
def test_a_bad_host_list_is_refused_with_the_position(text, position, problem):
    with pytest.raises(ClusterError) as error:
        expand_hosts(text)
    assert f"not understood at character {position}: {problem}" in str(error.value)


words = st.text("abz.-_", min_size=1, max_size=3)
ranges = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=3)


@quick
@given(st.lists(st.tuples(words, ranges, words, ranges), min_size=1, max_size=3))
def test_random_host_lists_expand_like_nested_loops(entries):
    def write(group):
        return "[" + ",".join(f"{lo:0{w}}-{lo + more:0{w}}" for lo, more, w in group) + "]"

    def numbers(group):
        return [f"{lo + i:0{w}}" for lo, more, w in group for i in range(more + 1)]

    text = ",".join(a + write(x) + b + write(y) for a, x, b, y in entries)
    expected = [a + i + b + j for a, x, b, y in entries for i in numbers(x) for j in numbers(y)]
    assert expand_hosts(text) == tuple(expected)


def test_tasks_per_node_expand_to_one_number_a_node():
    assert expand_counts("2(x3),1") == (2, 2, 2, 1)


@pytest.mark.parametrize("text", ["", "0", "2(x3", "2x3", "a", "2,,1", "-1", "2(x1.5)", "²"])
def test_malformed_tasks_per_node_are_refused(text):
    with pytest.raises(ClusterError, match=r'write.* "2\(x3\),1"'):
        expand_counts(text)


def test_absurdly_many_tasks_are_refused_before_they_are_listed():
    with pytest.raises(ClusterError, match=r'"2\(x999999999\)", over 65536 tasks in all'):
        expand_counts("2(x999999999)")


@pytest.mark.parametrize(
    ("counts", "plane", "nodes"),
    [
        ((3, 1, 2), 65536, [0, 0, 0, 1, 2, 2]),
        # The examples in the comments of Slurm's own slurm_step_layout.c.
        ((4, 2, 4, 2), 1, [0, 1, 2, 3, 0, 1, 2, 3, 0, 2, 0, 2]),
        ((4, 1, 1), 2, [0, 0, 1, 2, 0, 0]),
    ],
    ids=["block", "cyclic", "plane"],
)
def test_tasks_are_placed_by_slurms_distribution(counts, plane, nodes):
    assert [node for node, _ in place_tasks(counts, plane)] == nodes


@quick
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 7))
def test_placing_agrees_with_dealing_tasks_out_one_by_one(counts, plane):
    dealt, given_out = [], [0] * len(counts)
    for node in itertools.cycle(range(len(counts))):
        for _ in range(min(plane, counts[node] - given_out[node])):
            dealt.append((node, given_out[node]))
            given_out[node] += 1
        if len(dealt) == sum(counts):
            break
    assert place_tasks(tuple(counts), plane) == dealt


def test_a_step_gives_every_task_an_address_of_its_own():
    step = read_step(STEP)
    assert step.addresses == ("n08:11392", "n08:11393", "n09:11392", "n09:11393")
    assert (step.rank, step.host_tasks, step.host_index) == (2, 2, 0)
    assert step.shared_gpus == ()


def test_all_tasks_of_a_step_agree_on_the_addresses():
    places = {"0": ("0", "0"), "1": ("0", "1"), "2": ("1", "0"), "3": ("1", "1")}
    steps = [
        read_step(STEP | {"SLURM_PROCID": rank, "SLURM_NODEID": node, "SLURM_LOCALID": local})
        for rank, (node, local) in places.items()
    ]
    assert {step.addresses for step in steps} == {steps[0].addresses}
    assert [step.rank for step in steps] == [0, 1, 2, 3]


def test_a_cyclic_step_has_its_ranks_on_alternating_hosts():
    cyclic = {"SLURM_DISTRIBUTION": "cyclic:block,Pack", "TFDIST_PORT": "9000"}
    step = read_step(STEP | cyclic | {"SLURM_NODEID": "0", "SLURM_LOCALID": "1"})
    assert step.addresses == ("n08:9000", "n09:9000", "n08:9001", "n09:9001")


def test_a_plane_step_deals_its_tasks_out_in_planes():
    plane = {"SLURM_DISTRIBUTION": "plane", "SLURM_DIST_PLANESIZE": "2", "TFDIST_PORT": "9000"}
    assert read_step(STEP | plane).addresses[:3] == ("n08:9000", "n08:9001", "n09:9000")


def test_steps_and_jobs_have_ports_of_their_own_below_the_ephemeral_range():
    def port(job, step):
        addresses = read_step(STEP | {"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)}).addresses
        return int(addresses[0].rpartition(":")[2])

    ports = [port(job, step) for job in (1, 2, 3) for step in (0, 1, 2)]
    assert len(set(ports)) == len(ports)
    assert all(10000 <= port(job, 0) < 30000 for job in range(0, 4_000_000_000, 123_456_789))


def test_job_level_variables_serve_where_the_steps_own_are_missing():
    names = {
        "SLURM_STEP_ID": "SLURM_STEPID",
        "SLURM_STEP_NUM_TASKS": "SLURM_NTASKS",
        "SLURM_STEP_NODELIST": "SLURM_NODELIST",
        "SLURM_STEP_TASKS_PER_NODE": "SLURM_TASKS_PER_NODE",
    }
    assert read_step({names.get(name, name): value for name, value in STEP.items()}) == read_step(STEP)


def test_a_step_of_one_task_is_no_cluster():
    assert read_step({"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "1"}) is None


@pytest.mark.parametrize("step_id", [None, "", "4294967290", "4294967291", "-5"])
def test_an_allocation_without_a_step_is_no_cluster_and_says_so(step_id, caplog):
    environ = STEP | {"SLURM_STEP_ID": step_id, "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": None}
    with caplog.at_level(logging.INFO, logger="tfdist"):
        assert read_cluster({name: text for name, text in environ.items() if text is not None}) is None
    assert caplog.messages == [
        "Slurm: job 12 has an allocation for several tasks, but this process is not in a step: "
        "it trains alone. Start the program with srun to use them all."
    ]


def test_an_allocation_for_one_task_is_silent(caplog):
    environ = {"SLURM_JOB_ID": "12", "SLURM_NTASKS": "1", "SLURM_NNODES": "1"}
    assert read_cluster(environ) is None
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SLURM_PROCID": ""}, "Slurm: SLURM_PROCID is not set, though SLURM_JOB_ID is. Start"),
        ({"SLURM_PROCID": "x"}, 'Slurm: SLURM_PROCID is "x", not a number. Start with srun.'),
        ({"SLURM_PROCID": "4"}, "Slurm: SLURM_PROCID is 4, but the step has 4 tasks. Start"),
        ({"SLURM_STEP_NODELIST": ""}, "Slurm: SLURM_STEP_NODELIST is not set"),
        (
            {"SLURM_STEP_NODELIST": "n1"},
            "Slurm: the step has 4 tasks, but its variables name 1 hosts, and 4 tasks on 2 nodes.",
        ),
        ({"SLURM_STEP_TASKS_PER_NODE": "2,1"}, "name 2 hosts, and 3 tasks on 2 nodes. Start"),
        (
            {"SLURM_NODEID": "0"},
            'Slurm: SLURM_NODEID is "0", but by SLURM_DISTRIBUTION task 2 should have 1. '
            "Start with srun --distribution=block.",
        ),
        ({"SLURM_LOCALID": "1"}, 'SLURM_LOCALID is "1", but by SLURM_DISTRIBUTION task 2 should'),
        ({"SLURM_DISTRIBUTION": "arbitrary"}, 'SLURM_DISTRIBUTION is "arbitrary", which does not'),
        ({"SLURM_DISTRIBUTION": "plane"}, "SLURM_DIST_PLANESIZE is not set"),
        (
            {"TFDIST_PORT": "65535"},
            'TFDIST_PORT: it is "65535", and 2 tasks on a host need as many ports in a row. Use a number in 1..65534.',
        ),
        ({"TFDIST_PORT": "http"}, 'TFDIST_PORT: it is "http", and 2 tasks'),
    ],
)
def test_a_wrong_variable_is_refused_by_name_and_value(change, message):
    with pytest.raises(ClusterError) as error:
        read_step(STEP | change)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("variables", "gpus"),
    [
        ({}, ""),
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, "2 3"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-a, MIG-b"}, "GPU-a MIG-b"),
        ({"CUDA_VISIBLE_DEVICES": "", "SLURM_GPUS_ON_NODE": "2"}, ""),
        ({"CUDA_VISIBLE_DEVICES": "0,-1,1"}, "0"),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ""),
        ({"SLURM_STEP_GPUS": "4,5", "SLURM_GPUS_ON_NODE": "2"}, "4 5"),
        ({"SLURM_GPUS_ON_NODE": "2"}, "0 1"),
        ({"SLURM_JOB_GPUS": "4,5"}, ""),
        ({"CUDA_VISIBLE_DEVICES": "1", "SLURM_GPUS_ON_NODE": "2"}, ""),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_GPUS_PER_TASK": "1"}, ""),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_TRES_BIND": "gres/gpu:per_task:1"}, ""),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_GPU_BIND": "none"}, "0 1"),
    ],
)
def test_gpus_are_shared_unless_each_task_was_given_its_own(variables, gpus):
    assert read_step(STEP | variables).shared_gpus == tuple(gpus.split())


def test_a_task_alone_on_its_host_divides_no_gpus():
    alone = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}
    here = {"SLURM_PROCID": "1", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert read_step(STEP | alone | here).shared_gpus == ()


@quick
@given(st.one_of(st.text(), st.text("n019[]-,.", max_size=30)))
def test_any_host_list_expands_or_is_refused(text):
    try:
        hosts = expand_hosts(text)
    except ClusterError as error:
        str(error).encode()
    else:
        assert 0 < len(hosts) <= 65536


plausible = st.one_of(
    st.none(),
    st.text(),
    st.integers(-1, 10**20).map(str),
    st.integers(0, 5).map(str),
    st.sampled_from(["n[1-4]", "a,b", "2(x2)", "1,3", "cyclic", "plane", "65535", "none"]),
)
extras = [
    "SLURM_DISTRIBUTION",
    "SLURM_DIST_PLANESIZE",
    "SLURM_GPUS_ON_NODE",
    "SLURM_STEP_GPUS",
    "SLURM_GPU_BIND",
    "CUDA_VISIBLE_DEVICES",
    "TFDIST_PORT",
]


@quick
@given(st.dictionaries(st.sampled_from([*STEP, *extras]), plausible, max_size=4))
def test_any_slurm_variables_give_a_step_or_a_slurm_error(changes):
    environ = {name: text for name, text in (STEP | changes).items() if text is not None}
    try:
        step = read_step(environ)
    except ClusterError as error:
        str(error).encode()
    else:
        assert step is None or step.rank < len(step.addresses)


FOUR = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "3",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "n[08-09]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_PROCID": "3",
    "TFDIST_PORT": "9000",
}


def test_a_cluster_is_read_from_a_slurm_step():
    cluster = read_cluster(FOUR)
    workers = ("n08:9000", "n08:9001", "n09:9000", "n09:9001")
    assert cluster == Cluster({"worker": workers}, Task("worker", 3), "Slurm")
    assert cluster.environment() == {"TF_CONFIG": cluster.to_tf_config()}


def test_tf_config_wins_over_slurm():
    assert read_cluster(FOUR | {"TF_CONFIG": "{}"}) is None


def test_the_tasks_of_a_slurm_host_divide_its_gpus():
    cluster = read_cluster(FOUR | {"CUDA_VISIBLE_DEVICES": "0,1,2,3"})
    assert cluster.gpus == ("2", "3")
    assert cluster.environment()["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_gpus_that_the_tasks_of_a_slurm_host_cannot_divide_are_refused():
    with pytest.raises(ClusterError, match="3 GPUs, which do not divide evenly among its 2 tasks"):
        read_cluster(FOUR | {"CUDA_VISIBLE_DEVICES": "0,1,2"})


def test_slurms_mistakes_are_cluster_errors_with_the_same_message():
    with pytest.raises(ClusterError, match=r'^Slurm: the host list "n\[1" is not understood at'):
        read_cluster(FOUR | {"SLURM_STEP_NODELIST": "n[1"})


def test_a_host_listed_twice_by_slurm_is_refused():
    with pytest.raises(ClusterError, match=r"^Slurm: .* are both"):
        read_cluster(FOUR | {"SLURM_STEP_NODELIST": "n1,n1"})


def test_65536_tasks_are_the_most_that_slurm_can_start():
    hosts = {"SLURM_STEP_NODELIST": "n[0-65535]", "SLURM_STEP_TASKS_PER_NODE": "1(x65536)"}
    cluster = read_cluster(FOUR | hosts | {"SLURM_STEP_NUM_TASKS": "65536"})
    assert cluster.address == "n3:9000"


HET = {"SLURM_HET_SIZE": "2"}


def test_a_step_on_one_component_of_a_heterogeneous_job_is_read_with_a_warning(caplog):
    assert read_cluster(FOUR | HET | {"SLURM_PROCID": "0"}).size == 4
    assert read_cluster(FOUR | HET | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}) is None
    assert [message[:61] for message in caplog.messages] == [
        "Slurm: of the components of this heterogeneous job, 4 task(s)",
        "Slurm: of the components of this heterogeneous job, 1 task(s)",
    ]


@pytest.mark.parametrize("place", [{"SLURM_PROCID": "4"}, {"SLURM_PROCID": "3", "SLURM_NODEID": "2"}])
def test_a_step_over_several_components_is_refused_by_name(place):
    # Slurm adds the tasks and the nodes of the earlier components to these two numbers.
    with pytest.raises(ClusterError, match='SLURM_HET_SIZE is "2": a step over several components'):
        read_cluster(FOUR | HET | place)
