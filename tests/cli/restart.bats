#!/usr/bin/env bats
# shellcheck disable=SC2154 # names, not variables
# lockctl when its daemon dies, stops or does not answer.

load helper

killed() { # kills the daemon and waits for its end
        local daemon
        daemon=$(daemon_pid)
        kill -KILL "$daemon"
        eventually ended "$daemon"
}

another() { # a daemon other than that of $1
        local now
        now=$(daemon_pid)
        [ -n "$now" ] && [ "$now" != "$1" ]
}

held_by() { # NAME TOKEN
        "$LOCKCTL" list -o PID,STATE,TOKEN -n | grep -Eq "^ *${PIDS[$1]} +held +$2\$"
}

@test "restart: who holds is in the next daemon's list, with its token and session" {
        hold a "$LOCKCTL" run f
        local token session
        token=$("$LOCKCTL" list -o TOKEN -n | tr -d ' ')
        session=$("$LOCKCTL" list -o SESSION -n | tr -d ' ')
        killed
        eventually held_by a "$token"
        [ "$("$LOCKCTL" list -o SESSION -n | tr -d ' ')" = "$session" ]
        run -1 "$LOCKCTL" run -n f true
        has "held by"
        release a 3
        finish a 3
        run -0 "$LOCKCTL" run -n f true
}

@test "restart: those who wait are served in their order, also after a stop" {
        local how name
        for how in killed stop; do
                rm -f order
                hold "first$how" "$LOCKCTL" run f
                for name in b c d; do
                        start "$name$how" "$LOCKCTL" run f
                        waits "$name$how"
                done
                if [ "$how" = killed ]; then killed; else
                        "$LOCKCTL" stop
                fi
                waits "b$how" "c$how" "d$how"
                release "first$how"
                finish "first$how" 0
                for name in b c d; do
                        await "$name$how"
                        release "$name$how"
                        finish "$name$how" 0
                done
                [ "$(tr '\n' ' ' <order)" = "first$how b$how c$how d$how " ]
        done
}

@test "restart: a lock broken just before the daemon died ends the command, with 75" {
        hold a "$LOCKCTL" run f
        local daemon lock
        daemon=$(daemon_pid)
        lock=$("$LOCKCTL" list -o LOCK -n | tr -d ' ')
        kill -STOP "${PIDS[a]}" # it hears of both at once
        "$LOCKCTL" break --yes "$lock"
        kill -KILL "$daemon"
        eventually ended "$daemon"
        kill -CONT "${PIDS[a]}"
        finish a 75
        run -0 cat a.err
        has "taken away"
}

@test "restart: a lock dropped while there was no daemon is lost though it is free" {
        hold a "$LOCKCTL" run f
        local daemon
        daemon=$(daemon_pid)
        kill -STOP "${PIDS[a]}"
        kill -KILL "$daemon"
        eventually ended "$daemon"
        # The command has inherited the description, and lets go of the lock.
        "$PYTHON" - "$CHILD" <<'EOF'
import ctypes, fcntl, os, sys
libc = ctypes.CDLL(None, use_errno=True)
pidfd = os.pidfd_open(int(sys.argv[1]))
target = os.path.realpath("f")
for name in os.listdir(f"/proc/{sys.argv[1]}/fd"):
    if os.path.realpath(f"/proc/{sys.argv[1]}/fd/{name}") == target:
        fd = libc.syscall(438, pidfd, int(name), 0)
        assert fd >= 0, ctypes.get_errno()
        fcntl.flock(fd, fcntl.LOCK_UN)
        break
else:
    raise SystemExit("the command has no descriptor of it")
EOF
        flock -n f true
        kill -CONT "${PIDS[a]}"
        finish a 75
        run -0 cat a.err
        has "taken away (reclaim)"
}

@test "restart: without any daemon for long it keeps the lock, says so and goes on" {
        PORTALOCK_NO_SPAWN=1 run -0 "$LOCKCTL" run f true
        "$LOCKCTL" run f true # a daemon
        PORTALOCK_NO_SPAWN=1 PORTALOCK_RECONNECT_MS=100 hold a "$LOCKCTL" run f
        killed
        said() { grep -q "stays locked" a.err; }
        eventually said
        run -1 flock -n f true
        release a 4
        finish a 4
        flock -n f true
}

@test "restart: who waits without a daemon for long locks directly, unless it must not" {
        "$LOCKCTL" run f true # a daemon
        hold a flock f # outside: nobody of ours
        PORTALOCK_NO_SPAWN=1 PORTALOCK_RECONNECT_MS=100 start b "$LOCKCTL" run f
        PORTALOCK_NO_SPAWN=1 PORTALOCK_RECONNECT_MS=100 start c "$LOCKCTL" run --require-daemon f
        waits b c
        killed
        finish c 76
        release a
        await b
        release b
        finish b 0
}

@test "restart: -w ends in time while there is no daemon" {
        "$LOCKCTL" run f true # a daemon
        hold a flock f
        PORTALOCK_NO_SPAWN=1 start b "$LOCKCTL" run -w 1 f
        waits b
        local began=$SECONDS
        killed
        finish b 1
        [ $((SECONDS - began)) -lt $((5 * ${PORTALOCK_SLOW:-1})) ]
}

@test "restart: a daemon that is stopped: -w and -n end in time, and leave no ghost" {
        "$LOCKCTL" run f true # a daemon
        hold a flock f
        start b "$LOCKCTL" run -w 1 f
        waits b
        local daemon began=$SECONDS
        daemon=$(daemon_pid)
        kill -STOP "$daemon"
        finish b 1
        run -1 "$LOCKCTL" run -w 1 f true
        [ $((SECONDS - began)) -lt $((8 * ${PORTALOCK_SLOW:-1})) ]
        run -1 "$LOCKCTL" run -n f true # ten seconds
        [ $((SECONDS - began)) -lt $((25 * ${PORTALOCK_SLOW:-1})) ]
        run -0 "$LOCKCTL" run -w 1 g true # directly
        kill -CONT "$daemon"
        release a
        finish a 0
        run -0 "$LOCKCTL" run -w 5 f true
        run -0 "$LOCKCTL" list f
        [ -z "$output" ]
}

@test "restart: watch and list --watch go on" {
        "$LOCKCTL" run f true # a daemon
        "$LOCKCTL" watch >watch.out 2>watch.err 3>&- &
        PIDS[watch]=$!
        "$LOCKCTL" list --watch -n >list.out 2>list.err 3>&- &
        PIDS[list]=$!
        watched() { [ "$("$LOCKCTL" stats | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["gauges"]["sessions"])')" = "$1" ]; }
        eventually watched 3
        local daemon
        daemon=$(daemon_pid)
        kill -KILL "$daemon"
        eventually ended "$daemon"
        gone() { grep -q "daemon is gone" watch.err && grep -q "daemon is gone" list.err; }
        eventually gone
        "$LOCKCTL" run f true # another
        back() { grep -q "there again" watch.err && grep -q "there again" list.err; }
        eventually back
        hold a "$LOCKCTL" run f
        granted() { grep -q "granted .*sh" watch.out && grep -q "held" list.out; }
        eventually granted
        release a
        finish a 0
        kill "${PIDS[watch]}" "${PIDS[list]}"
}

# Every daemon is killed within 50 to 300 ms; who needs one starts it.
@test "restart: 6 workers x 15 rounds, the daemon is killed all the time: nobody is let in twice, no update is lost" {
        echo 0 >count
        cat >round <<'EOF'
mkdir inside || { echo twice >>wrong; exit 99; }
read -r n <count
sleep 0.01
echo $((n + 1)) >count
rmdir inside
EOF
        worker() {
                local i
                for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
                        "$LOCKCTL" run f sh round || echo "round $i: exit $?" >>wrong
                done
        }
        local w daemon kills=0
        for w in 1 2 3 4 5 6; do
                worker "$w" 3>&- &
                PIDS["$w"]=$!
        done
        while ! { ended "${PIDS[1]}" && ended "${PIDS[2]}" && ended "${PIDS[3]}" && ended "${PIDS[4]}" && ended "${PIDS[5]}" && ended "${PIDS[6]}"; }; do
                sleep "0.$(printf '%03d' $((50 + RANDOM % 250)))"
                daemon=$(daemon_pid)
                [ -n "$daemon" ] || continue
                kill -KILL "$daemon" && kills=$((kills + 1))
        done
        wait "${PIDS[@]}"
        [ ! -e wrong ] || cat wrong
        [ ! -e wrong ]
        [ "$(cat count)" -eq 90 ]
        echo "killed $kills daemons"
        [ "$kills" -ge 5 ]
        flock -n f true
}
