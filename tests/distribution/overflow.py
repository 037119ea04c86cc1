"""Prints the state of four float16 steps as JSON; in the second and third, the gradient of one replica overflows.

    python overflow.py REPLICAS

or as one of several workers.
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
from simclr_tf.optimizers import make_optimizer

replicas = int(sys.argv[1])
if "TF_CONFIG" in os.environ:
    hardware = Hardware(strategy="multiworker")
else:
    hardware = Hardware(strategy="mirrored" if replicas > 1 else "single", logical_cpus=replicas)
strategy = make_strategy(hardware)
with strategy.scope():
    weight = keras.Variable(np.ones((2, 2), "float32"), name="weight")
    settings = Optimization(optimizer="sgd", momentum=0.0, weight_decay=0.0)
    optimizer = make_optimizer(settings, 0.5, [weight], "mixed_float16")


def replica_step(where):
    own = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)
    gradient = tf.fill([2, 2], optimizer.dynamic_scale / replicas)
    optimizer.apply_gradients([(tf.where(own == where, np.inf, gradient), weight)])


@tf.function
def step(where):
    strategy.run(replica_step, (where,))


rows = []
for where in (-1, 0, replicas - 1, -1):
    step(tf.constant(where))
    counts = [int(each.iterations.numpy()) for each in (optimizer, optimizer.inner_optimizer)]
    rows.append([float(weight.numpy()[0, 0]), *counts, float(optimizer.dynamic_scale.numpy())])
print(json.dumps(rows))
