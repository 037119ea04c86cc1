"""The streams of batches: order, completeness, labels, shares, shapes; the same for pixels, files and streams."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from simclr_tf.data.folder import FileImages
from simclr_tf.data.manifest import inspect
from simclr_tf.data.pipeline import naming_lost_images, ordered_batches, training_batches
from simclr_tf.data.source import ArrayImages, Split, StreamImages, lost

COUNT = 23
SHAPE = (4, 4, 3)
LABELS = np.arange(COUNT, dtype=np.int32)


def filled(numbers):
    """Images of which number i is filled with i."""
    return np.asarray(numbers, np.uint8)[:, None, None, None] * np.ones((1, *SHAPE), np.uint8)


def stream(order, labeled=True, count=COUNT):
    """Image i is filled with i and labeled i; shuffled as a function of seed and epoch."""
    numbers = tf.range(count, dtype=tf.int64)
    if order is not None:
        seed = tf.stack([tf.constant(order[0], tf.int64), order[1]])
        numbers = tf.random.experimental.stateless_shuffle(numbers, seed, alg="philox")
    numbers = tf.data.Dataset.from_tensor_slices(numbers)
    if labeled:
        return numbers.map(lambda i: (tf.fill(SHAPE, tf.cast(i, tf.uint8)), tf.cast(i, tf.int32)))
    return numbers.map(lambda i: tf.fill(SHAPE, tf.cast(i, tf.uint8)))


def paint(folder):
    for number, pixels in enumerate(filled(range(COUNT))):
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return [str(folder / f"{number:02}.png") for number in range(COUNT)]


@pytest.fixture(params=["pixels", "files", "stream"])
def split(request, tmp_path):
    """23 images of every source; image i is filled with i and labeled i."""
    if request.param == "stream":
        return Split(StreamImages(stream, COUNT, SHAPE, "numbers"))
    if request.param == "files":
        return Split(FileImages(inspect(paint(tmp_path)), SHAPE[0]), LABELS)
    return Split(ArrayImages(filled(range(COUNT))), LABELS)


def epochs(split, batch_size, seed, first_epoch=0, count=2):
    """The numbers of the images of `count` epochs, one list an epoch."""
    steps = len(split) // batch_size
    batches = training_batches(split, batch_size, seed, first_epoch).as_numpy_iterator()
    return [
        np.concatenate([batch[:, 0, 0, 0] for batch in itertools.islice(batches, steps)]).tolist() for _ in range(count)
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
    batches = training_batches(split, 8, seed=0)
    assert batches.element_spec == tf.TensorSpec((8, 4, 4, 3), tf.uint8)
    assert batches.cardinality() == tf.data.INFINITE_CARDINALITY
    options = batches.options()
    assert options.deterministic is True
    assert options.experimental_distribute.auto_shard_policy == tf.data.experimental.AutoShardPolicy.DATA
    assert options.autotune.enabled is False  # its thread would delay every validation


def test_a_batch_larger_than_the_split_is_refused_with_both_numbers(split):
    with pytest.raises(ValueError, match="batch of 24 .* smaller `batch_size` .* Received: 23 images"):
        training_batches(split, 24, seed=0)
    with pytest.raises(ValueError, match="batch of 24 .* Received: 23 images"):
        ordered_batches(split, 24, drop_remainder=True)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_nothing_is_refused(split, batch_size):
    for make in (
        lambda: training_batches(split, batch_size, 0),
        lambda: ordered_batches(split, batch_size),
    ):
        with pytest.raises(ValueError, match=f"at least 1. Received: {batch_size}"):
            make()


@pytest.mark.parametrize(("drop", "sizes", "static"), [(True, [10, 10], 10), (False, [10, 10, 3], None)])
def test_ordered_batches_keep_the_order(split, drop, sizes, static):
    batches = ordered_batches(split, 10, drop_remainder=drop)
    assert batches.element_spec.shape.as_list() == [static, 4, 4, 3]
    found = list(batches.as_numpy_iterator())
    assert [len(batch) for batch in found] == sizes
    np.testing.assert_array_equal(np.concatenate(found), filled(range(sum(sizes))))


@pytest.mark.parametrize("drop", [True, False])
def test_labels_come_with_their_images_in_order(split, drop):
    images, labels = zip(*ordered_batches(split, 10, drop, labels=True).as_numpy_iterator(), strict=True)
    np.testing.assert_array_equal(np.concatenate(labels), LABELS[: 20 if drop else 23])
    np.testing.assert_array_equal(np.concatenate(images), filled(np.concatenate(labels)))


def test_labels_change_neither_the_images_nor_their_order(split):
    pairs = itertools.islice(training_batches(split, 5, 1, labels=True).as_numpy_iterator(), 8)
    images, labels = zip(*pairs, strict=True)
    alone = list(itertools.islice(training_batches(split, 5, 1).as_numpy_iterator(), 8))
    np.testing.assert_array_equal(images, alone)
    np.testing.assert_array_equal(np.concatenate(images), filled(np.concatenate(labels)))


@pytest.mark.parametrize(("workers", "replicas"), [(1, 2), (2, 2), (3, 6)])
@pytest.mark.parametrize("shuffled", [True, False])
def test_the_shares_of_the_replicas_make_up_each_batch_with_its_labels(split, shuffled, workers, replicas):
    def batches(context=None):
        if shuffled:
            return training_batches(split, 6, 3, context=context, labels=True)
        return ordered_batches(split, 6, True, context, labels=True)

    each = replicas // workers
    shares = [batches(tf.distribute.InputContext(workers, worker, replicas)) for worker in range(workers)]
    for share in shares:
        rows = 6 // replicas
        assert share.element_spec == (tf.TensorSpec((rows, *SHAPE), tf.uint8), tf.TensorSpec((rows,), tf.int32))
        assert share.cardinality() == tf.data.INFINITE_CARDINALITY
    iterators = [share.as_numpy_iterator() for share in shares]
    for images, labels in itertools.islice(batches().as_numpy_iterator(), 3):
        parts = [pair for iterator in iterators for pair in itertools.islice(iterator, each)]
        np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), images)
        np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), labels)
        np.testing.assert_array_equal(images, filled(labels))
        assert len(set(labels)) == 6


@pytest.mark.parametrize(
    "images", [ArrayImages(filled(range(6))), StreamImages(lambda order: stream(order, False, 6), 6, SHAPE, "bare")]
)
def test_labels_that_do_not_exist_are_refused_in_one_line(images):
    split = Split(images)
    assert not split.labeled
    for make in (
        lambda: training_batches(split, 2, 0, labels=True),
        lambda: ordered_batches(split, 2, labels=True),
    ):
        with pytest.raises(ValueError, match=r"^Labels were asked for.* Received: `labels=True`$"):
            make()
    assert training_batches(split, 2, 0).element_spec == tf.TensorSpec((2, *SHAPE), tf.uint8)


@pytest.mark.parametrize("promised", [COUNT - 1, COUNT + 1])
def test_a_stream_of_another_length_than_promised_is_an_error(promised):
    split = Split(StreamImages(stream, promised, SHAPE, "numbers"))
    for batches in (training_batches(split, 5, 0).take(5), ordered_batches(split, 5)):
        with pytest.raises(tf.errors.OpError, match=f"expected to contain {promised} elements"):
            list(batches)


def test_a_file_removed_during_a_fit_is_an_error_of_one_line(tmp_path):
    paths = paint(tmp_path)
    split = Split(FileImages(inspect(paths), SHAPE[0]), LABELS)
    model = keras.Sequential([keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    (tmp_path / "07.png").unlink()
    with pytest.raises(ValueError) as caught, naming_lost_images():
        model.fit(training_batches(split, 23, 0, labels=True), steps_per_epoch=1, shuffle=False, verbose=0)
    assert str(caught.value) == lost([paths[7]])


def test_other_errors_are_not_taken_for_lost_images():
    with pytest.raises(tf.errors.DataLossError, match="torn record"), naming_lost_images():
        raise tf.errors.DataLossError(None, None, "torn record")


def test_a_file_that_is_gone_is_named(tmp_path):
    path = tmp_path / "my photos" / "gone.tfrecord"
    records, said = tf.data.TFRecordDataset(str(path)), f"cannot be read. Received: {path}; No such file"
    with pytest.raises(ValueError, match=said), naming_lost_images():
        list(records)
