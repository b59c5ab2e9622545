#!/usr/bin/env python3
"""report.py MODE CONTROL GOT EXCLUSIONS   compares two outputs of pjdfstest

Says on stdout what fails in GOT but not in CONTROL, and writes "PASSED FAILED" to descriptor 3.
"""
import os, re, sys


def cases(path):
    found = {}
    for line in open(path, errors="replace"):
        match = re.match(r"(\S+::\S+)\s+(ok|FAILED|skipped)$", re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip())
        if match:
            found[match[1]] = match[2]
    return found


def why(path, case):
    """the first line that the suite prints below a failed case"""
    lines = open(path, errors="replace").read().splitlines()
    for number, line in enumerate(lines):
        if line.startswith(case + " ") and number + 1 < len(lines):
            return lines[number + 1].strip()[:200]
    return ""


mode, control_path, got_path, exclusions_path = sys.argv[1:]
control, got = cases(control_path), cases(got_path)
excluded = {}
for line in open(exclusions_path):
    if line.strip() and not line.startswith("#"):
        case, cause = line.split(None, 1)
        excluded[case] = cause.strip()

bad, known = [], 0
for case, result in got.items():
    if result != "FAILED" or control.get(case) == "FAILED":
        continue
    if case in excluded:
        known += 1
    else:
        bad.append(case)
lost = [case for case in control if case not in got]
for case in bad:
    print(f"{mode}: {case} FAILED: {why(got_path, case)}")
if lost:
    print(f"{mode}: {len(lost)} cases did not run, {lost[0]} first")
for case in sorted(excluded):
    if got.get(case) == "ok" and mode == "root":
        print(f"warning: {case} is excluded, but passes: take it out of exclusions.txt")
skipped = [case for case in got if got[case] == "skipped" and control.get(case) == "ok"]
if skipped:
    print(f"{mode}: skipped here, though not on ext4: {', '.join(skipped)}")
both = [case for case in got if got[case] == control.get(case) == "FAILED"]
passed = sum(1 for result in got.values() if result == "ok")
print(f"{mode}: {passed} of {len(control)} cases pass, {len(bad) + len(lost)} fail that pass on ext4, "
      f"{known} excluded, {len(both)} fail on ext4 too, {sum(1 for r in got.values() if r == 'skipped')} skipped")
if not got:
    lost = lost or ["nothing ran"]
os.write(3, f"{passed} {len(bad) + len(lost)}\n".encode())
