//! Keeping the memory of a server small: on some hosts there are hundreds of them.

/// Larger blocks have a mapping of their own, which is new memory: the buffers for requests cost nothing until they are used.
#[cfg(target_env = "gnu")]
const OWN_MAPPING: i32 = 1 << 20;
/// So much free memory at the end of the heap stays for the next who needs it.
#[cfg(target_env = "gnu")]
const KEPT: i32 = 2 << 20;
/// So many processors share an arena of the allocator; usually each thread gets its own.
#[cfg(target_env = "gnu")]
const SHARE_ARENA: usize = 4;

/// Sets how memory is taken from the system. To be called before the first thread starts.
pub fn limit() {
    #[cfg(target_env = "gnu")]
    {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let arenas = i32::try_from(processors.div_ceil(SHARE_ARENA)).unwrap_or(1);
        // SAFETY: the calls only change settings of the allocator, while no other thread uses it. One that is
        // refused stays as it was.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, arenas);
            libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        }
    }
}

/// Gives memory back that starting has used and serving does not need: what is free on the heap, the pages of programs and
/// libraries that are read again when they are run, and what deeper calls have used of the first thread's stack, if that calls.
pub fn release() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call gives back pages in which nothing is allocated; it may be made at any time.
    unsafe {
        libc::malloc_trim(0);
    }
    release_code();
    release_stack();
}

/// Lets go of the pages that are as they are in their files. They stay in the page cache: who runs what is on them has them back.
fn release_code() {
    unsafe extern "C" fn release(
        object: *mut libc::dl_phdr_info,
        _: usize,
        _: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the caller passes a valid description, whose headers are as many as it says.
        let (base, headers) = unsafe {
            let object = &*object;
            let count = usize::from(object.dlpi_phnum);
            (
                object.dlpi_addr as usize,
                std::slice::from_raw_parts(object.dlpi_phdr, count),
            )
        };
        for header in headers {
            if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0 {
                forget(
                    base + header.p_vaddr as usize,
                    base + (header.p_vaddr + header.p_memsz) as usize,
                    // SAFETY: nothing writes to such a segment, so its pages are read from the file again as they were.
                    |start, length| unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) },
                );
            }
        }
        0
    }
    // SAFETY: the function has the type that is asked for and passes nothing on.
    unsafe { libc::dl_iterate_phdr(Some(release), std::ptr::null_mut()) };
}

/// How much of the stack may have been used.
const USED: usize = 256 << 10;
/// How much below this function stays: what it and the call in it use.
const IN_USE: usize = 4 << 10;

/// Lets go of the stack that deeper calls have used. Nothing on any but the first thread: below a smaller stack lies
/// memory of others.
#[inline(never)]
pub fn release_stack() {
    if rustix::thread::gettid() != rustix::process::getpid() {
        return;
    }
    let here = 0_u8;
    let end = (&raw const here) as usize - IN_USE;
    forget(end - USED, end, |start, length| {
        // SAFETY: below the frames in use there is nothing but what calls have left that have returned. What is not
        // there at all is refused, and nothing else lies below the stack of the first thread.
        unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) }
    });
}

/// Applies a call to the whole pages between two addresses. Memory that cannot be given back stays.
fn forget(from: usize, to: usize, call: impl Fn(*mut libc::c_void, usize) -> libc::c_int) {
    let page = rustix::param::page_size();
    let (from, to) = (from.next_multiple_of(page), to / page * page);
    if from < to {
        call(std::ptr::with_exposed_provenance_mut(from), to - from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_as_before_when_memory_was_given_back() {
        limit();
        let kept: Vec<Vec<u8>> = (0..1000_usize).map(|length| vec![7; length]).collect();
        drop(vec![1_u8; 1 << 19]);
        release();
        for (length, bytes) in kept.iter().enumerate() {
            assert_eq!(bytes, &vec![7; length]);
        }
        assert_eq!(
            format!(
                "{}",
                1.5 + f64::from(u8::from_str_radix("2", 8).unwrap_or(0))
            ),
            "3.5"
        );
    }
}
