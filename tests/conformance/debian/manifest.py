#!/usr/bin/env python3
"""manifest.py [--aufs] DIR   one line for each object below DIR, sorted: type and mode, owner, size, link target, hash
of the content, time, hard links, extended attributes. For comparing a tree before and after; inode numbers are
left out, and link counts of directories. --aufs leaves out what AUFS does not keep either: times of directories
and link counts."""
import hashlib
import os
import stat
import sys

as_aufs = sys.argv[1] == "--aufs"
root = os.fsencode(sys.argv[-1])
first_names = {}


def describe(path):
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    words = [oct(status.st_mode), str(status.st_uid), str(status.st_gid)]
    if not (as_aufs and kind == stat.S_IFDIR):
        words += [str(status.st_mtime_ns)]
    if kind != stat.S_IFDIR and status.st_nlink > 1:
        first = first_names.setdefault((status.st_dev, status.st_ino), path)
        if not as_aufs:
            words += [f"links={status.st_nlink}"]
        if first != path:
            words += [f"same={shown(first)}"]
    if kind == stat.S_IFREG:
        content = hashlib.sha256()
        with open(path, "rb") as f:
            while block := f.read(1 << 20):
                content.update(block)
        words += [str(status.st_size), content.hexdigest()]
    elif kind == stat.S_IFLNK:
        words += [os.fsdecode(os.readlink(path))]
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        words += [hex(status.st_rdev)]
    try:
        for name in sorted(os.listxattr(path, follow_symlinks=False)):
            words.append(f"{name}={os.getxattr(path, name, follow_symlinks=False).hex()[:128]}")
    except OSError as error:
        words.append(f"xattr:{error.strerror}")
    return " ".join(words)


def cannot_list(error):
    print(os.fsdecode(os.path.relpath(error.filename, root)), f"ERROR listing: {error.strerror}")


def shown(path):
    return os.fsdecode(os.path.relpath(path, root)).encode("unicode_escape").decode()


for directory, subdirectories, files in os.walk(root, onerror=cannot_list):
    subdirectories.sort()
    for name in sorted(subdirectories + files):
        path = os.path.join(directory, name)
        try:
            print(shown(path), describe(path))
        except OSError as error:
            print(shown(path), f"ERROR {error.strerror}")
