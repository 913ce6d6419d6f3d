"""Checks the exchange benchmark: ratios and goals by hand, what is started where, the report."""

import argparse
import json
import pathlib
import signal
import sys
import time

import pytest
from support.bench_reports import ABOUT
from support.processes import REPOSITORY

from benchmarks import exchange, exchange_table
from benchmarks.peers import horovod_child, horovod_group
from tfdist.bench import processes as bench_processes
from tfdist.bench.processes import ContenderGroup, Ended, WorkerPlace, child_starts
from tfdist.bench.report import make_result
from tfdist.process.child import Start


def results(**rates):
    """Returns lines of a contender and a number of workers, as in horovod_2, by rows per second; None: it failed."""
    lines = []
    for name, rate in rates.items():
        contender, workers = name.rsplit("_", 1)
        samples = [] if rate is None else [ABOUT["global_batch"] / rate]
        about = ABOUT | {"versions": {"tensorflow": "2.12.1" if contender.startswith("horovod") else "2.21.0"}}
        lines.append(make_result(contender, int(workers), 1, samples, about=about, error=rate is None and "it broke"))
    return lines


LINES = {"tfdist_fit_2": 1200.0, "plain_multi_worker_2": 400.0, "horovod_2": 600.0, "horovod_grouped_2": 800.0}


def test_ratios_are_of_medians_and_against_the_fastest_horovod():
    lines = results(**LINES, tfdist_fit_1=10.0, horovod_1=9999.0)
    assert exchange_table.ratio(lines, "tfdist_fit", "plain_multi_worker", 2) == pytest.approx(3)
    assert exchange_table.ratio(lines, "tfdist_fit", exchange_table.BEST_HOROVOD, 2) == pytest.approx(1.5)
    assert exchange_table.ratio(lines, "tfdist_bfloat16", "horovod", 2) is None


def verdicts(model, network, lines):
    return [goal.line(goal.figure({"results": lines})) for goal in exchange_table.goals(model, network, 2)]


def test_the_goals_of_a_model_say_what_is_met():
    best, plain = verdicts("dense", "loopback", results(**LINES))
    text = "exchange_loopback_2_dense: rows/s of tfdist_fit ÷ of"
    assert best == f"met      {text} best Horovod: 1.5 (goal: at least 1.5)"
    assert plain == f"met      {text} plain_multi_worker: 3 (goal: at least 1)"
    slower = results(**LINES | {"horovod_2": 1201.0})
    assert verdicts("dense", "loopback", slower)[0].startswith("NOT MET")
    (only,) = verdicts("dense", "1gbit", results(**LINES))
    assert only.startswith("NOT MET") and only.endswith("3 (goal: at least 5)")


def test_what_was_not_measured_is_said_and_what_failed_is_not_met():
    lines = results(tfdist_fit_2=5.0, plain_multi_worker_2=None)
    best, plain = verdicts("dense", "loopback", lines)
    assert best.startswith("-  ") and "best Horovod: not measured (goal: at least 1.5)" in best
    assert plain.startswith("NOT MET")


def test_every_goal_is_of_a_model_and_a_network_that_exist():
    for model, network in exchange_table.TARGETS:
        assert model in exchange.MODELS and network in exchange.networks.RATES
    rates = [goal.least for model in exchange.MODELS for goal in exchange_table.goals(model, "loopback", 4)]
    assert rates.count(1.0) >= len(exchange.MODELS)


def test_the_table_shows_versions_ratios_and_the_limit_of_each():
    lines = results(tfdist_fit_1=1000.0, horovod_1=500.0, **LINES, keras_fit_2=None)
    place = {"is_pinned": True, "cores": "Each has 1 core.", "horovod": ""}
    text = exchange_table.render({"results": lines, "place": place}, ["a note"])
    rows = [line.split() for line in text.splitlines()]
    assert ["tfdist_fit", "1", "2.21.0", "1000", "1000", "±", "0", "0"] in rows
    # 1200 of twice 1000; 800 of twice 500, by the TensorFlow that Horovod has.
    assert ["tfdist_fit", "2", "2.21.0", "1200", "1200", "±", "0", "0", "3.00", "1.50", "0.60"] in rows
    assert ["horovod_grouped", "2", "2.12.1", "800", "800", "±", "0", "0", "2.00", "1.00", "0.80"] in rows
    assert ["keras_fit", "2", "failed"] in rows
    assert "Each has 1 core.\nkeras_fit × 2: it broke\na note" in text
    unfair = exchange_table.render({"results": lines, "place": place | {"is_pinned": False}})
    assert "0.60" not in unfair


def read(*flags):
    return exchange.read_flags(flags)


def test_one_worker_has_the_cores_of_one_and_no_network(monkeypatch):
    monkeypatch.setattr(bench_processes.shutil, "which", lambda tool: f"/bin/{tool}")
    monkeypatch.setattr(bench_processes.os, "sched_getaffinity", lambda process: {0, 1, 2, 3})
    places = bench_processes.pin([WorkerPlace("10.0.0.1", ("netns", "a")), WorkerPlace("10.0.0.2", ("netns", "b"))])
    assert places[1] == WorkerPlace("10.0.0.2", ("netns", "b", "taskset", "--cpu-list", "2,3"))
    started = []
    monkeypatch.setattr(exchange, "child_starts", lambda where: started.append(where) or [])
    monkeypatch.setattr(exchange, "ContenderGroup", lambda *about, starts: None)
    monkeypatch.setattr(exchange, "read_free_bytes", lambda: 2**35)
    one, many = exchange.make_lines(read("--contenders=tfdist_fit"), places, None, "lo")
    one.make_group(), many.make_group()
    assert (one.workers, many.workers) == (1, 2)
    assert started == [[WorkerPlace(prefix=("taskset", "--cpu-list", "0,1"))], places]


def test_horovod_takes_part_where_it_is_given():
    def names(python):
        lines = exchange.make_lines(read(), [WorkerPlace()] * 2, python, "lo")
        return [(line.contender, line.workers) for line in lines]

    without = names(None)
    assert ("tfdist_bfloat16", 2) in without and ("tfdist_bfloat16", 1) not in without
    added = [("horovod", 1), ("horovod", 2), ("horovod_grouped", 2), ("horovod_fp16", 2)]
    assert [key for key in names("python") if key not in without] == added


def test_a_child_knows_the_addresses_of_all_and_its_prefix(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy:1")
    starts = child_starts([WorkerPlace("10.0.0.1", ("netns", "a")), WorkerPlace("10.0.0.2", ("netns", "b"))])
    cluster = json.loads(starts[1].environ["TF_CONFIG"])
    assert [address.split(":")[0] for address in cluster["cluster"]["worker"]] == ["10.0.0.1", "10.0.0.2"]
    assert cluster["task"] == {"type": "worker", "index": 1}
    assert starts[1].command == ("netns", "b", sys.executable, "-m", "tfdist.bench.child")
    assert {"10.0.0.1", "10.0.0.2"} <= set(starts[0].environ["no_proxy"].split(","))
    assert "TF_CONFIG" not in child_starts([WorkerPlace()])[0].environ


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (["127.0.0.1", "127.0.0.1"], {"LOCAL_RANK": "1", "LOCAL_SIZE": "2", "CROSS_RANK": "0", "CROSS_SIZE": "1"}),
        (["10.0.0.1", "10.0.0.2"], {"LOCAL_RANK": "0", "LOCAL_SIZE": "1", "CROSS_RANK": "1", "CROSS_SIZE": "2"}),
    ],
)
def test_a_rank_of_horovod_is_told_where_it_stands(hosts, expected):
    inherited = {"PYTHONPATH": "/keras3", "PATH": "/bin", "http_proxy": "http://proxy:1"}
    places = [WorkerPlace(host, ("on", host)) for host in hosts]
    starts = horovod_group.rank_starts("py", places, "eth9", 4321, inherited)
    environ = starts[1].environ
    assert starts[1].command == ("on", hosts[1], "py", "-m", "benchmarks.peers.horovod_child")
    assert {name: environ[f"HOROVOD_{name}"] for name in expected} == expected
    assert (environ["HOROVOD_RANK"], environ["HOROVOD_SIZE"], environ["HOROVOD_GLOO_IFACE"]) == ("1", "2", "eth9")
    assert environ["HOROVOD_GLOO_RENDEZVOUS_ADDR"] == hosts[0]
    assert environ.keys() & inherited.keys() == {"PATH"}


FAKE = """
import json, os, sys, time
for line in sys.stdin:
    ask = json.loads(line)
    if ask["do"] == "die" and sys.argv[1] == "1":
        sys.exit("no such rank")
    if ask["do"] in ("die", "sleep"):
        time.sleep(60)
    print(json.dumps(ask | {"pid": os.getpid()}), flush=True)
"""


@pytest.fixture
def make_fakes():
    """Returns a function (pause, timeout) → a `ContenderGroup` of two processes that repeat their requests."""
    groups = []

    def make(pause, timeout_seconds=60):
        starts = [Start((sys.executable, "-c", FAKE, str(rank)), {}) for rank in range(2)]
        groups.append(ContenderGroup("fake", 2, 1, {}, timeout_seconds, starts=starts, pause=pause))
        return groups[-1]

    yield make
    for group in groups:
        group.end()


def is_stopped(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="states are read from /proc")
@pytest.mark.parametrize("pause", [True, False])
def test_a_group_that_is_paused_is_stopped_between_its_questions(make_fakes, pause):
    group = make_fakes(pause)
    for question in ("a", "b"):
        answer = group.ask(question)
        assert (answer["do"], answer["workers"]) == (question, 2)
        deadline = time.monotonic() + 5
        while pause and not is_stopped(answer["pid"]) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert is_stopped(answer["pid"]) == pause


def test_a_paused_group_that_is_late_is_ended(make_fakes):
    group = make_fakes(True, timeout_seconds=1)
    with pytest.raises(Ended, match=r"no answer within 1 s \(--timeout_seconds\)"):
        group.ask("sleep")


def test_one_that_died_is_told_though_the_other_waits(make_fakes):
    with pytest.raises(Ended, match="its process ended with code 1: no such rank"):
        make_fakes(False).ask("die")


def test_a_group_that_is_paused_can_be_ended(make_fakes):
    group = make_fakes(True)
    group.ask("a")
    begin = time.monotonic()
    group.end()
    assert time.monotonic() - begin < 10


def test_horovods_contenders_share_their_ranks_and_a_new_set_is_started_where_one_ended(monkeypatch):
    starts = [Start((sys.executable, "-c", FAKE, "0"), {})]
    monkeypatch.setattr(horovod_group, "rank_starts", lambda *where: starts)
    checked = []
    shared = horovod_group.SharedGroup("python", [WorkerPlace()], "lo", checked.append)
    plain, grouped = (shared.make(name, 1, 1, {}, 60) for name in horovod_group.CONTENDERS[:2])
    try:
        assert [part.ask("a")["contender"] for part in (plain, grouped, plain)] == [
            "horovod",
            "horovod_grouped",
            "horovod",
        ]
        grouped.end()
        with pytest.raises(Ended, match="its processes have ended with another of its contenders"):
            plain.ask("a")
        last = shared.make("horovod_fp16", 1, 1, {}, 60)
        assert last.ask("a")["contender"] == "horovod_fp16"
        assert checked == [1, 1]
    finally:
        last.end()


def test_where_memory_is_short_nothing_is_started(monkeypatch):
    monkeypatch.setattr(exchange, "read_free_bytes", lambda: 3 * 2**30)
    with pytest.raises(Ended, match=r"3\.0 GiB of memory are free, and 4\.4 are needed\. Use fewer --contenders\."):
        exchange.start_children([WorkerPlace()] * 2)
    exchange.check_memory(1)
    monkeypatch.undo()
    assert exchange.read_free_bytes() > 2**20


TINY = {"model": "bench_models:tiny", "input_shape": [4], "classes": 3, "rows": 64, "replica_batch": 8}


def test_one_rank_alone_trains_the_step_that_the_others_train(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "tests" / "support")
    ask = {"contender": "horovod", "workers": 1, "config": TINY | {"optimizer": "sgd", "seed": 0}}
    child = horovod_child.Child(ask)
    about = child.start(ask | {"warm_up_steps": 20})
    again = child.start(ask | {"contender": "horovod_grouped", "warm_up_steps": 20})
    # The same weights at first; the rows go on.
    assert again["loss_before"] == about["loss_before"]
    assert about["loss_after"] < about["loss_before"]
    # 4 × 3 weights and 3 biases of 4 bytes.
    assert (about["global_batch"], about["summed_bytes"], about["multiple"]) == (8, 60, 1)
    assert about["versions"].keys() == {"tensorflow", "keras"}
    ran = child.run(ask | {"steps": 2})
    assert ran.keys() == {"seconds", "loss", "peak_bytes"} and ran["seconds"] > 0


def test_ranks_have_other_rows_of_the_same_classes():
    config = TINY | {"seed": 0, "rows": 4000}
    (x, y), (other_x, other_y) = (
        next(iter(horovod_child.make_rows(config, rank, 2).batch(4000).as_numpy_iterator())) for rank in (0, 1)
    )
    assert x.shape == (2000, 4) and x.dtype == "float32" and y.dtype == "int32"
    assert abs(x - other_x).max() > 0.5
    for label in range(3):
        assert x[y == label].mean(0) == pytest.approx(other_x[other_y == label].mean(0), abs=0.15)
    images = next(iter(horovod_child.make_rows(config | {"input_shape": [2, 2, 1]}, 0, 2).batch(64)))[0].numpy()
    assert images.shape == (64, 2, 2, 1) and images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize(("rate", "code"), [(1.0, 1), (3000.0, 0)])
def test_a_run_writes_its_report_and_says_whether_the_goals_are_met(rate, code, tmp_path, monkeypatch, capsys):
    found = results(tfdist_fit_2=rate, plain_multi_worker_2=2.0)
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(exchange.session, "measure", lambda lines, config, after: (found, {"gpus": []}, []))
    assert exchange.main(["--models=transformer", f"--out_dir={tmp_path}"]) == code
    signal.signal(signal.SIGTERM, before)
    report = json.loads((tmp_path / "exchange_loopback_2_transformer" / "bench.json").read_text())
    assert report["place"]["network"] == "loopback" and report["measured"]["replica_batch"] == 8
    shown = capsys.readouterr().out
    assert "transformer, 8 rows per worker, 2 workers on loopback" in shown
    assert "Horovod was not measured: --horovod=VENV" in shown
    assert ("NOT MET" in shown) == bool(code)


def test_the_parts_of_tfdists_steps_on_several_workers_are_measured_where_they_are_asked_for(monkeypatch, tmp_path):
    apart = []
    monkeypatch.setattr(exchange.session.Contender, "take_apart", lambda line, number: apart.append((line.key, number)))

    def measure(lines, config, after):
        for line in lines:
            line.about = {"has_parts": line.contender.startswith("tfdist")}
        after({})
        return results(tfdist_fit_2=1.0), {"gpus": []}, []

    monkeypatch.setattr(exchange.session, "measure", measure)
    before = signal.getsignal(signal.SIGTERM)
    wanted = ["--models=dense", "--contenders=tfdist_fit,plain_multi_worker", f"--out_dir={tmp_path}", "--rounds=4"]
    exchange.main(wanted)
    assert apart == []
    exchange.main([*wanted, "--parts"])
    signal.signal(signal.SIGTERM, before)
    assert apart == [(("tfdist_fit", 2, 1), 4)]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--models=dense,alexnet", "'alexnet' is unknown. Use some of dense,vgg16,"),
        ("--contenders=mpi", "'mpi' is unknown. Use some of tfdist_fit,"),
        ("--workers=1", "'1' is not a whole number from 2."),
        ("--network=10gbit", "invalid choice: '10gbit'"),
    ],
)
def test_a_wrong_flag_is_one_message(flag, message, capsys):
    with pytest.raises(SystemExit):
        read(flag)
    assert message in capsys.readouterr().err


def test_an_environment_without_horovod_is_one_message(tmp_path):
    with pytest.raises(ValueError, match=r"no Horovod there. Make it: benchmarks/peers/make_horovod.sh"):
        horovod_group.read_python(tmp_path)
    assert isinstance(read(), argparse.Namespace)
