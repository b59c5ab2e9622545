//! `plywood mount`, mount(8)'s helper and the mount program `fuse-overlayfs`.
//!
//! All three say the same in other words. The command returns when the mount can be used.

use std::ffi::OsString;
use std::path::Path;

use rules::options::{self, Compat};
use sys::daemon::{self, Forked, Verdict};
use sys::mounting::MountFlags;

use crate::command_line;
use crate::control::{self, Answer, Ask};
use crate::failure::{Exit, Failure, exit_of, line_of};
use crate::helper_arguments::Arguments;
use crate::logging;
use crate::mounted_unions;
use crate::mounting::place::is_union;
use crate::mounting::plan::Plan;
use crate::mounting::request::{Request, Warnings};
use crate::mounting::serve::Ready;
use crate::mounting::translate;
use crate::render::path_text;
use crate::run_state;

/// `plywood mount`
pub(crate) fn run(arguments: command_line::Mount) -> anyhow::Result<Exit> {
    let limit = arguments.memory_limit.map(|size| {
        let mut word = OsString::from("memory_limit=");
        word.push(size);
        word
    });
    let words = arguments.options.iter().chain(&limit);
    let options = options::join(words.map(OsString::as_os_str));
    mount(Request {
        source: arguments.source,
        dir: arguments.dir,
        options,
        subtype: "plywood".into(),
        compat: Compat::Plywood,
        foreground: arguments.foreground,
        fake: false,
        sloppy: false,
        warnings: if arguments.verbose {
            Warnings::All
        } else {
            Warnings::Serious
        },
    })
}

/// `mount.TYPE SOURCE DIR [-sfnvrw] [-o OPTIONS] [-N NAMESPACE] [-t TYPE]`
pub(crate) fn run_helper(
    words: impl IntoIterator<Item = OsString>,
    subtype: &str,
) -> anyhow::Result<Exit> {
    let usage = |what: String| {
        Failure::new(Exit::MOUNT_USAGE, what)
            .hint("usage: SOURCE DIR [-sfnvrw] [-o OPTIONS] [-t TYPE]")
    };
    let read = Arguments::read(words, "sfnvrwih", "oNt", &["help", "version"]).map_err(usage)?;
    if read.has(&["version"]) {
        crate::print_line(concat!("plywood ", env!("CARGO_PKG_VERSION")));
        return Ok(Exit::SUCCESS);
    }
    if read.has(&["h", "help"]) {
        crate::print_line("usage: SOURCE DIR [-sfnvrw] [-o OPTIONS] [-t TYPE]");
        return Ok(Exit::SUCCESS);
    }
    if read.all('N').next().is_some() {
        let what = "-N: mounting in another namespace is not supported yet";
        return Err(Failure::new(Exit::MOUNT_USAGE, what).into());
    }
    let [source, dir] = &read.operands[..] else {
        return Err(usage(format!("{} operands", read.operands.len())).into());
    };
    let flags = [("r", "ro"), ("w", "rw")];
    let flags = flags.iter().filter(|(letter, _)| read.has(&[*letter]));
    let flags = flags.map(|(_, word)| word.as_ref());
    mount(Request {
        source: Some(source.clone()),
        dir: dir.into(),
        options: options::join(read.all('o').chain(flags)),
        subtype: subtype_of(&read).unwrap_or_else(|| subtype.to_owned()),
        compat: Compat::Plywood,
        foreground: false,
        fake: read.has(&["f"]),
        sloppy: read.has(&["s"]),
        warnings: if read.has(&["v"]) {
            Warnings::All
        } else {
            Warnings::None
        },
    })
}

/// `-t fuse.aufs` says more than the name of the helper.
fn subtype_of(read: &Arguments) -> Option<String> {
    let given = read.all('t').last()?.to_str()?;
    let subtype = given.strip_prefix("fuse.").unwrap_or(given);
    ["aufs", "plywood"]
        .contains(&subtype)
        .then(|| subtype.to_owned())
}

/// `fuse-overlayfs [-fd] [-o OPTIONS]... DIR`
pub(crate) fn run_fuse_overlayfs(
    words: impl IntoIterator<Item = OsString>,
) -> anyhow::Result<Exit> {
    const USAGE: &str =
        "usage: fuse-overlayfs [-fd] -o lowerdir=A:B[,upperdir=U,workdir=W][,OPTIONS] DIR";
    let usage = |what: String| Failure::new(Exit::MOUNT_USAGE, what).hint(USAGE);
    let long = ["help", "version", "debug", "foreground"];
    let read = Arguments::read(words, "fdshV", "o", &long).map_err(usage)?;
    if read.has(&["V", "version"]) {
        crate::print_line(concat!(
            "fuse-overlayfs: version ",
            env!("CARGO_PKG_VERSION"),
            " (plywood)"
        ));
        return Ok(Exit::SUCCESS);
    }
    if read.has(&["h", "help"]) {
        crate::print_line(USAGE);
        return Ok(Exit::SUCCESS);
    }
    let [dir] = &read.operands[..] else {
        return Err(usage(format!("{} operands", read.operands.len())).into());
    };
    let single = read.has(&["s"]).then_some("threaded=0".as_ref());
    let debug = read.has(&["d", "debug"]).then_some("debug".as_ref());
    mount(Request {
        source: None,
        dir: dir.into(),
        options: options::join(read.all('o').chain(single).chain(debug)),
        subtype: "fuse-overlayfs".into(),
        compat: Compat::Overlay,
        foreground: read.has(&["f", "foreground"]),
        fake: false,
        sloppy: false,
        warnings: Warnings::None,
    })
}

/// What is left to do.
enum Next {
    /// Nothing.
    End(Exit),
    /// To serve, and to tell when that has begun.
    Serve(Ready, Box<dyn FnOnce() + Send>),
}

fn mount(request: Request) -> anyhow::Result<Exit> {
    let next = begin(&request)?;
    drop(request);
    Ok(match next {
        Next::End(exit) => exit,
        Next::Serve(server, tell) => server.run(tell),
    })
}

/// Does all but serve. Its frame would stay below the server's for as long as that runs, with the options as they were read.
#[inline(never)]
fn begin(request: &Request) -> anyhow::Result<Next> {
    let parsed = request.parse()?;
    if parsed.generic.remount {
        return remount(request, &parsed).map(Next::End);
    }
    let mut plan = Plan::of(request)?;
    let warnings = std::mem::take(&mut plan.warnings);
    // A failure is one line: warnings are for a mount that stands.
    let warn = || {
        warnings
            .iter()
            .for_each(|warning| crate::print_warning(warning))
    };
    if request.fake {
        warn();
        return Ok(Next::End(Exit::SUCCESS));
    }
    let debug = parsed.generic.debug;
    if request.foreground || debug {
        logging::start(debug);
        let server = Ready::make(plan)?;
        warn();
        return Ok(Next::Serve(server, Box::new(|| ())));
    }
    let next = in_background(plan)?;
    if let Next::End(_) = next {
        warn();
    }
    Ok(next)
}

fn in_background(plan: Plan) -> anyhow::Result<Next> {
    let forked = daemon::fork_server()
        .map_err(|errno| Failure::mount(format!("cannot start a server: {errno}")))?;
    let ready = match forked {
        Forked::Parent(server) => return wait_for(server).map(Next::End),
        Forked::Child(ready) => ready,
    };
    let server = match Ready::make(plan) {
        Ok(server) => server,
        Err(error) => {
            let exit = exit_of(&error);
            // The parent is gone if it cannot be told; nobody else is there to hear.
            let told = ready.failed(exit.0, &line_of(&error));
            std::process::exit(i32::from(if told.is_ok() {
                exit.0
            } else {
                Exit::FAILED.0
            }));
        }
    };
    let tell = || {
        if let Err(errno) = ready.ready() {
            // The mount works all the same.
            tracing::debug!(%errno, "nobody waits for the mount");
        }
    };
    Ok(Next::Serve(server, Box::new(tell)))
}

fn wait_for(server: daemon::WaitForReady) -> anyhow::Result<Exit> {
    match server.wait() {
        Verdict::Ready => Ok(Exit::SUCCESS),
        Verdict::Failed { exit_code, message } => {
            Err(Failure::new(Exit(exit_code), message).into())
        }
        Verdict::Died => Err(Failure::new(
            Exit::SOFTWARE,
            "the server died before the mount could be used",
        )
        .hint("run with -f to see why")
        .into()),
    }
}

/// Changes the branches and options of a union, and the flags of its mount.
fn remount(request: &Request, parsed: &options::MountOptions) -> anyhow::Result<Exit> {
    let dir = &request.dir;
    let mount = mounted_unions::mount_on(dir)?;
    let server = run_state::server_of(&mount);
    let known = server.is_some() || is_union(&mount);
    if !known && !mount.fstype.starts_with("fuse.") {
        let what = format!("{dir:?}: {} is not a union of ours", mount.fstype);
        return Err(Failure::mount(what).into());
    }
    if let Some(server) = &server {
        let from = std::env::current_dir().unwrap_or_else(|_| "/".into());
        let order = Ask::Remount {
            options: path_text::write(Path::new(&request.options)),
            from: path_text::write(&from),
        };
        if let Answer::Done(warnings) = control::order(server, &order)?
            && request.warnings == Warnings::All
        {
            warnings
                .iter()
                .for_each(|warning| crate::print_warning(warning));
        }
    }
    let flags = translate::mount_flags(&parsed.generic);
    if flags == MountFlags::empty() && !mount.has_option("ro") && server.is_some() {
        // Nothing is asked of the mount itself.
        return Ok(Exit::SUCCESS);
    }
    sys::mounting::remount(&mount.mount_point, flags).map_err(|errno| {
        let failure = Failure::mount(format!("cannot remount {dir:?}: {errno}"));
        match errno {
            rules::Errno::PERM => failure.exit(Exit::MOUNT_USAGE),
            rules::Errno::BUSY => failure.hint("close the files that are open for writing"),
            _ => failure,
        }
    })?;
    Ok(Exit::SUCCESS)
}
