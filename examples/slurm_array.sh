#!/bin/bash
# Vocode a folder as a job array of Slurm: sbatch --array=1-16 slurm_array.sh MELS SPEECH
# A task that was preempted is queued again and resumes. After failures, submit the same line again.
#SBATCH --job-name=vocode
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --requeue
#SBATCH --signal=B:TERM@60
set -euo pipefail

# exec: Slurm's SIGTERM reaches the engine itself.
exec engine vocode "$1" -o "$2" --precision fp32 --workers "${SLURM_CPUS_PER_TASK:-4}" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
