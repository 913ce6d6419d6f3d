#!/bin/bash
# Made by python -m tfdist.jobs slurm. Exit codes 2 and 77 end the job; after others it is queued again.
#SBATCH --job-name=digits
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --chdir=/home/me/digits
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@120

export PYTHONUNBUFFERED=1
export SRUN_CPUS_PER_TASK=8
code=0
srun --kill-on-bad-exit=0 --wait=120 --label .venv/bin/python -m tfdist.train --recipe=recipe.py --run_dir=/shared/runs/1 || code=$?
case $code in
  0|2|77) exit $code ;;
  75) ;;
  *) [ "${SLURM_RESTART_COUNT:-0}" -lt 10 ] || exit $code ;;
esac
echo "exit code $code: the job is queued again" >&2
# A script that ends by itself ends the job; Slurm ends this one when it has queued the job again.
scontrol requeue "$SLURM_JOB_ID" && sleep 600
exit $code
# sbatch digits.sh
