//! The guides' commands do what the guides say.
//!
//! Blocks of a page that begin with ```` ```sh run ```` are run in order, by one shell, in a fresh directory and a
//! mount namespace of its own. A ```` ```text ```` block behind one is what it prints; `...` stands for anything.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::Bench;
use testkit::require_root_and_fuse;

/// A block of commands.
#[derive(Debug, Default, PartialEq, Eq)]
struct Block {
    /// The line of the page it begins on, from 1.
    line: usize,
    script: String,
    prints: Option<String>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut lines = page.lines().enumerate();
    // Only blank lines may stand between commands and what they print.
    let mut follows = false;
    while let Some((index, line)) = lines.next() {
        let Some(fence) = line.strip_prefix("```") else {
            follows &= line.is_empty();
            continue;
        };
        let body = lines.by_ref().map(|(_, line)| line);
        let body: Vec<_> = body.take_while(|line| !line.starts_with("```")).collect();
        let body = body.join("\n") + "\n";
        match (fence, found.last_mut()) {
            ("sh run", _) => found.push(Block {
                line: index + 1,
                script: body,
                prints: None,
            }),
            ("text", Some(block)) if follows => block.prints = Some(body),
            _ => {}
        }
        follows = fence == "sh run";
    }
    found
}

/// Tells whether a text is as it was foretold, line by line.
fn is_as(foretold: &str, told: &str) -> bool {
    let (foretold, told): (Vec<_>, Vec<_>) = (foretold.lines().collect(), told.lines().collect());
    foretold.len() == told.len() && foretold.iter().zip(told).all(|(a, b)| line_is_as(a, b))
}

fn line_is_as(foretold: &str, told: &str) -> bool {
    let mut parts = foretold.trim_end().split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = told.trim_end().strip_prefix(first) else {
        return false;
    };
    let mut ended = true;
    for part in parts {
        let Some(at) = rest.rfind(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
        ended = part.is_empty();
    }
    rest.is_empty() || (ended && foretold.ends_with("..."))
}

/// Where the helper names may be installed.
const DIRS: [&str; 3] = ["/sbin", "/bin", "/usr/local/sbin"];

fn run(name: &str, page: &str) {
    let bench = Bench::new();
    let here = bench.guard.path().display().to_string();
    bench.write("page/.keep", "");
    bench.write("home/.keep", "");
    let mut script = String::from("set -eu\n");
    for (index, dir) in DIRS.iter().enumerate() {
        script += &format!(
            "dir=$(readlink -f {dir}); mkdir -p {here}/up{index} {here}/work{index}; \
             mountpoint -q $dir || mount -t overlay -o lowerdir=$dir,upperdir={here}/up{index},workdir={here}/work{index} none $dir\n"
        );
    }
    script += &format!(
        "cp {plywood} /usr/local/sbin/plywood\ncd {here}/page\n",
        plywood = support::PLYWOOD
    );
    // Whatever a page leaves mounted goes with its directory.
    script += &format!(
        "end() {{ cd /; for job in $(jobs -p); do kill $job || true; done; awk -v d={here}/page/ 'index($5, d) == 1 {{ print $5 }}' /proc/self/mountinfo | tac | xargs -r -n 1 umount -l; }}\ntrap end EXIT\n"
    );
    let blocks = blocks(page);
    assert!(!blocks.is_empty(), "{name} has nothing to run");
    for Block {
        line, script: body, ..
    } in &blocks
    {
        script += &format!("echo {line} >{here}/at\n{{\n{body}}} >{here}/out.{line}\n");
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    command.env("HOME", bench.path("home"));
    let ran = bench.ran(command);
    let at = fs::read_to_string(bench.path("at")).unwrap_or_default();
    assert_eq!(ran.code, Some(0), "{name}:{at}{}", ran.err);
    for Block { line, prints, .. } in blocks {
        let told = fs::read_to_string(bench.path(&format!("out.{line}"))).unwrap();
        if let Some(prints) = prints {
            assert!(is_as(&prints, &told), "{name}:{line} prints\n{told}");
        }
    }
}

#[test]
fn commands_of_the_guides_do_what_the_guides_say() {
    if !require_root_and_fuse() {
        return;
    }
    let guides = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide");
    for name in support::names(&guides) {
        let page = fs::read_to_string(guides.join(&name)).unwrap();
        run(&name, &page);
    }
}

#[test]
fn blocks_are_found_with_what_they_print() {
    let page = "# A\n\n```sh run\na\nb\n```\n\n```text\nx\n```\nwords\n```sh\nc\n```\n```sh run\nd\n```\nwords\n```text\ny\n```\n";
    let found = blocks(page);
    let expected = [
        Block {
            line: 3,
            script: "a\nb\n".into(),
            prints: Some("x\n".into()),
        },
        Block {
            line: 15,
            script: "d\n".into(),
            prints: None,
        },
    ];
    assert_eq!(found, expected);
    for (foretold, told, expected) in [
        ("a\nb\n", "a\nb\n", true),
        ("a\n", "a\nb\n", false),
        ("a ... c\n", "a b c\n", true),
        ("a ... c\n", "a b d\n", false),
        ("a...\n", "abc\n", true),
        ("...c\n", "abc\n", true),
        ("...\n", "abc\n", true),
        ("a\n", "ab\n", false),
    ] {
        assert_eq!(is_as(foretold, told), expected, "{foretold:?} {told:?}");
    }
}
