//! Forking a server, in a process that has no other threads: there is no harness here.

use std::process::ExitCode;

use sys::daemon::{Forked, ReadySignal, Verdict, fork_server};

const NAME: &str = "a_forked_server_tells_its_parent_what_becomes_of_it";

/// Forks, lets the child act and returns what the parent hears.
fn verdict(child: impl FnOnce(ReadySignal)) -> Verdict {
    match fork_server().expect("fork") {
        Forked::Parent(parent) => {
            assert_ne!(parent.pid(), std::process::id());
            parent.wait()
        }
        Forked::Child(signal) => {
            let stands_in_proc =
                std::env::current_dir().is_ok_and(|dir| dir.as_os_str() == "/proc");
            if stands_in_proc {
                child(signal);
            }
            std::process::exit(0)
        }
    }
}

fn main() -> ExitCode {
    // What a test runner asks of a harness: the names, or to run one of them.
    let arguments: Vec<String> = std::env::args().collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    if has("--list") {
        if !has("--ignored") {
            println!("{NAME}: test");
        }
        return ExitCode::SUCCESS;
    }
    assert_eq!(verdict(|signal| signal.ready().unwrap()), Verdict::Ready);
    let failed = Verdict::Failed {
        exit_code: 3,
        message: "cannot mount: no".into(),
    };
    assert_eq!(
        verdict(|signal| signal.failed(3, "cannot mount: no").unwrap()),
        failed
    );
    assert_eq!(verdict(drop), Verdict::Died);
    assert_eq!(verdict(|_| std::process::abort()), Verdict::Died);
    println!("{NAME} ... ok");
    ExitCode::SUCCESS
}
