//! Blocking tokens, and the list of those that are.

use super::{DENIED, Event, Id, Ledger, State, Token, print, tell_unreadable};
use crate::control::pki::files;
use crate::control::settings::MAX_DENIED;
use std::io::Write;
use std::path::Path;

/// Blocks a token or takes that back.
pub fn run(
    args: &Id,
    blocked: bool,
    now: i64,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), String> {
    let mut ledger = Ledger::open_to_change(&args.dir)?;
    tell_unreadable(&ledger, notes)?;
    let id = args.id.trim().to_ascii_lowercase();
    let token = ledger.find(&id).ok_or_else(|| {
        format!("no token of the ledger has the id {:?} (hint: `tidegate token list` shows them; a token of another ledger is blocked by [site] deny = {{ tokens = […] }})", args.id)
    })?;
    let (was, state) = (token.blocked, token.state(now));
    if was != blocked {
        let (id, at) = (id.clone(), now);
        ledger.append(match blocked {
            true => Event::Blocked { id, at },
            false => Event::Unblocked { id, at },
        })?;
    }
    // Also when nothing changed: the last run may have ended before it wrote the list.
    let denied = write_denied(&args.dir, &ledger, now)?;
    let word = if blocked { "blocked" } else { "not blocked" };
    let already = if was == blocked { " already" } else { "" };
    print(out, format_args!("token {id} is {word}{already}"))?;
    if state == State::Expired {
        print(notes, format_args!("it has expired and stands on no list"))?;
    }
    let list = args.dir.join(DENIED);
    print(
        out,
        format_args!("{}: denied ids: {denied}", list.display()),
    )?;
    let next = format_args!(
        "in connector.toml: [site] deny = {{ files = [{DENIED:?}] }}, a higher `revision`, then `tidegate reload`"
    );
    print(out, next)
}

/// Writes the deny list anew: one line `token <id>` for each token that is blocked and not expired. How many they are.
fn write_denied(dir: &Path, ledger: &Ledger, now: i64) -> Result<usize, String> {
    let blocked = |token: &&Token| token.state(now) == State::Blocked;
    let ids: Vec<&str> = ledger
        .tokens()
        .iter()
        .filter(blocked)
        .map(|token| token.id.as_str())
        .collect();
    if ids.len() > MAX_DENIED {
        return Err(format!(
            "{} tokens are blocked, and {MAX_DENIED} can be (hint: --rotate --drop-old ends all)",
            ids.len()
        ));
    }
    let text: String = ids.iter().map(|id| format!("token {id}\n")).collect();
    files::write(&dir.join(DENIED), text.as_bytes(), 0o644, true)?;
    Ok(ids.len())
}
