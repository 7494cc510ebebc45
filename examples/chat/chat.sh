#!/usr/bin/env bash
# Chats in this terminal: chat.sh NAME [ROOM]. It wants the chat to run, and the program
# `exuvia` on the path, or where the variable EXUVIA says.
set -euo pipefail
cd "$(dirname "$0")"
exuvia=${EXUVIA:-exuvia}
name=${1:?usage: chat.sh NAME [ROOM]}

json() { # A text as JSON.
    local text=${1//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}
say() {
    "$exuvia" send "user:$name" "{\"Line\": {\"text\": $(json "$1")}}" >/dev/null
}

"$exuvia" send --call door "{\"Enter\": {\"name\": $(json "$name")}}" >/dev/null
pid=$("$exuvia" inspect "user:$name" --json | sed -n 's/.*"pid": *"\(<[^"]*>\)".*/\1/p' | head -n 1)

# What this user's process logs is what is heard. Nothing is missed once the events show the answer to
# a command that there is not.
exec 3< <("$exuvia" events)
events=$!
while say / && ! { IFS= read -r -t 1 -u 3 line && [[ $line == *" $pid user@"* ]]; }; do :; done
while IFS= read -r -u 3 line; do
    case $line in
        *"there is no /:"*) ;;
        *" $pid user@"*) printf '%s\n' "${line#*user@*: }" ;;
    esac
done &
heard=$!
trap 'say /quit; kill "$heard" "$events" 2>/dev/null' EXIT

say "/join ${2:-lobby}"
while IFS= read -r line; do
    [ "$line" = /quit ] && break
    say "$line"
done
