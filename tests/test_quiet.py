import logging
import os

import pytest
import tensorflow as tf

from simclr_tf.quiet import without_noise


def test_known_noise_is_dropped_and_the_rest_is_shown(capfd):
    with without_noise():
        os.write(2, b"I0000 port.cc:153] oneDNN custom operations are on. You may see\n")
        os.write(2, b"E0000 something that matters\n")
    captured = capfd.readouterr()
    assert captured.err == "E0000 something that matters\n" and captured.out == ""


@pytest.mark.parametrize(
    ("message", "shown"),
    [("5 out of the last 13 calls to %s triggered tf.function retracing.", False), ("%s failed", True)],
)
def test_several_trainings_of_a_process_are_no_news(message, shown):
    record = logging.LogRecord("tensorflow", logging.WARNING, "", 0, message, ("a step",), None)
    assert bool(tf.get_logger().filter(record)) == shown


def test_all_is_shown_on_request(run_python):
    result = run_python("-c", "import simclr_tf.quiet", TF_CPP_MIN_LOG_LEVEL="0")
    assert "oneDNN" in result.stderr


def test_imports_and_float16_on_a_cpu_say_nothing(run_python):
    """Of the whole life of an encoder: built, called and differentiated."""
    code = """if True:
        import simclr_tf.quiet
        import tensorflow as tf, keras, keras_cv
        from simclr_tf.config import Network
        from simclr_tf.encoders import build_encoder

        encoder = build_encoder(Network(encoder="resnet18", width=1 / 16), (8, 8, 3), "mixed_float16")
        with tf.GradientTape() as tape:
            h = tf.function(encoder)(tf.zeros([2, 8, 8, 3]), training=True)
        tape.gradient(h, encoder.trainable_variables)
        print(h.dtype.name)
    """
    result = run_python("-c", code, CUDA_VISIBLE_DEVICES="-1")
    assert (result.returncode, result.stdout, result.stderr) == (0, "float32\n", "")
