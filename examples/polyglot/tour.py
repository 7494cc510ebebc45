#!/usr/bin/env python3
"""Sends tokens round the ring of the app that runs, and replaces every station while they travel: first by its own edited source,
then by its rewrite in the next language, and so on, round all languages and back. At the end it counts: no token is lost or doubled,
and no station has forgotten one that it has seen.

    exuvia run --no-store &      # here
    ./tour.py

$EXUVIA is the command, `exuvia` without.
"""

import json
import os
import subprocess
import sys
import time

EXUVIA = os.environ.get("EXUVIA", "exuvia")
LANGUAGES = ["c", "zig", "assemblyscript", "go", "javascript", "python", "rust"]
STATIONS = [f"station-{number}" for number in range(1, len(LANGUAGES) + 1)]
TOKENS = 50
PATIENCE = 60  # seconds

os.chdir(os.path.dirname(os.path.abspath(__file__)))


def exuvia(*arguments):
    done = subprocess.run([EXUVIA, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"exuvia {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def ask(station, request):
    return json.loads(exuvia("send", station, json.dumps(request), "--call"))


def counts():
    return [ask(station, "Count") for station in STATIONS]


def passed():
    return sum(count["passed"] for count in counts())


def wait_for(what, is_true):
    end = time.monotonic() + PATIENCE
    while not is_true():
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {PATIENCE} s; the counts are {counts()}")
        time.sleep(0.05)


def replace(station, module, language, version):
    """Replaces one station while tokens travel. It has the code afterwards, the same pid, and counts on."""
    pid, before = pid_of(station), ask(station, "Count")
    exuvia("deploy", f"build/{module}.wasm", "--name", station)
    # New code takes over between two messages.
    wait_for(f"{station} runs {module}", lambda: is_at(station, language, version))
    after = ask(station, "Count")
    if pid_of(station) != pid or after["passed"] < before["passed"]:
        sys.exit(f"{station} began anew: {before}, then {after}")
    at = passed()
    wait_for("the ring turns", lambda: passed() > at)


def is_at(station, language, version):
    count = ask(station, "Count")
    return (count["language"].lower(), count["version"]) == (language, version)


def pid_of(station):
    return next(process["pid"] for process in json.loads(exuvia("ps", "--json")) if station in process["names"])


def main():
    for language in LANGUAGES:
        for version in (1, 2):
            name = language if version == 1 else f"{language}-{version}"
            if not os.path.isfile(f"build/{name}.wasm"):
                sys.exit(f"build/{name}.wasm is missing: ./build.sh {language} {version}")
    begin = passed()
    if begin:
        sys.exit("tokens have travelled here before: start the app anew")
    for token in range(TOKENS):
        exuvia("send", STATIONS[token % len(STATIONS)], '{"Pass": {"hops": 0}}')
    wait_for("the ring turns", lambda: passed() > 1000)
    swaps = 0
    for station, language in zip(STATIONS, LANGUAGES):
        replace(station, f"{language}-2", language, 2)
        swaps += 1
    print(f"each station was replaced by its edited source; {passed():,} tokens have come by")
    for offset in range(1, len(LANGUAGES) + 1):
        for number, station in enumerate(STATIONS):
            language = LANGUAGES[(number + offset) % len(LANGUAGES)]
            replace(station, language, language, 1)
            swaps += 1
        names = ", ".join(count["language"] for count in counts())
        print(f"they are {names} now; {passed():,} tokens have come by")
    for station in STATIONS:
        ask(station, "Halt")
    wait_for("all tokens arrive", lambda: sum(count["arrived"] for count in counts()) >= TOKENS)
    total = {name: sum(count[name] for count in counts()) for name in ("passed", "arrived", "travelled")}
    print(f"{swaps} swaps; {TOKENS} tokens, {total['arrived']} arrived; they were seen {total['passed']:,} times, and say {total['travelled']:,}")
    if total["arrived"] != TOKENS or total["passed"] != total["travelled"]:
        sys.exit("tokens or hops were lost, or counted twice")
    print("nothing was lost")


main()
