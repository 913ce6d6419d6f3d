"""What each worker of `test_equivalence.py` runs: rows of the table, one after the other.

Usage: python worker.py FOLDER ROW..., with TF_CONFIG set; a row may end with " by factors".
"""

import os
import pathlib
import pickle
import sys
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from equivalence.runner import run_tfdist

import tfdist


def main(folder, *names):
    warnings.simplefilter("ignore")
    cluster = tfdist.read_cluster(os.environ)
    strategy = tfdist.choose_strategy("multi_worker", cluster=cluster)
    results = {}
    for wanted in names:
        print(wanted, flush=True)
        name, _, exchange = wanted.partition(" by ")
        results[name, exchange] = run_tfdist(name, strategy, exchange=exchange or "auto")
    path = pathlib.Path(folder) / f"worker-{cluster.rank}.pickle"
    path.write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
