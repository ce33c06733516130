# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
# What the test scripts share. A script says `. "${srcdir:-.}/tests/functions.sh"`, and then runs in a folder of its own,
# $tmp, that is gone at the end, together with every process that it started through `spawn`.
#
# Where a script has a function at_end, that runs before, with the exit status.
#
# Exit status, as automake's test driver wants it: 0 passed, 77 skipped (says why), anything else failed.

set -euo pipefail
export LC_ALL=C

srcdir=$(cd "${srcdir:-$(dirname "${BASH_SOURCE[0]}")/..}" && pwd)
builddir=$(cd "${builddir:-.}" && pwd)
# What is built, not what may be installed here; as `make check` sets it.
labboot=${LABBOOT:-$builddir/labboot}
export LABBOOT_PLUGIN=${LABBOOT_PLUGIN:-$builddir/.libs/nbdkit-labboot-plugin.so}
export LABBOOT_LIBEXECDIR=${LABBOOT_LIBEXECDIR:-$builddir}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
skip() { say "skipped: $*"; exit 77; }

# Says where, and ends the test.
fail() {
    local i
    say "FAILED: $*"
    for ((i = 1; i < ${#FUNCNAME[@]}; i++)); do
        say "    at ${BASH_SOURCE[i]##*/}:${BASH_LINENO[i - 1]} (${FUNCNAME[i]})"
    done
    exit 1
}

# need PROGRAM…: skips the test where one is missing.
need() {
    local p
    for p; do
        command -v "$p" > /dev/null || skip "there is no $p here"
    done
}

need_root() { [ "$(id -u)" = 0 ] || skip "needs root (a network namespace of its own)"; }

# ---- the folder and the processes of this test -----------------------------------------------------------------------

pids=()

# spawn LOG COMMAND…: in the background; $spawned is its pid. It dies with the test, however the test dies.
spawn() {
    local log=$1
    shift
    setpriv --pdeathsig KILL -- "$@" > "$log" 2>&1 < /dev/null {stdout}>&- &
    spawned=$!
    pids+=("$spawned")
}

alive() { kill -0 "$1" 2> /dev/null; }

# stop PID [SIGNAL]: ends one process, with SIGKILL after ten seconds, and waits for it.
stop() {
    local pid=$1 i
    kill "-${2:-TERM}" "$pid" 2> /dev/null || true
    for ((i = 0; i < 100; i++)); do
        alive "$pid" || break
        sleep 0.1
    done
    kill -KILL "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
}

at_exit() {
    local status=$? pid
    trap '' INT TERM HUP
    set +e
    exec >&"$stdout" # the failure may have come from within a redirection
    if declare -F at_end > /dev/null; then at_end "$status"; fi
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2> /dev/null; done
    for pid in "${pids[@]}"; do wait "$pid" 2> /dev/null; done
    if [ "$status" != 0 ] && [ "$status" != 77 ]; then show_logs; fi
    rm -rf --one-file-system -- "$tmp"
    exit "$status"
}

# After a failure: the ends of all logs, with what a terminal would obey made visible.
show_logs() {
    local log
    for log in "$tmp"/*.log; do
        [ -s "$log" ] || continue
        say "---- the end of ${log##*/}"
        tail -c 3000 "$log" | tail -n 25 | tr -d '\r' | cat -v >&2
    done
}

exec {stdout}>&1
# Short, for Unix sockets may have no more than 107 bytes; open, for dnsmasq serves from it under another user.
tmp=$(mktemp -d "${TMPDIR:-/tmp}/labboot-test.XXXXXX")
chmod 755 "$tmp"
trap at_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# ---- expectations ----------------------------------------------------------------------------------------------------

# expect WANTED GOT [WHAT]
expect() { [ "$1" = "$2" ] || fail "${3:-value}: wanted '$1', got '$2'"; }
# expect_match REGEX GOT [WHAT]
expect_match() { [[ $2 =~ $1 ]] || fail "${3:-value}: wanted a match of '$1', got '$2'"; }
# expect_status STATUS COMMAND…: its output is in $tmp/out and $tmp/err.
expect_status() {
    local wanted=$1 got=0
    shift
    "$@" > "$tmp/out" 2> "$tmp/err" || got=$?
    [ "$got" = "$wanted" ] || fail "'$*': wanted status $wanted, got $got: $(cat "$tmp/err")"
}
# within SECONDS COMMAND…: tries until it succeeds; fails the test when it does not.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || fail "not in time: $*"
        sleep 0.2
    done
}

# ---- labboot -----------------------------------------------------------------------------------------------------------

# write_conf [LINE…]: $LABBOOT_CONFIG with everything in $tmp, the server on a Unix socket only. LINEs are
# SECTION.KEY=VALUE, and stand in for or beside those here.
write_conf() {
    export LABBOOT_CONFIG=$tmp/labboot.conf
    local line section key
    declare -A conf=(
        [server.state-dir]=$tmp/state [server.run-dir]=$tmp/run [server.listen]=""
        [server.unix-socket]=$tmp/nbd.sock [server.log-level]=debug [store.reserve]=0
    )
    for line; do conf[${line%%=*}]=${line#*=}; done
    for section in server network boot store overlay access; do
        echo "[$section]"
        for key in "${!conf[@]}"; do
            if [ "${key%%.*}" = "$section" ]; then echo "${key#*.} = ${conf[$key]}"; fi
        done
    done > "$LABBOOT_CONFIG"
}

# start_serve [NBDKIT OPTION…]: the NBD server; $serve is its pid.
start_serve() {
    spawn "$tmp/serve.log" "$labboot" serve -- "$@"
    serve=$spawned
    within 20 serving
}
serving() {
    alive "$serve" || fail "labboot serve has ended"
    nbdinfo --list "$(nbd_uri '')" > /dev/null 2>&1
}

# nbd_uri EXPORT: on the Unix socket.
nbd_uri() { echo "nbd+unix:///$1?socket=$tmp/nbd.sock"; }

# json EXPRESSION: of the JSON value on stdin, read as `v`; prints it.
json() { /usr/bin/python3 -c 'import json, sys; v = json.load(sys.stdin); exec("print(" + sys.argv[1] + ")")' "$1"; }
