"""The cores of a host are divided among its workers."""

from tfdist.cluster.cores import divide_cores


def test_every_task_of_a_host_gets_as_many_cores():
    assert divide_cores([0, 1, 2, 5, 7], 2) == ((0, 1), (2, 5))
    assert divide_cores([3], 1) == ((3,),)
    assert divide_cores([0, 1], 4) is None
