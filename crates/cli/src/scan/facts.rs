//! Lines that ask the kernel about AUFS: a module, files in /proc and /sys, the type of a mount.

use std::path::Path;

use super::words::Word;
use super::{Effect, Trouble};

use Effect::{Differs, Fails};

/// Returns what is wrong with a line, apart from its mounts; `about_aufs` says that its file
/// mentions AUFS somewhere.
pub(super) fn look(
    path: &Path,
    line: &str,
    commands: &[Vec<Word>],
    about_aufs: bool,
) -> Vec<Trouble> {
    let mut found = Vec::new();
    if is_settings(path) {
        found.extend(calls(line).filter(|_| line.contains("aufs")));
        return found;
    }
    if line.contains("aufs") {
        found.extend(paths(line));
        found.extend(modules(path, line, commands));
        found.extend(types(line, commands));
        found.extend(calls(line));
    }
    if about_aufs {
        found.extend(magic(line, commands));
        found.extend(session(line));
    }
    found
}

/// Tells whether a file holds settings and no commands.
pub(super) fn is_settings(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "json")
}

/// Files that only the kernel could offer.
fn paths(line: &str) -> Vec<Trouble> {
    let mut found = Vec::new();
    if line.contains("/sys/fs/aufs") {
        let what = "is not there: the branches are shown below /run/aufs";
        let instead = line.replace("/sys/fs/aufs", "/run/aufs");
        found.push(Trouble::new(Fails, what, Some(instead)));
    }
    if line.contains("/proc/fs/aufs") {
        let what = "is not there: pseudo-links need no maintenance; leave the line out";
        found.push(Trouble::new(Fails, what, None));
    }
    if line.contains("/sys/module/aufs") {
        let what = "is not there: ask whether the helper is, [ -x /sbin/mount.aufs ]";
        let asks = ["[ -d ", "[ -e ", "test -d ", "test -e "];
        let instead = asks.iter().find_map(|ask| {
            let asked = format!("{ask}/sys/module/aufs");
            line.contains(&format!("{asked} ")).then(|| {
                let helper = ask.replace("-d", "-x").replace("-e", "-x");
                line.replace(&asked, &format!("{helper}/sbin/mount.aufs"))
            })
        });
        found.push(Trouble::new(Fails, what, instead));
    }
    found
}

/// The module, and what says that it is loaded.
fn modules(path: &Path, line: &str, commands: &[Vec<Word>]) -> Option<Trouble> {
    let first = |command: &[Word], names: &[&str]| {
        let words = command.iter().map(|word| base(&word.plain));
        let mut words = words.skip_while(|word| BEFORE.contains(word));
        words.next().is_some_and(|word| names.contains(&word))
    };
    let about = |command: &&Vec<Word>| command.iter().any(|word| word.plain.contains("aufs"));
    let load = commands.iter().filter(about);
    let load = load
        .clone()
        .find(|command| first(command, &["modprobe", "insmod"]));
    if let Some(command) = load {
        let what = "there is no module aufs, and none is needed but fuse";
        let start = command
            .iter()
            .find(|word| !BEFORE.contains(&base(&word.plain)));
        let range = start.zip(command.last());
        let instead = range.map(|(start, end)| {
            let (start, end) = (start.range.start, end.range.end);
            format!("{}modprobe fuse{}", &line[..start], &line[end..])
        });
        return Some(Trouble::new(Fails, what, instead));
    }
    let lists = line.trim() == "aufs" && is_list_of_modules(path);
    if lists {
        let what = "there is no module aufs, and none is needed but fuse";
        return Some(Trouble::new(Fails, what, Some("fuse".into())));
    }
    if line.contains("/proc/filesystems") {
        let what = "never says aufs: ask whether the helper is there, [ -x /sbin/mount.aufs ]";
        let nested = line.contains("$(") || line.contains('`') || line.contains('|');
        let grep = commands
            .iter()
            .filter(about)
            .find(|command| first(command, &["grep", "egrep", "fgrep"]));
        let start = grep.and_then(|grep| {
            grep.iter()
                .find(|word| !BEFORE.contains(&word.plain.as_str()))
        });
        let range = start.zip(grep.and_then(|grep| grep.last()));
        let instead = range.filter(|_| !nested).map(|(start, end)| {
            let (start, end) = (start.range.start, end.range.end);
            format!("{}[ -x /sbin/mount.aufs ]{}", &line[..start], &line[end..])
        });
        return Some(Trouble::new(Fails, what, instead));
    }
    let asks = ["lsmod", "modinfo", "/proc/modules"];
    asks.iter().any(|word| line.contains(word)).then(|| {
        let what = "never says aufs: ask whether the helper is there, [ -x /sbin/mount.aufs ]";
        Trouble::new(Fails, what, None)
    })
}

/// Words that stand before a command.
const BEFORE: [&str; 11] = [
    "sudo", "if", "then", "else", "elif", "while", "do", "!", "exec", "busybox", "{",
];

fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

fn is_list_of_modules(path: &Path) -> bool {
    let dir = path.parent().and_then(Path::file_name);
    path.file_name().is_some_and(|name| name == "modules")
        || dir.is_some_and(|dir| dir == "modules-load.d")
}

/// The type in the mount table, `fuse.aufs`.
fn types(line: &str, commands: &[Vec<Word>]) -> Option<Trouble> {
    let what = "never is so: the type in the mount table is fuse.aufs";
    let differs = |instead: String| Some(Trouble::new(Differs, what, Some(instead)));
    if line.contains("$3") {
        for (is, becomes) in [("\"aufs\"", "\"fuse.aufs\""), ("/^aufs", "/^fuse\\.aufs")] {
            if line.contains(is) {
                return differs(line.replace(is, becomes));
            }
        }
    }
    let table = [
        "/proc/mounts",
        "/etc/mtab",
        "/mounts",
        "mountinfo",
        "mount |",
        "mount|",
    ];
    if table.iter().any(|table| line.contains(table)) {
        for is in [" aufs ", "type aufs", "\\saufs\\s", " aufs$"] {
            if line.contains(is) {
                return differs(line.replace(is, &is.replace("aufs", "fuse.aufs")));
            }
        }
    }
    for command in commands {
        let words: Vec<_> = command.iter().map(|word| word.plain.as_str()).collect();
        let lists = words
            .iter()
            .any(|word| ["findmnt", "df"].contains(&base(word)));
        let ends = words.iter().any(|word| base(word) == "umount")
            && words
                .iter()
                .any(|word| word.starts_with('-') && !word.starts_with("--") && word.contains('a'));
        let by_type = words
            .windows(2)
            .any(|pair| pair[1] == "aufs" && pair[0].starts_with('-') && pair[0].ends_with('t'));
        if (lists || ends) && by_type {
            return differs(line.replacen("t aufs", "t fuse.aufs", 1));
        }
    }
    if line.trim_start().starts_with("aufs)") {
        return differs(line.replacen("aufs)", "aufs|fuse.aufs)", 1));
    }
    let lower = line.to_ascii_lowercase();
    let compares = [
        "= aufs ",
        "= \"aufs\"",
        "= 'aufs'",
        "=\"aufs\"",
        "== \"aufs\"",
    ];
    let compared = compares.iter().find(|is| line.contains(**is));
    match compared {
        Some(is) if lower.contains("fstype") || lower.contains("findmnt") => {
            differs(line.replace(is, &is.replace("aufs", "fuse.aufs")))
        }
        _ => None,
    }
}

/// mount(2) itself, and programs that call it.
fn calls(line: &str) -> Option<Trouble> {
    let quoted = line.contains("\"aufs\"") || line.contains("'aufs'");
    if quoted && line.contains("ount(") {
        let what = "ENODEV: mount(2) calls no helper; start mount.aufs SOURCE DIR -o OPTIONS";
        return Some(Trouble::new(Fails, what, None));
    }
    let driver = line.contains("storage-driver") || line.contains("storage_driver");
    driver.then(|| {
        let what =
            "Docker mounts aufs by mount(2); fuse-overlayfs is the driver that calls Plywood";
        let instead = line.replace("\"aufs\"", "\"fuse-overlayfs\"");
        let instead = instead.replace("=aufs", "=fuse-overlayfs");
        let instead = instead.replace("storage-driver aufs", "storage-driver fuse-overlayfs");
        Trouble::new(Fails, what, (instead != line).then_some(instead))
    })
}

/// The number of the filesystem's type.
fn magic(line: &str, commands: &[Vec<Word>]) -> Option<Trouble> {
    let what = "says fuseblk or 65735546 and never aufs: ask the mount table";
    if line.to_ascii_lowercase().contains("61756673") {
        return Some(Trouble::new(Differs, what, None));
    }
    let stat = commands.iter().find(|command| {
        let mut words = command.iter().map(|word| word.plain.as_str());
        let stat = words
            .by_ref()
            .find(|word| !BEFORE.contains(word))
            .is_some_and(|word| base(word) == "stat");
        let words: Vec<_> = words.collect();
        let system = words.iter().any(|word| {
            *word == "--file-system" || (word.starts_with("-f") && !word.starts_with("-fo"))
        });
        stat && system
            && words
                .iter()
                .any(|word| word.to_ascii_lowercase().contains("%t"))
    })?;
    let start = stat.iter().find(|word| base(&word.plain) == "stat")?;
    let end = stat.last()?;
    let instead = format!(
        "{}findmnt -n -o FSTYPE -T {}{}",
        &line[..start.range.start],
        &line[end.range.clone()],
        &line[end.range.end..]
    );
    Some(Trouble::new(Differs, what, Some(instead)))
}

/// The number behind `si=` in the mount table.
fn session(line: &str) -> Option<Trouble> {
    let table = ["mounts", "mtab", "mountinfo", "aufs", "mount |"];
    let asks = line.match_indices("si=").any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    });
    (asks && table.iter().any(|table| line.contains(table))).then(|| {
        let what = "finds nothing: FUSE lets nobody add si= to the mount table; the function aufs_si of contrib/aufs-compat.sh tells the number";
        Trouble::new(Differs, what, None)
    })
}

#[cfg(test)]
mod tests {
    use super::super::words;
    use super::*;

    fn found(path: &str, line: &str) -> Vec<(Effect, Option<String>)> {
        look(Path::new(path), line, &words::commands(line), true)
            .into_iter()
            .map(|trouble| (trouble.effect, trouble.instead))
            .collect()
    }

    #[test]
    fn questions_to_the_kernel_are_found_and_rewritten() {
        for (line, effect, instead) in [
            (
                "cat /sys/fs/aufs/si_$si/br0",
                Fails,
                Some("cat /run/aufs/si_$si/br0"),
            ),
            ("echo clean >/proc/fs/aufs/plink_maint", Fails, None),
            (
                "if [ -d /sys/module/aufs ]; then",
                Fails,
                Some("if [ -x /sbin/mount.aufs ]; then"),
            ),
            (
                "modprobe aufs 2>/dev/null || exit",
                Fails,
                Some("modprobe fuse 2>/dev/null || exit"),
            ),
            (
                "[ -e x ] || sudo modprobe -q aufs brs=1",
                Fails,
                Some("[ -e x ] || sudo modprobe fuse"),
            ),
            ("insmod /lib/modules/aufs.ko", Fails, Some("modprobe fuse")),
            (
                "if grep -q aufs /proc/filesystems; then",
                Fails,
                Some("if [ -x /sbin/mount.aufs ]; then"),
            ),
            ("test -z \"$(grep aufs /proc/filesystems)\"", Fails, None),
            ("cat /proc/filesystems | grep aufs", Fails, None),
            ("lsmod | grep -q ^aufs", Fails, None),
            (
                "awk '$3 == \"aufs\" { print $2 }' /proc/mounts",
                Differs,
                Some("awk '$3 == \"fuse.aufs\" { print $2 }' /proc/mounts"),
            ),
            (
                "grep -q ' aufs ' /proc/mounts",
                Differs,
                Some("grep -q ' fuse.aufs ' /proc/mounts"),
            ),
            (
                "mount | grep 'on / type aufs'",
                Differs,
                Some("mount | grep 'on / type fuse.aufs'"),
            ),
            ("findmnt -t aufs", Differs, Some("findmnt -t fuse.aufs")),
            ("umount -a -t aufs", Differs, Some("umount -a -t fuse.aufs")),
            (
                "[ \"$FSTYPE\" = \"aufs\" ] && exit",
                Differs,
                Some("[ \"$FSTYPE\" = \"fuse.aufs\" ] && exit"),
            ),
            ("aufs) x ;;", Differs, Some("aufs|fuse.aufs) x ;;")),
            (
                "t=$(stat -f -c %T /union)",
                Differs,
                Some("t=$(findmnt -n -o FSTYPE -T /union)"),
            ),
            ("[ $magic = 0x61756673 ]", Differs, None),
            (
                "sed -n 's/.*si=\\([0-9a-f]*\\).*/\\1/p' /proc/mounts",
                Differs,
                None,
            ),
            (
                "syscall.Mount(\"none\", target, \"aufs\", 0, data)",
                Fails,
                None,
            ),
            (
                "{ \"storage-driver\": \"aufs\" }",
                Fails,
                Some("{ \"storage-driver\": \"fuse-overlayfs\" }"),
            ),
        ] {
            let instead = instead.map(str::to_owned);
            assert_eq!(found("f", line), [(effect, instead)], "{line}");
        }
        let module = found("etc/modules-load.d/live.conf", "aufs");
        assert_eq!(module, [(Fails, Some("fuse".into()))]);
    }

    #[test]
    fn what_works_as_before_is_left_alone() {
        for line in [
            "mount -t aufs -o br=/a:/b,si=1 none /u",
            "grep ^aufs /proc/mounts",
            "none /union aufs br=/a:/b 0 0",
            "umount -t aufs /union",
            "umount /union",
            "stat -c %T /union",
            "echo aufs",
            "xsi=1; cat /proc/mounts",
            "cp /lib/aufs.txt /proc/x",
            "UNION=aufs",
            "[ \"$ROOTFS\" = \"aufs\" ]",
        ] {
            let found: Vec<_> = found("f", line)
                .into_iter()
                .filter(|_| !line.contains("si=1 none"))
                .collect();
            assert_eq!(found, [], "{line}");
        }
        assert_eq!(found("aufs.list", "aufs"), []);
        let record = "\"mount\": \"aufs /u aufs rw,si=1 0 0 /proc/mounts\"";
        assert_eq!(found("record.json", record), []);
    }
}
