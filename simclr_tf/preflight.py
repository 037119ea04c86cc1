"""Checks that need no TensorFlow, whose import takes seconds: the commands run them before it, and the library again."""

import hashlib
import importlib.util
import re
import socket
from pathlib import Path
from typing import Any

from simclr_tf import data
from simclr_tf.config import ADDRESS, Config, Data, Judged, Mode, mode_settings
from simclr_tf.training import checkpoints, run_folder


def check(config: Config) -> None:
    """Looks at what a pretraining run would read and where it would write; changes nothing.

    Raises:
        ValueError: If data, encoder or folder are not there or not as they should be.
    """
    data.check(config.data.dataset, config.data.data_dir, config.data.image_size)
    if config.data.judge_dataset:
        size = config.data.image_size if data.resizable(config.data.judge_dataset) else None
        data.check(config.data.judge_dataset, config.data.judge_data_dir, size)
    if config.hardware.data_service:
        _check_service(config.hardware.data_service, config.data.dataset)
    _check_encoder(config.network.encoder)
    output = config.output
    if output.on_collapse == "stop" and not output.monitor_every:
        raise ValueError("`on_collapse=stop` needs `monitor_every`, which looks. Received: no `monitor_every`")
    if output.run_dir:
        run_folder.check(Path(output.run_dir), output.overwrite, output.resume)


def check_evaluation(run_dir: str | Path, mode: str, settings: dict[str, Any]) -> tuple[Config, Mode]:
    """Looks at the run that `evaluate` would judge, and at what on; changes nothing.

    Returns:
        The run's configuration, and the settings of the mode.

    Raises:
        ValueError: On settings that the mode does not have, or a run or data that are not there.
    """
    chosen = mode_settings(mode, settings)
    config = Config.load(Path(run_dir) / "config.json")
    checkpoints.require(Path(run_dir) / "checkpoints")
    if isinstance(chosen, Judged) and chosen.reads_data:
        name, data_dir = data_source(chosen, config.data)
        size = config.data.image_size or 1  # what a folder's images are resized to, the encoder will tell
        data.check(name, data_dir, size if data.resizable(name) else None)
    return config, chosen


def data_source(settings: Judged, pretrained_on: Data) -> tuple[str, str | None]:
    """Name and folder of the data to judge on: those of the settings, else the run's, whose folder goes with its name."""
    dataset, data_dir = pretrained_on.judged_on
    if settings.dataset and settings.dataset != dataset:
        return settings.dataset, settings.data_dir
    return dataset, settings.data_dir or data_dir


def results_folder(run_dir: Path, layer: int, judged_on: tuple[str, str | None], pretrained_on: Data) -> Path:
    """Where the results go: results on other data than the run's get a folder of their own."""
    folder, (name, data_dir) = run_dir / "evaluation" / (f"layer{layer}" if layer else ""), judged_on
    kind, _, rest = name.partition(":")
    dataset, default = pretrained_on.judged_on
    moved = name == dataset and data_dir and default and Path(data_dir).resolve() != Path(default).resolve()
    if name == dataset and not moved and (kind != "folder" or default):
        return folder
    if place := {"folder": data_dir, "records": rest}.get(kind) or (moved and data_dir):
        path = Path(place).resolve()
        digest = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()
        return folder / f"{re.sub('[^A-Za-z0-9._-]', '_', path.name)}-{digest[:6]}"  # two folders may have one name
    return folder / re.sub("[^A-Za-z0-9._-]", "_", name)


def _check_service(address: str, dataset: str) -> None:
    if not data.resizable(dataset):
        raise ValueError(
            f"`data_service` decodes image files, and `dataset={dataset}` has none: leave it out. "
            f"Received: `data_service={address}`"
        )
    check_dispatcher("data_service", address)


def check_dispatcher(setting: str, address: str) -> None:
    """Raises ValueError if nothing listens at the address that a setting names."""
    match = re.fullmatch(ADDRESS, address)
    try:
        if not match:
            raise OSError("no host:port")
        socket.create_connection((match[1], int(match[2])), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"`{setting}` must be a running dispatcher like host:5050: start one by simclr-data-service --port=5050. "
            f"Received: {address} ({error})"
        ) from None


def _check_encoder(encoder: str) -> None:
    module, colon, _ = encoder.partition(":")
    if not colon:
        return
    reason = ""
    try:
        found = importlib.util.find_spec(module)
    except Exception as error:  # to find a module in a package, Python runs that package
        found, reason = None, f" ({type(error).__name__}: {error})"
    if found is None:
        raise ValueError(
            f"`encoder` names a module that cannot be found; is its folder in PYTHONPATH? Received: {encoder}{reason}"
        )
