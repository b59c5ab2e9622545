//! What a scan found, for people.

use crate::failure::one_line;
use crate::scan::{Effect, Found};

/// Returns three lines for each line that needs a change: where and what, itself, what to write instead.
pub(crate) fn lines(found: &Found) -> Vec<String> {
    let mut lines = Vec::new();
    for found in &found.lines {
        let trouble = &found.trouble;
        let effect = match trouble.effect {
            Effect::Silent => "silent",
            Effect::Fails => "fails",
            Effect::Differs => "differs",
        };
        let (path, number) = (&found.path, found.line);
        lines.push(format!("{path}:{number}: {effect}: {}", trouble.what));
        lines.push(format!("    is:      {}", one_line(&found.text)));
        if let Some(instead) = &trouble.instead {
            lines.push(format!("    instead: {}", one_line(instead)));
        }
    }
    lines
}
