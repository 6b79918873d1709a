#!/usr/bin/env bats
# lockctl dies, the command keeps its lock: for how long, and how it is listed.
# shellcheck disable=SC2030,SC2031 # each test is a subshell, and means to be one
# shellcheck disable=SC2153,SC2154 # CHILD, PARENT and PIDS are the helper's
load helper

# STATE, PID and COMMAND of each row, in one line.
rows() {
        "$LOCKCTL" list -n -o STATE,PID,COMMAND "$@" | tr -s ' ' | sed 's/^ //; s/ $//' | paste -sd ,
}
# What the daemon knows of outsiders may be a second old.
shows() { # ROWS FILE...
        local expected=$1
        shift
        [ "$(rows "$@")" = "$expected" ] || {
                rows "$@" >last
                return 1
        }
}
listed() { eventually shows "$@" || { echo "expected $1, last seen: $(cat last)"; return 1; }; }

# kill_lockctl NAME: its command lives on.
kill_lockctl() {
        kill -KILL "${PIDS[$1]}"
        eventually ended "${PIDS[$1]}"
}

@test "orphan: SIGKILL of lockctl takes nothing from its command, which is listed; who waits gets in when it ends" {
        hold a "$LOCKCTL" run f
        local orphan=$CHILD
        kill_lockctl a
        run ! ended "$orphan"
        run -1 flock -n f true
        start b "$LOCKCTL" run f
        waits b
        listed "outside $orphan sh,waiting ${PIDS[b]} sh" f
        listed "outside $orphan sh,waiting ${PIDS[b]} sh"
        # ... and named to those who are refused
        refused() { ! "$LOCKCTL" run -n f true 2>refused.err && grep -q "sh\[$orphan\]" refused.err; }
        eventually refused
        [ "$(cat order)" = a ]
        release a
        await b
        listed "held ${PIDS[b]} sh" f
        release b
        finish b 0
}

@test "orphan: a file that nobody waits for is listed when it is named" {
        hold a "$LOCKCTL" run f
        local orphan=$CHILD
        kill_lockctl a
        listed "outside $orphan sh" f
        [ -z "$(rows)" ]
        release a
        eventually ended "$orphan"
        listed "" f
}

@test "orphan: a grandchild that inherited the lock keeps it, and is named when the command has ended" {
        mkfifo stay
        exec {stay}<>stay
        # shellcheck disable=SC2016 # for the inner shell
        hold a "$LOCKCTL" run f sh -c '(echo >&9; read -r _ <stay) & "$@"' sh {stay}>&- 9>pid
        local command=$PARENT
        kill_lockctl a
        listed "outside $command sh" f
        start b "$LOCKCTL" run f
        waits b
        release a
        eventually ended "$command"
        grandchild_is_named() { [[ $(rows f) =~ ^"outside "([0-9]+)" sh,waiting ${PIDS[b]} sh"$ ]] && [ "${BASH_REMATCH[1]}" != "$command" ]; }
        eventually grandchild_is_named
        run ! ended "${BASH_REMATCH[1]}"
        [ "$(cat order)" = a ]
        echo go >&"$stay"
        exec {stay}>&-
        await b
        release b
        finish b 0
}

@test "orphan: shared ones are told from those whose lockctl lives" {
        hold a "$LOCKCTL" run -s f
        hold b "$LOCKCTL" run -s f
        local orphan=$CHILD
        hold c "$LOCKCTL" run -s f
        hold d "$LOCKCTL" run -s f
        local second=$CHILD
        kill_lockctl b
        kill_lockctl d
        listed "held ${PIDS[a]} sh,held ${PIDS[c]} sh,outside $orphan sh,outside $second sh" f
        release b
        eventually ended "$orphan"
        listed "held ${PIDS[a]} sh,held ${PIDS[c]} sh,outside $second sh" f
}

@test "orphan: the daemon and lockctl both killed, a new daemon names the command" {
        hold a "$LOCKCTL" run f
        local orphan=$CHILD daemon
        daemon=$(daemon_pid)
        # Else lockctl would tell a new one of its lock.
        kill -STOP "${PIDS[a]}"
        kill -KILL "$daemon"
        eventually ended "$daemon"
        kill_lockctl a
        start b "$LOCKCTL" run f
        waits b
        listed "outside $orphan sh,waiting ${PIDS[b]} sh" f
        release a
        await b
        release b
        finish b 0
}

@test "orphan: a lock on the shell's own descriptor is listed with the shell" {
        exec 9>f
        "$LOCKCTL" run 9
        listed "outside $BASHPID bash" f
        exec 9>&-
        listed "" f
}
