#!/usr/bin/env bats
# Scripts that would wait for each other, or for themselves, for ever: refused with 79 and the circle, instead of hanging.
# shellcheck disable=SC2016 # what is in single quotes is for an inner shell
# shellcheck disable=SC2154 # stderr is set by run
load helper
export LOCKCTL # for inner shells

# Whatever goes wrong here hangs: a guard that kills.
guarded() { timeout -k 1 "$PATIENCE" "$@"; }

somebody_waits_for() { # FILE
        [[ $("$LOCKCTL" list -n -o STATE "$1") == *waiting* ]]
}

milliseconds() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

@test "deadlock: two scripts lock two files in different order, with nested runs" {
        # Each takes its first lock, waits until the other has its own, and goes for the second.
        cat >script <<'END'
first=$1 second=$2
"$LOCKCTL" run "$first" sh -c '
        touch "$1.is-held"
        until [ -e "$2.is-held" ] && { [ "$1" = a ] || "$LOCKCTL" list -n -o STATE a b | grep -q waiting; }; do sleep 0.01; done
        exec "$LOCKCTL" run "$2" touch "$1-had-both"
' sh "$first" "$second"
END
        export LOCKCTL
        guarded sh script a b 3>&- &
        first=$!
        run -79 --separate-stderr guarded sh script b a
        [ -z "$output" ]
        # shellcheck disable=SC2034 # for has
        output=$stderr
        has "lockctl: a: not locked, a deadlock: waiting would never end:"
        has "waits for $DIR/a (LOCK_EX),"
        has "waits for $DIR/b (LOCK_EX),"
        [ "$(grep -c "waits for what it runs" <<<"$output")" -eq 2 ]
        wait "$first" # the other one goes on as soon as this one has ended
        [ -e a-had-both ]
        [ ! -e b-had-both ]
}

@test "deadlock: it is told within 100 ms" {
        hold a "$LOCKCTL" run a
        guarded "$LOCKCTL" run b "$LOCKCTL" run a true 3>&- &
        other=$!
        eventually somebody_waits_for a
        # Below a: its session is the command's parent.
        session=$("$LOCKCTL" list -n -o SESSION a | head -n 1 | tr -d ' ')
        best=1000000
        for _ in 1 2 3 4 5; do # on a busy machine it may take longer until a process has begun
                began=$(milliseconds)
                PORTALOCK_SESSION=$session run -79 guarded "$LOCKCTL" run b true
                took=$(($(milliseconds) - began))
                best=$((took < best ? took : best))
        done
        echo "took $best ms"
        [ "$best" -lt $((100 * ${PORTALOCK_SLOW:-1})) ]
        release a
        finish a 0
        wait "$other"
}

@test "deadlock: a nested run on the lock that its parent holds, through any shell in between" {
        for inner in 'exec "$LOCKCTL" run f true' '"$LOCKCTL" run -s -w 5 f true' 'sh -c "\"\$LOCKCTL\" run -E 3 g \"\$LOCKCTL\" run f true"' 'ln -sf f h; "$LOCKCTL" run h true'; do
                run -79 guarded "$LOCKCTL" run f sh -c "$inner"
                has "a deadlock"
                has "waits for what it runs"
        done
        run -0 guarded "$LOCKCTL" run -s f "$LOCKCTL" run -s f true # they share
        run -79 guarded "$LOCKCTL" run -s f "$LOCKCTL" run f true
}

@test "deadlock: -n says 1, as ever, and -E is for that alone" {
        run -1 guarded "$LOCKCTL" run f "$LOCKCTL" run -n f true
        has "held by"
        run -7 guarded "$LOCKCTL" run f "$LOCKCTL" run -n -E 7 f true
        run -79 guarded "$LOCKCTL" run f "$LOCKCTL" run -w 5 -E 7 f true
}

@test "deadlock: by the name of flock it says so under that name" {
        ln -s "$(type -P "$LOCKCTL")" flock
        run -79 --separate-stderr guarded ./flock f ./flock f true
        # shellcheck disable=SC2034 # for has
        output=$stderr
        has "flock: f: not locked, a deadlock:"
        run -1 guarded ./flock f ./flock -n f true
        run -79 guarded ./flock f "$LOCKCTL" run f true
        run -79 guarded ./flock f ./flock -c f 'true' || run -79 guarded ./flock f ./flock f -c true
}

@test "deadlock: with -F the command keeps the session, and is waited for" {
        run -79 guarded "$LOCKCTL" run -F f "$LOCKCTL" run f true
        run -79 guarded "$LOCKCTL" run f "$LOCKCTL" run -F f true
}

@test "deadlock: a background job without PORTALOCK_SESSION waits until the command has ended" {
        # -o: or the job would inherit the very lock that it waits for.
        run -0 guarded "$LOCKCTL" run -o f sh -c '
                "$LOCKCTL" run f touch refused 3>&- >/dev/null 2>&1 &
                wait $! || echo "the first: $?"
                env -u PORTALOCK_SESSION "$LOCKCTL" run f touch job-ran 3>&- >/dev/null 2>&1 &'
        [ "$output" = "the first: 79" ]
        eventually test -e job-ran
        [ ! -e refused ]
}

@test "deadlock: nonsense in PORTALOCK_SESSION is nobody" {
        hold a "$LOCKCTL" run f
        for id in nonsense 0 -1 99999999999999999999 1; do
                PORTALOCK_SESSION=$id run -1 guarded "$LOCKCTL" run -w 0.05 f true
                PORTALOCK_SESSION=$id run -0 guarded "$LOCKCTL" run g true
        done
        release a
        finish a 0
}
