//! Stacks of branches in memory, drawn by hand or at random.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use rules::options::{CreatePolicy, Watermark};
use rules::placement::CopyUpPolicy;
use rules::{CopyUpOnOpen, Powers};
use testkit::{Faults, Faulty, Gone, MemoryDisk, MemoryTree, draw, plant};
use tree::Tree;
use union::{Branch, DialectKind, DirectChanges, IndexBytes, OverlayMarks, Settings, Union};

use crate::operation::any_path;

/// What a branch is mounted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `rw`
    Rw,
    /// `ro`
    Ro,
    /// `ro+wh`
    Wh,
}

/// Gives a branch other powers than its mode does.
pub(crate) type Empower = fn(Powers) -> Powers;

/// A stack as it is before anything happens.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    /// All branches are directories of one disk; otherwise each has its own.
    pub(crate) one_disk: bool,
    /// Topmost first, in tree notation.
    pub(crate) branches: Vec<(Mode, String)>,
    /// What branches may be used for beyond what their mode says.
    pub(crate) powers: Vec<(usize, Empower)>,
    /// A stored index answers for the lowest branches, as far as they are read-only.
    pub(crate) indexed: bool,
    /// How many blocks are free on each branch's disk once it is mounted; nothing: as many as anybody needs.
    pub(crate) free: Vec<u64>,
}

/// An index in memory.
pub(crate) struct Stored(pub(crate) Vec<u8>);

impl IndexBytes for Stored {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn done_reading(&self) {}
}

/// The branches on their disks, which outlive unions over them.
pub(crate) struct Stack {
    pub(crate) plan: Plan,
    pub(crate) trees: Vec<MemoryTree>,
    pub(crate) faults: Faults,
    /// The disks, one for each branch, which may be gone.
    pub(crate) gone: Vec<Gone>,
    read_only: Vec<(usize, String)>,
    filled: AtomicBool,
}

pub(crate) type MemoryUnion = Union<Faulty<MemoryTree>>;

impl Plan {
    /// Returns a stack in AUFS's format whose branches nobody else changes.
    pub(crate) fn aufs(branches: &[(Mode, &str)]) -> Self {
        let branches = branches
            .iter()
            .map(|(mode, text)| (*mode, (*text).to_owned()));
        let plan = Self {
            settings: Settings::new(DialectKind::Aufs),
            one_disk: false,
            branches: branches.collect(),
            powers: Vec::new(),
            indexed: false,
            free: Vec::new(),
        };
        plan.with(|settings| settings.direct_changes = DirectChanges::None)
    }

    /// Returns the same stack with other settings.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Returns the same stack with so many blocks free on each branch.
    pub(crate) fn with_free(self, free: &[u64]) -> Self {
        Self {
            free: free.to_vec(),
            ..self
        }
    }

    /// Returns the same stack with a stored index of its lowest branches.
    pub(crate) fn indexed(self) -> Self {
        Self {
            indexed: true,
            ..self
        }
    }

    /// Returns the same stack in overlay's format.
    pub(crate) fn overlay(self) -> Self {
        Self {
            settings: Settings::new(DialectKind::Overlay(OverlayMarks::Trusted)),
            ..self
        }
    }

    /// Returns the same stack with other powers of a branch.
    pub(crate) fn branch(mut self, index: usize, powers: Empower) -> Self {
        self.powers.push((index, powers));
        self
    }

    /// Returns the same stack, looked at again on each use.
    pub(crate) fn noticed(self) -> Self {
        self.with(|settings| settings.direct_changes = DirectChanges::Noticed)
    }

    /// Returns the same stack with all branches on one disk.
    pub(crate) fn on_one_disk(self) -> Self {
        Self {
            one_disk: true,
            ..self
        }
    }

    /// Makes the branches.
    pub(crate) fn build(&self) -> Stack {
        let shared = MemoryDisk::new();
        let mut trees = Vec::new();
        let mut read_only = Vec::new();
        for (index, (mode, text)) in self.branches.iter().enumerate() {
            let tree = if self.one_disk {
                shared.subtree(&format!("b{index}"))
            } else {
                MemoryTree::new()
            };
            plant(&tree, text);
            if *mode != Mode::Rw {
                read_only.push((index, draw(&tree)));
            }
            trees.push(tree);
        }
        Stack {
            plan: self.clone(),
            trees,
            faults: Faults::none(),
            gone: self.branches.iter().map(|_| Gone::default()).collect(),
            read_only,
            filled: AtomicBool::new(false),
        }
    }

    /// Returns whether a new entry inherits what its directory shows.
    pub(crate) fn inherits(&self) -> bool {
        inherits(self.settings.create, self.settings.move_when_full)
    }

    /// Returns whether a disk may have no space for a change.
    pub(crate) fn may_be_full(&self) -> bool {
        self.free.iter().any(|free| *free < 100)
    }

    /// Returns whether every directory can be renamed.
    pub(crate) fn renames_merged(&self) -> bool {
        self.settings.rename_merged && self.settings.dialect == DialectKind::Aufs
    }

    /// Returns whether changes can be refused for want of a writable branch.
    pub(crate) fn may_be_read_only(&self) -> bool {
        self.branches[0].0 != Mode::Rw
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disks = if self.one_disk {
            "one disk"
        } else {
            "own disks"
        };
        let settings = format!("{:?}", self.settings);
        let usual = format!("{:?}", Settings::new(self.settings.dialect));
        let usual: Vec<_> = usual.split([',', '{', '}']).collect();
        let parts = settings
            .split([',', '{', '}'])
            .filter(|part| !usual.contains(part));
        let unusual: Vec<_> = parts.map(str::trim).collect();
        let indexed = if self.indexed { ", indexed" } else { "" };
        writeln!(
            f,
            "{:?}, {disks}{indexed}, {unusual:?}",
            self.settings.dialect
        )?;
        for (index, empower) in &self.powers {
            let on_open = empower(Powers::PLAIN).copy_up_on_open;
            writeln!(f, "opening something on branch {index}: {on_open:?}")?;
        }
        for (mode, text) in &self.branches {
            writeln!(f, "--- {mode:?}\n{}", text.trim_end())?;
        }
        if !self.free.is_empty() {
            writeln!(f, "free: {:?}", self.free)?;
        }
        Ok(())
    }
}

impl Stack {
    /// Mounts the stack.
    pub(crate) fn mount(&self) -> MemoryUnion {
        self.try_mount().expect("the stack can be mounted")
    }

    pub(crate) fn try_mount(&self) -> Result<MemoryUnion, union::OpenError> {
        let branches = self.branches(0, &self.faults);
        let union = Union::new(branches, self.plan.settings.clone())?;
        if self.plan.indexed
            && self.plan.settings.direct_changes == DirectChanges::None
            && let Some(bytes) = self.index()
        {
            let used = union.use_chain_index(Arc::new(Stored(bytes)), |_| true, || {});
            used.expect("the index that was just made fits");
        }
        if !self.filled.swap(true, Ordering::Relaxed) {
            for (tree, free) in self.trees.iter().zip(&self.plan.free) {
                let stat = tree
                    .disk()
                    .tree()
                    .root()
                    .and_then(|root| tree.stat_fs(&root));
                let stat = stat.expect("a disk in memory answers");
                tree.disk().resize(stat.blocks - stat.blocks_free + free);
            }
        }
        Ok(union)
    }

    fn branches(&self, from: usize, faults: &Faults) -> Vec<Branch<Faulty<MemoryTree>>> {
        let disks = self.trees.iter().zip(&self.gone);
        let branches = disks.zip(&self.plan.branches).enumerate().skip(from);
        let branches = branches.map(|(index, ((tree, gone), (mode, _)))| {
            let powers = match mode {
                Mode::Rw => Powers::WRITABLE,
                Mode::Ro => Powers::PLAIN,
                Mode::Wh => Powers::LAYER,
            };
            let changes = self.plan.powers.iter().filter(|(at, _)| *at == index);
            Branch {
                tree: Faulty::on(tree.clone(), faults, gone),
                powers: changes.fold(powers, |powers, (_, change)| change(powers)),
            }
        });
        branches.collect()
    }

    /// Makes an index of the lowest branches, as far as they are read-only.
    pub(crate) fn index(&self) -> Option<Vec<u8>> {
        let modes = self.plan.branches.iter().map(|(mode, _)| *mode);
        let above = modes.rev().position(|mode| mode == Mode::Rw);
        let from = above.map_or(0, |above| self.trees.len() - above);
        if from == self.trees.len() {
            return None;
        }
        let branches = self.branches(from, &Faults::none());
        let union = Union::new(branches, self.plan.settings.clone()).ok()?;
        let out = std::io::Cursor::new(Vec::new());
        let (out, _) = union.write_chain_index(out, |_| true).ok()?;
        Some(out.into_inner())
    }

    /// Lets a branch be changed from now on.
    pub(crate) fn make_writable(&mut self, branch: usize) {
        self.plan.branches[branch].0 = Mode::Rw;
        self.read_only.retain(|(index, _)| *index != branch);
    }

    /// Returns which read-only branch is not what it was.
    pub(crate) fn touched_read_only_branch(&self) -> Option<usize> {
        let mut changed = self
            .read_only
            .iter()
            .filter(|(index, before)| draw(&self.trees[*index]) != *before);
        changed.next().map(|(index, _)| *index)
    }

    /// Returns names of the writable branches that operations should have cleaned up.
    pub(crate) fn left_over(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (index, (mode, _)) in self.plan.branches.iter().enumerate() {
            if *mode != Mode::Rw {
                continue;
            }
            let text = draw(&self.trees[index]);
            let paths = text.lines().filter_map(|line| line.split(' ').next());
            let last = |path: &str| {
                path.trim_end_matches('/')
                    .rsplit('/')
                    .next()
                    .unwrap_or("")
                    .to_owned()
            };
            found.extend(
                paths
                    .filter(|path| is_temporary(&last(path)))
                    .map(|path| format!("branch {index}: {path}")),
            );
        }
        found
    }

    /// Returns whether a lower file with several names was copied up: its names stay together while the
    /// union is mounted, as in AUFS, and part at the next mount unless `auplink` was run.
    pub(crate) fn has_pseudo_links(&self) -> bool {
        self.trees
            .iter()
            .any(|tree| draw(tree).lines().any(is_stored))
    }

    /// Draws all branches.
    pub(crate) fn draw(&self) -> String {
        let drawn = self.plan.branches.iter().zip(&self.trees);
        drawn
            .map(|((mode, _), tree)| format!("--- {mode:?}\n{}", draw(tree)))
            .collect()
    }
}

fn is_stored(line: &str) -> bool {
    line.strip_prefix(".wh..wh.plnk/")
        .is_some_and(|stored| stored.starts_with(|c: char| c.is_ascii_digit()))
}

fn is_temporary(name: &str) -> bool {
    matches!(
        rules::whiteout::meaning(name.as_bytes()),
        rules::whiteout::Meaning::Temporary(_)
    )
}

/// Returns what opening does to things on the lowest branch.
fn any_on_open() -> impl Strategy<Value = Option<Empower>> {
    let on_open: [Option<Empower>; 3] = [
        Some(|powers| Powers {
            copy_up_on_open: CopyUpOnOpen::Regular,
            ..powers
        }),
        Some(|powers| Powers {
            copy_up_on_open: CopyUpOnOpen::All,
            ..powers
        }),
        Some(|powers| Powers {
            copy_up_on_open: CopyUpOnOpen::Move,
            ..powers
        }),
    ];
    prop_oneof![
        3 => Just(None),
        1 => proptest::sample::select(on_open.to_vec()),
    ]
}

/// Something in a random branch.
#[derive(Debug, Clone)]
enum Item {
    File,
    Dir,
    Opaque,
    Whiteout,
    Symlink,
    Fifo,
    /// A hard link to another path, if that is a file.
    Link(String),
}

fn any_item() -> impl Strategy<Value = Item> {
    prop_oneof![
        6 => Just(Item::File),
        4 => Just(Item::Dir),
        2 => Just(Item::Opaque),
        4 => Just(Item::Whiteout),
        1 => Just(Item::Symlink),
        1 => Just(Item::Fifo),
        4 => any_path().prop_map(Item::Link),
    ]
}

fn any_modes() -> impl Strategy<Value = Vec<Mode>> {
    use Mode::{Ro, Rw, Wh};
    proptest::sample::select(vec![
        vec![Rw],
        vec![Rw, Wh],
        vec![Rw, Ro],
        vec![Rw, Wh, Wh],
        vec![Rw, Ro, Wh, Ro],
        vec![Rw, Rw],
        vec![Rw, Rw, Wh],
        vec![Rw, Wh, Rw, Wh],
        vec![Wh, Rw],
        vec![Ro, Rw, Wh],
        vec![Wh, Wh],
    ])
}

/// Returns whether new entries go to the topmost branch of their directory, whose attributes the union shows.
fn inherits(create: CreatePolicy, moves: bool) -> bool {
    create == CreatePolicy::TopDownParent && !moves
}

/// Returns random stacks.
pub(crate) fn any_plan() -> impl Strategy<Value = Plan> {
    let dialect = prop_oneof![
        3 => Just(DialectKind::Aufs),
        1 => Just(DialectKind::Overlay(OverlayMarks::Trusted)),
        1 => Just(DialectKind::Overlay(OverlayMarks::User)),
    ];
    let changes = prop_oneof![Just(DirectChanges::None), Just(DirectChanges::Noticed)];
    let items = vec((any::<u8>(), any_path(), any_item(), any::<u8>()), 0..16);
    let policy = prop_oneof![
        4 => Just(CopyUpPolicy::TopDownParent),
        1 => Just(CopyUpPolicy::BottomUpParent),
        1 => Just(CopyUpPolicy::BottomUp),
    ];
    let low = Watermark {
        bytes: 450 << 12,
        seconds: Some(0),
    };
    let create = prop_oneof![
        6 => Just(CreatePolicy::TopDownParent),
        1 => Just(CreatePolicy::RoundRobin),
        1 => Just(CreatePolicy::MostFreeSpace { seconds: Some(0) }),
        1 => Just(CreatePolicy::MostFreeSpaceRoundRobin(low)),
        1 => Just(CreatePolicy::TopDownMostFreeSpace(low)),
        1 => Just(CreatePolicy::ParentMostFreeSpace { seconds: Some(0) }),
        1 => Just(CreatePolicy::ParentMostFreeSpaceRoundRobin(low)),
    ];
    // Enough for everybody, and not the same.
    let free = vec(400..500u64, 4);
    let policies = (policy, create, any::<bool>(), free);
    let bits = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        proptest::bool::weighted(0.2),
        any_on_open(),
    );
    (dialect, changes, policies, bits, any_modes(), items).prop_map(
        |(
            dialect,
            changes,
            (policy, create, moves, free),
            (one_disk, early_links, eager, opaque, on_open),
            modes,
            items,
        )| {
            let mut branches = vec![Sketch::default(); modes.len()];
            let overlay = dialect != DialectKind::Aufs;
            // Every law holds with an index as well.
            let indexed = items.len() % 2 == 1;
            // What a new entry inherits comes from the directory on the branch that receives it, see docs/semantics.md.
            let inherits = inherits(create, moves);
            for (branch, path, item, variant) in items {
                let variant = if inherits {
                    variant
                } else {
                    variant & !0xc1 | 2
                };
                let index = usize::from(branch) % branches.len();
                if overlay && matches!(item, Item::Link(_)) && modes[index] != Mode::Rw {
                    // Names of one lower file part when one of them is copied up, as in overlayfs.
                    continue;
                }
                branches[index].add(index, &path, &item, variant, overlay);
            }
            // Nothing is copied up from the topmost one, and such words are AUFS's.
            let on_open = on_open.filter(|_| modes.len() > 1 && !overlay);
            let last = modes.len() - 1;
            let texts = branches.into_iter().map(|branch| branch.text);
            let plan = Plan {
                settings: Settings::new(dialect),
                one_disk,
                branches: modes.into_iter().zip(texts).collect(),
                powers: on_open.map(|powers| (last, powers)).into_iter().collect(),
                indexed,
                free: if one_disk { Vec::new() } else { free },
            };
            plan.with(|settings| {
                settings.direct_changes = changes;
                settings.copy_up = policy;
                settings.create = create;
                settings.move_when_full = moves;
                settings.link_names_early = early_links;
                settings.copy_up_on_open = eager && overlay;
                settings.always_opaque = opaque;
                settings.rename_merged = !(overlay || one_disk && early_links);
                settings.list_renamed_early = early_links;
            })
        },
    )
}

/// A branch in the making.
#[derive(Clone, Default)]
struct Sketch {
    /// Paths that are taken, and whether by a directory.
    taken: BTreeMap<String, Taken>,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Dir,
    File,
    Other,
}

impl Sketch {
    fn add(&mut self, branch: usize, path: &str, item: &Item, variant: u8, overlay: bool) {
        let parents: Vec<_> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
        if parents.iter().any(|parent| {
            self.taken
                .get(*parent)
                .is_some_and(|taken| *taken != Taken::Dir)
        }) {
            return;
        }
        let there = self.taken.get(path).copied();
        let (line, taken) = match item {
            Item::Dir | Item::Opaque if !matches!(there, None | Some(Taken::Dir)) => return,
            Item::Dir => (
                format!("{path}/{}", attributes(variant, true)),
                Some(Taken::Dir),
            ),
            Item::Opaque if overlay && variant & 1 == 0 => (
                format!("{path}/ trusted.overlay.opaque=y user.overlay.opaque=y"),
                Some(Taken::Dir),
            ),
            Item::Opaque => {
                let mark = format!("{path}/.wh..wh..opq");
                if self.taken.insert(mark.clone(), Taken::Other).is_some() {
                    return;
                }
                (format!("{path}/\n{mark} 0444"), Some(Taken::Dir))
            }
            Item::Whiteout if overlay && variant & 1 == 0 => {
                if there.is_some() {
                    return;
                }
                (format!("{path} c 0:0 0000"), Some(Taken::Other))
            }
            Item::Whiteout => {
                let (dir, name) = path
                    .rsplit_once('/')
                    .map_or(("", path), |(dir, name)| (dir, name));
                let slash = if dir.is_empty() { "" } else { "/" };
                let mark = format!("{dir}{slash}.wh.{name}");
                if self.taken.insert(mark.clone(), Taken::Other).is_some() {
                    return;
                }
                (format!("{mark} 0444"), None)
            }
            _ if there.is_some() => return,
            Item::File => {
                let bytes = format!("{branch} {path}");
                (
                    format!("{path} \"{bytes}\"{}", attributes(variant, false)),
                    Some(Taken::File),
                )
            }
            Item::Symlink => (format!("{path} -> to{branch}"), Some(Taken::Other)),
            Item::Fifo => (format!("{path} fifo"), Some(Taken::Other)),
            Item::Link(first) => {
                if self.taken.get(first) != Some(&Taken::File) {
                    return;
                }
                (format!("{path} = {first}"), Some(Taken::File))
            }
        };
        for parent in parents {
            self.taken.entry(parent.to_owned()).or_insert(Taken::Dir);
        }
        if let Some(taken) = taken {
            self.taken.insert(path.to_owned(), taken);
        }
        self.text.push_str(&line);
        self.text.push('\n');
    }
}

fn attributes(variant: u8, dir: bool) -> String {
    let perm = match (variant & 3, dir) {
        (0, false) => " 0600",
        (1, false) => " 6755",
        (0, true) => " 0700",
        (1, true) => " 2755",
        _ => "",
    };
    let owner = if variant & 12 == 0 { " 7:8" } else { "" };
    let xattr = if variant & 48 == 0 { " user.k=v" } else { "" };
    let list = if dir && variant & 0xc0 == 0x40 {
        DEFAULT_ACL
    } else {
        ""
    };
    format!("{perm}{owner}{xattr}{list}")
}

/// What a directory hands down: read and write for user 5, whatever the umask says.
const DEFAULT_ACL: &str = concat!(
    " system.posix_acl_default=\\x02\\x00\\x00\\x00",
    "\\x01\\x00\\x07\\x00\\xff\\xff\\xff\\xff",
    "\\x02\\x00\\x06\\x00\\x05\\x00\\x00\\x00",
    "\\x04\\x00\\x05\\x00\\xff\\xff\\xff\\xff",
    "\\x10\\x00\\x07\\x00\\xff\\xff\\xff\\xff",
    "\\x20\\x00\\x00\\x00\\xff\\xff\\xff\\xff",
);
