"""Tests that splitting the global batch over replicas changes neither a loss nor a gradient."""

import json
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.objectives import LOSSES, SIMILARITIES, Objective

PAIRS, DIM = 8, 4

# A strategy needs a process of its own. Prints, for each loss and similarity: the mean of the replicas' losses,
# accuracies and entropies; the gradient of all projections; the sum of the replicas' gradients of the matrix, if any.
SCRIPT = """
    import json, sys
    import simclr_tf.quiet
    import numpy as np, tensorflow as tf
    from simclr_tf.objectives import LOSSES, SIMILARITIES, Objective, nt_xent

    replicas = int(sys.argv[1])
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    z = np.load(sys.argv[2])
    n = len(z) // 2 // replicas
    parts = [np.concatenate([view[r * n : (r + 1) * n] for view in np.split(z, 2)]) for r in range(replicas)]
    parts = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )

    def step(objective, z):
        weights = list(objective.trainable_variables) if objective is not nt_xent else []
        with tf.GradientTape() as tape:
            tape.watch(z)
            contrast = objective(z)
            loss = contrast.loss / replicas
        return tf.stack(contrast), *tape.gradient(loss, [z, *(w.value for w in weights)])

    def evaluate(objective, step):
        contrast, dz, *dw = (strategy.experimental_local_results(x) for x in strategy.run(step, (objective, parts)))
        dz = np.stack(dz).reshape(replicas, 2, n, -1).transpose(1, 0, 2, 3).reshape(z.shape)
        return [np.mean(contrast, axis=0).tolist(), dz.tolist(), *(np.sum(w, axis=0).tolist() for w in dw)]

    results = {"compiled": evaluate(nt_xent, tf.function(step))}
    tf.config.run_functions_eagerly(True)
    for loss in LOSSES:
        for similarity in SIMILARITIES:
            with strategy.scope():
                objective = Objective(loss, similarity, semi_hard=loss == "margin_triplet", dtype="float64")
                objective.build((None, z.shape[1]))
            results[f"{loss} {similarity}"] = evaluate(objective, step)
    print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def split(tmp_path_factory, run_python):
    """The projections, and what 2 and 4 replicas make of them."""
    path = tmp_path_factory.mktemp("replicas") / "z.npy"
    z = np.random.default_rng(0).normal(size=(2 * PAIRS, DIM))
    np.save(path, z)
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda replicas: run_python("-c", textwrap.dedent(SCRIPT), replicas, path), (2, 4)))
    assert not any(process.returncode for process in done), done[0].stderr + done[1].stderr
    return z, {replicas: json.loads(process.stdout) for replicas, process in zip((2, 4), done, strict=True)}


def on_one(objective, z):
    objective.build((None, DIM))
    z = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(z)
        contrast = objective(z)
    return [tf.stack(contrast), *tape.gradient(contrast.loss, [z, *(w.value for w in objective.trainable_variables)])]


def assert_same(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_are_one_device(split, eager, replicas, loss, similarity):
    z, results = split
    objective = Objective(loss, similarity, semi_hard=loss == "margin_triplet", dtype="float64")
    expected = on_one(objective, z)
    assert np.abs(expected[1]).max() > 1e-4
    assert_same(results[replicas][f"{loss} {similarity}"], expected)


@pytest.mark.parametrize("replicas", [2, 4])
def test_compiled_replicas_are_one_device(split, eager, replicas):
    z, results = split
    assert_same(results[replicas]["compiled"], on_one(Objective(dtype="float64"), z))
