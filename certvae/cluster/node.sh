#!/usr/bin/env bash
# One node of a cluster, as `ray up` drives it over ssh. Everything it starts is marked by its scratch folder, and only
# what is marked is ever ended.
#
#   node.sh setup           Python environment from requirements.lock, hash for hash; a second time it is only compared
#   node.sh token           the secret that members of the cluster share, made once, on the head
#   node.sh ray start ...   Ray's own command, with authentication, in a scratch folder of our own
#   node.sh ray symmetric-run ...   the same on every node of a batch job, and then a command on the first
#   node.sh stop            ends what this cluster started here, and nothing else
#   node.sh run NAME ...    a command that goes on when its terminal is gone; the same again watches it
#   node.sh study NAME ...  a study on this cluster, run in this way
#   node.sh code NAME       how it ended: `exit=0`; while it goes on, `exit=`
#   node.sh python ...      Python of this environment, as the cluster sees it
set -euo pipefail
umask 077

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
home=${CERTVAE_HOME:-$HOME/.certvae} # the token is in it: nodes of a batch job have one that all of them see
scratch=${CERTVAE_TMP:-/tmp}/certvae-$(id -un)
runs=$home/runs
head=$(cat "$scratch/ray/ray_current_cluster" 2>/dev/null || true) # Ray wrote it when it was started here
mkdir -p "$home" "$runs"

export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$home/token RAY_USAGE_STATS_ENABLED=0
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=1
export PATH=$root/.venv/bin:$PATH PYTHONPATH=$root CERTVAE_SCRATCH=$scratch
unset OMP_NUM_THREADS PYTHONWARNINGS # set by Ray's ssh commands, and inherited by every worker

refuse() {
    printf 'certvae on %s: %s\n' "$(hostname)" "$*" >&2
    exit 2
}

setup() {
    cmp -s "$root/requirements.lock" "$root/.venv.lock" && [ -x "$root/.venv/bin/python" ] && return
    local python
    python=$(command -v python3.11 || command -v python3) || refuse "no python3: install Python 3.11 to 3.14"
    "$python" -m venv --clear "$root/.venv" || refuse "no venv: install the package python3-venv"
    "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
        -r "$root/requirements.lock"
    cp "$root/requirements.lock" "$root/.venv.lock" # last: without it the environment is made again
}

token() {
    local file=$RAY_AUTH_TOKEN_PATH
    [ -s "$file" ] || { od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$file.new" && mv "$file.new" "$file"; }
    chmod 600 "$file"
}

# Ray takes 127.0.0.1 for a mistake, listens everywhere and gives out another address, unless it is told that there are no
# clusters on this system. A cluster of one host must be started, and joined, in this way.
on_this_host_alone() {
    export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0
}

start() {
    [ -s "$RAY_AUTH_TOKEN_PATH" ] || refuse "no token in $RAY_AUTH_TOKEN_PATH: a cluster without one is open to anybody"
    chmod 700 "$home" && chmod 600 "$RAY_AUTH_TOKEN_PATH"
    mkdir -p "$scratch" # mode 0700: what Ray makes in it is open to everybody
    [ -O "$scratch" ] || refuse "$scratch belongs to somebody else: set CERTVAE_TMP to a folder of your own"
    ulimit -n 65536 2>/dev/null || true
    case " $* " in *" --node-ip-address=127.0.0.1 "*) on_this_host_alone ;; esac
    # The newer autoscaler loses count of fixed hosts, and one worker never joins.
    export RAY_enable_autoscaler_v2=${CERTVAE_AUTOSCALER_V2:-0}
    set -- ray start --temp-dir="$scratch/ray" --disable-usage-stats "$@"
    case " $* " in
    *" --block "*) until_the_head_ends "$@" ;;
    *) exec "$@" ;;
    esac
}

# Ray takes the end of the head for an accident of this node, and has hundreds of lines to say about it.
until_the_head_ends() {
    "$@" >"$runs/ray-$(hostname).log" 2>&1 || true
    printf '%s has left the cluster; what Ray said there is in %s\n' "$(hostname)" "$runs/ray-$(hostname).log"
}

stop() {
    exec python -m certvae.cluster.processes "$scratch"
}

# Ray starts and stops by its own command, whose stop would end every Ray on this machine: it finds this script instead.
symmetric_run() {
    "$root/.venv/bin/python" -m certvae.cluster.processes "$scratch" # what a cancelled job may have left here
    mkdir -p "$scratch/bin"
    printf '#!/bin/sh\nexec "%s" ray "$@"\n' "$root/certvae/cluster/node.sh" >"$scratch/bin/ray"
    chmod 700 "$scratch/bin/ray"
    case " $* " in *" 127.0.0.1:"*) on_this_host_alone ;; esac
    export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=${RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT:-300}
    PATH=$scratch/bin:$PATH exec "$root/.venv/bin/ray" symmetric-run "$@"
}

watch() {
    local name=$1
    tail -n +1 --pid="$(cat "$runs/$name.pid")" -F "$runs/$name.log" 2>/dev/null || true
    exit "$(cat "$runs/$name.exit" 2>/dev/null || echo 4)"
}

run() {
    local name=$1
    shift
    if [ -f "$runs/$name.pid" ] && kill -0 "$(cat "$runs/$name.pid")" 2>/dev/null; then
        watch "$name"
    fi
    rm -f "$runs/$name.exit"
    : >"$runs/$name.log"
    cd "$root"
    setsid bash -c 'status=0; "${@:2}" || status=$?; echo $status >"$1.exit"' _ "$runs/$name" "$@" \
        >>"$runs/$name.log" 2>&1 </dev/null &
    echo $! >"$runs/$name.pid"
    watch "$name"
}

study() {
    [ -n "$head" ] || refuse "no cluster runs here: bring it up with \`ray up\`"
    run "$1" python -u "${@:2}" --address "$head"
}

code() {
    printf 'exit=%s\n' "$(cat "$runs/$1.exit" 2>/dev/null || true)"
}

case "${1-} ${2-} $head" in
"ray start "* | "ray symmetric-run "*) ;;
*" 127.0.0.1:"*) on_this_host_alone ;;
esac
case ${1-} in
setup | token | stop) "$1" ;;
run | study | code) "$@" ;;
ray)
    case ${2-} in
    start) start "${@:3}" ;;
    symmetric-run) symmetric_run "${@:3}" ;;
    stop) stop ;; # Ray's would end every Ray on this machine
    *) exec "$@" ;;
    esac
    ;;
python) exec "$@" ;;
*) refuse "expected setup, token, ray, stop, run, study, code or python, got '${1-}'" ;;
esac
