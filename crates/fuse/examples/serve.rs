//! Mounts a union in the foreground, without the command line around it.
//!
//! `serve MOUNTPOINT [forever|exact] [cached] DIR[=ro]...`: the topmost directory comes first. `forever`
//! and `exact` say what the kernel may remember, `cached` does without passthrough.
//! `RUST_LOG=fuse=trace` shows requests.

use std::sync::Arc;

use fuse::{CachePolicy, MAX_DATA, ServeOptions, Server};
use rules::Powers;
use sys::mounting::{FuseMount, MountFlags, mount_fuse};
use sys::{FuseDevice, HostTree};
use union::{Branch, DialectKind, DirectChanges, Settings, Union};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    sys::limits::raise_open_files()?;
    sys::limits::clear_umask();

    let mut words = std::env::args().skip(1);
    let target = words.next().ok_or("no mountpoint")?;
    let mut options = ServeOptions {
        passthrough: true,
        acl: true,
        ..ServeOptions::default()
    };
    let mut settings = Settings::new(DialectKind::Aufs);
    let mut branches = Vec::new();
    for word in words {
        match word.as_str() {
            "forever" => {
                options.cache = CachePolicy::forever();
                settings.direct_changes = DirectChanges::None;
            }
            "exact" => options.cache = CachePolicy::exact(),
            "cached" => options.passthrough = false,
            "volatile" => settings.durable = false,
            dir => branches.push(branch(dir)?),
        }
    }
    let union = Arc::new(Union::new(branches, settings)?);

    let device = FuseDevice::open()?;
    let mount = FuseMount {
        source: "serve".as_ref(),
        target: target.as_ref(),
        subtype: "plywood",
        flags: MountFlags::empty(),
        server: (0, 0),
        default_permissions: true,
        allow_other: true,
        max_read: Some(MAX_DATA),
        security: &[],
    };
    mount_fuse(&device, &mount)?;
    let mut server = Server::new(device, union, options);
    server.initialize()?;
    println!("ready");
    let counters = server.counters();
    server.run()?;
    for (name, count) in counters.requests() {
        println!("{name} {count}");
    }
    println!(
        "refused {}, failed {}",
        counters.refused(),
        counters.failed()
    );
    Ok(())
}

fn branch(dir: &str) -> Result<Branch<HostTree>, rules::Errno> {
    let (dir, powers) = match dir.strip_suffix("=ro") {
        Some(dir) => (dir, Powers::LAYER),
        None => (dir, Powers::WRITABLE),
    };
    let tree = HostTree::open(dir.as_ref())?;
    Ok(Branch { tree, powers })
}
