# shellcheck shell=bash
# shellcheck disable=SC2154 # bats sets output
# What the tests of lockctl share: a folder and a daemon for each test, commands that hold a lock until they are told to let go.
#
# Nothing here sleeps to hope for the best. Holders report through a fifo once they have their lock and wait at another one;
# what has no event of its own (somebody has begun to wait, a process has ended) is asked again until a deadline that fails the test.

bats_require_minimum_version 1.5.0

: "${LOCKCTL:=lockctl}"
PATIENCE=20 # seconds after which something awaited is given up: a failure, never a pause

setup_file() {
        type -P "$LOCKCTL" >/dev/null || {
                echo "no $LOCKCTL: name the program in LOCKCTL"
                return 1
        }
        # Found once: a wrapper named python3 (pyenv's) takes longer than most tests.
        PYTHON=$(python3 -c 'import sys; print(sys.executable)')
        export PYTHON
        mkfifo "$BATS_FILE_TMPDIR/never"
}

setup() {
        DIR=$BATS_TEST_TMPDIR
        cd "$DIR" || return
        unset PORTALOCK_NO_SPAWN
        export PORTALOCK_SOCKET=$DIR/socket XDG_STATE_HOME=$DIR/state
        # The daemon's stderr is nobody's: what the sanitizers say must be found in files.
        export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}log_path=$DIR/sanitizer" UBSAN_OPTIONS="log_path=$DIR/sanitizer"
        declare -gA PIDS=() READY=() GO=()
        exec {NEVER}<>"$BATS_FILE_TMPDIR/never"
}

teardown() {
        local name daemon
        for name in "${!GO[@]}"; do
                release "$name"
        done
        for name in "${!PIDS[@]}"; do
                eventually ended "${PIDS[$name]}" || kill -KILL "${PIDS[$name]}"
        done
        daemon=$(daemon_pid)
        if [ -n "$daemon" ]; then
                "$LOCKCTL" stop --force
                eventually ended "$daemon" || kill -KILL "$daemon"
        fi
        exec {NEVER}>&-
        cd / || return
        if compgen -G "$DIR/sanitizer.*" >/dev/null; then
                cat "$DIR"/sanitizer.*
                return 1
        fi
}

# eventually COMMAND...: asks until it succeeds.
eventually() {
        local deadline=$((SECONDS + PATIENCE))
        until "$@"; do
                [ "$SECONDS" -lt "$deadline" ] || {
                        echo "never came true: $*"
                        return 1
                }
                read -rt 0.01 -u "$NEVER" || : # between two questions
        done
}

# Gone, or a zombie that its parent (or a slow init) has not collected yet.
ended() { # PID
        local stat
        { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
        [[ $stat == *') '[ZX]' '* ]]
}

# The pid of this test's daemon; nothing if none runs.
daemon_pid() {
        [ -S "$PORTALOCK_SOCKET" ] || return 0
        if [[ $("$LOCKCTL" ping 2>/dev/null) =~ ", pid "([0-9]+), ]]; then
                echo "${BASH_REMATCH[1]}"
        fi
}

# start NAME WORD...: runs WORD... with a command behind it that notes NAME in the file `order`, reports and stays until `release NAME`.
# Output goes to NAME.out and NAME.err. `start a "$LOCKCTL" run f`, `start b flock f`.
start() {
        local name=$1 ready go
        shift
        mkfifo "$name.ready" "$name.go"
        exec {ready}<>"$name.ready" {go}<>"$name.go"
        READY[$name]=$ready
        GO[$name]=$go
        # shellcheck disable=SC2016 # for the inner shell
        "$@" sh -c 'echo "$1" >>order; echo "$$ $PPID" >"$1.ready"; read -r code <"$1.go"; exit "$code"' sh "$name" \
                >"$name.out" 2>"$name.err" 3>&- {ready}>&- {go}>&- &
        PIDS[$name]=$!
}

# await NAME: until it has its lock. CHILD and PARENT are then the pids of the command and of its parent.
await() {
        # shellcheck disable=SC2034 # for the tests
        if ! { eventually reported_or_ended "$1" && read -rt 0.1 -u "${READY[$1]}" CHILD PARENT; }; then
                echo "$1 did not get in: $(cat "$1.err")"
                return 1
        fi
}

reported_or_ended() {
        read -rt 0 -u "${READY[$1]}" || ended "${PIDS[$1]}"
}

hold() {
        start "$@"
        await "$1"
}

# release NAME [CODE]: lets it end, with CODE.
release() {
        echo "${2:-0}" >&"${GO[$1]}"
}

# finish NAME CODE: until what `start` ran has ended, which must be with CODE.
finish() {
        local code=0
        eventually ended "${PIDS[$1]}"
        wait "${PIDS[$1]}" || code=$?
        [ "$code" -eq "$2" ] || {
                echo "$1 ended with $code, expected $2: $(cat "$1.err")"
                return 1
        }
}

# In the daemon's queue, by the list.
queued() { # NAME
        "$LOCKCTL" list | awk -v pid="${PIDS[$1]}" '$2 == pid && $5 == "waiting" { found = 1 } END { exit !found }'
}

# In the kernel's queue, by /proc/locks.
queued_in_kernel() { # PID
        grep -q -- "-> FLOCK .* $1 " /proc/locks
}

waits() { # NAME...
        local name
        for name in "$@"; do
                eventually queued "$name"
        done
}

# $output is one line.
one_line() {
        if [ -z "$output" ] || [ "$(wc -l <<<"$output")" -ne 1 ]; then
                echo "not one line: $output"
                return 1
        fi
}

# has TEXT...: each is part of $output.
has() {
        local text
        for text in "$@"; do
                [[ $output == *"$text"* ]] || {
                        echo "'$text' is missing in: $output"
                        return 1
                }
        done
}

# path_lock FILE WORD...: takes a lock by path, as a plain JSON client does, runs WORD... and ends.
path_lock() {
        "$PYTHON" -c '
import json, socket, subprocess, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "lock", "params": {"path": sys.argv[2], "flags": ["LOCK_EX"]}}).encode() + b"\n")
assert "result" in json.loads(s.makefile().readline())
sys.exit(subprocess.call(sys.argv[3:]))' "$PORTALOCK_SOCKET" "$@"
}
