"""promise_15: a wrong cluster is refused at once, with one message for each mistake."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.cluster.tf_config import (
    Cluster,
    ClusterError,
    Task,
    divide_cores,
    hosts_of,
    read_cluster,
    split_address,
)

TWO = {"worker": ["a:1", "b:1"]}
FIRST = {"type": "worker", "index": 0}
SLURM = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "3",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "n[08-09]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_PROCID": "3",
    "TFDIST_PORT": "9000",
}

quick = settings(max_examples=200, deadline=2000)


def refusal(text):
    with pytest.raises(ClusterError) as error:
        read_cluster({"TF_CONFIG": text})
    return str(error.value)


def config(cluster=TWO, task=FIRST, **others):
    return json.dumps({"cluster": cluster, "task": task} | others)


def test_a_cluster_is_read_from_tf_config():
    cluster = read_cluster({"TF_CONFIG": config(task={"type": "worker", "index": 1})})
    assert cluster == Cluster({"worker": ("a:1", "b:1")}, Task("worker", 1), "TF_CONFIG")
    assert (cluster.size, cluster.rank, cluster.is_chief) == (2, 1, False)
    assert cluster.address == "b:1"
    assert hosts_of(cluster.workers) == {"a", "b"}


def test_the_chief_comes_before_the_workers():
    jobs = {"worker": ("a:1", "b:1"), "chief": ("c:1",), "evaluator": ("e:1",)}
    tasks = [Task("chief", 0), Task("worker", 0), Task("worker", 1)]
    clusters = [Cluster(jobs, task) for task in tasks]
    assert clusters[0].workers == ("c:1", "a:1", "b:1")
    assert [cluster.rank for cluster in clusters] == [0, 1, 2]
    assert [cluster.is_chief for cluster in clusters] == [True, False, False]
    assert [cluster.address for cluster in clusters] == ["c:1", "a:1", "b:1"]


def test_worker_0_is_chief_where_no_chief_is_listed():
    assert read_cluster({"TF_CONFIG": config()}).is_chief


def test_an_index_written_as_digits_is_read_as_tensorflow_reads_it():
    assert read_cluster({"TF_CONFIG": config(task={"type": "worker", "index": "1"})}).rank == 1


def test_what_platforms_add_to_tf_config_is_left_alone():
    task = FIRST | {"trial": "1", "cloud": "x"}
    assert read_cluster({"TF_CONFIG": config(task=task, environment="cloud", job={})}).size == 2


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"TF_CONFIG": ""},
        {"TF_CONFIG": " "},
        {"TF_CONFIG": "{}"},
        {"TF_CONFIG": '{"cluster": {}, "task": {}, "environment": "cloud"}'},
        SLURM | {"TF_CONFIG": "{}"},
    ],
)
def test_there_may_be_no_cluster(environ):
    assert read_cluster(environ) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{cluster: {}}",
            'TF_CONFIG: not JSON at line 1, column 2, near "{cluster: {}}": Expecting property '
            "name enclosed in double quotes. In a shell, put single quotes around the whole value.",
        ),
        ("[1]", 'TF_CONFIG: it is a list, not an object. Write {"cluster": '),
        ("3", "TF_CONFIG: it is 3, not an object."),
        ("null", "TF_CONFIG: it is null, not an object."),
        ('{"task": 1, "task": 1}', 'TF_CONFIG: the key "task" appears twice. Keep one of them.'),
        ('{"task": NaN}', "TF_CONFIG: NaN is not JSON. Write a number, or null."),
        ('{"task": -Infinity}', "TF_CONFIG: -Infinity is not JSON."),
        ("9" * 5000, "TF_CONFIG: the number 99999999999999999999... is too long. Shorten it."),
        ("[" * 100_000, "TF_CONFIG: its lists or objects are nested too deeply. Only"),
    ],
)
def test_promise_15_bad_json_is_refused(text, message):
    assert message in refusal(text)


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        (None, "TF_CONFIG: it names a task, but no cluster. Add "),
        ([], "TF_CONFIG: cluster is a list, not an object. Write "),
        ("a:1", 'TF_CONFIG: cluster is "a:1", not an object.'),
        (
            {"worker": "a:1"},
            'TF_CONFIG: cluster.worker is "a:1", not a list. Write ["host:port", ...], even for',
        ),
        ({"worker": {"0": "a:1"}}, "TF_CONFIG: cluster.worker is an object, not a list."),
        (
            {"worker": []},
            "TF_CONFIG: cluster.worker is an empty list. Add its addresses, or remove cluster.w",
        ),
        ({"evaluator": ["a:1"]}, "TF_CONFIG: cluster lists no worker, only evaluator. Add "),
        (
            {"master": ["a:1"]},
            'TF_CONFIG: cluster lists the unknown job "master". Use "worker", and "chief" if one',
        ),
        (
            {"ps": ["a:1"]} | TWO,
            "TF_CONFIG: cluster lists parameter servers (ps), but tfdist trains synchronously, "
            "without them. Remove cluster.ps and start only workers.",
        ),
        (
            {"chief": ["c:1", "d:1"]} | TWO,
            "TF_CONFIG: cluster.chief lists 2 addresses. Keep one; others can be workers.",
        ),
        ({"evaluator": ["c:1", "d:1"]} | TWO, "TF_CONFIG: cluster.evaluator lists 2 addresses."),
        (
            {"worker": ["a:1", "b:1", "a:1"]},
            'TF_CONFIG: cluster.worker[0] and cluster.worker[2] are both "a:1". Give each task',
        ),
        (
            {"chief": ["A:01"]} | TWO,
            'TF_CONFIG: cluster.chief[0] and cluster.worker[0] are both "a:1".',
        ),
        (
            {"worker": ["[::1]:1", "[0:0::1]:1"]},
            'TF_CONFIG: cluster.worker[0] and cluster.worker[1] are both "[0:0::1]:1".',
        ),
        ({"worker": ["a:1", "b"]}, 'TF_CONFIG: cluster.worker[1] is "b", which has no port.'),
    ],
)
def test_promise_15_a_wrong_cluster_is_refused(cluster, message):
    assert message in refusal(config(cluster))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            None,
            "TF_CONFIG: task is missing, so this process does not know which address is its own. "
            'Add "task": {"type": "worker", "index": 0}, with an index of its own in each process.',
        ),
        (
            "worker",
            'TF_CONFIG: task is "worker", not an object. Write {"type": "worker", "index": 0}.',
        ),
        ({"index": 0}, 'TF_CONFIG: task.type is missing. Use "worker".'),
        (
            {"type": "chief", "index": 0},
            'TF_CONFIG: task.type is "chief", but cluster lists "worker". Use a listed job, or ',
        ),
        ({"type": ["worker"]}, 'TF_CONFIG: task.type is a list, but cluster lists "worker".'),
        (
            {"type": "evaluator", "index": 0},
            'TF_CONFIG: task.type is "evaluator", which has no part in synchronous training. '
            "Start only the training workers here, and evaluate in a process without TF_CONFIG.",
        ),
        ({"type": "worker"}, "TF_CONFIG: task.index is missing. Use 0..1."),
        (
            {"type": "worker", "index": 2},
            "TF_CONFIG: task.index is 2, but cluster.worker lists 2 addresses. Use 0..1, or add the missing worker.",
        ),
        ({"type": "worker", "index": -1}, "TF_CONFIG: task.index is -1, but cluster.worker lists"),
        ({"type": "worker", "index": True}, "TF_CONFIG: task.index is true, not an integer. Use"),
        ({"type": "worker", "index": 1.0}, "TF_CONFIG: task.index is 1.0, not an integer."),
        ({"type": "worker", "index": "-1"}, 'TF_CONFIG: task.index is "-1", not an integer.'),
        ({"type": "worker", "index": "²"}, r'TF_CONFIG: task.index is "\u00b2", not an integer.'),
        ({"type": "worker", "index": [0]}, "TF_CONFIG: task.index is a list, not an integer."),
    ],
)
def test_promise_15_a_wrong_task_is_refused(task, message):
    assert message in refusal(config(task=task))


def test_promise_15_an_index_beyond_one_address_is_refused():
    message = refusal(config({"worker": ["a:1"]}, {"type": "worker", "index": 1}))
    assert message == (
        "TF_CONFIG: task.index is 1, but cluster.worker lists 1 address. Use 0, or add the missing worker."
    )


def test_another_rpc_layer_is_refused():
    message = 'TF_CONFIG: rpc_layer is "grpcs", but workers use grpc. Leave it out.'
    assert refusal(config(rpc_layer="grpcs")) == message


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("localhost:2222", ("localhost", 2222)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("a-b_c.d:1", ("a-b_c.d", 1)),
        ("[::1]:2222", ("::1", 2222)),
        ("[FE80:0::1%eth0]:1", ("fe80::1%eth0", 1)),
    ],
)
def test_an_address_is_split_into_host_and_port(address, parts):
    assert split_address(address) == parts


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (5, 'here is 5. Write a string "host:port".'),
        (None, 'here is null. Write a string "host:port".'),
        ("a", 'here is "a", which has no port. Write "host:port".'),
        ("[::1]", 'here is "[::1]", which has no port.'),
        (":1", 'here is ":1", which has no host.'),
        ("", 'here is "", which has no port.'),
        ("a:", 'here is "a:", whose port is "". Use a number in 1..65535.'),
        ("a:http", 'here is "a:http", whose port is "http".'),
        ("a:0", 'here is "a:0", whose port is "0".'),
        ("a:65536", 'here is "a:65536", whose port is "65536".'),
        ("a:-1", 'here is "a:-1", whose port is "-1".'),
        ("a:1 ", 'here is "a:1 ", whose port is "1 ".'),
        ("a:²", r'here is "a:\u00b2", whose port is "\u00b2".'),
        ("grpc://a:1", 'here is "grpc://a:1". Leave the scheme out: TensorFlow takes only "host:port".'),
        ("fe80::1:2222", 'several colons. Put an IPv6 address in brackets: "[::1]:2222".'),
        ("[::x]:1", 'whose brackets hold no IPv6 address. Write it like "[::1]:2222".'),
        ("a b:1", 'whose host is "a b". Use only letters, digits, ".", "-" and "_" in a host.'),
        ("\ud800:1", r'whose host is "\ud800".'),
        ("a" * 100, f'here is "{"a" * 60}"..., which has no port.'),
    ],
)
def test_promise_15_a_wrong_address_is_refused(address, message):
    with pytest.raises(ClusterError) as error:
        split_address(address, "here")
    assert message in str(error.value)


def test_a_cluster_made_in_code_is_checked_too():
    with pytest.raises(ClusterError, match=r"^Launcher: task.index is 1, but cluster.worker lists"):
        Cluster({"worker": ("a:1",)}, Task("worker", 1), source="Launcher")


def test_a_cluster_is_read_from_a_slurm_step():
    cluster = read_cluster(SLURM)
    workers = ("n08:9000", "n08:9001", "n09:9000", "n09:9001")
    assert cluster == Cluster({"worker": workers}, Task("worker", 3), "Slurm")
    assert cluster.environment() == {"TF_CONFIG": cluster.to_tf_config()}


def test_tf_config_wins_over_slurm():
    assert read_cluster(SLURM | {"TF_CONFIG": config()}).source == "TF_CONFIG"


def test_the_tasks_of_a_slurm_host_divide_its_gpus():
    cluster = read_cluster(SLURM | {"CUDA_VISIBLE_DEVICES": "0,1,2,3"})
    assert cluster.gpus == ("2", "3")
    assert cluster.environment()["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_gpus_that_the_tasks_of_a_slurm_host_cannot_divide_are_refused():
    with pytest.raises(ClusterError, match="3 GPUs, which do not divide evenly among its 2 tasks"):
        read_cluster(SLURM | {"CUDA_VISIBLE_DEVICES": "0,1,2"})


def test_slurms_mistakes_are_cluster_errors_with_the_same_message():
    with pytest.raises(ClusterError, match=r'^Slurm: the host list "n\[1" is not understood at'):
        read_cluster(SLURM | {"SLURM_STEP_NODELIST": "n[1"})


def test_a_host_listed_twice_by_slurm_is_refused():
    with pytest.raises(ClusterError, match=r"^Slurm: .* are both"):
        read_cluster(SLURM | {"SLURM_STEP_NODELIST": "n1,n1"})


hosts = st.from_regex(r"[a-z0-9]{1,5}", fullmatch=True) | st.just("[::1]")
addresses = st.builds("{}:{}".format, hosts, st.integers(1, 65535))


@st.composite
def clusters(draw):
    listed = draw(st.lists(addresses, min_size=1, max_size=5, unique=True))
    chief = draw(st.integers(0, 1))
    jobs = {"chief": tuple(listed[:chief]), "worker": tuple(listed[chief:])}
    jobs = {job: listed for job, listed in jobs.items() if listed}
    job = draw(st.sampled_from(sorted(jobs)))
    return Cluster(jobs, Task(job, draw(st.integers(0, len(jobs[job]) - 1))))


@quick
@given(clusters())
def test_a_cluster_survives_the_way_through_tf_config(cluster):
    assert read_cluster(cluster.environment()) == cluster
    assert cluster.workers[cluster.rank] == cluster.address


def read_or_refuse(environ):
    """Reads a cluster or a ClusterError, whose message must be printable; any other exception fails the test."""
    try:
        cluster = read_cluster(environ)
    except ClusterError as error:
        str(error).encode("ascii")
    else:
        assert cluster is None or cluster.rank < cluster.size


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.sampled_from(["worker", "chief", "ps", "a:1", "[::1]:1", "0", "1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["worker", "chief", "type", "index"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@quick
@given(st.text())
def test_promise_15_any_text_is_read_or_refused(text):
    read_or_refuse({"TF_CONFIG": text})


@quick
@given(anything)
def test_promise_15_any_json_is_read_or_refused(value):
    read_or_refuse({"TF_CONFIG": json.dumps(value)})


@quick
@given(clusters(), st.data())
def test_promise_15_a_damaged_tf_config_is_read_or_refused(cluster, data):
    damaged = json.loads(cluster.to_tf_config())
    place = data.draw(st.sampled_from([damaged, damaged["cluster"], damaged["task"]]))
    place[data.draw(st.sampled_from(["worker", "chief", *place]))] = data.draw(anything)
    read_or_refuse({"TF_CONFIG": json.dumps(damaged)})


@quick
@given(clusters(), st.data())
def test_promise_15_a_mistyped_tf_config_is_read_or_refused(cluster, data):
    text = cluster.to_tf_config()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 3, len(text))))
    typed = data.draw(st.text('{}[]":,0a ', max_size=3))
    read_or_refuse({"TF_CONFIG": text[:start] + typed + text[end:]})


@pytest.mark.parametrize("depth", [50, 300, 900, 5000])
def test_promise_15_deep_nesting_is_refused_at_any_depth(depth):
    for opening, closing in (("[", "]"), ('{"cluster":', "}"), ('{"task":', "}")):
        refusal('{"cluster": ' + opening * depth + "1" + closing * depth + "}")


@quick
@given(st.dictionaries(st.sampled_from(sorted(SLURM)), st.text(max_size=8), max_size=3))
def test_any_slurm_variables_are_read_or_refused(changes):
    read_or_refuse(SLURM | changes)


def test_65536_tasks_are_the_most_that_slurm_can_start():
    hosts = {"SLURM_STEP_NODELIST": "n[0-65535]", "SLURM_STEP_TASKS_PER_NODE": "1(x65536)"}
    cluster = read_cluster(SLURM | hosts | {"SLURM_STEP_NUM_TASKS": "65536"})
    assert cluster.address == "n3:9000"


def test_every_task_of_a_host_gets_as_many_cores():
    assert divide_cores([0, 1, 2, 5, 7], 2) == ((0, 1), (2, 5))
    assert divide_cores([3], 1) == ((3,),)
    assert divide_cores([0, 1], 4) is None
