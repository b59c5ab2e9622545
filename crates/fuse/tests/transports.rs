//! Both transports with handlers that are slow, break, or wait for each other. Needs `/dev/fuse`, the right to mount, and io_uring.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use fuse::protocol::attributes::{Validity, attr_out, entry};
use fuse::protocol::header::Header;
use fuse::protocol::init::{InitReply, InitRequest, flag};
use fuse::protocol::replies::{open_out, size_out};
use fuse::protocol::{Dialect, Message, Opcode, Payload, Request};
use fuse::transport::device::Connection;
use fuse::transport::ring::{Porter, Slots};
use fuse::transport::{Answer, Equipment, Handler, Undo, serve};
use fuse::{MAX_DATA, NoRing, ServeError, Way};
use rules::{Attr, Errno, Kind, Time};
use sys::FuseDevice;
use sys::mounting::{FuseMount, MountFlags, UnmountHow, mount_fuse, unmount};
use tempfile::TempDir;
use union::InodeId;

/// Longer than anything that does not wait, and shorter than anything that does.
const SLOW: Duration = Duration::from_millis(700);
const FILE: InodeId = InodeId(7);

/// A directory in which names say what becomes of a lookup: `slow*` takes long, `wait*` until `go*` is looked up, `broken*` panics, and
/// what begins with a digit is a file whose size and contents are this number.
#[derive(Default)]
struct Odd {
    takes_io_uring: bool,
    gone: Mutex<bool>,
    went: Condvar,
    under_way: Mutex<HashSet<Vec<u8>>>,
    undone: Mutex<Vec<Undo>>,
}

impl Odd {
    fn lookup(&self, name: &[u8], payload: &mut Payload<'_>) -> Result<Answer, Errno> {
        self.under_way.lock().unwrap().insert(name.to_vec());
        if name.starts_with(b"slow") {
            sleep(SLOW);
        } else if name.starts_with(b"wait") {
            let gone = self.gone.lock().unwrap();
            drop(self.went.wait_while(gone, |gone| !*gone).unwrap());
        } else if name.starts_with(b"go") {
            *self.gone.lock().unwrap() = true;
            self.went.notify_all();
        } else if name.starts_with(b"broken") {
            panic!("as asked for");
        } else {
            let text = std::str::from_utf8(name).map_err(|_| Errno::INVAL)?;
            let number = text.parse().map_err(|_| Errno::NOENT)?;
            let never = Validity {
                entry: Duration::ZERO,
                attr: Duration::ZERO,
            };
            payload.put(entry(InodeId(number), &attr(number), never).bytes())?;
            return Ok(Answer::Reply(Undo::Reference(FILE)));
        }
        Err(Errno::NOENT)
    }

    fn respond(
        &self,
        header: &Header,
        request: Request<'_>,
        payload: &mut Payload<'_>,
    ) -> Result<Answer, Errno> {
        match request {
            Request::Lookup { name } => return self.lookup(name, payload),
            Request::GetAttr => {
                payload.put(attr_out(&attr(header.node), Duration::ZERO).bytes())?;
            }
            Request::Open { .. } => payload.put(open_out(0, 1, 0).bytes())?,
            Request::Release { .. } => {}
            Request::Read { size, offset } => {
                let left = header.node.saturating_sub(offset).min(u64::from(size)) as usize;
                payload.spare(left)?.fill(header.node as u8);
                payload.advance(left);
            }
            Request::Write { data, .. } => {
                let right = data.iter().all(|byte| *byte == header.node as u8);
                let length = if right { data.len() } else { 0 };
                payload.put(size_out(length as u32).bytes())?;
            }
            Request::Forget { .. } | Request::BatchForget(_) | Request::Notice => {
                return Ok(Answer::Silence);
            }
            _ => return Err(Errno::NOSYS),
        }
        Ok(Answer::DONE)
    }
}

fn attr(number: u64) -> Attr {
    let start = Time {
        seconds: 0,
        nanos: 0,
    };
    Attr {
        dev: 0,
        ino: number,
        kind: if number == 1 { Kind::Dir } else { Kind::File },
        perm: 0o777,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: number,
        blocks: 0,
        block_size: 4096,
        atime: start,
        mtime: start,
        ctime: start,
        btime: None,
        immutable: false,
    }
}

impl Handler for Odd {
    fn answer(&self, message: &Message<'_>, payload: &mut Payload<'_>) -> Answer {
        let opcode = Opcode::from_raw(message.header.opcode);
        if opcode == Some(Opcode::Init) {
            let offer = InitRequest::parse(message.arguments).unwrap();
            payload
                .put(greeting(&offer, self.takes_io_uring).record().bytes())
                .unwrap();
            return Answer::DONE;
        }
        let dialect = Dialect {
            long_setxattr: false,
        };
        let request = opcode.map(|opcode| Request::parse(opcode, message.arguments, dialect));
        let Some(Ok(request)) = request else {
            return Answer::Error(Errno::NOSYS);
        };
        self.respond(&message.header, request, payload)
            .unwrap_or_else(Answer::Error)
    }

    fn undelivered(&self, undo: Undo, _payload: &[u8]) {
        self.undone.lock().unwrap().push(undo);
    }
}

fn greeting(offer: &InitRequest, takes_io_uring: bool) -> InitReply {
    let mut wanted = flag::INIT_EXT | flag::MAX_PAGES | flag::BIG_WRITES | flag::PARALLEL_DIROPS;
    if takes_io_uring {
        wanted |= flag::OVER_IO_URING;
    }
    InitReply {
        minor: offer.minor,
        flags: offer.flags & wanted,
        max_background: 64,
        congestion_threshold: 48,
        max_write: MAX_DATA,
        time_gran: 1,
        max_pages: 256,
        ..InitReply::default()
    }
}

/// What is to serve a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    Ring,
    Device,
    /// By a ring whose slots the kernel refuses.
    RefusedRing,
}

const WAYS: [Served; 2] = [Served::Ring, Served::Device];

struct Mounted {
    home: TempDir,
    way: Way,
    handler: Arc<Odd>,
    server: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Mounted {
    fn new(served: Served, threads: usize) -> Self {
        let home = tempfile::tempdir().unwrap();
        let device = Arc::new(FuseDevice::open().unwrap());
        let mount = FuseMount {
            source: "test".as_ref(),
            target: home.path(),
            subtype: "plywood",
            flags: MountFlags::empty(),
            server: (sys::capabilities::euid(), sys::capabilities::egid()),
            default_permissions: false,
            allow_other: true,
            max_read: Some(MAX_DATA),
            security: &[],
        };
        let handler = Arc::new(Odd {
            // Offered or not: another test may have switched it on.
            takes_io_uring: served != Served::Device,
            ..Odd::default()
        });
        let greet = || {
            mount_fuse(&device, &mount).unwrap();
            let mut connection = Connection::new(&device).unwrap();
            assert!(connection.exchange(&*handler).unwrap());
        };
        let slots = Slots::of_machine(threads).unwrap();
        let (ring, room) = match served {
            Served::Device => {
                greet();
                (Err(NoRing::Unwanted), 0)
            }
            Served::Ring | Served::RefusedRing => {
                let ring = Porter::ring(&device, slots).unwrap();
                testkit::while_io_uring_is_offered(greet).unwrap();
                let room = match served {
                    Served::Ring => MAX_DATA as usize,
                    _ => 4096,
                };
                // The kernel wants as many bytes as the largest write has.
                (Ok(ring), room)
            }
        };
        let equipment = Equipment {
            ring,
            room,
            threads,
        };
        let (tell, told) = sync_channel(1);
        let answering = Arc::clone(&handler);
        let server = std::thread::spawn(move || {
            // The ring belongs to the thread that serves.
            serve(&device, equipment, &*answering, |way| {
                tell.send(way).unwrap()
            })
        });
        let way = told.recv().unwrap();
        assert_eq!(way == Way::IoUring, served == Served::Ring, "{way:?}");
        Self {
            home,
            way,
            handler,
            server: Some(server),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Looks a name up as another thread, on the first processor.
    fn lookup(&self, name: String) -> JoinHandle<(ErrorKind, Duration)> {
        let path = self.at(&name);
        std::thread::spawn(move || {
            sys::processors::stay_on(0).unwrap();
            let start = Instant::now();
            let error = fs::symlink_metadata(path).unwrap_err();
            (error.kind(), start.elapsed())
        })
    }

    fn wait_until_under_way(&self, name: &str) {
        let name = name.as_bytes();
        while !self.handler.under_way.lock().unwrap().contains(name) {
            sleep(Duration::from_millis(1));
        }
    }

    /// Ends it as someone else does; the server has to hear of it soon.
    fn end(mut self, how: UnmountHow) {
        match unmount(self.home.path(), how) {
            Ok(()) => {}
            // The requests under way are cut off, but their clients are in yet.
            Err(Errno::BUSY) if how == UnmountHow::Force => {
                unmount(self.home.path(), UnmountHow::Lazy).unwrap();
            }
            Err(errno) => panic!("{errno}"),
        }
        let server = self.server.take().unwrap();
        let start = Instant::now();
        while !server.is_finished() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "the server does not end"
            );
            sleep(Duration::from_millis(5));
        }
        assert!(matches!(server.join().unwrap(), Ok(())));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            let unmounted = unmount(self.home.path(), UnmountHow::Lazy);
            if !std::thread::panicking() {
                assert_eq!(unmounted, Ok(()));
                assert!(matches!(server.join().unwrap(), Ok(())));
            }
        }
    }
}

#[test]
fn slow_requests_delay_no_others_of_their_processor() {
    for served in WAYS {
        let mounted = Mounted::new(served, 8);
        let slow: Vec<_> = (0..5)
            .map(|n| mounted.lookup(format!("slow-{n}")))
            .collect();
        for number in 0..5 {
            mounted.wait_until_under_way(&format!("slow-{number}"));
        }
        let start = Instant::now();
        for number in 0..200 {
            let (kind, _) = mounted.lookup(format!("none-{number}")).join().unwrap();
            assert_eq!(kind, ErrorKind::NotFound);
        }
        let taken = start.elapsed();
        for slow in slow {
            let (kind, waited) = slow.join().unwrap();
            assert!(kind == ErrorKind::NotFound && waited >= SLOW);
        }
        assert!(taken < SLOW / 2, "{:?}: {taken:?}", mounted.way);
    }
}

#[test]
fn more_slow_requests_than_threads_are_all_answered() {
    for served in WAYS {
        let mounted = Mounted::new(served, 2);
        let slow: Vec<_> = (0..7)
            .map(|n| mounted.lookup(format!("slow-{n}")))
            .collect();
        for slow in slow {
            assert_eq!(slow.join().unwrap().0, ErrorKind::NotFound);
        }
    }
}

#[test]
fn a_request_that_waits_for_another_does_not_keep_it_out() {
    for served in WAYS {
        let mounted = Mounted::new(served, 8);
        let waiting: Vec<_> = (0..4)
            .map(|n| mounted.lookup(format!("wait-{n}")))
            .collect();
        for number in 0..4 {
            mounted.wait_until_under_way(&format!("wait-{number}"));
        }
        mounted.lookup("go".to_owned()).join().unwrap();
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap().0, ErrorKind::NotFound);
        }
    }
}

#[test]
fn a_handler_that_panics_answers_with_an_error() {
    for served in WAYS {
        let mounted = Mounted::new(served, 2);
        for _ in 0..5 {
            let error = fs::symlink_metadata(mounted.at("broken")).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::IO.raw()));
        }
        assert!(mounted.at("99").exists());
    }
}

#[test]
fn many_clients_get_what_they_asked_for() {
    for served in [Served::Ring, Served::Device, Served::RefusedRing] {
        let mounted = Mounted::new(served, 4);
        std::thread::scope(|scope| {
            for client in 0..12_usize {
                let mounted = &mounted;
                scope.spawn(move || {
                    for round in 0..40 {
                        // Sizes around pages, and up to the largest request.
                        let size =
                            [5, 4095, 4097, 70_000, 1 << 20, (3 << 20) + 1][(client + round) % 6];
                        let size = size + client * 64 + round;
                        let path = mounted.at(&size.to_string());
                        let file = File::options().read(true).write(true).open(path).unwrap();
                        let mut bytes = vec![0; size + 10];
                        let count = file.read_at(&mut bytes, 0).unwrap();
                        assert_eq!(count, size);
                        assert!(bytes[..size].iter().all(|byte| *byte == size as u8));
                        let written = file.write_at(&bytes[..size], 0).unwrap();
                        assert_eq!(written, size);
                    }
                });
            }
        });
    }
}

#[test]
fn a_killed_client_leaves_the_mount_alone() {
    for served in WAYS {
        let mounted = Mounted::new(served, 4);
        for number in 0..3 {
            let name = format!("slow-{number}");
            let mut client = Command::new("stat")
                .arg(mounted.at(&name))
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            mounted.wait_until_under_way(&name);
            client.kill().unwrap();
            assert!(mounted.at("5").exists());
            client.wait().unwrap();
        }
        assert!(mounted.at("6").exists());
    }
}

#[test]
fn an_end_while_requests_fly_ends_the_server_and_its_clients() {
    for (served, how) in WAYS
        .into_iter()
        .flat_map(|served| [UnmountHow::Force, UnmountHow::Lazy].map(|how| (served, how)))
    {
        let mounted = Mounted::new(served, 4);
        let place = mounted.home.path().to_owned();
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let path = place.join((client + 10).to_string());
                std::thread::spawn(move || {
                    let start = Instant::now();
                    // Inside by path each time: a lazy unmount leaves nobody in.
                    while is_there(&path) {
                        assert!(start.elapsed() < Duration::from_secs(60));
                    }
                })
            })
            .collect();
        let slow = mounted.lookup("slow-0".to_owned());
        mounted.wait_until_under_way("slow-0");
        mounted.end(how);
        slow.join().unwrap();
        for client in clients {
            client.join().unwrap();
        }
    }
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

#[test]
fn a_ring_that_the_kernel_refuses_leaves_the_device() {
    let mounted = Mounted::new(Served::RefusedRing, 4);
    assert_eq!(mounted.way, Way::Device(NoRing::Refused(Errno::INVAL)));
    assert!(mounted.at("7").exists());
    let words = mounted.way.obstacle().unwrap().to_string();
    assert_eq!(words, "refused by the kernel: invalid argument");
}
