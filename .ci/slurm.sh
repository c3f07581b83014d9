#!/usr/bin/env bash
# A SLURM cluster on this one machine, for tests: a controller and two nodes that share the host.
#
#   eval "$(.ci/slurm.sh start)"    starts it and sets SLURM_CONF
#   .ci/slurm.sh stop               the one that SLURM_CONF names
#   .ci/slurm.sh status             exit code 0 when both nodes answer
#
# Needs the Debian packages slurm-wlm and munge, no configuration and no running service. All that it writes lies in a
# new folder of an unpredictable name (or in a new one that BRAIN_MRI_SLURM names); a folder that is there already is
# used only where it is ours and nobody else may write to it, since a configuration names programs that the daemons
# load. They listen on the loopback address alone. Ports and socket are its own, so it stands beside a real SLURM.
# Not for real work: no cgroups, no accounting, no authentication beyond this machine.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
home=${BRAIN_MRI_SLURM:-}
if [[ -z $home && -n ${SLURM_CONF:-} ]]; then home=$(dirname "$SLURM_CONF"); fi

trusted() { # no link, ours, and not to be written by others
    [[ ! -L $1 && -O $1 && -z $(find "$1" -maxdepth 0 -perm /022) ]]
}

is_ours() { # a cluster of this script, with a configuration that only we can have written
    [[ -n $home && -f $home/slurm.conf ]] && trusted "$home" && trusted "$home/slurm.conf" &&
        grep -q '^ClusterName=brainmri$' "$home/slurm.conf"
}

isolated() { # daemons bind to the address of the host's name: where that is no loopback address, they see another name
    case $(getent ahostsv4 "$(uname -n)" | awk '{print $1; exit}') in
        127.*) "$@" ;;
        *) unshare ${other_user[@]+"${other_user[@]}"} --uts sh -c 'hostname localhost && exec "$@"' sh "$@" ;;
    esac
}
other_user=()
if [[ $(id -u) -ne 0 ]]; then other_user=(--user --map-current-user --keep-caps); fi

configure() {
    local cpus memory user host
    host=$(isolated uname -n)
    host=${host%%.*}
    cpus=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) # they are what nproc says before it counts
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
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
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
    is_ours && [[ $(SLURM_CONF=$home/slurm.conf timeout 10 sinfo --noheader --Node --states=idle,alloc,mix --format=%N 2>/dev/null |
        sort -u | wc -l) -eq 2 ]]
}

running() { # a process that ended but was never waited for has no executable any more
    [[ -n $(readlink "/proc/$1/exe") ]]
}

stop() {
    is_ours || return 0
    SLURM_CONF=$home/slurm.conf timeout 10 scancel --user="$(id -un)" 2>/dev/null || true
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

make_home() {
    if [[ -z ${BRAIN_MRI_SLURM:-} ]]; then
        home=$(mktemp -d /tmp/brain-mri-slurm.XXXXXXXXXX) # not $TMPDIR: a socket's path must stay short
    elif ! mkdir "$home"; then
        echo "error: $home is there already; take it away, or unset BRAIN_MRI_SLURM" >&2
        return 1
    fi
    chmod 755 "$home" # munged wants its socket to be in everybody's reach; the key and the logs are not
    mkdir -m 755 "$home/state"
}

start() {
    if status; then
        echo "SLURM is already running" >&2
        echo "export SLURM_CONF=$home/slurm.conf"
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
    make_home
    export SLURM_CONF=$home/slurm.conf
    configure
    (umask 077 && head -c 1024 /dev/urandom >"$home/munge.key")
    munged --socket="$home/munge.sock" --key-file="$home/munge.key" --pid-file="$home/munged.pid" \
        --log-file="$home/munged.log" --seed-file="$home/munged.seed" >&2
    isolated slurmctld >&2
    isolated slurmd -N brain1 >&2
    isolated slurmd -N brain2 >&2
    for _ in {1..60}; do
        if status; then
            echo "export SLURM_CONF=$SLURM_CONF"
            return
        fi
        sleep 0.5
    done
    echo "error: SLURM did not come up; the ends of its logs:" >&2
    tail -n 5 "$home"/*.log >&2
    stop
    return 1
}

case ${1:-} in
    start | stop | status) "$1" ;;
    *)
        echo "usage: .ci/slurm.sh start|stop|status" >&2
        exit 2
        ;;
esac
