//! Handles, by which a server of NFS finds what its clients have open.

use crate::stack::Stack;
use crate::support::PLYWOOD;

/// Opens names by handles that were taken before a line of shell ran; prints what each leads to.
const SCRIPT: &str = r"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Handle(ctypes.Structure):
    _fields_ = [('size', ctypes.c_uint), ('kind', ctypes.c_int), ('bytes', ctypes.c_ubyte * 128)]
def take(path):
    handle = Handle(size=128)
    mount = ctypes.c_int()
    if libc.name_to_handle_at(-100, path.encode(), ctypes.byref(handle), ctypes.byref(mount), 0):
        raise OSError(ctypes.get_errno(), path)
    return handle
handles = [take('m/' + name) for name in sys.argv[2:]]
if os.system(sys.argv[1]):
    sys.exit('the line failed')
union = os.open('m', os.O_RDONLY)
for handle in handles:
    fd = libc.open_by_handle_at(union, ctypes.byref(handle), os.O_RDONLY)
    if fd < 0:
        print(os.strerror(ctypes.get_errno()))
        continue
    print(os.path.relpath(os.readlink('/proc/self/fd/%d' % fd), os.path.realpath('m')))
    if not os.path.isdir('/proc/self/fd/%d' % fd):
        print(os.read(fd, 9).decode())
    os.close(fd)
";

/// Row 113.
#[test]
fn a_handle_finds_its_object_after_the_kernel_forgot_it() {
    let branches = [
        ("rw", "d/u \"u\""),
        ("ro", "gone\nd/f \"f\"\nd/g\nd/e/h \"h\""),
    ];
    let Some(stack) = Stack::with("noforget", &branches) else {
        return;
    };
    let line = "rm m/gone m/d/g && echo 2 > /proc/sys/vm/drop_caches";
    let names = ["d/u", "d/f", "d/e", "d/e/h", "gone", "d/g"];
    let words = [&["-c", SCRIPT, line], &names[..]].concat();
    let told = stack.bench.run("python3", &words).silently();
    let lines: Vec<_> = told.lines().collect();
    // Of what was a file the kernel knows no name at first.
    assert_eq!(
        (lines[1], lines[3], lines[4], lines[6]),
        ("u", "f", "d/e", "h"),
        "{told}"
    );
    assert_eq!(lines[7..], ["Stale file handle"; 2], "{told}");
    stack.left(0, &[".wh.gone 0444", "d/", "d/.wh.g 0444", "d/u \"u\""]);
}

/// Beside row 113: numbers begin anew with a mount, and mean other objects.
#[test]
fn a_handle_of_an_earlier_mount_is_stale() {
    let Some(stack) = Stack::with("noforget", &[("rw", ""), ("ro", "a\nb\nc")]) else {
        return;
    };
    let line = format!(
        "{PLYWOOD} umount m && {PLYWOOD} mount -o br=b0=rw:b1=ro,noforget none m && ls -l m/c m/b m/a >list"
    );
    let words = ["-c", SCRIPT, &line, "a", "b", "c"];
    let told = stack.bench.run("python3", &words).silently();
    assert_eq!(told, "Stale file handle\n".repeat(3));
}
