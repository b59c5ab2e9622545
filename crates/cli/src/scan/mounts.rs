//! Command lines of mount(8) that do not reach our helper.
//!
//! mount(8) asks the helper of the type that it is told or that it reads in the mount table. It reads
//! there only for a remount that names nothing but the directory, and asks nobody with `-i`.

use std::ops::Range;

use super::words::Word;
use super::{Effect, Trouble};

/// What one command asks mount(8) for.
#[derive(Debug, Default)]
struct Request<'a> {
    busybox: bool,
    /// The name of the command, with busybox's before it.
    name: Range<usize>,
    /// Words that hold letters without values.
    switches: Vec<&'a Word>,
    /// Options, and the text of their words in the line.
    options: Vec<String>,
    options_text: Vec<String>,
    kind: Option<String>,
    operands: Vec<&'a Word>,
    end: usize,
}

/// Returns what is wrong with a command of a line.
pub(super) fn look(line: &str, command: &[Word]) -> Option<Trouble> {
    let request = Request::read(line, command)?;
    let is_aufs = request.kind.as_deref() == Some("aufs");
    if !request.options.iter().any(|word| word == "remount") {
        return is_aufs.then(|| request.mount(line)).flatten();
    }
    let speaks_aufs = request.options.iter().any(|word| is_of_aufs(word));
    let needs_helper = request.options.iter().any(|word| !is_of_the_kernel(word));
    ((is_aufs || speaks_aufs) && needs_helper).then_some(())?;
    if request.busybox {
        let what = "busybox gives remounts to the kernel: nothing happens, and nobody is told";
        return Some(silent(what, request.by_helper(line)));
    }
    let internal = request.has('i');
    if internal {
        let what = "-i leaves out the helper: nothing happens, and nobody is told";
        return Some(silent(what, request.by_mount(line)));
    }
    (request.operands.len() == 2 && request.kind.is_none()).then(|| {
        let what =
            "with two paths and no type, mount asks no helper: nothing happens, and nobody is told";
        silent(what, request.by_mount(line))
    })
}

fn silent(what: &'static str, instead: String) -> Trouble {
    Trouble::new(Effect::Silent, what, Some(instead))
}

impl<'a> Request<'a> {
    fn read(line: &str, command: &'a [Word]) -> Option<Self> {
        let mut words = command.iter();
        let mut read = Self::default();
        let mut first = None;
        loop {
            let word = words.next()?;
            let program = program(&word.plain);
            if is_mount(program) {
                read.name = first.unwrap_or(word.range.start)..word.range.end;
                read.end = word.range.end;
                break;
            }
            if ["busybox", "toybox"].contains(&program) {
                read.busybox = true;
                first = Some(word.range.start + (word.plain.len() - program_at(&word.plain)));
            } else if !is_before_commands(&word.plain) {
                return None;
            }
        }
        while let Some(word) = words.next() {
            read.end = word.range.end;
            read.take(line, word, &mut words)?;
        }
        Some(read)
    }

    fn take(
        &mut self,
        line: &str,
        word: &'a Word,
        more: &mut impl Iterator<Item = &'a Word>,
    ) -> Option<()> {
        let plain = word.plain.as_str();
        if let Some(long) = plain.strip_prefix("--") {
            let (name, value) = long
                .split_once('=')
                .map_or((long, None), |(name, value)| (name, Some(value)));
            let letter = match name {
                "options" => 'o',
                "types" => 't',
                "no-mtab" | "verbose" | "fake" => return Some(()),
                _ => return None,
            };
            return match value {
                Some(value) => {
                    self.value(letter, value, value);
                    Some(())
                }
                None => self.next_value(line, letter, more),
            };
        }
        if !plain.starts_with('-') || plain == "-" {
            self.operands.push(word);
            return Some(());
        }
        for (at, letter) in plain.char_indices().skip(1) {
            if !"ot".contains(letter) {
                continue;
            }
            let rest = &plain[at + 1..];
            if at > 1 {
                self.switches.push(word);
            }
            if rest.is_empty() {
                return self.next_value(line, letter, more);
            }
            self.value(letter, rest, rest);
            return Some(());
        }
        self.switches.push(word);
        Some(())
    }

    fn next_value(
        &mut self,
        line: &str,
        letter: char,
        more: &mut impl Iterator<Item = &'a Word>,
    ) -> Option<()> {
        let word = more.next()?;
        self.end = word.range.end;
        self.value(letter, &word.plain, &line[word.range.clone()]);
        Some(())
    }

    fn value(&mut self, letter: char, plain: &str, text: &str) {
        if letter == 't' {
            self.kind = Some(plain.to_owned());
        } else {
            self.options.extend(plain.split(',').map(str::to_owned));
            self.options_text.push(text.to_owned());
        }
    }

    fn has(&self, letter: char) -> bool {
        let letters = |word: &&Word| {
            let valued = word.plain.find(['o', 't']).unwrap_or(word.plain.len());
            word.plain[..valued].contains(letter)
        };
        self.switches.iter().any(letters)
    }

    /// Looks at a request to mount a union.
    fn mount(&self, line: &str) -> Option<Trouble> {
        if self.operands.is_empty() && self.options.is_empty() {
            let what = "lists nothing: the type is fuse.aufs";
            let text = line.replacen("-t aufs", "-t fuse.aufs", 1);
            return Some(Trouble::new(Effect::Differs, what, Some(text)));
        }
        if self.busybox {
            let what =
                "no such type, unless busybox was built to call helpers (FEATURE_MOUNT_HELPERS)";
            return Some(Trouble::new(
                Effect::Fails,
                what,
                Some(self.by_helper(line)),
            ));
        }
        self.has('i').then(|| {
            let what = "-i leaves out the helper, and the kernel does not know aufs";
            Trouble::new(Effect::Fails, what, Some(self.by_mount(line)))
        })
    }

    /// The line with the helper's command line, which needs no mount(8).
    fn by_helper(&self, line: &str) -> String {
        let operands: Vec<_> = self
            .operands
            .iter()
            .map(|word| &line[word.range.clone()])
            .collect();
        let operands = match &operands[..] {
            [dir] => format!("aufs {dir}"),
            operands => operands.join(" "),
        };
        let options = self.options_text.join(",");
        let helper = format!("mount.aufs {operands} -o {options}");
        format!("{}{helper}{}", &line[..self.name.start], &line[self.end..])
    }

    /// The line with the type named and without `-i`.
    fn by_mount(&self, line: &str) -> String {
        let mut text = line.to_owned();
        // From the end, so that places stay right.
        for word in self.switches.iter().rev() {
            let valued = word.plain.find(['o', 't']).unwrap_or(word.plain.len());
            let (letters, rest) = word.plain.split_at(valued);
            let fewer = letters.replace('i', "");
            let Range { start, end } = word.range.clone();
            if fewer == "-" && rest.is_empty() {
                let behind = text[end..].trim_start_matches(' ').len();
                let after = text.len() - behind;
                text.replace_range(start..after, "");
            } else {
                text.replace_range(start..start + letters.len(), &fewer);
            }
        }
        if self.kind.is_none() {
            text.insert_str(self.name.end, " -t aufs");
        }
        text
    }
}

/// Returns the name of a program, without its directory and what units put before it.
fn program(word: &str) -> &str {
    let word = &word[word.len() - program_at(word)..];
    word.rsplit('/').next().unwrap_or(word)
}

/// Returns the length of a word without an assignment and a unit's marks before it.
fn program_at(word: &str) -> usize {
    let value = match word.split_once('=') {
        Some((name, value)) if name.starts_with("Exec") => value,
        _ => word,
    };
    value.trim_start_matches(['-', '@', '+', '!', ':']).len()
}

fn is_mount(program: &str) -> bool {
    let variable = program
        .strip_prefix('$')
        .map(|name| name.trim_matches(['{', '}']));
    program == "mount" || variable.is_some_and(|name| name.eq_ignore_ascii_case("mount"))
}

fn is_before_commands(word: &str) -> bool {
    const WORDS: [&str; 18] = [
        "sudo", "exec", "if", "then", "else", "elif", "while", "until", "do", "!", "{", "time",
        "env", "nice", "command", "run", "try", "eval",
    ];
    let assigns = word
        .split_once('=')
        .is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    WORDS.contains(&word) || assigns || word.starts_with('$')
}

/// Tells whether an option is one that only AUFS has.
fn is_of_aufs(option: &str) -> bool {
    const LISTS: [&str; 8] = [
        "br", "dirs", "add", "ins", "append", "prepend", "del", "mod",
    ];
    const WORDS: [&str; 12] = [
        "udba",
        "xino",
        "noxino",
        "trunc_xino",
        "dirperm1",
        "diropq",
        "plink",
        "noplink",
        "dirren",
        "shwh",
        "create",
        "cpup",
    ];
    let (name, value) = match option.find([':', '=']) {
        Some(at) => (&option[..at], Some(&option[at + 1..])),
        None => (option, None),
    };
    (LISTS.contains(&name) && value.is_some()) || WORDS.contains(&name)
}

/// Tells whether the kernel itself does what an option says.
fn is_of_the_kernel(option: &str) -> bool {
    const FLAGS: [&str; 20] = [
        "remount",
        "ro",
        "rw",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "sync",
        "async",
        "dirsync",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "lazytime",
    ];
    FLAGS.contains(&option)
}

#[cfg(test)]
mod tests {
    use super::super::words;
    use super::*;

    fn found(line: &str) -> Option<(Effect, Option<String>)> {
        let commands = words::commands(line);
        let mut found = commands.iter().filter_map(|command| look(line, command));
        found
            .next()
            .map(|trouble| (trouble.effect, trouble.instead))
    }

    #[test]
    fn what_reaches_the_helper_is_no_trouble() {
        for line in [
            "mount -t aufs -o br=/a:/b none /u",
            "mount -t aufs -o remount,add:1:/m=rr aufs /u",
            "mount -o remount,add:1:/m=rr /u",
            "mount -n -o remount,mod:/a=ro /u",
            "mount -n -o remount,ro aufs .",
            "busybox mount -t aufs -o remount,rw aufs /",
            "mount -o remount,noatime /dev/sda1 /",
            "mount -o remount,size=1G,mode=755 none /tmp",
            "busybox mount -t tmpfs none /x",
            "mount -i -t tmpfs none /x",
            "echo mount -o remount,add:1:/m aufs /",
            "mountpoint -q /u",
            "mount",
            "mount -t",
        ] {
            assert_eq!(found(line), None, "{line}");
        }
    }

    #[test]
    fn what_passes_the_helper_by_is_rewritten() {
        use Effect::{Differs, Fails, Silent};
        for (line, effect, instead) in [
            (
                "mount -o remount,add:1:/m.sb=rr+wh aufs /",
                Silent,
                "mount -t aufs -o remount,add:1:/m.sb=rr+wh aufs /",
            ),
            (
                "mount -no remount,add:1:/memory/images/$x=rr aufs /union",
                Silent,
                "mount -t aufs -no remount,add:1:/memory/images/$x=rr aufs /union",
            ),
            (
                "/bin/mount -n -o \"remount,prepend:$S=rw,mod:$T=ro,del:$T\" unionfs $D || exit 1",
                Silent,
                "/bin/mount -t aufs -n -o \"remount,prepend:$S=rw,mod:$T=ro,del:$T\" unionfs $D || exit 1",
            ),
            (
                "X=1 sudo mount -oremount,udba=notify none /u 2>/dev/null",
                Silent,
                "X=1 sudo mount -t aufs -oremount,udba=notify none /u 2>/dev/null",
            ),
            (
                "if mount -ni -o remount,del:/m aufs /u; then",
                Silent,
                "if mount -t aufs -n -o remount,del:/m aufs /u; then",
            ),
            (
                "mount -i -t aufs -o remount,del:/m aufs /u",
                Silent,
                "mount -t aufs -o remount,del:/m aufs /u",
            ),
            (
                "mount -i -o remount,append=/m /u",
                Silent,
                "mount -t aufs -o remount,append=/m /u",
            ),
            (
                "busybox mount -t aufs -o remount,udba=reval aufs / && echo ok",
                Silent,
                "mount.aufs aufs / -o remount,udba=reval && echo ok",
            ),
            (
                "ExecStart=-/bin/busybox mount -o remount,add:1:/m /u",
                Silent,
                "ExecStart=-mount.aufs aufs /u -o remount,add:1:/m",
            ),
            (
                "ExecStart=/bin/mount -o remount,add:1:/m aufs /u",
                Silent,
                "ExecStart=/bin/mount -t aufs -o remount,add:1:/m aufs /u",
            ),
            (
                "x=$($MOUNT -o remount,add:1:/m aufs /u)",
                Silent,
                "x=$($MOUNT -t aufs -o remount,add:1:/m aufs /u)",
            ),
            (
                "mount --options=remount,dirperm1 none /u",
                Silent,
                "mount -t aufs --options=remount,dirperm1 none /u",
            ),
            (
                "busybox mount -t aufs -o br=/a -o ro none /u",
                Fails,
                "mount.aufs none /u -o br=/a,ro",
            ),
            (
                "mount -it aufs -o br=/a none /u",
                Fails,
                "mount -t aufs -o br=/a none /u",
            ),
            (
                "mount -t aufs | wc -l",
                Differs,
                "mount -t fuse.aufs | wc -l",
            ),
        ] {
            assert_eq!(found(line), Some((effect, Some(instead.into()))), "{line}");
        }
    }
}
