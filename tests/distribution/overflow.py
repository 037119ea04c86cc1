"""Prints the state after each of four steps as JSON; in the second and third, a gradient of one replica is not finite.

    python overflow.py REPLICAS

or as one of several workers. The JSON holds the states in float32, and in mixed_float16 by our loss scale and by Keras'.
"""

import json
import os
import sys

import simclr_tf.quiet  # noqa: F401

# isort: split
import keras
import numpy as np
import tensorflow as tf

from simclr_tf.config import Hardware, Optimization
from simclr_tf.distribution import make_strategy
from simclr_tf.optimizers import apply_if_finite, make_optimizer

replicas = int(sys.argv[1])
if "TF_CONFIG" in os.environ:
    hardware = Hardware(strategy="multiworker")
else:
    hardware = Hardware(strategy="mirrored" if replicas > 1 else "single", logical_cpus=replicas)
strategy = make_strategy(hardware)


def four_steps(precision):
    """Weight, steps and, in float16, steps taken and loss scale, else whether the step was finite; after each step."""
    with strategy.scope():
        weight = keras.Variable(np.ones((2, 2), "float32"), name="weight")
        settings = Optimization(optimizer="sgd", momentum=0.0, weight_decay=0.0)
        if precision == "mixed_float16, scaled by Keras":
            optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5))
            optimizer.build([weight])
        else:
            optimizer = make_optimizer(settings, 0.5, [weight], precision)

    def replica_step(where):
        own = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)
        scale = 1.0 if precision == "float32" else optimizer.dynamic_scale
        gradient = tf.where(own == where, np.inf, tf.fill([2, 2], scale / replicas))
        return apply_if_finite(optimizer, tf.constant(1.0), [gradient], [weight])

    @tf.function
    def step(where):
        return strategy.run(replica_step, (where,))

    for where in (-1, 0, replicas - 1, -1):
        (finite, *others) = strategy.experimental_local_results(step(tf.constant(where)))
        assert all(bool(other) == bool(finite) for other in others)
        row = [float(weight.numpy()[0, 0]), int(optimizer.iterations.numpy())]
        if precision == "float32":
            row.append(bool(finite))
        else:
            row += [int(optimizer.inner_optimizer.iterations.numpy()), float(optimizer.dynamic_scale.numpy())]
        yield row


KINDS = ("float32", "mixed_float16", "mixed_float16, scaled by Keras")
print(json.dumps({kind: list(four_steps(kind)) for kind in KINDS}))
