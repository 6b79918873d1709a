#!/usr/bin/env bats
# lockctl run --remove: the lock file goes when the command has ended, and nobody is let in twice for that.
# That exclusion holds while files come and go all the time is shown by integration/test_remove.c.
# shellcheck disable=SC2016 # what is in single quotes is for an inner shell
# shellcheck disable=SC2030,SC2031 # each test is a subshell, and means to be one
# shellcheck disable=SC2153,SC2154 # CHILD, PARENT and PIDS are the helper's; stderr is set by run
load helper

without_daemon() {
        PORTALOCK_NO_SPAWN=1 PORTALOCK_SOCKET=$DIR/none "$@"
}

inode() { stat -c %i "$1"; }

@test "remove: the file is there while the command runs, and gone afterwards; the exit code is the command's" {
        local mode
        for mode in "" without_daemon; do
                run -7 $mode "$LOCKCTL" run --remove f sh -c 'echo "$1"; test -f "$1" && exit 7' sh f
                [ "$output" = f ]
                [ ! -e f ]
                run -137 $mode "$LOCKCTL" run --remove f sh -c 'kill -9 $$'
                [ ! -e f ]
                run -69 $mode "$LOCKCTL" run --remove f no-such-command
                [ ! -e f ]
                run -0 $mode "$LOCKCTL" run --remove -o f true
                [ ! -e f ]
                echo kept >f
                run -0 $mode "$LOCKCTL" run --remove f cat f
                [ "$output" = kept ]
                [ ! -e f ]
        done
}

@test "remove: nobody's file goes but the one that is locked" {
        local mode
        for mode in "" without_daemon; do
                # replaced meanwhile
                run -0 $mode "$LOCKCTL" run --remove f sh -c 'rm f; echo new >f'
                [ -z "$output" ]
                [ "$(<f)" = new ]
                rm f
                # gone meanwhile
                run -0 $mode "$LOCKCTL" run --remove f rm f
                [ -z "$output" ]
                # a link to it, made meanwhile
                run -0 $mode "$LOCKCTL" run --remove f sh -c 'mv f g; ln -s g f'
                [ -z "$output" ]
                [ -L f ]
                rm f g
                # another name of it
                run -0 $mode "$LOCKCTL" run --remove f ln f g
                one_line
                has "f: not removed: it has other names"
                [ "$(inode f)" = "$(inode g)" ]
                rm f g
        done
}

@test "remove: who could not have the lock removes nothing" {
        hold a "$LOCKCTL" run f
        run -1 "$LOCKCTL" run --remove -n f true
        run -1 "$LOCKCTL" run --remove -w 0.05 f true
        run -1 without_daemon "$LOCKCTL" run --remove -n f true
        [ -e f ]
        release a
        finish a 0
        [ -e f ]
}

@test "remove: a broken lock removes nothing" {
        local option code
        for option in kill warn; do
                hold "$option" "$LOCKCTL" run --remove --on-lost "$option" f
                run -0 "$LOCKCTL" break --yes "$("$LOCKCTL" list -n -o LOCK f | tr -d ' ')"
                code=75
                if [ "$option" = warn ]; then
                        told() { grep -q 'taken away' warn.err; }
                        eventually told
                        release warn 3
                        code=3
                fi
                finish "$option" $code
                [ -e f ]
        done
}

@test "remove: those who wait are let in one after the other, on a file that is there" {
        hold a "$LOCKCTL" run --remove f
        local first
        first=$(inode f)
        start b "$LOCKCTL" run --remove f
        waits b
        without_daemon start c "$LOCKCTL" run --remove f
        eventually queued_in_kernel "${PIDS[c]}"
        start d path_lock "$DIR/f"
        eventually two_wait
        exec {old}<f # that its inode is not used again
        release a
        finish a 0
        # whoever of them is first, it is alone, and its file is the one that is there
        local in=a next
        for _ in 1 2 3; do
                eventually somebody_is_in "$in"
                next=$(tail -n 1 order)
                await "$next"
                [ "$(inode f)" != "$first" ]
                run -1 flock -n f true
                release "$next"
                finish "$next" 0
                in+=" $next"
        done
        [ "$(sort order | paste -sd ' ')" = "a b c d" ]
        exec {old}<&-
}
two_wait() { [ "$("$LOCKCTL" list -n -o STATE f | grep -c waiting)" -eq 2 ]; }
somebody_is_in() { [ "$(paste -sd ' ' order)" != "$1" ]; }

@test "remove: of those who share the last one removes" {
        hold a "$LOCKCTL" run --remove -s f
        hold b "$LOCKCTL" run --remove -s f
        hold c flock -s f
        release a
        finish a 0
        [ -e f ]
        release c
        finish c 0
        [ -e f ]
        release b
        finish b 0
        [ ! -e f ]
        without_daemon hold d "$LOCKCTL" run --remove -s f
        hold e "$LOCKCTL" run --remove -s f
        release d
        finish d 0
        [ -e f ]
        # what it could not have it has not taken from the other either
        run -1 flock -n f true
        release e
        finish e 0
        [ ! -e f ]
        without_daemon run -0 "$LOCKCTL" run --remove -s f true
        [ ! -e f ]
}

@test "remove: a daemon that died meanwhile does not keep it from removing" {
        local mode daemon
        for mode in -x -s; do
                hold "a$mode" "$LOCKCTL" run --remove $mode f
                daemon=$(daemon_pid)
                kill -KILL "$daemon"
                eventually ended "$daemon"
                release "a$mode"
                finish "a$mode" 0
                [ -z "$(cat "a$mode.err")" ]
                [ ! -e f ]
        done
}

@test "remove: what the system forbids is a warning; the exit code stays the command's" {
        mkdir d
        if [ "$(id -u)" -eq 0 ]; then
                touch d/f
                chattr +i d/f 2>/dev/null || skip "root may remove everything, and this file system knows no immutable files"
        fi
        run "$LOCKCTL" run --remove d/f sh -c 'chmod 555 d; exit 3'
        chmod 755 d
        [ "$(id -u)" -ne 0 ] || chattr -i d/f
        [ "$status" -eq 3 ]
        one_line
        [[ $output =~ "d/f: not removed: "(Operation not permitted|Permission denied) ]]
        [ -e d/f ]
}

@test "remove: where it cannot work it is refused in one line, before anything is locked" {
        mkdir d
        ln -s f link
        touch f
        exec 9>g
        run -64 "$LOCKCTL" run --remove 9
        one_line
        has "--remove needs the FILE"
        run -64 "$LOCKCTL" run --remove --fd 9 touch ran
        one_line
        has "--remove needs the FILE"
        run -64 "$LOCKCTL" run --remove -u f touch ran
        one_line
        has --remove --unlock
        run -64 "$LOCKCTL" run --remove -F f touch ran
        one_line
        has --remove --no-fork
        run -64 "$LOCKCTL" run --remove d touch ran
        one_line
        has "'d' is a directory"
        run -64 "$LOCKCTL" run --remove link touch ran
        one_line
        has "'link' is a symbolic link"
        run -64 "$LOCKCTL" run --remove /dev/null touch ran
        one_line
        has "'/dev/null' is no regular file"
        run -64 "$LOCKCTL" run --remove=yes f touch ran
        one_line
        [ ! -e ran ]
        exec 9>&-
        # flock(1) does not know it
        ln -s "$(type -P "$LOCKCTL")" flock
        run -64 ./flock --remove f touch ran
        has "unrecognized option '--remove'"
        [ -e f ]
        [ ! -e ran ]
}
