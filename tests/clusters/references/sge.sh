#!/bin/bash
#$ -N lrlo-formation-voltage
#$ -S /bin/bash
#$ -cwd
#$ -j y
#$ -o job.$JOB_ID.log
#$ -q work
#$ -P proj1
#$ -l h_rt=24:00:00
#$ -l s_rt=23:50:00
#$ -l h_vmem=1024M
#$ -pe mpi 32
#$ -l gpu=2

# Runs a part of a study here, and goes on in another job when the walltime ends.
# Submit it from the folder that it lies in; README.txt, one folder up, says how.
cd -- "${PBS_O_WORKDIR:-$PWD}" || exit 1 # PBS starts jobs in the home folder
if [ ! -f study.yaml ] || [ ! -f job.sh ]; then
    echo "error: submit job.sh from the folder that it lies in" >&2
    exit 1
fi
job="${JOB_ID:-$$}"
count="${LRLO_CONTINUATION:-0}"
limit=5

note() {
    echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) job $job: $*" >> status.log
}

submitted=0
submit_next() {
    [ "$submitted" = 0 ] || return
    submitted=1
    if [ "$count" -ge "$limit" ]; then
        note "stopped at the walltime, $limit continuations used up: submit job.sh again to go on"
    elif qsub -hold_jid "$job" -v LRLO_CONTINUATION=$((count + 1)) job.sh > /dev/null; then
        note "goes on in another job, continuation $((count + 1)) of $limit"
    else
        note "stopped at the walltime, the next job was refused: submit job.sh again to go on"
    fi
}

module load python/3.11
export OMP_NUM_THREADS=4

# SIGUSR1 warns of the walltime. SIGTERM without it cancels: that job is not submitted again.
warned=0
cancelled=0
give_up=0
timer=
run=
trap 'warned=1; give_up=$((SECONDS + 300)); kill -USR1 "$run" 2> /dev/null' USR1
trap 'cancelled=1; kill -TERM "$run" 2> /dev/null' TERM

note "running on $(hostname)"
python -m lrlo run study.yaml --folder results --store results/store.sqlite --replicate 'Ti'"'"'s, seed 7' &
run=$!
while kill -0 "$run" 2> /dev/null; do
    if [ "$warned" = 0 ]; then
        wait "$run"
    elif [ "$SECONDS" -lt "$give_up" ]; then
        sleep 1
    else
        submit_next # the evaluation does not end in time: the next job repeats it
        wait "$run"
    fi
done
wait "$run"
code=$?
[ -z "$timer" ] || kill "$timer" 2> /dev/null
if [ "$code" = 0 ]; then
    note "finished"
elif [ "$warned" = 1 ] && { [ "$code" = 75 ] || [ "$code" -gt 128 ]; }; then
    submit_next
    code=0
elif [ "$cancelled" = 1 ] || [ "$code" = 75 ]; then
    note "cancelled or preempted: submit job.sh again to go on"
else
    note "failed with exit code $code: the last lines of the output of this job say why"
fi
exit "$code"
