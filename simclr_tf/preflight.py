"""Checks that need no TensorFlow, whose import takes seconds: the commands run them before it, and the library again."""

import importlib.util
import os
import re
import socket
from pathlib import Path
from typing import Any

from simclr_tf import data
from simclr_tf.config import (
    ADDRESS,
    Config,
    Embed,
    Export,
    Files,
    Judged,
    Mode,
    Neighbors,
    Reads,
    Transfer,
    mode_settings,
    split_target,
)
from simclr_tf.places import data_source
from simclr_tf.training import checkpoints, run_folder

# Packages that formats of `embed` and `export` need.
NEEDS = {"parquet": "pyarrow", "onnx": "tf2onnx", "litert": "ai-edge-litert", "litert_int8": "ai-edge-litert"}


def check(config: Config) -> None:
    """Looks at what a pretraining run would read and where it would write; changes nothing.

    Raises:
        ValueError: If data, encoder or folder are not there or not as they should be.
    """
    data.check(config.data.dataset, config.data.data_dir, config.data.image_size)
    if config.data.judge_dataset:
        size = data.size_for(config.data.judge_dataset, config.data.image_size)
        data.check(config.data.judge_dataset, config.data.judge_data_dir, size, "judge_dataset", "judge_data_dir")
    if config.hardware.data_service:
        if config.hardware.strategy == "tpu" and config.hardware.tpu != "local":
            raise ValueError(
                "`data_service` needs the TPU's own host, since batches are put in order by Python there. "
                f"Received: `tpu={config.hardware.tpu}`"
            )
        if not data.resizable(config.data.dataset):
            raise ValueError(
                f"`data_service` decodes image files, and `dataset={config.data.dataset}` has none: leave it out. "
                f"Received: `data_service={config.hardware.data_service}`"
            )
        check_dispatcher("data_service", config.hardware.data_service)
    _check_encoder(config.network.encoder)
    _check_beginning(config)
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
    if chosen.checkpoint != "newest":
        checkpoints.position_of(Path(run_dir) / "checkpoints", chosen.checkpoint)
    _check_mode(config, chosen)
    read, side = [], config.data.side
    if isinstance(chosen, Transfer):
        read = [split_target(target) for target in chosen.each]
    elif isinstance(chosen, Judged) and chosen.reads_data:
        read = [data_source(chosen, config.data)]
    elif isinstance(chosen, Reads) and chosen.reads_data:
        read = [(config.data.dataset, chosen.data_dir or config.data.data_dir)]
    for name, data_dir in read:
        if side != 32 and not data.resizable(name):
            raise ValueError(
                f"The encoder takes images of {side} x {side} pixels; those of {name} have 32 x 32 and are not resized. "
                f"Received: {name}"
            )
        data.check(name, data_dir, data.size_for(name, side))
    return config, chosen


def _check_mode(config: Config, chosen: Mode) -> None:
    """Raises ValueError for a layer, a package or image files that are not there."""
    if chosen.layer > (last := config.network.last_layer):
        head = f"or one of the projection head's layers 1 to {last}" if last else "as the run has no projection head"
        raise ValueError(f"`layer` must be 0, for h, {head}. Received: `layer={chosen.layer}`")
    for name in chosen.format.split(",") if isinstance(chosen, Embed | Export) else ():
        if name in NEEDS and importlib.util.find_spec(NEEDS[name].replace("-", "_")) is None:
            raise ValueError(
                f"`format={name}` needs {NEEDS[name]}: `pip install {NEEDS[name]}`. Received: none installed"
            )
    if isinstance(chosen, Files) and chosen.images:
        searched = chosen.searched if isinstance(chosen, Neighbors) else []
        for place in [*chosen.places, *searched]:
            if not os.path.exists(place):
                raise ValueError(f"Expected image files, or folders of them. Received: {place}, not there")


def _check_beginning(config: Config) -> None:
    """Raises ValueError for a setting that would change nothing, or for weights to start from that are not there.

    A run that is continued needs neither: those of earlier versions may have such settings.
    """
    network, objective, optimization = config.network, config.objective, config.optimization
    hardware, output = config.hardware, config.output
    if output.resume and (Path(output.run_dir or "") / "config.json").exists():
        return
    weights = config.training.init_from
    if weights and "://" not in weights and not os.path.exists(weights):
        raise ValueError(f"`init_from` names weights that are not there. Received: {weights}")
    if hardware.tpu != "local" and hardware.strategy != "tpu":
        raise ValueError(
            f"`tpu` goes with `strategy=tpu`. Received: `strategy={hardware.strategy}` `tpu={hardware.tpu}`"
        )
    if hardware.communication != "auto" and hardware.strategy not in ("auto", "multiworker"):
        raise ValueError(f"`communication` goes with `strategy=multiworker`. Received: `strategy={hardware.strategy}`")
    if hardware.logical_cpus > 1 and hardware.strategy not in ("auto", "mirrored"):
        raise ValueError(f"`logical_cpus` goes with `strategy=mirrored`. Received: `strategy={hardware.strategy}`")
    if objective.margin != 0.4 and objective.loss != "margin_triplet" and not objective.semi_hard:
        raise ValueError(f"`margin` goes with `loss=margin_triplet` and `semi_hard`. Received: `loss={objective.loss}`")
    if network.projection == "none" and network.projection_dim != 128:
        raise ValueError("`projection_dim` needs a projection head. Received: `projection=none`")
    if optimization.momentum != 0.9 and optimization.optimizer not in ("lars", "sgd"):
        raise ValueError(f"`momentum` goes with lars and sgd. Received: `optimizer={optimization.optimizer}`")
    if output.overwrite and not output.run_dir:
        raise ValueError("`overwrite` needs `run_dir`, the folder to replace. Received: no `run_dir`")


def check_dispatcher(setting: str, address: str) -> None:
    """Raises ValueError if nothing listens at the address that a setting names."""
    match = re.fullmatch(ADDRESS, address)
    try:
        if not match:
            raise OSError("no host:port")
        socket.create_connection((match[1], int(match[2])), timeout=10).close()
    except (OSError, OverflowError, UnicodeError) as error:
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
