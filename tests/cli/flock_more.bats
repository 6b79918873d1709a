#!/usr/bin/env bats
# Called by the name flock, lockctl is flock(1), on descriptors too; and without a daemon.
# shellcheck disable=SC2016 # what is in single quotes is for an inner shell
# shellcheck disable=SC2030,SC2031 # each test is a subshell, and means to be one
# shellcheck disable=SC2317 # functions are called by their names
# shellcheck disable=SC2153,SC2154 # CHILD, PARENT and PIDS are the helper's; stderr is set by run
load helper
load flock

# ---- descriptors ----

twice_on_one_descriptor() {
        local fd
        exec {fd}<>f
        run -0 flock "$fd"
        run -0 flock "$fd"
        run -0 flock -n "$fd"
        start c flock f
        blocked c
        run -0 flock "$fd"
        run -0 flock -s "$fd"
        if [ "$OURS" = yes ]; then # the one difference we mean to have: nobody is overtaken
                run -1 flock -sn f echo never
        else
                run -0 flock -sn f echo shared
        fi
        run -0 flock -xn "$fd"
        run -1 flock -sn f echo never
        [ ! -e order ]
        run -0 flock -u "$fd"
        await c
        run -1 flock -n "$fd"
        release c
        finish c 0
        run -0 flock -n "$fd"
        exec {fd}>&-
        run -0 flock -n f echo free
}
@test "flock: twice on the same descriptor, while a third waits" {
        both twice_on_one_descriptor
}

passed_on() {
        local fd
        printf '%s\n' 'flock "$1" && echo "locked again"' 'flock -n f echo never' '[ "$2" = keep ] || flock -u "$1"' >script
        exec {fd}<>f
        run -0 flock "$fd"
        start c flock f
        blocked c
        run -0 sh script "$fd" keep
        [ "$output" = "locked again" ]
        run -1 flock -n f true
        [ ! -e order ]
        run -0 sh script "$fd" unlock
        await c
        release c
        finish c 0
        # locked by the script, it stays with whoever has the descriptor
        run -0 sh script "$fd" keep
        run -1 flock -n f true
        exec {fd}>&-
        run -0 flock -n f true
}
@test "flock: on a descriptor that another script passed on, while a third waits" {
        both passed_on
}

@test "flock: descriptors wait and are served in turn (ours only: through the daemon)" {
        in_turn() {
                local name fd
                exec {fd}<>f
                flock "$fd"
                for name in b d; do
                        start "$name" flock f
                        waits "$name"
                        start "${name}9" sh -c 'exec 9>f; flock 9 && exec "$@"' sh
                        eventually waits_under "${name}9"
                done
                for name in b b9 d d9; do
                        release "$name"
                done
                run -0 sh -c "flock -n $fd && flock -n $fd" # again, past all of them
                flock -u "$fd"
                for name in b b9 d d9; do
                        finish "$name" 0
                done
                [ "$(tr '\n' ' ' <order)" = "b b9 d d9 " ]
        }
        waits_under() { # NAME: a child of it is in the queue
                local pid
                pid=$(pgrep -P "${PIDS[$1]}" -x flock) && "$LOCKCTL" list -n -o PID,STATE | grep -q "^ *$pid waiting"
        }
        as ours in_turn
}

# ---- without a daemon (ours only) ----

@test "flock: without a daemon it locks directly, and says so with --verbose only" {
        directly() {
                export PORTALOCK_NO_SPAWN=1
                hold a flock f
                [ ! -e "$PORTALOCK_SOCKET" ]
                run -1 flock -n f echo never
                [ -z "$output" ]
                run -3 flock -w .05 -E 3 f echo never
                [ -z "$output" ]
                run -0 --separate-stderr flock g echo in
                [ "$output" = in ]
                [ -z "$stderr" ]
                run -0 --separate-stderr flock --verbose g true
                [[ $stderr == "flock: "*"flock(2)"* ]]
                has "flock: getting lock took " "flock: executing true"
                start b flock f
                eventually queued_in_kernel "${PIDS[b]}"
                release a
                await b
                exec 9<>g
                run -0 flock 9
                [ -z "$output" ]
                run -1 flock -n g true
                run -0 flock -u 9
                run -0 flock -n g true
                exec 9>&-
        }
        as ours directly
}
