"""What `make full` measured last is committed, and lacks no row that its matrix has today."""

from full import every_flag, evidence


def test_every_flag_was_run_and_did_what_it_should():
    found = evidence.read_rows("flags")
    assert found.keys() == {str(row) for row in every_flag.rows()}
    assert {name for name, (_, _, right, _) in found.items() if right != "yes"} == set()
