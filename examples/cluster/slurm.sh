#!/bin/bash
#SBATCH --job-name=surrogate
#SBATCH --ntasks=64
#SBATCH --cpus-per-task=4
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
# 300 s before the limit every rank gets USR1: the state is on disk, the surrogate is sampled as it is, and the command
# ends with status 130. Then the job queues again and goes on where it was; any number of ranks will do.

export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" surrogate run run.yaml -o runs/x
status=$?
if [ "$status" -eq 130 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
