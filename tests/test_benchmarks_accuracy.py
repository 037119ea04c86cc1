import numpy as np

import simclr_tf.quiet  # noqa: F401, I001
from benchmarks import accuracy
from simclr_tf.data.source import ArrayImages, Split


def test_features_that_tell_the_classes_apart_are_judged_so(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    labels = [np.arange(count, dtype=np.int32) % 10 for count in (400, 100)]
    splits = [Split(ArrayImages(np.zeros((len(each), 4, 4, 3), np.uint8)), each) for each in labels]
    monkeypatch.setattr(accuracy, "cifar10", lambda data_dir: splits)
    for name, scale in (("classes", 5.0), ("noise", 0.0)):
        features = [rng.normal(size=(len(each), 16)) + scale * np.eye(10, 16)[each] for each in labels]
        train, test = (each.astype("float32") for each in features)
        np.savez(tmp_path / f"{name}.npz", train=train, test=test)
    assert min(accuracy.judge("", str(tmp_path / "classes.npz")).values()) > 99
    assert max(accuracy.judge("", str(tmp_path / "noise.npz")).values()) < 30
