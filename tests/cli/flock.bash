# shellcheck shell=bash
# One case for two programs: lockctl under the name flock, and the system's flock(1).
# shellcheck disable=SC2154 # PIDS is the helper's
#

prepare() { # WHO
        mkdir -p "$DIR/$1/bin"
        ln -s "$(type -P "$([ "$1" = ours ] && echo "$LOCKCTL" || echo flock)")" "$DIR/$1/bin/flock"
}

# as WHO COMMAND...: in a folder of its own, where `flock` is ours or theirs. OURS is then yes or no.
as() {
        local who=$1
        shift
        [ -e "$DIR/$who/bin" ] || prepare "$who"
        cd "$DIR/$who" || return
        local PATH=$DIR/$who/bin:$PATH OURS=yes
        [ "$who" = ours ] || OURS=no
        echo "# with $who flock"
        "$@"
        cd "$DIR" || return
}

# both FUNCTION: it may leave holders behind.
both() {
        as ours "$1"
        let_go
        as theirs "$1"
}

let_go() {
        local name
        for name in "${!PIDS[@]}"; do
                release "$name"
                eventually ended "${PIDS[$name]}"
        done
        # shellcheck disable=SC2034 # the helper's
        PIDS=() GO=() READY=()
}

# same CODE SCRIPT [STDOUT]: what a shell makes of it with ours and with theirs: exit code, stdout and stderr, which must be what was expected, too.
same() {
        as ours in_shell "$2"
        as theirs in_shell "$2"
        local what
        for what in code out err; do
                [ "$(<"ours/$what")" = "$(<"theirs/$what")" ] || {
                        echo "$2: $what differs; ours: $(<"ours/$what"); theirs: $(<"theirs/$what")"
                        return 1
                }
        done
        if [ "$(<ours/code)" -ne "$1" ] || [ "$(<ours/out)" != "${3-}" ]; then
                echo "$2: $(<ours/code), $(<ours/out)"
                return 1
        fi
}

in_shell() {
        local code=0
        bash -c "$1" >out 2>err 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- || code=$?
        echo "$code" >code
}

# blocked NAME: what `start` began waits for its lock.
blocked() {
        if [ "$OURS" = yes ]; then
                waits "$1"
        else
                eventually queued_in_kernel "${PIDS[$1]}"
        fi
}
