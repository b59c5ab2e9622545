# Shared by the suites: where things are, scratch filesystems, unions to test. Sourced, not run.
#
#   PLYWOOD_BIN      the binary under test       (target/release/plywood)
#   PLYWOOD_SCRATCH  where scratch images go     (/var/tmp/plywood-tests)
#   PLYWOOD_TOOLS    where suites are installed  (target/tools)
set -u
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
export PLYWOOD=${PLYWOOD_BIN:-$target/release/plywood}
SCRATCH=${PLYWOOD_SCRATCH:-/var/tmp/plywood-tests}
TOOLS=${PLYWOOD_TOOLS:-$target/tools}

die() { echo "$(basename "$(dirname "$0")"): $*" >&2; exit 1; }

# need COMMAND... : a test that cannot run fails
need() {
	local command
	for command; do
		[ -x "$(command -v "$command")" ] || die "\`$command\` is missing; .ci/run says which packages to install"
	done
}

# private_mounts "$@" : runs the script again, as root, in a mount namespace of its own, so that
# nothing stays mounted whatever happens
private_mounts() {
	[ "$(id -u)" = 0 ] || die "needs root (loop devices, files of other users)"
	[ -z "${PLYWOOD_TEST_NS:-}" ] || return 0
	PLYWOOD_TEST_NS=1 exec unshare --mount --propagation private -- "$0" "$@"
}

# scratch NAME : a fresh directory, removed at the end together with what is mounted below it. $run names
# it by a short path, because the names of sockets have 107 bytes at most. After private_mounts only.
scratch() {
	mkdir -p "$SCRATCH"
	scratch=$(mktemp -d "$SCRATCH/$1.XXXXXX") || exit 1
	chmod 755 "$scratch"
	run=/mnt
	mount --bind "$scratch" "$run" || die "cannot bind $run"
	mountpoint -q /sys/fs/fuse/connections || mount -t fusectl none /sys/fs/fuse/connections 2>/dev/null
	trap 'cd /; unmount_below "$run"; umount -l "$run"; rm -rf --one-file-system "$scratch"' EXIT
	trap 'exit 130' INT TERM
}

# helpers : puts Plywood's helper names where mount(8) and umount(8) look, for this mount namespace only
helpers() {
	local name
	mkdir -p "$run/sbin"
	for name in mount.aufs umount.aufs mount.plywood mount.fuse.aufs mount.fuse.plywood mount.fuse3.plywood; do
		ln -sf "$PLYWOOD" "$run/sbin/$name"
	done
	mount -t overlay -o "lowerdir=$run/sbin:$(readlink -f /sbin)" helpers "$(readlink -f /sbin)" || die "cannot put helpers into /sbin"
}

# unmount_below DIR : everything, innermost first; hung servers are cut off
unmount_below() {
	local at
	while read -r at; do
		leave "$at"
	done < <(awk -v d="$1/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | tac)
}

# leave MOUNTPOINT : unmounts; if that takes too long, cuts the server off
leave() {
	local tries
	for tries in 1 2 3 4 5 6 7 8 9 10; do
		timeout 20 umount "$1" 2>/dev/null && return 0
		mountpoint -q "$1" || return 0
		sleep 0.3
	done
	cut_off "$1"
	umount -l "$1"
}

# cut_off MOUNTPOINT : aborts the FUSE connection, so that nobody waits for a server that hangs
cut_off() {
	local number
	number=$(awk -v d="$1" '$5 == d && / - fuse/ { split($3, n, ":"); print n[2] }' /proc/self/mountinfo | tail -1)
	[ -z "$number" ] || echo 1 2>/dev/null >"/sys/fs/fuse/connections/$number/abort"
}

# image NAME SIZE : a fresh ext4 filesystem on a loop device, mounted on $run/NAME, with the
# directories lower, upper, work and mnt
image() {
	need mkfs.ext4
	mkdir -p "$run/$1"
	truncate -s "$2" "$run/$1.img"
	mkfs.ext4 -q -F -m 0 "$run/$1.img" || die "mkfs.ext4 failed"
	mount -o loop "$run/$1.img" "$run/$1" || die "cannot mount an image by a loop device"
	mkdir -p "$run/$1"/{lower,upper,work,mnt}
}

# drop NAME : takes the image away again
drop() {
	unmount_below "$run/$1"
	leave "$run/$1"
	rm -f "$run/$1.img"
}

# stack KIND BASE : BASE/upper over BASE/lower on BASE/mnt.  KIND is
#   aufs, overlay-dialect  Plywood, by AUFS's options or by overlay's
#   compat-aufs  the same with AUFS's own defaults
#   ext4                   no union at all: the control
#   overlayfs, fuse-overlayfs, unionfs-fuse   the peers
stack() {
	local overlay=lowerdir=$2/lower,upperdir=$2/upper,workdir=$2/work
	case $1 in
	aufs) "$PLYWOOD" mount -o "br=$2/upper=rw:$2/lower=ro${OPTIONS:+,$OPTIONS}" none "$2/mnt" ;;
	compat-aufs) "$PLYWOOD" mount -o "br=$2/upper=rw:$2/lower=ro,compat=aufs${OPTIONS:+,$OPTIONS}" none "$2/mnt" ;;
	overlay-dialect) "$PLYWOOD" mount -o "$overlay${OPTIONS:+,$OPTIONS}" "$2/mnt" ;;
	ext4) mount --bind "$2/upper" "$2/mnt" ;;
	overlayfs) mount -t overlay -o "$overlay" overlay "$2/mnt" ;;
	fuse-overlayfs) fuse-overlayfs -o "$overlay" "$2/mnt" 2>/dev/null ;;
	unionfs-fuse) unionfs -o cow,allow_other,use_ino,suid,dev "$2/upper=RW:$2/lower=RO" "$2/mnt" ;;
	*) die "unknown kind of union $1" ;;
	esac
}

# crate NAME VERSION : the path of a program that is installed from the crate registry if need be
crate() {
	if [ ! -x "$TOOLS/bin/$1" ]; then
		echo "installing $1 $2" >&2
		cargo install --quiet --locked "$1" --version "$2" --root "$TOOLS" >&2 || die "cannot install $1 $2"
	fi
	echo "$TOOLS/bin/$1"
}

# excluded FILE : the first words of its lines, less comments
excluded() {
	sed 's/#.*//' "$1" | awk 'NF { print $1 }' | sort -u
}
