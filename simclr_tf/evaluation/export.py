"""The encoder of a run as a SavedModel."""

from pathlib import Path

from simclr_tf import encoders
from simclr_tf.config import Config, Export


def run(run_dir: Path, config: Config, settings: Export) -> Path:
    """Writes the encoder into the run's folder, and prints and returns its path."""
    path = encoders.export_run(run_dir, settings.layer)
    print(path)
    return path
