"""What befalls a checkpoint on its way to the disk and on it; `benchmarks/soak.py` does the same to whole runs."""

import json
import random
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from simclr_tf.training import checkpoints
from simclr_tf.training.checkpoints import Position
from tests.conftest import ROOT

ARRAYS = {f"layer{number}/kernel": np.random.default_rng(number).random((40, number + 1)) for number in range(8)}


def is_saved(found):
    return found.variables.keys() == ARRAYS.keys() and all(
        np.array_equal(found.variables[name], array) for name, array in ARRAYS.items()
    )


@pytest.mark.parametrize("damage", ["truncated", "flipped", "zeroed", "repeated"])
def test_every_region_of_the_newest_checkpoint_damaged_in_turn(tmp_path, damage):
    checkpoints.save(tmp_path, Position(1), ARRAYS, {"step": 1})
    newest = checkpoints.save(tmp_path, Position(1, 5), ARRAYS, {"step": 2})
    whole, rng, regions = newest.read_bytes(), random.Random(0), 150
    fell_back = 0
    for region in range(regions):
        at = rng.randrange(region * len(whole) // regions, (region + 1) * len(whole) // regions)
        changed = bytearray(whole)
        if damage == "truncated":
            del changed[at:]
        elif damage == "flipped":
            changed[at] ^= 1 << rng.randrange(8)
        elif damage == "zeroed":
            changed[at : at + 64] = bytes(len(changed[at : at + 64]))
        else:
            changed[at:at] = changed[at : at + 64]
        newest.write_bytes(changed)
        found = checkpoints.newest(tmp_path)
        assert is_saved(found) and found.meta["step"] in (1, 2), (damage, at)
        fell_back += found.position == (1, 0)
    assert fell_back > 0.9 * regions  # a zip archive has a few bytes that nobody reads


def test_a_disk_that_is_full_within_a_save(tmp_path):
    """In a process whose files may not grow beyond a size, at 20 offsets within the archive."""
    program = """
        import json, resource, sys
        from pathlib import Path
        import numpy as np
        from simclr_tf.training import checkpoints
        folder, arrays, seen = Path(sys.argv[1]), {"w": np.arange(4000.0), "v": np.ones(3000)}, []
        size = checkpoints.save(folder, checkpoints.Position(1), arrays, {}).stat().st_size
        for offset in range(0, size, size // 20):
            resource.setrlimit(resource.RLIMIT_FSIZE, (offset, resource.RLIM_INFINITY))
            try:
                checkpoints.save(folder, checkpoints.Position(2), arrays, {})
            except OSError as error:
                seen.append((error.errno, Path(error.filename or "").name))
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            assert checkpoints.newest(folder).epoch == 1
            assert [path.name for path in folder.iterdir()] == ["epoch-00001.npz"]
        print(json.dumps(seen))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) >= 20 and {name for _, name in found} == {"epoch-00002.npz"}


@pytest.mark.slow
@pytest.mark.parametrize(("trial", "count"), [("kills", 6), ("signals", 4), ("workers", 3), ("mutations", 60)])
def test_whole_runs(run_python, trial, count):
    done = run_python("-m", "benchmarks.soak", trial, f"--count={count}")
    assert done.returncode == 0, done.stdout + done.stderr
