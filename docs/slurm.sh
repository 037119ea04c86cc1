#!/bin/bash
# Pretrains on two nodes of a SLURM cluster, and goes on by itself after the time limit. In a checkout, with the
# environment active:
#
#     RUN_DIR=/shared/runs/resnet18 sbatch docs/slurm.sh --flagfile=recipe:cifar10_resnet18 --data_dir=/shared/cifar10
#
# The arguments are those of train.py. RUN_DIR is on a file system that all nodes share.

#SBATCH --job-name=simclr
#SBATCH --nodes=2
# A worker takes all the GPUs that it sees: one worker on each node.
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
# Two minutes before the time limit the workers get SIGUSR1: they finish their step, save, and exit with 143.
#SBATCH --signal=USR1@120
# May be started again: by the last lines below, and by SLURM itself after preemption and when a node has failed.
#SBATCH --requeue
# And then its output is added to what is there.
#SBATCH --open-mode=append

set -u

# The workers find each other by the variables that srun sets. One that fails ends the others, which would wait for it.
# srun does not take the CPUs from above by itself. The folder of the run has to be the same each time, for --resume.
srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    python train.py --strategy=multiworker --run_dir="$RUN_DIR" --resume --save_every=10minutes "$@"
code=$?

# Other exit codes than 143 are those of errors, which a restart would repeat.
if [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
