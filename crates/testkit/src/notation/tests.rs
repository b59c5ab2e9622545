//! Planting and drawing trees.

use super::{What, contents, draw, plant};
use crate::{MemoryDisk, MemoryTree};

fn redrawn(text: &str) -> String {
    let tree = MemoryTree::new();
    plant(&tree, text);
    draw(&tree)
}

#[test]
fn what_is_drawn_can_be_planted() {
    let text = "\
./ 1777 1:2 trusted.overlay.opaque=y
\\x23hash
b b 8:1 0660 0:6
d/ 0700
d/f \"contents\\n\\t\\\"\\\\\\x00\" 6755 1000:100
d/with\\x20space user.a= user.b=x\\x20y
dev c 1:3
h = d/f
l -> ../some\\x20where 5:5
p fifo
s socket 0600
";
    assert_eq!(redrawn(text), text);
    assert_eq!(redrawn(&redrawn(text)), text);
}

#[test]
fn defaults_need_no_words_and_parents_no_lines() {
    let planted = redrawn(
        r#"
        # A comment, then words in any order.
        a/b/c    0644 0:0 "x"
        a/       0755
        l        -> target
        "#,
    );
    assert_eq!(planted, "a/\na/b/\na/b/c \"x\"\nl -> target\n");
}

#[test]
fn a_directory_that_exists_gets_only_the_words_of_its_line() {
    assert_eq!(
        redrawn("d/f\nd/ 0700\nd/ 1:1\nd/ user.a=b"),
        "d/ 0700 1:1 user.a=b\nd/f\n"
    );
}

#[test]
fn long_files_that_differ_are_drawn_differently() {
    let file = |last: char| redrawn(&format!("f \"{}{last}\"", "x".repeat(2000)));
    assert!(file('a').contains("2001 bytes"));
    assert!(file('a').len() < 100);
    assert_eq!(file('a'), file('a'));
    assert_ne!(file('a'), file('b'));
}

#[test]
fn malformed_lines_are_shown() {
    for line in [
        "f 0999",
        "f what",
        "f ->",
        "f \"x",
        "f c 1",
        "../f",
        "f/g/",
        "h = missing",
        "f 1:x",
    ] {
        let planted = std::panic::catch_unwind(|| {
            let tree = MemoryTree::new();
            plant(&tree, "f");
            plant(&tree, line);
        });
        let message = planted.expect_err(line).downcast::<String>().unwrap();
        assert!(
            message.starts_with(&format!("cannot plant {line:?}: ")),
            "{message}"
        );
    }
}

#[test]
fn contents_name_the_first_of_several_links() {
    let tree = MemoryTree::new();
    plant(&tree, "z/a \"x\"\nb = z/a\nc = b\nother \"x\"");
    let nodes = contents(&tree);
    let same_as = |path: &[u8]| nodes[path].same_as.clone();
    assert_eq!(same_as(b"b"), None);
    assert_eq!(same_as(b"c").as_deref(), Some(b"b".as_slice()));
    assert_eq!(same_as(b"z/a").as_deref(), Some(b"b".as_slice()));
    assert_eq!(same_as(b"other"), None);
    assert_eq!(nodes[b"z/a".as_slice()].what, What::File(b"x".to_vec()));
    assert_eq!(nodes[b"".as_slice()].what, What::Dir);
}

#[test]
fn links_from_outside_the_tree_are_no_group() {
    let disk = MemoryDisk::new();
    plant(&disk.tree(), "in/f\nout/g = in/f");
    assert_eq!(draw(&disk.subtree("in")), "f\n");
}
