//! What is taken of what the kernel offers.
//!
//! Left alone on purpose: the writeback cache (it excludes passthrough and delays errors),
//! and remote locks (the kernel's own are right for a local filesystem).

use rules::Errno;

use crate::options::ServeOptions;
use crate::protocol::init::{self, InitReply, InitRequest, flag};

/// The most data of one read or write in bytes.
///
/// Reads are not negotiated: who mounts says `max_read=1048576`, or a kernel with pages above
/// 4 KiB asks for more than the buffers hold.
pub const MAX_DATA: u32 = 1 << 20;

const PAGE: u32 = 4096;

/// What every mount takes if it can get it.
const ALWAYS: u64 = flag::ASYNC_READ
    | flag::ATOMIC_O_TRUNC
    | flag::EXPORT_SUPPORT
    | flag::BIG_WRITES
    | flag::DONT_MASK
    | flag::DO_READDIRPLUS
    | flag::ASYNC_DIO
    | flag::PARALLEL_DIROPS
    | flag::HANDLE_KILLPRIV_V2
    | flag::MAX_PAGES
    | flag::SETXATTR_EXT
    | flag::INIT_EXT
    | flag::HAS_EXPIRE_ONLY
    | flag::DIRECT_IO_ALLOW_MMAP
    | flag::OVER_IO_URING;

/// Decides the reply to INIT; `EIO` for a kernel whose protocol is not served.
pub(crate) fn negotiate(offer: &InitRequest, options: &ServeOptions) -> Result<InitReply, Errno> {
    if offer.major != init::MAJOR || offer.minor < init::OLDEST_MINOR {
        return Err(Errno::IO);
    }
    let flags = offer.flags & wanted(options);
    let passthrough = flags & flag::PASSTHROUGH != 0;
    Ok(InitReply {
        minor: offer.minor.min(init::NEWEST_MINOR),
        max_readahead: offer.max_readahead,
        flags,
        max_background: 64,
        congestion_threshold: 48,
        max_write: MAX_DATA,
        time_gran: 1,
        max_pages: (MAX_DATA / PAGE) as u16,
        // One: the branches are no stacked filesystems, and one may still lie above us.
        max_stack_depth: u32::from(passthrough),
    })
}

fn wanted(options: &ServeOptions) -> u64 {
    let when = |wish: bool, flag: u64| if wish { flag } else { 0 };
    ALWAYS
        | when(options.acl, flag::POSIX_ACL)
        | when(options.cache.cache_symlinks, flag::CACHE_SYMLINKS)
        | when(options.cache.revalidate_data, flag::AUTO_INVAL_DATA)
        | when(
            options.passthrough && !options.without_opens,
            flag::PASSTHROUGH,
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::CachePolicy;

    fn offer(minor: u32, flags: u64) -> InitRequest {
        InitRequest {
            major: 7,
            minor,
            max_readahead: 131_072,
            flags,
        }
    }

    #[test]
    fn only_what_is_offered_is_taken() {
        let options = ServeOptions {
            passthrough: true,
            acl: true,
            ..ServeOptions::default()
        };
        let reply = negotiate(&offer(31, flag::ASYNC_READ), &options).unwrap();
        assert_eq!(
            (reply.flags, reply.max_stack_depth, reply.minor),
            (flag::ASYNC_READ, 0, 31)
        );
        let reply = negotiate(&offer(99, u64::MAX), &options).unwrap();
        assert_eq!(reply.minor, init::NEWEST_MINOR);
        assert_eq!(reply.max_stack_depth, 1);
    }

    #[test]
    fn wishes_follow_the_options() {
        let changing = ServeOptions::default();
        let lasting = ServeOptions {
            cache: CachePolicy::forever(),
            ..ServeOptions::default()
        };
        let flags = |options: &ServeOptions| {
            let reply = negotiate(&offer(45, u64::MAX), options);
            reply.unwrap().flags
        };
        let differing = flag::CACHE_SYMLINKS | flag::AUTO_INVAL_DATA;
        assert_eq!(flags(&changing) & differing, flag::AUTO_INVAL_DATA);
        assert_eq!(flags(&lasting) & differing, flag::CACHE_SYMLINKS);
        assert_eq!(flags(&lasting) & (flag::PASSTHROUGH | flag::POSIX_ACL), 0);
        let passing = ServeOptions {
            passthrough: true,
            ..ServeOptions::default()
        };
        assert_eq!(flags(&passing) & flag::PASSTHROUGH, flag::PASSTHROUGH);
        let never_opened = ServeOptions {
            without_opens: true,
            ..passing
        };
        assert_eq!(flags(&never_opened) & flag::PASSTHROUGH, 0);
    }

    #[test]
    fn writeback_and_remote_locks_are_never_taken() {
        let options = ServeOptions {
            passthrough: true,
            acl: true,
            ..ServeOptions::default()
        };
        let flags = negotiate(&offer(45, u64::MAX), &options).unwrap().flags;
        assert_eq!(flags & (1 << 16 | 1 << 1 | 1 << 10), 0);
    }

    #[test]
    fn a_kernel_before_5_4_is_refused() {
        assert!(negotiate(&offer(30, u64::MAX), &ServeOptions::default()).is_err());
    }
}
