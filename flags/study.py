"""Runs one of the paper's comparisons: a grid of pretraining runs, their evaluations, and a report.

    python -m flags.study temperature --flagfile=recipe:cifar10_cpu --data_dir=DIR --epochs=10
    python -m flags.study augmentation_pairs --flagfile=recipe:cifar10_cpu --only=crop,color,blur --seeds=3 --dry_run

All flags of train.py apply to every run. Started again, it goes on where it was: finished runs are not repeated,
half-finished ones are resumed. An installed copy has the same command as `simclr-study`.
"""

import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from simclr_tf import data, files
from simclr_tf.config import MODES, Config, Probe, Section, as_word, split_target
from simclr_tf.config.base import setting
from simclr_tf.studies import STUDIES, estimate, execution, transfer
from simclr_tf.studies.study import Study, Times, Trial, Tuned, plan
from simclr_tf.training.signals import interruptible

from . import FLAGS, as_flags, define, fields, given, pretraining_groups, run, words

SEEDS = 10  # at most, of cells that `only` does not name, to look for in a folder


@dataclasses.dataclass(frozen=True)
class Options(Section):
    """The flags of a study."""

    seeds: int = setting(1, "Number of seeds for each cell, counted from `seed`.", low=1)
    jobs: int | None = setting(None, "Number of runs at the same time; 1, or one for each of `gpus`, if not given.")
    gpus: str | None = setting(None, "CUDA devices to deal out to the jobs, like 0,1.")
    only: str | None = setting(None, "Run only the cells whose labels are all among these, like yes,0.1,0.5.")
    mode: str | None = setting(
        None, "Probe that judges the encoders, linear by default; some studies have judgments of their own.",
        choices=tuple(m for m in MODES if issubclass(MODES[m], Probe)),
    )  # fmt: skip
    targets: str | None = setting(None, "For `transfer`: labeled data like cifar100:DIR,folder:PATH.")
    runs_dir: str = setting("runs/studies", "Folder of the runs; the study gets RUNS_DIR/NAME.", path=True)
    report_dir: str | None = setting(None, "Folder of the report, NAME.csv, NAME.md and NAME.png.", path=True)
    dry_run: bool = setting(
        False, "Measure a few steps of each kind of cell, print the expected time and memory, and stop."
    )


def main() -> None:
    """The command."""
    groups = {"study": fields(Options)} | pretraining_groups()
    for group in groups.values():
        define(group)
    FLAGS.set_gnu_getopt()  # flags may follow the name
    run(_study, f"{__doc__}\nStudies: {', '.join(STUDIES)}.", groups, positional=1)


def _study() -> None:
    options = Options(**given(fields(Options)))
    if not words or words[0] not in STUDIES:
        raise ValueError(f"Expected a study, one of {', '.join(STUDIES)}. Received: {' '.join(words) or 'none'}")
    study, folder = STUDIES[words[0]], Path(options.runs_dir) / words[0]
    if options.targets:
        if words[0] != "transfer":
            raise ValueError(f"`targets` has no effect on {words[0]}: leave it out. Received: {options.targets}")
        study = transfer(options.targets.split(","))
    settings = given(fields(*Config.sections().values()))
    for name, value in settings.items():
        if name in ("overwrite", "resume", "run_dir"):
            raise ValueError(f"A study decides where its runs go, in `runs_dir`. Received: `{name}={value}`")
        varied = any(name in cell and not _follows(cell[name]) for cell in study.cells.values())
        # A flagfile may set it, since recipes serve all studies.
        if varied and any(re.match(rf"--?(no)?{name}(=|$)", word) for word in sys.argv):
            raise ValueError(f"`{name}` is what this study sets: leave it out. Received: `{name}={value}`")
    source = Config.of(**settings).data
    data.check(source.dataset, source.data_dir, source.image_size)
    for name, place in map(split_target, options.targets.split(",") if options.targets else ()):
        data.check(name, place, data.size_for(name, source.side), "targets", "targets")
    gpus, only = (re.findall("[^,]+", listed or "") for listed in (options.gpus, options.only))
    planned = partial(plan, study, settings, folder, options.seeds, options.mode, only)
    seeds = max(options.seeds, SEEDS)
    everything = partial(plan, study, settings, folder, seeds, options.mode) if only else list
    places = execution.environments(options.jobs if options.jobs is not None else len(gpus) or 1, gpus)
    name = words[0] if options.report_dir else "results"
    name += f"-{options.mode}" if options.mode not in (None, "linear") else ""
    stem = Path(options.report_dir or folder) / name
    # This process imports TensorFlow to write HParams, and must not take the memory of the runs' GPUs.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    with interruptible("the same command goes on"):
        failed = (
            estimate.forecast(planned(), _commands, places)
            if options.dry_run
            else _run(study, planned, everything, places, stem)
        )
    sys.exit(failed > 0)


def _follows(value: Any) -> bool:
    """Whether a cell's value is a multiple of the command line's."""
    return all(map(_follows, value.choices)) if isinstance(value, Tuned) else isinstance(value, Times)


def _commands(trial: Trial) -> dict[str, list[str]]:
    """The command lines of a trial."""
    python, folder = [sys.executable, "-m"], as_word("run_dir", trial.folder)
    settings = [as_word(name, value) for name, value in trial.settings.items() if value is not None]
    return {
        "train": [*python, f"{__package__}.train", *settings, folder, "--resume"],
        "evaluate": [
            *python,
            f"{__package__}.evaluate",
            folder,
            as_word("mode", trial.judgment.mode),
            *(as_word(name, value) for name, value in trial.judgment.settings.items()),
        ],
    }


def _with_finished(trials: list[Trial], everything: Callable[[], list[Trial]]) -> list[Trial]:
    """The trials, and the finished ones of cells that `only` does not name, in the order of the study."""
    named, cells = {(trial.folder, trial.labels) for trial in trials}, {trial.labels for trial in trials}
    try:
        whole = everything()
    except ValueError as error:  # other cells do not take these settings, or were run with others
        print(f"note     the report is of the cells named by --only alone: {as_flags(str(error))}", flush=True)
        return trials
    return [
        t for t in whole if (t.folder, t.labels) in named or t.labels not in cells and t.state() == "done"
    ] or trials


def _run(
    study: Study, planned: Callable[[], list[Trial]], everything: Callable[[], list[Trial]],
    places: Sequence[execution.Environment], stem: Path,
) -> int:  # fmt: skip
    """Runs what is left and reports after each trial; returns how many are not done.

    Args:
        study: The study.
        planned: Returns the trials to run.
        everything: Returns all trials of the study, where those to run are a part of them, else none.
        places: Environments of the processes that run at the same time.
        stem: Path of the report, without an ending.
    """
    trials = planned()
    shown = _with_finished(trials, everything)
    folder, command = trials[0].folder.parent, f"simclr-study {shlex.join(sys.argv[1:])}"
    if not files.claim(folder):
        raise ValueError(
            "Another process is running this study in this `runs_dir`: wait for it or name another folder. "
            f"Received: {folder.parent}"
        )
    from simclr_tf.studies import results  # imports matplotlib, which a refused command line need not wait for

    def done() -> int:
        return sum(trial.state() == "done" for trial in trials)

    def report(trial: Trial, error: OSError | None) -> None:
        outcome = f"failed: {error}; {trial.log}" if error else f"top-1 {trial.measures()['top1']:.1f} %"
        print(f"[{done()}/{len(trials)}] {trial}: {outcome}", flush=True)
        if not error:
            results.write(study, shown, command, stem, folder / "tensorboard")

    print(f"{words[0]}: {done()} of {len(trials)} runs are done in {folder}", flush=True)
    for trial in trials:
        if trial.diverged:
            print(f"{trial}: it has diverged, and is not run again unless you delete {trial.diverged}", flush=True)
    execution.execute([trial for trial in trials if not trial.diverged], _commands, places, report)
    # Tuning decides what the further seeds are run with.
    before = {(trial.folder, trial.labels) for trial in trials}  # some of them in vain
    trials = planned()
    shown = _with_finished(trials, everything)  # for `report`
    execution.execute([t for t in trials if (t.folder, t.labels) not in before], _commands, places, report)
    results.write(study, shown, command, stem, folder / "tensorboard")
    print(stem.with_suffix(".md").read_text(), *(stem.with_suffix(end) for end in (".csv", ".md", ".png")), sep="\n")
    return len(trials) - done()


if __name__ == "__main__":
    main()
