# Functions for scripts that were written for AUFS and run on Plywood. POSIX shell; to be sourced:
#
#   . /usr/share/plywood/aufs-compat.sh
#   aufs_branches /union        # what the files /sys/fs/aufs/si_NUMBER/brN said
#   aufs_shims                  # from here on the old lines work too
#
# They need nothing but the shell, and look at /proc/self/mountinfo and at the trees that Plywood's servers
# keep in /run/aufs, or $XDG_RUNTIME_DIR/aufs for users. AUFS_TREE names another place.

# aufs_tree : prints where the directories si_NUMBER are, one line for each place
aufs_tree() {
	if [ -n "${AUFS_TREE:-}" ]; then
		printf '%s\n' "$AUFS_TREE"
		return
	fi
	for _aufs_dir in /run/aufs "${XDG_RUNTIME_DIR:+$XDG_RUNTIME_DIR/aufs}"; do
		[ -z "$_aufs_dir" ] || [ ! -d "$_aufs_dir" ] || printf '%s\n' "$_aufs_dir"
	done
	# in /tmp a stranger may have been first
	_aufs_dir=/tmp/plywood-$(id -u)/aufs
	if [ -d "$_aufs_dir" ] && [ -O "$_aufs_dir" ]; then
		printf '%s\n' "$_aufs_dir"
	fi
}

# aufs_unescape TEXT : prints a text with its \ooo as the bytes they stand for
aufs_unescape() {
	_aufs_text=$1
	while :; do
		case $_aufs_text in
		*\\[0-3][0-7][0-7]*)
			printf %s "${_aufs_text%%\\*}"
			_aufs_text=${_aufs_text#*\\}
			_aufs_digits=${_aufs_text%"${_aufs_text#???}"}
			case $_aufs_digits in
			[0-3][0-7][0-7])
				# shellcheck disable=SC2059 # the format is the byte
				printf "\\$_aufs_digits"
				_aufs_text=${_aufs_text#???}
				;;
			*) printf '\\' ;;
			esac
			;;
		*)
			printf %s "$_aufs_text"
			return
			;;
		esac
	done
}

# _aufs_mount_of DIR : sets _aufs_device, _aufs_source and _aufs_type to those of the mount DIR is on
_aufs_mount_of() {
	_aufs_device='' _aufs_best=''
	# The dot keeps line ends that belong to the name.
	_aufs_here=$(cd -- "$1" 2>/dev/null && pwd -P && echo .) || return 1
	_aufs_here=${_aufs_here%??}
	while read -r _ _ _aufs_number _ _aufs_point _aufs_rest; do
		case $_aufs_point in *\\*)
			_aufs_point=$(aufs_unescape "$_aufs_point" && echo .)
			_aufs_point=${_aufs_point%?}
			;;
		esac
		# The root is within nothing: its one slash goes.
		_aufs_prefix=${_aufs_point%/}
		case $_aufs_here/ in "$_aufs_prefix"/*) ;; *) continue ;; esac
		# The last of those on one directory is the one to be seen.
		if [ ${#_aufs_point} -ge ${#_aufs_best} ]; then
			_aufs_best=$_aufs_point
			_aufs_device=$_aufs_number
			_aufs_rest=${_aufs_rest#* - }
			_aufs_type=${_aufs_rest%% *}
			_aufs_rest=${_aufs_rest#* }
			_aufs_source=${_aufs_rest%% *}
		fi
	done </proc/self/mountinfo
	[ -n "$_aufs_device" ]
}

# aufs_dir DIR : prints the directory that stands for /sys/fs/aufs/si_NUMBER of the union DIR is in
aufs_dir() {
	_aufs_mount_of "$1" || {
		printf 'aufs_dir: %s: no such directory\n' "$1" >&2
		return 1
	}
	# A here-document, because a pipe would keep the result in another process.
	while read -r _aufs_place; do
		for _aufs_file in "$_aufs_place"/si_*/dev; do
			[ -r "$_aufs_file" ] && read -r _aufs_number <"$_aufs_file" || continue
			if [ "$_aufs_number" = "$_aufs_device" ]; then
				printf '%s\n' "${_aufs_file%/dev}"
				return 0
			fi
		done
	done <<-PLACES
		$(aufs_tree)
	PLACES
	printf 'aufs_dir: %s: not in a union of Plywood\n' "$1" >&2
	return 1
}

# aufs_si DIR : prints what stood behind si= in the mount table, 16 digits
aufs_si() {
	_aufs_found=$(aufs_dir "$1") || return
	printf '%s\n' "${_aufs_found##*/si_}"
}

# aufs_branches DIR : prints PATH=PERM of each branch of the union, topmost first, as brN has it
aufs_branches() {
	_aufs_found=$(aufs_dir "$1") || return
	_aufs_index=0
	while [ -r "$_aufs_found/br$_aufs_index" ]; do
		read -r _aufs_branch <"$_aufs_found/br$_aufs_index"
		printf '%s\n' "$_aufs_branch"
		_aufs_index=$((_aufs_index + 1))
	done
}

# aufs_mounts : prints /proc/mounts with the unions as AUFS has them, type and si= included
aufs_mounts() {
	while read -r _aufs_from _aufs_on _aufs_is _aufs_words _aufs_tail; do
		if [ "$_aufs_is" = fuse.aufs ]; then
			_aufs_number=$(aufs_si "$(aufs_unescape "$_aufs_on")" 2>/dev/null) &&
				_aufs_words=${_aufs_words%%,user_id=*},si=$_aufs_number
			_aufs_is=aufs
		fi
		printf '%s %s %s %s %s\n' "$_aufs_from" "$_aufs_on" "$_aufs_is" "$_aufs_words" "$_aufs_tail"
	done </proc/mounts
}

# aufs_filesystems : prints /proc/filesystems, with aufs where the helper is installed
aufs_filesystems() {
	while read -r _aufs_line; do
		printf '%s\n' "$_aufs_line"
	done </proc/filesystems
	! _aufs_helper >/dev/null || printf 'nodev\taufs\n'
}

# _aufs_helper : prints the path of the helper of mount(8)
_aufs_helper() {
	for _aufs_file in /sbin/mount.aufs /usr/sbin/mount.aufs; do
		if [ -x "$_aufs_file" ]; then
			printf '%s\n' "$_aufs_file"
			return 0
		fi
	done
	return 1
}

# _aufs_run COMMAND ARGUMENT... : the command, with what it would not find brought in: /sys/fs/aufs
# by other paths, /proc/filesystems and /proc/mounts by its standard input
_aufs_run() {
	_aufs_command=$1 _aufs_input=''
	shift
	for _aufs_word; do
		shift
		case $_aufs_word in
		/proc/filesystems) _aufs_input=aufs_filesystems ;;
		/proc/mounts | /etc/mtab | /proc/self/mounts) _aufs_input=aufs_mounts ;;
		/sys/fs/aufs/*)
			# A pattern has matched nothing there, and may match here.
			_aufs_word=$(aufs_tree | { read -r _aufs_place && printf %s "$_aufs_place"; })${_aufs_word#/sys/fs/aufs}
			_aufs_split=$IFS
			IFS=''
			# shellcheck disable=SC2086 # patterns are to be expanded
			set -- "$@" $_aufs_word
			IFS=$_aufs_split
			;;
		*) set -- "$@" "$_aufs_word" ;;
		esac
	done
	if [ -n "$_aufs_input" ]; then
		"$_aufs_input" | command "$_aufs_command" "$@"
	else
		command "$_aufs_command" "$@"
	fi
}

# _aufs_remount ARGUMENT... : hands a remount of a union to the helper; status 125 if it is none
_aufs_remount() {
	_aufs_options='' _aufs_kind='' _aufs_first='' _aufs_last='' _aufs_count=0
	while [ $# -gt 0 ]; do
		case $1 in
		--*) return 125 ;;
		-*o | -*t)
			[ $# -gt 1 ] || return 125
			case $1 in *o) _aufs_options=$_aufs_options,$2 ;; *) _aufs_kind=$2 ;; esac
			shift
			;;
		-o?*) _aufs_options=$_aufs_options,${1#-o} ;;
		-t?*) _aufs_kind=${1#-t} ;;
		-*) ;;
		*)
			_aufs_first=$_aufs_last _aufs_last=$1
			_aufs_count=$((_aufs_count + 1))
			;;
		esac
		shift
	done
	case $_aufs_options, in *,remount,*) ;; *) return 125 ;; esac
	case $_aufs_count in 1 | 2) ;; *) return 125 ;; esac
	_aufs_mount_of "$_aufs_last" || return 125
	case $_aufs_type in fuse.aufs | fuse.plywood) ;; *) return 125 ;; esac
	_aufs_program=$(_aufs_helper) || return 125
	"$_aufs_program" "${_aufs_first:-$_aufs_source}" "$_aufs_last" -o "${_aufs_options#,}"
}

# aufs_shims : from here on, in this shell, commands that ask the kernel about AUFS find what they ask for
aufs_shims() {
	cat() { _aufs_run cat "$@"; }
	grep() { _aufs_run grep "$@"; }
	egrep() { _aufs_run egrep "$@"; }
	fgrep() { _aufs_run fgrep "$@"; }
	sed() { _aufs_run sed "$@"; }
	awk() { _aufs_run awk "$@"; }
	cut() { _aufs_run cut "$@"; }
	modprobe() {
		case " $* " in
		*' aufs '*)
			[ -e /dev/fuse ] || command modprobe fuse
			_aufs_helper >/dev/null
			;;
		*) command modprobe "$@" ;;
		esac
	}
	mount() {
		_aufs_remount "$@"
		_aufs_status=$?
		if [ $_aufs_status -eq 125 ]; then
			command mount "$@"
		else
			return $_aufs_status
		fi
	}
}
