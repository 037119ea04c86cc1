"""Steps, batches and learning rates of a run."""

import math

import pytest

from simclr_tf.config import Optimization, Training
from simclr_tf.training.plan import make_plan


def plan(train_images=100, validation_images=20, replicas=1, epochs=10, batch_size=16, **optimization):
    return make_plan(Training(batch_size=batch_size, epochs=epochs), Optimization(**optimization), train_images,
                     validation_images, replicas)  # fmt: skip


def test_an_epoch_has_whole_batches_and_validation_what_the_replicas_can_share():
    assert plan().steps_per_epoch == 6 and plan().validation_batch == 16
    assert plan(validation_images=15, replicas=4).validation_batch == 12
    assert plan(validation_images=3, replicas=4).validation_batch == 0


def test_the_rate_rises_to_its_peak_and_falls_to_zero():
    made = plan(learning_rate=0.5, lr_scaling="none", warmup_epochs=2)
    assert float(made.rate(0)) == 0 and float(made.rate(12)) == pytest.approx(0.5)
    assert float(made.rate(36)) == pytest.approx(0.25 * (1 + math.cos(math.pi * 24 / 48)), abs=1e-6)
    assert float(made.rate(60)) == pytest.approx(0, abs=1e-7)


def test_a_warm_up_as_long_as_the_run_or_longer_is_a_tenth_of_it():
    assert plan(epochs=1, batch_size=10, warmup_epochs=10).warmup_epochs == 0.1
    made = plan(epochs=1, batch_size=10, warmup_epochs=10, learning_rate=1.0, lr_scaling="none")
    assert float(made.rate(1)) == pytest.approx(1.0)
    assert plan(epochs=10, warmup_epochs=10).warmup_epochs == 1
    assert plan(epochs=11, warmup_epochs=10).warmup_epochs == 10


@pytest.mark.parametrize(("batch_size", "replicas"), [(15, 2), (2, 2), (128, 1)])
def test_a_batch_that_does_not_fit_is_refused(batch_size, replicas):
    with pytest.raises(ValueError, match="`batch_size` must.*Received"):
        plan(batch_size=batch_size, replicas=replicas)
