#!/usr/bin/env bash
# A SLURM cluster on this one machine, for tests: a controller and two nodes that share the host.
#
#   .ci/slurm.sh start    then: export SLURM_CONF=/tmp/brain-mri-slurm/slurm.conf
#   .ci/slurm.sh stop
#   .ci/slurm.sh status   exit code 0 when both nodes answer
#
# Needs the Debian packages slurm-wlm and munge, no configuration and no running service; all that it writes lies
# in one folder (BRAIN_MRI_SLURM, /tmp/brain-mri-slurm). Its ports and socket are its own, so it stands beside a
# real SLURM. Not for real work: no cgroups, no accounting, no authentication beyond this machine.
set -euo pipefail

home=${BRAIN_MRI_SLURM:-/tmp/brain-mri-slurm}
host=$(uname -n)
host=${host%%.*}
PATH=$PATH:/usr/sbin:/sbin
export SLURM_CONF=$home/slurm.conf

configure() {
    local cpus memory user
    cpus=$(nproc)
    memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
    user=$(id -un)
    cat >"$SLURM_CONF" <<EOF
ClusterName=brainmri
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$home/munge.sock
CredType=cred/munge
SlurmctldPort=26817
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/%n
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd-%n.pid
SlurmctldLogFile=$home/slurmctld.log
SlurmdLogFile=$home/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=bf_interval=2
JobRequeue=1
ReturnToService=2
KillWait=5
MinJobAge=3600
MessageTimeout=30
MailProg=/bin/true
NodeName=brain[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[26818-26819] CPUs=$cpus RealMemory=$memory
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
}

status() {
    [[ -f $SLURM_CONF && $(timeout 10 sinfo --noheader --Node --states=idle,alloc,mix --format=%N 2>/dev/null |
        sort -u | wc -l) -eq 2 ]]
}

running() { # a process that ended but was never waited for has no executable any more
    [[ -n $(readlink "/proc/$1/exe") ]]
}

stop() {
    grep -qs '^ClusterName=brainmri$' "$SLURM_CONF" || return 0
    timeout 10 scancel --user="$(id -un)" 2>/dev/null || true
    local name pid
    for name in slurmd-brain1 slurmd-brain2 slurmctld munged; do
        pid=$(cat "$home/$name.pid" 2>/dev/null) || continue
        # the number may have gone to another program since
        [[ ${name%%-*} == "$(cat "/proc/$pid/comm" 2>/dev/null)" ]] && running "$pid" || continue
        kill "$pid"
        for _ in {1..50}; do
            running "$pid" || continue 2
            sleep 0.1
        done
        kill -KILL "$pid"
    done
    rm -rf "$home"
}

start() {
    if status; then
        echo "SLURM is already running: export SLURM_CONF=$SLURM_CONF"
        return
    fi
    local program
    for program in slurmctld slurmd munged; do
        if ! command -v "$program" >/dev/null; then
            echo "error: $program is missing: apt-get install slurm-wlm munge" >&2
            return 1
        fi
    done
    stop
    mkdir -m 755 "$home" "$home/state"
    configure
    (umask 077 && head -c 1024 /dev/urandom >"$home/munge.key")
    munged --socket="$home/munge.sock" --key-file="$home/munge.key" --pid-file="$home/munged.pid" \
        --log-file="$home/munged.log" --seed-file="$home/munged.seed"
    slurmctld
    slurmd -N brain1
    slurmd -N brain2
    for _ in {1..60}; do
        if status; then
            echo "SLURM is running: export SLURM_CONF=$SLURM_CONF"
            return
        fi
        sleep 0.5
    done
    echo "error: SLURM did not come up; the ends of its logs:" >&2
    tail -n 5 "$home"/*.log >&2
    return 1
}

case ${1:-} in
    start | stop | status) "$1" ;;
    *)
        echo "usage: .ci/slurm.sh start|stop|status" >&2
        exit 2
        ;;
esac
