#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Turns the raw logs of runs into one result: KTAP in, a summary out.

usage: report.py [--results FILE] RUN-DIRECTORY...

A run's tests.log has "@begin NAME LIMIT", the test's output, "@end NAME STATUS SECONDS" per test.
Its console.log, if there is one, is searched for whatever a healthy kernel never prints. What
tests/baseline/NAME says a test achieves on the unpatched kernel is what it has to achieve here.
Before the summary comes a table: which tests show which requirement of tests/requirements.txt.
The last line is "N passed, N failed, N skipped".
"""

import argparse
import collections
import fnmatch
import pathlib
import re
import sys

TESTS = pathlib.Path(__file__).parent.parent / "tests"
BASELINE = TESTS / "baseline"
REQUIREMENTS = TESTS / "requirements.txt"
WIDTH = 100                             # of the table of requirements
RESULT = re.compile(r"^(\s*)(ok|not ok) (\d+)(?: -)?\s*(.*?)\s*(?:#\s*(.*))?$")
PLAN = re.compile(r"^(\s*)1\.\.(\d+)\s*(#.*)?$")
SPLAT = re.compile(
    r"WARNING:|BUG:|KASAN:|UBSAN:|kernel BUG at|Oops|general protection fault"
    r"|possible (circular|recursive|irq lock)|INFO: possible|possible deadlock"
    r"|suspicious RCU usage|RCU.*(detected (expedited )?stalls|self-detected stall)|rcu.*stall on"
    r"|INFO: task .* blocked for more than|soft lockup|hard LOCKUP|Kernel panic"
    r"|inconsistent lock state|held lock freed|lock held when returning|bad unlock balance"
    r"|sleeping function called from invalid context|scheduling while atomic"
    r"|Bad page state|list_(add|del) corruption|refcount_t:"
    r"|ODEBUG:|stack-protector|double fault|unable to handle page fault")
# Lines that look like one of these but belong to a healthy boot.
HARMLESS = re.compile(r"Unknown kernel command line|kmemleak: (Kernel memory leak|Automatic)"
                      r"|Spectre|Speculative|MDS|RETBleed|Retbleed|page_owner is")
Result = collections.namedtuple("Result", "name status why text")


def leaves(lines):
    """The innermost KTAP results of a test's output; a plan that was not kept is a failure, too."""
    found, since = [], []               # found: [depth, name, status, why, text]
    planned, ran = {}, collections.Counter()

    def settle(depth):
        """Ends all levels from a depth on."""
        for level in [level for level in planned if level >= depth]:
            want = planned.pop(level)
            if ran[level] < want:
                found.append([level, "(plan)", "fail", f"{want} planned, {ran[level]} ran", since[-30:]])

    for line in lines:
        plan = PLAN.match(line)
        if plan:
            depth = len(plan.group(1).expandtabs())
            settle(depth)
            planned[depth], ran[depth] = int(plan.group(2)), 0
        match = RESULT.match(line)
        if not match:
            since.append(line)
            continue
        indent, verdict, number, name, directive = match.groups()
        depth, directive = len(indent.expandtabs()), directive or ""
        name = name or number
        if re.match(r"skip", directive, re.I):
            status, why = "skip", directive[4:].strip(" :") or "no reason given"
        elif re.match(r"(xfail|todo)", directive, re.I):
            status, why = "skip", directive
        else:
            status, why = ("pass", "") if verdict == "ok" else ("fail", "")
        settle(depth + 1)
        ran[depth] += 1
        inner = []
        while found and found[-1][0] > depth:
            inner.insert(0, found.pop())
        found += [[depth, f"{name}.{i[1]}", *i[2:]] for i in inner]
        if not inner or (status == "fail" and all(i[2] != "fail" for i in inner)):
            found.append([depth, name, status, why, since + [line]])
        since = []
    settle(0)
    count = collections.Counter()
    for entry in found:
        count[entry[1]] += 1
        if count[entry[1]] > 1:
            entry[1] += f" ({count[entry[1]]})"
    return [Result(*entry[1:]) for entry in found]


def judge(name, limit, body, end):
    """All results of one test program; end is (status, seconds) or None."""
    timeout = any(line == "@timeout" for line in body)
    stuck = any(line == "@unkillable" for line in body)
    body = [line for line in body if not line.startswith("@")]
    results = leaves(body)
    failed = any(result.status == "fail" for result in results)
    tail = body[-30:]
    if stuck:
        results.append(Result("", "fail", f"hang: not even SIGKILL ended it after {limit} s", tail))
    elif timeout:
        results.append(Result("", "fail", f"hang: still running after {limit} s", tail))
    elif end is None:
        results.append(Result("", "fail", "did not end", tail))
    elif not results:
        said = [line for line in body if line.strip()]
        if end[0] == 0:
            results.append(Result("", "pass", "", tail))
        elif end[0] == 4:
            results.append(Result("", "skip", said[-1] if said else "no reason given", tail))
        else:
            results.append(Result("", "fail", f"exit status {end[0]}", tail))
    elif end[0] not in (0, 4) and not failed:
        results.append(Result("", "fail", f"exit status {end[0]} after its last result", tail))
    return results


def held_to_baseline(name, results):
    """Applies tests/baseline/NAME: returns (results, those that fail on the unpatched kernel too)."""
    path = BASELINE / name
    if not path.exists():
        return results, []
    lines = [line.rstrip("\n") for line in path.open()]
    expected = {line for line in lines if line and line[0] not in "#!"}
    known = {line[1:].strip() for line in lines if line.startswith("!")}
    kept, excused, seen = [], [], set()
    for result in results:
        key = result.name or "-"
        seen.add(key)
        if result.status == "fail" and key in known:
            excused.append(result)
        elif result.status == "skip" and key in expected:
            why = f"passes on the unpatched kernel, skipped here: {result.why}"
            kept.append(result._replace(status="fail", why=why))
        else:
            kept.append(result)
    for key in sorted(expected - seen):
        kept.append(Result(key, "fail", "passes on the unpatched kernel, did not run here", []))
    return kept, excused


def splats(path):
    """What the kernel complained about, as [(test it happened in, text)]."""
    found, test, block = [], "boot", None
    for line in path.read_text(errors="replace").splitlines():
        line = line.rstrip("\r")
        mark = re.search(r"@test (\S+)$", line)
        if mark:
            test, block = mark.group(1), None
        elif block is not None:
            block.append(line)
            if len(block) > 80 or "---[ end trace" in line:
                block = None
        elif SPLAT.search(line) and not HARMLESS.search(line):
            block = [line]
            found.append((test, block))
    return found


def read_run(run):
    """Yields (test, limit, body, end) for each test of the run's suite."""
    planned = [line.split()[:2] for line in (run / "suite").open()] if (run / "suite").exists() else []
    current, body, done = None, [], set()
    for line in (run / "tests.log").read_text(errors="replace").splitlines():
        line = line.rstrip("\r")
        word = line.split()
        if line.startswith("@begin ") and len(word) == 3:
            current, body = word[1:], []
        elif line.startswith("@end ") and current and len(word) == 4:
            done.add(current[0])
            yield *current, body, (int(word[2]), int(word[3]))
            current = None
        elif current:
            body.append(line)
    if current:
        done.add(current[0])
        yield *current, body, None
    for name, limit in planned:
        if name not in done:
            yield name, limit, [], None


def requirements():
    """tests/requirements.txt as {id: [pattern of tests whose names cannot carry the id]}."""
    wanted, last = {}, None
    for line in REQUIREMENTS.open() if REQUIREMENTS.exists() else []:
        if line[0] == "#" or not line.strip():
            continue
        if line[0].isspace():
            wanted[last].append(line.strip())
        else:
            last = line.split()[0]
            wanted[last] = []
    return wanted


def shown(wanted, label):
    """The ids that a test shows: those in its name, and those that list it."""
    words = set(re.split(r"[^A-Z0-9]", label.upper()))
    return [i for i, patterns in wanted.items()
            if i in words or any(fnmatch.fnmatchcase(label, p) for p in patterns)]


def short(label, i, wanted):
    """A test's fixture and the part of its name that has the id i, or the last, without ids."""
    parts = label.split()[-1].split(".")
    part = next((p for p in reversed(parts) if i in p.upper().split("_")), parts[-1])
    part = "_".join(word for word in part.split("_") if word.upper() not in wanted)
    part = part.removeprefix(f"{parts[0]}_test_")   # as KUnit's are called
    return part if parts[0] in (part, "global", "-") else f"{parts[0]}.{part}"


def coverage(written):
    """The lines of the table: each id, how its tests ended, and what they are called."""
    wanted = requirements()
    count = {i: collections.Counter() for i in wanted}
    names = {i: {} for i in wanted}
    for line in written:
        status, label = line.split(" ", 1)
        for i in shown(wanted, label):
            count[i][status] += 1
            names[i].setdefault(short(label, i, wanted))
    if not any(count.values()):
        return []                       # a run of other tests only
    lines = []
    for i in wanted:
        if not count[i]:
            lines.append(f"{i:4} no test")
            continue
        notes = [f"{count[i]['pass']:3} passed"]
        notes += [f"{count[i][s]} {w}" for s, w in (("fail", "failed"), ("skip", "skipped"))
                  if count[i][s]]
        line = f"{i:4} {', '.join(notes)}: {', '.join(names[i])}"
        lines.append(line if len(line) <= WIDTH else line[:WIDTH - 3] + "...")
    return lines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=pathlib.Path)
    parser.add_argument("runs", type=pathlib.Path, nargs="+")
    args = parser.parse_args()

    total, trouble, excused, skipped, written = collections.Counter(), [], [], {}, []
    number = 0
    print("KTAP version 1")
    for run in args.runs:
        for name, limit, body, end in read_run(run):
            results = judge(name, limit, body, end)
            written += [f"{r.status} {name} {r.name or '-'}" for r in results]
            results, known = held_to_baseline(name, results)
            count = collections.Counter(result.status for result in results)
            total += count
            number += 1
            word = "not ok" if count["fail"] else "ok"
            notes = [f"{count[s]} {w}" for s, w in
                     (("pass", "passed"), ("fail", "failed"), ("skip", "skipped")) if count[s]]
            if known:
                notes.append(f"{len(known)} as on the unpatched kernel")
            only_skips = count["skip"] and not count["pass"] and not count["fail"]
            seconds = f", {end[1]} s" if end else ""
            print(f"{word} {number} {name} # {'SKIP ' if only_skips else ''}{', '.join(notes)}{seconds}")
            for r in results:
                label = f"{name} {r.name}".strip()
                if r.status == "fail":
                    trouble.append((label, r.why, r.text))
                elif r.status == "skip":
                    skipped.setdefault((name, r.why), []).append(r.name)
            excused += [f"{name} {r.name}" for r in known]

        console, verdict = run / "console.log", run / "verdict"
        if console.exists():
            for test, text in splats(console):
                total["fail"] += 1
                trouble.append((f"{run.name}: the kernel complained during {test}", "", text))
            said = verdict.read_text().strip() if verdict.exists() else "interrupted"
            if said != "finished":
                total["fail"] += 1
                last = console.read_text(errors="replace").splitlines()[-40:]
                trouble.append((f"{run.name}: {said}; the last lines of its console", "", last))

    if skipped:
        print("\n== Skipped, and why")
        for (name, why), names in skipped.items():
            print(f"{name}: {len(names)} x {why}")
    if excused:
        print("\n== Fails on the unpatched kernel too (tests/baseline says why); not counted")
        for label in excused:
            print(label)
    if trouble:
        print("\n== Failed")
        for label, why, text in trouble:
            print(f"-- {label}" + (f": {why}" if why else ""))
            for line in text[-80:]:
                print(f"   {line}")
    table = coverage(written)
    if table:
        print("\n== Requirements, and the tests that show them")
        print(*table, sep="\n")
    if args.results:
        args.results.write_text("".join(f"{line}\n" for line in written))
    print(f"\n{total['pass']} passed, {total['fail']} failed, {total['skip']} skipped")
    return 1 if total["fail"] or not total["pass"] else 0


if __name__ == "__main__":
    sys.exit(main())
