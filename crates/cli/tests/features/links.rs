//! Hard links of lower files.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::stack::Stack;

/// Plants a pair on the lower branch and mounts it.
fn pair(options: &str) -> Option<Stack> {
    Stack::with(options, &[("rw", ""), ("ro", "f \"abc\"\ng = f")])
}

fn append(stack: &Stack, name: &str, text: &str) {
    stack.run(&format!("printf {text} >> m/{name}"));
}

/// Row 57.
#[test]
fn both_names_of_a_lower_pair_show_what_is_written_to_one() {
    for options in ["", "compat=aufs"] {
        let Some(stack) = pair(options) else { return };
        append(&stack, "f", "d");
        assert_eq!(
            (stack.read("f"), stack.read("g")),
            ("abcd".into(), "abcd".into())
        );
        let [f, g] = ["f", "g"].map(|name| fs::metadata(stack.at(name)).unwrap());
        assert_eq!((f.ino(), f.nlink()), (g.ino(), 2));
        stack.unchanged(1);
    }
}

/// Row 59, without `auplink`: the end of the mount is enough.
#[test]
fn a_pair_is_a_pair_on_the_upper_branch_after_the_mount() {
    let Some(stack) = pair("") else { return };
    append(&stack, "f", "d");
    assert_eq!(stack.read("g"), "abcd");
    stack.unmount();
    stack.left(0, &["f \"abcd\"", "g = f"]);
    assert_eq!(
        fs::read_dir(stack.on(0, ".wh..wh.plnk")).unwrap().count(),
        0
    );
    stack.unchanged(1);
}

/// Row 58.
#[test]
fn a_link_to_a_lower_file_is_the_same_file() {
    for options in ["", "compat=aufs"] {
        let Some(stack) = Stack::with(options, &[("rw", ""), ("ro", "f \"abc\"")]) else {
            return;
        };
        fs::hard_link(stack.at("f"), stack.at("g")).unwrap();
        append(&stack, "g", "d");
        assert_eq!(
            (stack.read("f"), stack.read("g")),
            ("abcd".into(), "abcd".into())
        );
        let [f, g] = ["f", "g"].map(|name| fs::metadata(stack.at(name)).unwrap());
        assert_eq!((f.ino(), f.nlink(), g.nlink()), (g.ino(), 2, 2));
        stack.unmount();
        stack.mount(options);
        assert_eq!(
            (stack.read("f"), stack.read("g")),
            ("abcd".into(), "abcd".into())
        );
        stack.unchanged(1);
    }
}

/// Row 58, on disk.
#[test]
fn in_the_manner_of_aufs_a_link_makes_the_new_name_and_a_pseudo_link() {
    let Some(stack) = Stack::with("compat=aufs", &[("rw", ""), ("ro", "f \"abc\"")]) else {
        return;
    };
    fs::hard_link(stack.at("f"), stack.at("g")).unwrap();
    assert!(!stack.on(0, "f").exists());
    let copy = fs::metadata(stack.on(0, "g")).unwrap();
    let number = fs::metadata(stack.at("g")).unwrap().ino();
    let entry = format!(".wh..wh.plnk/{number}.{}", copy.ino());
    assert_eq!(fs::metadata(stack.on(0, &entry)).unwrap().ino(), copy.ino());
    assert_eq!(copy.nlink(), 2);
}

/// Row 60. AUFS gives `EIO` for a change of the second name.
#[test]
fn without_pseudo_links_each_name_of_a_pair_is_copied_for_itself() {
    for options in ["noplink", "noplink,compat=aufs"] {
        let Some(stack) = pair(options) else { return };
        append(&stack, "f", "d");
        assert_eq!(
            (stack.read("f"), stack.read("g")),
            ("abcd".into(), "abc".into())
        );
        append(&stack, "g", "e");
        assert_eq!(
            (stack.read("f"), stack.read("g")),
            ("abcd".into(), "abce".into())
        );
        assert!(!stack.on(0, ".wh..wh.plnk").exists());
        stack.unmount();
        stack.left(0, &["f \"abcd\"", "g \"abce\""]);
        stack.unchanged(1);
    }
}
