# What there is to do. Every recipe calls a script that also runs without `just`.

# list the recipes
default:
    @just --list --unsorted

# exactly what CI runs, less the installing of packages
check:
    .ci/run --no-install

# the release binary: target/release/plywood
build:
    cargo build --release --package plywood

# all tests (also the README's command: cargo xtask test)
test *ARGS:
    cargo xtask test {{ARGS}}

# the house rules: dependency directions, absences, documents in step
tidy:
    cargo xtask tidy

# replay the recorded behaviour of the real AUFS: `just oracle -v 'rename-*'`
oracle *ARGS:
    cargo xtask oracle {{ARGS}}

# the POSIX suite on root's mount, a user's mount and a mount in a user namespace
pjdfstest *ARGS:
    cargo xtask pjdfstest {{ARGS}}

# kill -9 and power cuts in the middle of operations, then look
crash *ARGS:
    cargo xtask crash {{ARGS}}

# stress-ng's file system class, fsx, many writers and readers at once
stress *ARGS:
    cargo xtask stress {{ARGS}}

# compare with ext4, overlayfs and other union filesystems: an hour or more; see bench/README.md
bench *ARGS: build
    bench/run.py {{ARGS}}

# the same in under 5 minutes: what matters most, one round
bench-quick *ARGS: build
    bench/run.py --quick {{ARGS}}

# FUSE requests and system calls of each operation: `just opcount --contenders plywood`
opcount *ARGS: build
    bench/opcount.py {{ARGS}}

# build, stack two directories, write on top, see which branch holds what
demo:
    ./demo

# put mount.aufs and the other helper names beside the binary
install-helpers *ARGS: build
    target/release/plywood install-helpers {{ARGS}}
