//! What a server in the foreground logs, to its standard error.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;

/// Starts logging as `PLYWOOD_LOG` says; `debug` is what the option of that name asks for.
pub(crate) fn start(debug: bool) {
    let asked = EnvFilter::try_from_env("PLYWOOD_LOG").ok();
    let asked = asked.or_else(|| debug.then(|| EnvFilter::new("debug")));
    let started = match asked {
        Some(filter) => tracing::subscriber::set_global_default(logger(filter)),
        None => tracing::subscriber::set_global_default(Warnings::default()),
    };
    // Only a test starts it twice.
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}

fn logger(filter: EnvFilter) -> impl Subscriber + Send + Sync {
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .finish()
}

/// Warnings and errors. What writes them takes 40 KiB, and is made when there is one: most servers have none to tell.
#[derive(Default)]
struct Warnings(OnceLock<Box<dyn Subscriber + Send + Sync>>);

impl Warnings {
    fn logger(&self) -> &(dyn Subscriber + Send + Sync) {
        self.0
            .get_or_init(|| Box::new(logger(EnvFilter::new("warn"))))
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.logger().new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.logger().record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.logger().record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        self.logger().event(event);
    }

    fn enter(&self, span: &Id) {
        self.logger().enter(span);
    }

    fn exit(&self, span: &Id) {
        self.logger().exit(span);
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.logger().clone_span(span)
    }

    fn try_close(&self, span: Id) -> bool {
        self.logger().try_close(span)
    }
}
