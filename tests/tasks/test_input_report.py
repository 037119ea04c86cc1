"""Is the input or the step the bottleneck? The verdict, and the measurement of a tiny run."""

import re

import numpy as np
import pytest

from simclr_tf.config import Config
from simclr_tf.data.source import ArrayImages, Split
from simclr_tf.tasks.input_report import input_report, verdict

SPLIT = Split(ArrayImages(np.zeros((4, 8, 8, 3), np.uint8)))


@pytest.mark.parametrize(("ratio", "who"), [(30.0, "step"), (1.2, "step"), (1.1, "input"), (0.4, "input")])
def test_who_is_the_bottleneck(ratio, who):
    words = verdict(ratio, SPLIT)
    assert words.startswith(f"the {who} is the bottleneck")
    assert ("more processors" in words) == (who == "input")


def test_the_report_of_a_tiny_run(tmp_path):
    config = Config.of(
        dataset="patterns", encoder="tests.tiny:encoder", augmentations="crop,flip", batch_size=16, epochs=2,
        warmup_epochs=0, resolutions="16,32", run_dir=str(tmp_path / "run"),
    )  # fmt: skip
    found = input_report(config, seconds=0.2)
    rates = [int(rate) for rate in re.findall(r"^(?:input|step) +(\d+) images/s alone: ", found, re.MULTILINE)]
    # Images in memory are there at once, while a convolution takes its time.
    assert len(rates) == 2 and rates[0] > rates[1] > 0
    assert "verdict  the step is the bottleneck" in found
    assert "views of 16 pixels" in found
    assert not (tmp_path / "run").exists()


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="`accumulate` must divide the 16 images of a device"):
        input_report(Config.of(dataset="patterns", batch_size=16, accumulate=3), seconds=0.2)
