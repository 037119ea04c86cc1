"""Sources, splits, holding out, and the arguments of `load`."""

import numpy as np
import pytest
import tensorflow as tf

from simclr_tf import data
from simclr_tf.config import Data
from simclr_tf.data.source import ArrayImages, Dataset, Split, StreamImages
from simclr_tf.data.splits import hold_out, learned_from, part_of


def numbered(n, labels=None):
    """A split whose image i is filled with i."""
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 2, 3, 3))
    return Split(ArrayImages(np.ascontiguousarray(images)), labels)


def numbers(split):
    return split.array()[:, 0, 0, 0].tolist()


def test_read_gathers_in_the_order_asked_for():
    split = numbered(6)
    images = split.images.read(tf.constant([4, 0, 4], tf.int64))
    assert images.dtype == tf.uint8 and images.shape == (3, 2, 3, 3)
    assert images.numpy()[:, 0, 0, 0].tolist() == [4, 0, 4]
    assert split.image_shape == (2, 3, 3) and len(split) == 6


def test_read_in_a_map_keeps_the_static_shape_and_embeds_no_pixels():
    images = ArrayImages(np.zeros((2000, 8, 8, 3), np.uint8))
    batches = tf.data.Dataset.range(2000).batch(10, drop_remainder=True).map(images.read)
    assert batches.element_spec == tf.TensorSpec((10, 8, 8, 3), tf.uint8)
    graph = tf.function(images.read).get_concrete_function(tf.TensorSpec((None,), tf.int64)).graph
    assert graph.as_graph_def().ByteSize() < 10_000


def test_images_do_not_follow_later_changes_of_the_array():
    images = np.zeros((2, 2, 2, 3), np.uint8)
    split = Split(ArrayImages(images))
    images[:] = 9
    assert split.array().max() == 0
    assert split.images.read(tf.constant([0, 1], tf.int64)).numpy().max() == 0


def test_take_chooses_images_and_labels_alike():
    part = numbered(5, np.arange(5, dtype=np.int32)).take(np.array([3, 1]))
    assert numbers(part) == [3, 1]
    assert part.labels.tolist() == [3, 1]


@pytest.mark.parametrize("images", [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 2, 3), np.float32)])
def test_other_arrays_are_refused(images):
    with pytest.raises(ValueError, match="uint8 array .* Received: "):
        ArrayImages(images)


@pytest.mark.parametrize("labels", [np.zeros(3, np.int32), np.zeros(2, np.int64), np.zeros((2, 1), np.int32)])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(ValueError, match=r"int32 of shape \(2,\).* Received: "):
        numbered(2, labels)


def test_fingerprints_tell_images_and_their_order():
    def digest(*order, shape=(2, 3, 3)):
        return ArrayImages(np.array(order, np.uint8)[:, None, None, None] * np.ones(shape, np.uint8)).fingerprint()

    assert digest(0, 1, 2) == digest(0, 1, 2) == numbered(5).images.take(np.array([0, 1, 2])).fingerprint()
    others = [digest(1, 0, 2), digest(0, 1, 3), digest(0, 1), digest(0, 1, 2, shape=(3, 2, 3)), digest(0, 1, 2, 2)]
    assert len({digest(0, 1, 2), *others}) == 6


def streamed(dtype=tf.uint8, shape=(2, 3, 3), label=tf.int32, count=4, name="zeros"):
    zeros = tf.data.Dataset.from_tensors(tf.zeros(shape, dtype)).repeat(4)
    pairs = zeros if label is None else zeros.map(lambda image: (image, tf.zeros((), label)))
    return StreamImages(lambda order: pairs, count, (2, 3, 3), name)


def test_a_stream_says_how_many_images_it_has_and_whether_they_are_labeled():
    images = streamed()
    assert (len(images), images.image_shape) == (4, (2, 3, 3))
    assert Split(images).labeled and not Split(streamed(label=None)).labeled
    assert numbered(2, np.zeros(2, np.int32)).labeled and not numbered(2).labeled


def test_a_stream_is_told_by_its_name_and_its_length():
    assert streamed().fingerprint() == streamed(label=None).fingerprint()
    assert len({streamed(name=name, count=count).fingerprint() for name in "ab" for count in (3, 4)}) == 4


@pytest.mark.parametrize("faulty", [{"dtype": tf.float32}, {"shape": (3, 2, 3)}, {"label": tf.int64}])
def test_a_stream_of_other_elements_is_refused(faulty):
    with pytest.raises(ValueError, match=r"A stream must be of .*\(2, 3, 3\).*uint8.*int32.* Received: "):
        streamed(**faulty)


def test_images_of_a_stream_cannot_be_chosen():
    split = Split(streamed())
    for choose in (lambda: split.take(np.array([0])), lambda: hold_out(split, 0.5, seed=0), split.array):
        with pytest.raises(ValueError, match="only be streamed.* Received: a stream"):
            choose()


def test_a_stream_takes_no_labels_beside_its_own():
    with pytest.raises(ValueError, match="its own labels. Received: "):
        Split(streamed(), np.zeros(4, np.int32))


def test_number_of_classes():
    assert Dataset("x", numbered(2), class_names=("a", "b", "c")).num_classes == 3
    assert Dataset("x", numbered(2)).num_classes == 0


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.37, 0.5, 0.99])
@pytest.mark.parametrize("labeled", [True, False])
def test_hold_out_splits_every_image_once_and_in_proportion(fraction, labeled):
    labels = np.random.default_rng(0).integers(0, 4, 100).astype(np.int32)
    kept, held = hold_out(numbered(100, labels if labeled else None), fraction, seed=1)
    assert sorted(numbers(kept) + numbers(held)) == list(range(100))
    assert numbers(kept) == sorted(numbers(kept)) and numbers(held) == sorted(numbers(held))
    assert len(held) == round(100 * fraction)
    if labeled:
        assert held.labels.tolist() == labels[numbers(held)].tolist()
        assert np.all(np.abs(np.bincount(held.labels, minlength=4) - fraction * np.bincount(labels)) < 1)


def test_hold_out_is_a_function_of_the_seed():
    split = numbered(60, np.repeat(np.arange(3, dtype=np.int32), 20))
    first, again, other = (numbers(hold_out(split, 0.2, seed)[1]) for seed in (0, 0, 1))
    assert first == again != other


def test_of_classes_of_one_size_the_seed_chooses_those_that_give_an_image_more():
    split = numbered(500, np.repeat(np.arange(100, dtype=np.int32), 5))
    first, other = (set(hold_out(split, 0.1, seed)[1].labels.tolist()) for seed in (0, 1))
    assert len(first) == len(other) == 50 and first != other
    assert max(first) > 80 and min(set(range(100)) - first) < 20


def test_hold_out_leaves_no_class_without_images_while_it_can():
    # Remainders 0.25, 0.45, 0.45: the third image would come from a class of one.
    kept, held = hold_out(numbered(7, np.array([0] * 5 + [1, 2], np.int32)), 0.45, seed=0)
    assert set(kept.labels) == {0, 1, 2} and len(held) == 3


@pytest.mark.parametrize("fraction", [0.0001, 0.9999])
def test_hold_out_never_takes_none_or_all(fraction):
    kept, held = hold_out(numbered(2, np.array([0, 1], np.int32)), fraction, seed=0)
    assert len(kept) == len(held) == 1


@pytest.mark.parametrize(("n", "fraction"), [(10, 0), (10, 1), (10, -0.5), (10, float("nan")), (1, 0.5)])
def test_impossible_hold_outs_are_refused(n, fraction):
    with pytest.raises(ValueError, match="Received: "):
        hold_out(numbered(n), fraction, seed=0)


def test_load_names_the_data_sets_it_knows():
    with pytest.raises(ValueError, match=r"\[.*'records:GLOB', 'tfds:NAME'\]. Received: 'mnist'"):
        data.load("mnist")


@pytest.mark.parametrize(
    ("name", "data_dir", "image_size", "message"),
    [
        ("folder", None, 32, "needs `data_dir`"),
        ("folder", ".", None, "needs `image_size`"),
        ("folder", ".", 0, "needs `image_size`"),
        ("folder", "absent", 32, "a folder of images"),
        ("patterns", "somewhere", None, "is generated"),
        ("patterns", None, 64, "32 x 32"),
        ("cifar10", None, 224, "32 x 32"),
        ("cifar10", "absent/deeper", None, "a folder or an archive"),
    ],
)
def test_load_refuses_settings_that_do_not_go_together(name, data_dir, image_size, message):
    for refuse in (data.load, data.check):
        with pytest.raises(ValueError, match=f"{message}.* Received: "):
            refuse(name, data_dir, image_size)


def test_a_new_folder_may_be_named_to_download_into(tmp_path):
    data.check("cifar10", tmp_path / "new")


def test_the_names_can_be_listed_without_tensorflow(run_python):
    code = "import sys, simclr_tf.data as data; print(len(data.DATASETS), 'tensorflow' in sys.modules)"
    assert run_python("-c", code).stdout.split() == ["6", "False"]


def test_a_part_is_random_seeded_and_nested():
    whole = Split(ArrayImages(np.arange(50, dtype=np.uint8).reshape(-1, 1, 1, 1)), np.arange(50, dtype=np.int32))
    tenth, half = (part_of(whole, fraction, seed=3) for fraction in (0.1, 0.5))
    assert len(tenth) == 5 and len(half) == 25 and set(tenth.labels) < set(half.labels)
    assert tenth.array().ravel().tolist() == tenth.labels.tolist() == sorted(tenth.labels)
    assert set(tenth.labels) != set(part_of(whole, 0.1, seed=4).labels)
    assert len(part_of(whole, 1.0, 0)) == 50 and len(part_of(whole, 0.001, 0)) == 1


def test_images_held_out_of_a_folder_by_class_are_mixed():
    """Batches of one class would have another loss, and the last class be in none."""
    labels = np.repeat(np.arange(10, dtype=np.int32), 100)
    split = Split(ArrayImages(np.zeros((1000, 2, 2, 3), np.uint8)), labels)
    _, held = learned_from(split, Data(dataset="patterns", validation_fraction=0.2), 0)
    assert np.bincount(held.labels).tolist() == [20] * 10
    assert all(len(set(batch)) > 5 for batch in held.labels.reshape(-1, 20))
