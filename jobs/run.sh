#!/usr/bin/env bash
# Runs one notebook in a SLURM job, on every GPU of every node that the job was given.
#
#   exec bash jobs/run.sh NOTEBOOK [-p NAME VALUE]...        the last line of each .job
#
# One torchrun a node and one kernel a GPU (without GPU: one a node); Accelerate, in the notebook, joins them.
# Shortly before its time is up SLURM sends USR1: training ends after its epoch, the job queues again, and resumes
# from its checkpoint. An epoch has to fit into the warning (sbatch --signal=B:USR1@SECONDS says otherwise).
# Settings of a cluster are in cluster.env, the resources of a job at the head of its .job.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
[[ -f .venv/bin/activate ]] && . .venv/bin/activate
. jobs/cluster.env
if ! command -v torchrun >/dev/null; then
    echo "error: no torchrun found: run 'make setup', or activate an environment in jobs/cluster.env" >&2
    exit 1
fi

runs=${BRAIN_MRI_OUTPUT:-$PWD}/runs
mkdir -p "$runs" || exit
what=$(printf '%s\n' "$@" | cksum | cut -d ' ' -f 1) # one allocation may run several of these scripts at once
export BRAIN_MRI_STOP=$runs/stop-$SLURM_JOB_ID-$what # training ends after its epoch once this file is there
export BRAIN_MRI_CODE=$runs/code-$SLURM_JOB_ID-$what
rm -f "$BRAIN_MRI_STOP" "$BRAIN_MRI_CODE" # left by the run that this one continues
trap 'rm -f "$BRAIN_MRI_STOP" "$BRAIN_MRI_CODE"' EXIT
trap 'echo "SLURM: time is nearly up, stopping after this epoch"; touch "$BRAIN_MRI_STOP"' USR1

echo "job $SLURM_JOB_ID on $SLURM_JOB_NODELIST, start $((${SLURM_RESTART_COUNT:-0} + 1)): $*"
python -m utils.headless "$@" --list || exit # a misspelt parameter or missing data end it here
export TORCH_CPP_LOG_LEVEL=${TORCH_CPP_LOG_LEVEL:-ERROR} # else each log says that find_unused_parameters found none

kernels=${SLURM_GPUS_ON_NODE:-1}
threads=$((${SLURM_CPUS_PER_TASK:-1} / kernels))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # srun no longer takes it over from sbatch (SLURM 22.05)
port=$((10000 + (SLURM_JOB_ID + what) % 20000))
if ((SLURM_JOB_NUM_NODES > 1)); then
    meeting=("--rdzv-endpoint=$(hostname):$port") # this script runs on the first node
else
    meeting=("--rdzv-endpoint=localhost:$port" --local-addr=localhost) # also where the host cannot find its own name
fi

# torchrun turns every failure into a 1 and reports it at length. So the first kernel that fails leaves its code in
# a file, and torchrun hears of it only where other kernels have to be stopped; a pause (75) stops all by itself.
worker='python -m utils.headless "$@"
code=$?
((code == 0)) || (set -o noclobber; echo $code >"$BRAIN_MRI_CODE") 2>/dev/null
((code == 75 || WORLD_SIZE == 1)) || exit $code'

srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --kill-on-bad-exit=1 \
    bash jobs/stage.sh torchrun --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="$kernels" --rdzv-id="$SLURM_JOB_ID-$what" \
    --rdzv-backend=c10d "${meeting[@]}" --no-python bash -c "$worker" headless "$@" &
step=$!
while kill -0 "$step" 2>/dev/null; do wait "$step"; done # USR1 interrupts a wait
wait "$step"
code=$?
first=$(cat "$BRAIN_MRI_CODE" 2>/dev/null)
((code == 0 || first != 75)) && code=${first:-$code}

if ((code == 75)) && [[ -e $BRAIN_MRI_STOP ]]; then
    echo "training paused: the job queues again"
    # One task of an array has the number of the whole array, whose other tasks must be left alone.
    scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
