"""Layers called as Keras' and Keras-CV's layers are: with `training`, unbatched, on dicts, in models and in tf.data."""

import keras
import keras_cv
import numpy as np
import pytest
import tensorflow as tf

from simclr_tf.augment import OPERATORS, Invert, RandomCutout, RandomFlip, RandomResizedCrop

MOVING = {"autoaugment", "crop", "crop_bicubic", "flip", "rotate", "rotate90", "shift"}
every_operator = pytest.mark.parametrize("name", sorted(OPERATORS))


@every_operator
def test_without_training_images_are_scaled_only(name, images):
    layer = OPERATORS[name](1.0)
    for batch in (images, images[0]):
        found = layer(batch, training=False)
        assert found.dtype == tf.float32
        np.testing.assert_array_equal(found, batch / np.float32(255))
    np.testing.assert_array_equal(layer({"images": images}, training=False)["images"], images / np.float32(255))


@every_operator
def test_a_single_image_comes_back_unbatched(name, images):
    layer = OPERATORS[name](0.5)
    tf.random.set_seed(1)
    alone = layer(images[0])
    tf.random.set_seed(1)
    np.testing.assert_array_equal(alone, layer(images[:1])[0])


@every_operator
def test_other_entries_of_a_dict_are_unchanged(name, images):
    inputs = {"images": images, "labels": np.arange(6), "weights": np.full(6, 0.3), "names": np.array(list("abcdef"))}
    found = OPERATORS[name](0.5)(inputs)
    assert list(found) == list(inputs) and found["images"].dtype == tf.float32
    assert all(found[key] is inputs[key] for key in ("labels", "weights", "names"))
    one = OPERATORS[name](0.5)({"images": images[0], "labels": np.array(3)})
    assert one["images"].shape == images[0].shape and one["labels"] == 3


@every_operator
@pytest.mark.parametrize("key", ["bounding_boxes", "keypoints", "segmentation_masks"])
def test_what_would_have_to_move_is_refused_by_name(name, key, images):
    layer, inputs = OPERATORS[name](0.5), {"images": images, key: np.ones((6, 20, 16, 1), np.float32)}
    assert layer(inputs, training=False)[key] is inputs[key]
    if name in MOVING:
        with pytest.raises(ValueError, match=f"moves pixels of images only. Received: {key}"):
            layer(inputs)
    else:
        assert layer(inputs)[key] is inputs[key]


def test_nested_boxes_and_labels_in_tf_data(images):
    """As Keras-CV's pipelines have them, and with sizes that are known before batching."""
    boxes = {"boxes": np.ones((6, 2, 4), np.float32), "classes": np.ones((6, 2), np.int64)}
    data = tf.data.Dataset.from_tensor_slices({"images": images, "labels": np.arange(6), "bounding_boxes": boxes})
    found = next(iter(data.map(Invert(1.0)).batch(6).map(RandomCutout())))
    assert found["labels"].dtype == tf.int64 and set(found["bounding_boxes"]) == {"boxes", "classes"}
    assert found["images"].shape == images.shape
    with pytest.raises(ValueError, match="Received: bounding_boxes"):
        data.map(RandomFlip())


def test_within_a_model_only_training_augments(images):
    model = keras.Sequential([keras.Input((20, 16, 3), dtype="uint8"), Invert(1.0), RandomFlip(1.0)])
    scaled = images / np.float32(255)
    np.testing.assert_allclose(model.predict(images, verbose=0), scaled, atol=1e-7)
    np.testing.assert_allclose(model(images, training=True), 1 - scaled[:, :, ::-1], atol=1e-6)


def test_within_a_pipeline_of_keras_cv(images):
    pipeline = keras_cv.layers.RandomAugmentationPipeline([Invert(1.0)], augmentations_per_image=1, rate=1.0)
    np.testing.assert_allclose(pipeline(images / np.float32(255)), 1 - images / 255, atol=1e-6)


def test_images_of_several_or_unknown_sizes_are_refused():
    layer, message = RandomResizedCrop(), "Expected images of one static size. Received: shape "
    with pytest.raises(ValueError, match=message):
        layer(tf.ragged.stack([tf.zeros((4, 4, 3)), tf.zeros((5, 4, 3))]))
    with pytest.raises(ValueError, match=message):
        tf.data.Dataset.from_generator(lambda: [], output_signature=tf.TensorSpec((None, None, 3))).map(layer)


def test_a_dict_without_images_is_refused():
    with pytest.raises(ValueError, match=r"Expected a dict with \"images\". Received: \['image', 'labels'\]"):
        RandomFlip()({"image": np.zeros((2, 8, 8, 3)), "labels": np.zeros(2)})
