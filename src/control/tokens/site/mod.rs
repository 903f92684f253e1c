//! `tidegate token`: the tokens that a site issues itself, for clients that have no certificate and no OpenID provider.
//!
//! Four files in one folder:
//! - `site-tokens.key`: the key that signs (ECDSA P-256, PKCS#8, mode 0600). Only this command reads it.
//! - `site-tokens.jwks`: the public keys, the signing one first; connector.toml names it and the connector publishes it.
//!   A key is named by its thumbprint (RFC 7638). Rotating keeps the old ones, so that what they signed stays valid.
//! - `site-tokens.jsonl`: the ledger, one line for each token issued, blocked or unblocked; never a token itself.
//! - `denied-tokens.txt`: the ids blocked and not expired, which connector.toml names too.
//!
//! What holds: a token is in the ledger, on disk, before it is printed; it verifies with the published keys, or it is not
//! printed; one command at a time changes the folder.

mod deny;
mod issue;
mod keys;
mod ledger;

use super::claims::is_plain;
use clap::{ArgGroup, Args, Subcommand};
use ledger::{Event, Kind, Ledger, State, Token};
use std::io::Write;
use std::path::PathBuf;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub const KEY: &str = "site-tokens.key";
pub const JWKS: &str = "site-tokens.jwks";
pub const LEDGER: &str = "site-tokens.jsonl";
pub const DENIED: &str = "denied-tokens.txt";
/// The audience that gateways ask for in a site's tokens.
pub const AUDIENCE: &str = "tidegate";
/// The subject of registration tokens, which name no client yet.
pub const REGISTRATION: &str = "registration";

/// `iss` of a site's tokens.
pub fn issuer(site: &str) -> String {
    format!("urn:tidegate:site:{site}")
}

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Makes the site's signing key: site-tokens.key, and site-tokens.jwks for connector.toml
    Init(Init),
    /// Issues a token and prints it
    Issue(Issue),
    /// Lists the tokens issued
    List(List),
    /// Puts a token on the deny list denied-tokens.txt
    Block(Id),
    /// Takes a token off the deny list
    Unblock(Id),
}

#[derive(Debug, Clone, Args)]
pub struct Init {
    /// Folder of the site's token files; made when it is not there
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// The site's name, as in connector.toml [default: main]
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
    /// Make a new signing key where there is one; the old public keys stay, and with them the tokens they signed
    #[arg(long)]
    pub rotate: bool,
    /// With --rotate: publish the new key alone, which ends every token issued before (the old key may be known)
    #[arg(long, requires = "rotate")]
    pub drop_old: bool,
}

#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("whom").required(true).args(["client", "registration"]))]
pub struct Issue {
    /// Folder of the site's token files
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// A token for this client
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    /// A token to register with, which names no client; no route takes it, and this version has no registration yet
    #[arg(long)]
    pub registration: bool,
    /// The site's name; it must be the one the key was made for
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
    /// How long it is valid, e.g. 12h or 30d [default: 30d, at most 365d; for registration 3d, at most 7d]
    #[arg(long, value_name = "TIME", value_parser = issue::lifetime)]
    pub lifetime: Option<i64>,
    /// The device's name, told to upstreams
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// The user's name, told to upstreams
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Whom the token is for; gateways take `tidegate` only
    #[arg(long, value_name = "TEXT", default_value = AUDIENCE)]
    pub audience: String,
}

#[derive(Debug, Clone, Args)]
pub struct List {
    /// Folder of the site's token files
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// As a JSON array, times in unix seconds
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Id {
    /// The token's id: `tidegate token list` shows it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Folder of the site's token files
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
}

/// Runs one command at `now` (unix seconds): results to `out`, what is said beside them to `notes`. The error is one
/// line for people.
pub fn run(
    command: &Command,
    now: i64,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), String> {
    match command {
        Command::Init(args) => init(args, out, notes),
        Command::Issue(args) => issue::run(args, now, out, notes),
        Command::List(args) => list(args, now, out, notes),
        Command::Block(args) => deny::run(args, true, now, out, notes),
        Command::Unblock(args) => deny::run(args, false, now, out, notes),
    }
}

fn init(args: &Init, out: &mut dyn Write, notes: &mut dyn Write) -> Result<(), String> {
    if let Some(site) = &args.site {
        crate::control::settings::check_name(site).map_err(|why| format!("site {site:?} {why}"))?;
    }
    let dir = &args.dir;
    std::fs::create_dir_all(dir)
        .map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
    // Held until the end: no token is signed between two keys.
    let _ledger = Ledger::open_or_make(dir)?;
    if args.rotate {
        keys::rotate(dir, args.site.as_deref(), args.drop_old)?;
    } else {
        keys::create(dir, args.site.as_deref().unwrap_or("main"))?;
    }
    print(out, format_args!("{}", dir.join(KEY).display()))?;
    print(out, format_args!("{}", dir.join(JWKS).display()))?;
    if !args.rotate {
        let line = format_args!("in connector.toml: [site] tokens = [{JWKS:?}]");
        return print(notes, line);
    }
    print(
        notes,
        format_args!(
            "raise `revision` in connector.toml, then `tidegate reload`: until then gateways refuse what the new key signs"
        ),
    )?;
    if args.drop_old {
        print(
            notes,
            format_args!("every token issued before is refused from then on"),
        )?;
    }
    Ok(())
}

fn list(args: &List, now: i64, out: &mut dyn Write, notes: &mut dyn Write) -> Result<(), String> {
    let ledger = Ledger::open_to_read(&args.dir)?;
    tell_unreadable(&ledger, notes)?;
    if args.json {
        let rows: Vec<_> = ledger.tokens().iter().map(|token| token.row(now)).collect();
        let text = serde_json::to_string_pretty(&rows).map_err(|error| error.to_string())?;
        return print(out, format_args!("{text}"));
    }
    let longest = ledger
        .tokens()
        .iter()
        .map(|token| token.subject.len())
        .max();
    let width = longest.unwrap_or(0).max("CLIENT".len());
    print(
        out,
        format_args!(
            "{:32}  {:12}  {:width$}  {:20}  {:20}  STATE",
            "ID", "KIND", "CLIENT", "ISSUED", "EXPIRES"
        ),
    )?;
    for token in ledger.tokens() {
        let Token {
            id,
            kind,
            subject,
            issued,
            expires,
            ..
        } = token;
        let (kind, state) = (kind.word(), token.state(now).word());
        let (issued, expires) = (time_text(*issued), time_text(*expires));
        print(
            out,
            format_args!(
                "{id:32}  {kind:12}  {subject:width$}  {issued:20}  {expires:20}  {state}"
            ),
        )?;
    }
    Ok(())
}

fn tell_unreadable(ledger: &Ledger, notes: &mut dyn Write) -> Result<(), String> {
    match ledger.unreadable() {
        0 => Ok(()),
        count => print(
            notes,
            format_args!("{LEDGER}: {count} lines cannot be read and are passed over"),
        ),
    }
}

fn time_text(unix: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(unix).ok();
    time.and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| unix.to_string())
}

fn print(out: &mut dyn Write, line: std::fmt::Arguments<'_>) -> Result<(), String> {
    writeln!(out, "{line}").map_err(|error| format!("cannot print: {error}"))
}

#[cfg(test)]
mod tests;
