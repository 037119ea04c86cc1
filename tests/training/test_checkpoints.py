"""Tests of checkpoints: bit-exact, whole or absent, and no silent misfit."""

import textwrap

import keras
import numpy as np
import pytest

from simclr_tf import files
from simclr_tf.training import checkpoints

ARRAYS = {
    "encoder/kernel": np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32),
    "odd": np.array([np.nan, -0.0, np.inf, 5e-324]),
    "half": np.array([1.5, -2.0], np.float16),
    "iterations": np.array(2**40 + 1, np.int64),
    "seed": np.array([1, 2**32 - 1], np.uint32),
    "flag": np.array([True, False]),
    "none": np.zeros((0, 4), np.float32),
    "file": np.ones(1, np.float32),
    "meta": np.zeros(1, np.float32),
}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def trained_model(seed):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="dense"), keras.layers.BatchNormalization(name="bn")], name="m"
    )
    model.compile(keras.optimizers.Adam(0.1, name="adam"), "mse")
    model.fit(np.ones((8, 4)), np.zeros((8, 3)), epochs=1 + seed, verbose=0)
    return model


def state(model):
    return model.variables + model.optimizer.variables


def assert_same(actual, expected):
    assert set(actual) == set(expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype and actual[name].shape == array.shape, name
        assert actual[name].tobytes() == array.tobytes(), name


def test_round_trip_is_bit_exact(tmp_path):
    meta = {"step": 350, "steps": [1, 2], "text": "τ"}
    path = checkpoints.save(tmp_path / "checkpoints", checkpoints.Position(10), ARRAYS, meta)
    found = checkpoints.newest(tmp_path / "checkpoints")
    assert path.name == "epoch-00010.npz"
    assert (found.epoch, found.meta, found.path, found.skipped) == (10, meta, path, ())
    assert_same(found.variables, ARRAYS)


def test_no_checkpoint_is_none(tmp_path):
    assert checkpoints.newest(tmp_path / "absent") is None
    (tmp_path / ".epoch-00003.npz.12.tmp").write_bytes(b"left by a killed process")
    (tmp_path / "epoch-notes.npz").touch()
    assert checkpoints.newest(tmp_path) is None


def test_newest_are_kept_by_number(tmp_path):
    for epoch in (99998, 99999, 100000):
        checkpoints.save(tmp_path, checkpoints.Position(epoch), ARRAYS, {})
    assert names(tmp_path) == ["epoch-100000.npz", "epoch-99999.npz"]
    checkpoints.save(tmp_path, checkpoints.Position(100001), ARRAYS, {})
    assert names(tmp_path) == ["epoch-100000.npz", "epoch-100001.npz"]


def test_save_after_going_back_drops_later_epochs_and_leftovers(tmp_path):
    checkpoints.save(tmp_path, checkpoints.Position(10), ARRAYS, {})
    (tmp_path / "epoch-00020.npz").write_bytes(b"damaged")
    (tmp_path / ".epoch-00020.npz.12.tmp").touch()
    checkpoints.save(tmp_path, checkpoints.Position(15), ARRAYS, {})
    assert names(tmp_path) == ["epoch-00010.npz", "epoch-00015.npz"]


@pytest.mark.parametrize("length", [0, 10, 0.5, 0.99])
def test_truncated_newest_falls_back_to_the_one_before(tmp_path, length):
    checkpoints.save(tmp_path, checkpoints.Position(1), ARRAYS, {"step": 1})
    path = checkpoints.save(tmp_path, checkpoints.Position(2), {"encoder/kernel": np.zeros(9)}, {"step": 2})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(length * len(whole)) if length < 1 else length])
    found = checkpoints.newest(tmp_path)
    assert (found.epoch, found.meta) == (1, {"step": 1})
    assert_same(found.variables, ARRAYS)
    assert len(found.skipped) == 1 and str(path) in found.skipped[0] and "\n" not in found.skipped[0]


def test_one_flipped_bit_is_noticed(tmp_path):
    checkpoints.save(tmp_path, checkpoints.Position(1), ARRAYS, {})
    path = checkpoints.save(tmp_path, checkpoints.Position(2), {"kernel": np.zeros(1000)}, {})
    content = bytearray(path.read_bytes())
    content[4000] ^= 1
    path.write_bytes(content)
    assert checkpoints.newest(tmp_path).epoch == 1


def test_all_damaged_is_an_error_not_a_fresh_start(tmp_path):
    (tmp_path / "epoch-00001.npz").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="Every checkpoint.*Received: .*epoch-00001.npz"):
        checkpoints.newest(tmp_path)


def test_interrupted_save_leaves_the_old_one(tmp_path, monkeypatch):
    for epoch in (1, 2):
        checkpoints.save(tmp_path, checkpoints.Position(epoch), ARRAYS, {})

    def killed(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(tmp_path, checkpoints.Position(3), {"encoder/kernel": np.zeros(9)}, {})
    assert names(tmp_path) == ["epoch-00001.npz", "epoch-00002.npz"]
    assert_same(checkpoints.newest(tmp_path).variables, ARRAYS)


@pytest.mark.parametrize("array", [np.array([None]), np.array(["text"]), np.zeros(2, "V2")])
def test_arrays_that_would_change_are_refused(tmp_path, array):
    with pytest.raises(ValueError, match="Received: {'bad'"):
        checkpoints.save(tmp_path, checkpoints.Position(1), {"bad": array}, {})
    assert names(tmp_path) == []


def test_a_negative_epoch_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Received: Position.epoch=-1"):
        checkpoints.save(tmp_path, checkpoints.Position(-1), ARRAYS, {})
    assert names(tmp_path) == []


def test_restored_model_and_optimizer_are_bit_identical_and_train_on_alike(tmp_path):
    source, target = trained_model(0), trained_model(1)
    checkpoints.save(tmp_path, checkpoints.Position(1), checkpoints.collect(state(source)), {})
    checkpoints.restore(state(target), checkpoints.newest(tmp_path).variables)
    assert_same(checkpoints.collect(state(target)), checkpoints.collect(state(source)))
    assert checkpoints.collect(state(source))["adam/iteration"].dtype.kind == "i"
    for model in (source, target):
        model.fit(np.ones((8, 4)), np.zeros((8, 3)), epochs=2, verbose=0)
    assert_same(checkpoints.collect(state(target)), checkpoints.collect(state(source)))


def test_collected_arrays_do_not_follow_the_variables():
    variable = keras.Variable(np.zeros(3, np.float32), name="v")
    arrays = checkpoints.collect([variable])
    variable.assign(np.ones(3))
    assert arrays[variable.path].tolist() == [0, 0, 0]


def test_misfits_are_all_named_and_nothing_is_assigned():
    variables = [keras.Variable(np.zeros(shape, np.float32), name=name) for name, shape in [("a", 2), ("b", 3)]]
    one = np.ones(2, np.float32)
    with pytest.raises(ValueError, match=r"Received: missing b; unexpected c$"):
        checkpoints.restore(variables, {"a": one, "c": one})
    with pytest.raises(ValueError, match=r"Received: b is float32 \(2,\) instead of float32 \(3,\)$"):
        checkpoints.restore(variables, {"a": one, "b": one})
    with pytest.raises(ValueError, match=r"Received: b is float64 \(3,\) instead of float32 \(3,\)$"):
        checkpoints.restore(variables, {"a": one, "b": np.ones(3)})
    assert variables[0].numpy().tolist() == [0, 0]


def test_shared_paths_are_refused():
    variables = [keras.Variable(0.0, name="v") for _ in range(2)]
    with pytest.raises(ValueError, match=r"Received twice: \['v'\]"):
        checkpoints.collect(variables)
    with pytest.raises(ValueError, match=r"Received twice: \['v'\]"):
        checkpoints.restore(variables, {"v": np.zeros((), np.float32)})


# In a process of its own: the devices are split before TensorFlow starts, once for the process.
MIRRORED = """
    import keras, numpy as np, pathlib, sys, tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    from simclr_tf.training import checkpoints
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1), keras.layers.BatchNormalization()])
        model.compile(keras.optimizers.Adam(), "mse")
        model.optimizer.build(model.trainable_variables)
    model.fit(np.ones((4, 2)), np.ones((4, 1)), batch_size=4, verbose=0)
    variables = model.variables + model.optimizer.variables
    before = checkpoints.collect(variables)
    checkpoints.save(pathlib.Path(sys.argv[1]), checkpoints.Position(1), before, {})
    for variable in variables:
        variable.assign(variable + 1)
    checkpoints.restore(variables, checkpoints.newest(pathlib.Path(sys.argv[1])).variables)
    for path, array in checkpoints.collect(variables).items():
        assert array.dtype == before[path].dtype and array.tobytes() == before[path].tobytes(), path
    for variable in variables:
        for copy in variable.value.values:
            assert copy.numpy().tobytes() == before[variable.path].tobytes(), variable.path
    print("same on", len(variables[0].value.values), "replicas")
"""


def test_mirrored_variables_round_trip_on_every_replica(tmp_path, run_python):
    result = run_python("-c", textwrap.dedent(MIRRORED), tmp_path)
    assert result.stdout.strip().endswith("same on 2 replicas"), result.stderr
