# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # PIDS is the helper's
# Commands on a pseudo terminal, by script(1). What they write there is in NAME.screen; what they are to read comes by `keys NAME TEXT`.
#

# on_terminal NAME WORD...
on_terminal() {
        local name=$1 go
        shift
        mkfifo "$name.keys"
        exec {go}<>"$name.keys"
        KEYS[$name]=$go
        : >"$name.screen" # before anybody looks
        # What runs in the background here ignores keys like ^C, which would be inherited.
        env --default-signal=INT,QUIT script -qefc "stty cols 200; exec $(printf '%q ' "$@")" /dev/null <"$name.keys" >"$name.screen" 2>&1 3>&- {go}>&- &
        PIDS["$name"]=$!
}
declare -gA KEYS=()

keys() { # NAME TEXT
        printf %s "$2" >&"${KEYS[$1]}"
}

says() { # NAME REGEX
        tr '\r' '\n' <"$1.screen" | sed 's/\x1b\[K//g' | grep -qE "$2"
}

terminal_ends() { # NAME CODE
        touch "$1.err"
        finish "$1" "$2"
}
