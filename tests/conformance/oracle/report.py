#!/usr/bin/env python3
"""report.py [-v] [--control] ORACLE GOT NAME...   compares records, less what is excluded
report.py --table ORACLE                         prints the exclusions as a Markdown table

Ends with status 1 if a script differs that exclusions.txt does not name.
"""
import collections, json, os, sys

CATEGORIES = {
    "fuse-limit": "a limit of FUSE",
    "aufs-bug": "a bug of AUFS that is not copied",
    "improvement": "an improvement",
    "later": "still to do",
}
# A mount command can say only that it failed; AUFS folds every reason into EINVAL.
MOUNT_FAILED = {"EXIT1": "EINVAL", "EXIT32": "EINVAL"}


def exclusions(oracle):
    """NAME -> (category, cause), in the order of the file"""
    found = {}
    for line in open(os.path.join(oracle, "exclusions.txt")):
        if line.strip() and not line.startswith("#"):
            name, category, cause = line.split(None, 2)
            if category not in CATEGORIES:
                sys.exit(f"exclusions.txt: {name}: {category} is not one of {', '.join(CATEGORIES)}")
            found[name] = (category, cause.strip())
    return found


def table(oracle):
    print("| script | kind | cause |\n|---|---|---|")
    for name, (category, cause) in sorted(exclusions(oracle).items()):
        print(f"| `{name}` | {CATEGORIES[category]} | {cause} |")


def load(path):
    try:
        record = json.load(open(path))
    except (OSError, ValueError):
        return None
    record["mount"]["r"] = MOUNT_FAILED.get(record["mount"]["r"], record["mount"]["r"])
    for op in record["ops"]:
        if "mount" in op:
            op["mount"] = MOUNT_FAILED.get(op["mount"], op["mount"])
    # Names made of inode numbers are all written alike: which of them came first means nothing.
    for branch in record["branches"].values():
        branch.sort(key=lambda entry: (entry["p"], json.dumps(entry, sort_keys=True)))
    return record


def differences(compare, oracle, got, name, control):
    want = load(os.path.join(oracle, "records", name + ".json"))
    record = load(os.path.join(got, name + ".json"))
    log = os.path.join(got, name + ".log")
    said = open(log, errors="replace").read().strip().splitlines() if os.path.exists(log) else []
    if record is None:
        return ["no record: " + ("; ".join(said[-2:]) or "udrv was killed")]
    found = compare.compare(want, record, branches=not control)
    if found and said:
        found.append("said: " + said[-1])
    return found


def main():
    words = [a for a in sys.argv[1:] if not a.startswith("-")]
    flags = {a for a in sys.argv[1:] if a.startswith("-")}
    oracle = words[0]
    if "--table" in flags:
        return table(oracle)
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.path.join(oracle, "driver"))
    import compare

    control = "--control" in flags
    excluded = {} if control else exclusions(oracle)
    agree, unexpected, stale = 0, [], []
    kinds = collections.Counter()
    for name in words[2:]:
        found = differences(compare, oracle, words[1], name, control)
        if name in excluded:
            kinds[excluded[name][0]] += 1
            agree_anyway = not found
            if agree_anyway:
                stale.append(name)
            elif "-v" in flags:
                print(f"{name}: excluded ({excluded[name][0]}): {excluded[name][1]}")
        elif not found:
            agree += 1
            continue
        else:
            unexpected.append(name)
            print(f"{name}: {len(found)} differences (AUFS / here)")
        if found and (name not in excluded or "-v" in flags):
            for line in found if "-v" in flags else found[:1]:
                print("    " + line[:400])
    for name in stale:
        print(f"warning: {name} is excluded, but agrees: take it out of exclusions.txt")
    parts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    print(f"{agree} agree, {sum(kinds.values())} excluded{f' ({parts})' if parts else ''}, {len(unexpected)} differ unexpectedly")
    covered = len(words[2:]) - kinds["later"]
    if covered:
        well = agree + sum(1 for name in stale if excluded[name][0] != "later")
        print(f"of {covered} scripts whose options are covered, {100 * well / covered:.1f}% agree in every respect")
    print(f"{agree} passed, {len(unexpected)} failed")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
