//! What a server in the foreground logs, to its standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging as `PLYWOOD_LOG` says; `debug` is what the option of that name asks for.
pub(crate) fn start(debug: bool) {
    let default = if debug { "debug" } else { "warn" };
    let filter = EnvFilter::try_from_env("PLYWOOD_LOG");
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(default));
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::stderr().is_terminal();
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours);
    // Only a test starts it twice.
    if logger.try_init().is_err() {
        tracing::debug!("logging was started before");
    }
}
