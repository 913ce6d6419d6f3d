"""What the chief's callbacks decide reaches all workers before the step that it is for."""

import numpy as np
from support import jobs
from support.worker_jobs.resume import RateOfStep, train_with_a_rate_for_each_step


def test_a_rate_that_the_chief_sets_before_a_step_is_that_of_all_workers(two_workers):
    model = jobs.make_mlp()
    x, y = jobs.make_rows(20, "float32")
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[RateOfStep()])
    for done in two_workers(train_with_a_rate_for_each_step):
        np.testing.assert_allclose(done.value, jobs.weights_of(model), rtol=0, atol=1e-5)
