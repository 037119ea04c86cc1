"""Judges or exports the encoder of a pretraining run.

    python evaluate.py --run_dir=runs/demo --mode=linear --baselines
    python evaluate.py --run_dir=runs/demo --mode=knn --dataset=folder --data_dir=my_images
    python evaluate.py --run_dir=runs/demo --mode=export

linear and knn look at the frozen encoder on the run's labelled data, or on that of --dataset and --data_dir, print a
table and write RUN_DIR/evaluation/<mode>.json and a confusion matrix; export writes a SavedModel and prints its path.
"""

from pathlib import Path

import flags
from simclr_tf.config import Config, Data, Evaluation

flags.define(Evaluation)


def main() -> None:
    """Runs the evaluation that the flags ask for."""
    settings = flags.evaluation_from_flags()
    run_dir = Path(settings.run_dir or "")
    config = Config.load(run_dir / "config.json")

    # From here on it takes seconds: whatever is wrong with the flags alone has been refused.
    import simclr_tf.quiet  # noqa: F401

    if settings.mode == "export":
        from simclr_tf.pretraining import export_run

        print(export_run(run_dir, settings.layer))
        return

    from simclr_tf.data import load
    from simclr_tf.evaluation.protocol import evaluate
    from simclr_tf.pretraining import load_encoder, random_encoder

    encoder = load_encoder(run_dir, settings.layer)
    name, data_dir = data_source(settings, config.data)
    # Only a folder's images can be resized; a run on other images tells by its encoder which size that has to be.
    size = (config.data.image_size or encoder.input_shape[1]) if name == "folder" else None
    dataset = load(name, data_dir, size, config.training.seed)
    for note in dataset.notes:
        print(f"note: {note}")
    evaluate(
        settings.mode,
        encoder,
        lambda: random_encoder(run_dir, settings.layer),
        dataset,
        config.data.validation_fraction,
        config.training.seed,
        results_folder(run_dir, settings.layer, (name, data_dir), config.data),
        settings.baselines,
    )


def data_source(settings: Evaluation, pretrained_on: Data) -> tuple[str, str | None]:
    """Name and folder of the data to judge on: the flags', else the run's, whose folder goes with its name only."""
    if settings.dataset and settings.dataset != pretrained_on.dataset:
        return settings.dataset, settings.data_dir
    return pretrained_on.dataset, settings.data_dir or pretrained_on.data_dir


def results_folder(run_dir: Path, layer: int, judged_on: tuple[str, str | None], pretrained_on: Data) -> Path:
    """Where the results go: those on other data than the run's get a folder of their own."""
    folder, (name, data_dir) = run_dir / "evaluation" / (f"layer{layer}" if layer else ""), judged_on
    if name == "folder" and data_dir != pretrained_on.data_dir:
        return folder / Path(data_dir or "").resolve().name
    return folder if name == pretrained_on.dataset else folder / name


if __name__ == "__main__":
    flags.run(main)
