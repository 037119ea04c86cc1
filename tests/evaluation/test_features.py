import keras
import numpy as np
import pytest
from PIL import Image

from simclr_tf.data.folder import FileImages
from simclr_tf.data.manifest import inspect
from simclr_tf.data.source import ArrayImages, Split, lost
from simclr_tf.encoders import weights_digest
from simclr_tf.evaluation.features import extract, extract_once, represent
from simclr_tf.evaluation.probing import _pixels


@pytest.fixture
def encoder():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3)(inputs)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x)))
    model(np.random.default_rng(1).normal(3, 2, (4, 8, 8, 3)).astype(np.float32), training=True)
    return model


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)


def test_padded_last_batch_equals_one_batch(encoder, images):
    split = Split(ArrayImages(images))
    whole = extract(encoder, split, batch_size=10)
    assert whole.shape == (10, 6)
    assert whole.dtype == np.float32
    for batch_size in (1, 4, 64):
        np.testing.assert_allclose(extract(encoder, split, batch_size), whole, rtol=1e-5, atol=1e-6)


def test_features_are_those_of_inference(encoder, images):
    expected = encoder(images.astype(np.float32) / 255, training=False)
    np.testing.assert_allclose(extract(encoder, Split(ArrayImages(images)), 4), expected, rtol=1e-5, atol=1e-6)


def test_one_graph_serves_splits_of_any_size(encoder, images):
    before = represent.experimental_get_tracing_count()
    for size in (3, 4, 10):
        extract(encoder, Split(ArrayImages(images[:size])), batch_size=4)
    assert represent.experimental_get_tracing_count() == before + 1


def test_changed_weights_are_seen_without_a_new_graph(encoder, images):
    split = Split(ArrayImages(images))
    before = extract(encoder, split)
    encoder.weights[0].assign(2 * encoder.weights[0])
    assert not np.allclose(extract(encoder, split), before)


def test_extraction_leaves_the_encoder_as_it_is(encoder, images):
    before = weights_digest(encoder)
    extract(encoder, Split(ArrayImages(images)))
    assert weights_digest(encoder) == before


def test_digest_covers_every_weight(encoder):
    digests = {weights_digest(encoder)}
    for weight in encoder.weights:  # kernel and bias; gamma, beta, moving mean and variance
        value = weight.numpy()
        value.flat[-1] = np.nextafter(value.flat[-1], np.inf, dtype=value.dtype)
        weight.assign(value)
        digests.add(weights_digest(encoder))
    assert len(encoder.weights) == 6
    assert len(digests) == 7


def test_digest_changes_when_the_encoder_is_called_in_training(encoder, images):
    before = weights_digest(encoder)
    encoder(images.astype(np.float32) / 255, training=True)
    assert weights_digest(encoder) != before


def test_images_of_another_size_are_refused(encoder):
    with pytest.raises(ValueError, match=r"\(8, 8, 3\). Received: \(9, 8, 3\)"):
        extract(encoder, Split(ArrayImages(np.zeros((2, 9, 8, 3), np.uint8))))


def test_a_lost_image_is_an_error_of_one_line(encoder, tmp_path):
    path = tmp_path / "1.png"
    Image.new("RGB", (8, 8)).save(path)
    split = Split(FileImages(inspect([str(path)]), 8))
    assert extract(encoder, split).shape == (1, 6)
    path.unlink()
    for read in (lambda: extract(encoder, split), lambda: extract(_pixels((8, 8, 3)), split)):
        with pytest.raises(ValueError) as caught:
            read()
        assert str(caught.value) == lost([str(path)])


def test_pixels_are_the_images_between_0_and_1(images):
    images[0, 0, 0] = (0, 51, 255)
    rows = extract(_pixels((8, 8, 3)), Split(ArrayImages(images)))
    assert rows.shape == (10, 192)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows[0, :3], (0, 0.2, 1), rtol=1e-6)


def test_features_are_extracted_once_for_each_encoder_and_images(encoder, images, tmp_path, monkeypatch):
    split, other = (Split(ArrayImages(array)) for array in (images, images[::-1].copy()))
    first = extract_once(encoder, split, tmp_path)
    np.testing.assert_array_equal(first, extract(encoder, split))
    np.testing.assert_array_equal(extract_once(encoder, other, tmp_path), first[::-1])
    with monkeypatch.context() as patch:
        patch.setattr("simclr_tf.evaluation.features.extract", lambda *_: pytest.fail("was extracted again"))
        np.testing.assert_array_equal(extract_once(encoder, split, tmp_path), first)
    assert len(list(tmp_path.iterdir())) == 2
    # A damaged file is made again; those of other weights go.
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:50])
    np.testing.assert_array_equal(extract_once(encoder, split, tmp_path), first)
    encoder.weights[0].assign(2 * encoder.weights[0])
    assert not np.allclose(extract_once(encoder, split, tmp_path), first)
    assert len(list(tmp_path.iterdir())) == 1


def test_features_that_cannot_be_kept_serve_all_the_same(encoder, images, tmp_path):
    (tmp_path / "features").write_text("a file where the folder should be")
    split = Split(ArrayImages(images))
    np.testing.assert_array_equal(extract_once(encoder, split, tmp_path / "features"), extract(encoder, split))


def test_a_changed_file_is_another_image(encoder, tmp_path):
    path = tmp_path / "1.png"
    Image.new("RGB", (8, 8)).save(path)
    split = Split(FileImages(inspect([str(path)]), 8))
    before = extract_once(encoder, split, tmp_path / "features")
    Image.new("RGB", (8, 8), "red").save(path)
    assert not np.allclose(extract_once(encoder, split, tmp_path / "features"), before)
