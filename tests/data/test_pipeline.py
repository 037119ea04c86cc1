"""The streams of batches: order, completeness, shapes."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.data.pipeline import ordered_batches, training_batches
from simclr_tf.data.source import ArrayImages, Split


@pytest.fixture
def split():
    """23 images; image i is filled with i."""
    images = np.arange(23, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    return Split(ArrayImages(images), np.zeros(23, np.int32))


def epochs(split, batch_size, seed, first_epoch=0, count=2):
    """The numbers of the images of `count` epochs, one list an epoch."""
    steps = len(split) // batch_size
    stream = training_batches(split, batch_size, seed, first_epoch).as_numpy_iterator()
    return [
        np.concatenate([batch[:, 0, 0, 0] for batch in itertools.islice(stream, steps)]).tolist() for _ in range(count)
    ]


def test_each_image_at_most_once_an_epoch_and_all_when_the_batches_fill_it(split):
    for batch_size in (1, 23):
        assert all(sorted(epoch) == list(range(23)) for epoch in epochs(split, batch_size, seed=0))
    for epoch in epochs(split, 5, seed=0, count=3):
        assert len(set(epoch)) == len(epoch) == 20


def test_the_order_is_a_function_of_seed_and_epoch_only(split):
    run = epochs(split, 5, seed=7, count=4)
    assert epochs(split, 5, seed=7, count=4) == run
    assert epochs(split, 5, seed=7, first_epoch=2, count=2) == run[2:]


def test_epochs_and_seeds_differ(split):
    orders = [tuple(epoch) for seed in (0, 1, -1) for epoch in epochs(split, 23, seed, count=4)]
    assert len(set(orders)) == 12
    assert tuple(range(23)) not in orders


def test_the_order_does_not_depend_on_the_global_seed(split):
    tf.random.set_seed(1)
    first = epochs(split, 5, seed=3)
    tf.random.set_seed(2)
    assert epochs(split, 5, seed=3) == first


def test_the_images_left_over_change(split):
    left_over = [frozenset(range(23)) - set(epoch) for epoch in epochs(split, 10, seed=0, count=4)]
    assert len(set(left_over)) > 1


def test_training_stream_is_endless_and_of_static_shape(split):
    stream = training_batches(split, 8, seed=0)
    assert stream.element_spec == tf.TensorSpec((8, 4, 4, 3), tf.uint8)
    assert stream.cardinality() == tf.data.INFINITE_CARDINALITY
    options = stream.options()
    assert options.deterministic is True
    assert options.experimental_distribute.auto_shard_policy == tf.data.experimental.AutoShardPolicy.DATA
    assert options.autotune.enabled is False  # its thread would delay every validation


def test_replicas_share_each_batch_out():
    images = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    stream = training_batches(Split(ArrayImages(images)), 8, seed=0)
    distributed = tf.distribute.MirroredStrategy(["CPU:0"]).experimental_distribute_dataset(stream)
    batch = next(iter(distributed))
    assert sorted(batch.numpy()[:, 0, 0, 0]) == list(range(8))


def test_a_batch_larger_than_the_split_is_refused_with_both_numbers(split):
    with pytest.raises(ValueError, match="batch of 24 .* smaller --batch_size .* Received: 23 images"):
        training_batches(split, 24, seed=0)
    with pytest.raises(ValueError, match="batch of 24 .* Received: 23 images"):
        ordered_batches(split, 24, drop_remainder=True)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_nothing_is_refused(split, batch_size):
    for stream in (
        lambda: training_batches(split, batch_size, 0),
        lambda: ordered_batches(split, batch_size),
    ):
        with pytest.raises(ValueError, match=f"at least 1. Received: {batch_size}"):
            stream()


@pytest.mark.parametrize(("drop", "sizes", "static"), [(True, [10, 10], 10), (False, [10, 10, 3], None)])
def test_ordered_batches_keep_the_order(split, drop, sizes, static):
    stream = ordered_batches(split, 10, drop_remainder=drop)
    assert stream.element_spec.shape.as_list() == [static, 4, 4, 3]
    batches = list(stream.as_numpy_iterator())
    assert [len(batch) for batch in batches] == sizes
    np.testing.assert_array_equal(np.concatenate(batches), split.array()[: sum(sizes)])
