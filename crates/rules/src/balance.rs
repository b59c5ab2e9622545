//! Which files of a pool move where, so that its disks are equally full.
//!
//! The largest files of disks that are fuller than the whole pool go to those that are emptier. None becomes fuller than the
//! pool by what it gets, so that nothing moves twice.

/// Space on a filesystem, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What is free.
    pub free: u64,
}

/// Something that moves as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// How much space it takes, in bytes.
    pub size: u64,
    /// The filesystem it is on.
    pub from: usize,
    /// Where it may go: a number of the caller's own, and the filesystem that belongs to it, best first.
    pub to: Vec<(usize, usize)>,
}

/// One decision: the position of the candidate, and which of the caller's numbers it goes to.
pub type Choice = (usize, usize);

/// Chooses what moves. `tolerance` says by how many hundredths of its size a filesystem may be fuller than the pool.
pub fn choose(spaces: &[Space], candidates: &[Candidate], tolerance: u8) -> Vec<Choice> {
    let mut excess: Vec<i128> = excesses(spaces);
    let slack = |at: usize| i128::from(spaces[at].total) * i128::from(tolerance) / 100;
    let mut order: Vec<_> = (0..candidates.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(candidates[*at].size));
    let mut chosen = Vec::new();
    for at in order {
        let Candidate { size, from, to } = &candidates[at];
        let size = i128::from(*size);
        if size == 0 || excess[*from] <= slack(*from) || size > excess[*from] {
            continue;
        }
        let has_room = |(_, filesystem): &&(usize, usize)| excess[*filesystem] + size <= 0;
        let emptiest = to
            .iter()
            .filter(has_room)
            .min_by_key(|(_, filesystem)| excess[*filesystem]);
        if let Some((number, filesystem)) = emptiest {
            excess[*from] -= size;
            excess[*filesystem] += size;
            chosen.push((at, *number));
        }
    }
    chosen
}

/// Returns by how many bytes each filesystem is fuller than the pool as a whole.
pub fn excesses(spaces: &[Space]) -> Vec<i128> {
    let sum = |part: fn(&Space) -> u64| spaces.iter().map(|space| i128::from(part(space))).sum();
    let (total, free): (i128, i128) = (sum(|space| space.total), sum(|space| space.free));
    let fair = |space: &Space| i128::from(space.total) * free / total.max(1);
    spaces
        .iter()
        .map(|space| fair(space) - i128::from(space.free))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(total: u64, free: u64) -> Space {
        Space { total, free }
    }

    fn file(size: u64, from: usize, to: &[usize]) -> Candidate {
        Candidate {
            size,
            from,
            to: to.iter().map(|at| (at + 10, *at)).collect(),
        }
    }

    #[test]
    fn large_files_leave_the_fullest_disk_until_it_is_as_full_as_the_pool() {
        let spaces = [space(100, 0), space(100, 80)];
        let files = [
            file(10, 0, &[1]),
            file(30, 0, &[1]),
            file(50, 0, &[1]),
            file(5, 0, &[1]),
        ];
        assert_eq!(excesses(&spaces), [40, -40]);
        assert_eq!(choose(&spaces, &files, 0), [(1, 11), (0, 11)]);
        assert_eq!(choose(&spaces, &files, 10), [(1, 11)]);
        assert_eq!(choose(&spaces, &files, 40), []);
    }

    #[test]
    fn what_cannot_go_anywhere_stays_and_the_emptiest_is_taken() {
        let spaces = [space(100, 10), space(100, 50), space(100, 90)];
        let files = [file(20, 0, &[]), file(20, 0, &[1, 2]), file(20, 0, &[1])];
        assert_eq!(choose(&spaces, &files, 0), [(1, 12)]);
        assert_eq!(choose(&[], &[], 0), []);
        assert_eq!(choose(&[space(0, 0)], &[file(1, 0, &[0])], 0), []);
    }
}
