//! `tidegate pki`: a small certificate authority for labs, tests and the demo.
//!
//! Two CAs in one folder: `ca` issues the gateway's and the connectors' certificates, `clients-ca` issues clients'
//! (so that no connector's certificate passes for a client's, nor the reverse). All keys are ECDSA P-256, written with
//! mode 0600; nothing is overwritten without `--force`, and a CA not even then by an issued certificate.
//!
//! A production gateway takes its certificates from the organisation's own CA; this one has no password on its keys
//! and no record of what it issued.

mod authority;
pub(in crate::control) mod files;
mod identities;
mod revoke;

use authority::{Authority, Life, Subject};
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};

pub use identities::Identities;

/// File stems of the two CAs.
pub const CA: &str = "ca";
pub const CLIENTS_CA: &str = "clients-ca";
pub const SERVER: &str = "server";
/// Days that certificates last unless said otherwise; 825 is the most that Apple's systems take.
const LEAF_DAYS: i64 = 825;
const CA_DAYS: i64 = 3650;

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Makes the two CAs: ca.pem/.key (gateways and connectors) and clients-ca.pem/.key
    Init(Init),
    /// Issues the gateway's certificate: server.pem/.key
    Server(Server),
    /// Issues a connector's certificate: ID.pem/.key, CN = the connector's id
    Connector(Connector),
    /// Issues a client's certificate: NAME.pem/.key, CN and DNS name = NAME
    Client(Client),
    /// Puts a client's certificate on the revocation list clients.crl
    Revoke(Revoke),
}

#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Folder of the certificates and keys
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Overwrite what is there
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Clone, Default, Args)]
pub struct Validity {
    /// Days until the end; 0 or less makes a certificate that is over, for tests
    #[arg(long, allow_negative_numbers = true, conflicts_with = "not_after")]
    pub days: Option<i64>,
    /// The end itself, e.g. 2030-01-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub not_after: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct Init {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub validity: Validity,
}

#[derive(Debug, Clone, Args)]
pub struct Server {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub validity: Validity,
    /// A host name or IP address of the gateway; repeat it. Default: localhost, 127.0.0.1, ::1
    #[arg(long = "name", value_name = "HOST")]
    pub names: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub struct Connector {
    #[command(flatten)]
    pub id: Id,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub validity: Validity,
}

#[derive(Debug, Clone, Args)]
pub struct Client {
    #[command(flatten)]
    pub name: Name,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub validity: Validity,
}

#[derive(Debug, Clone, Args)]
pub struct Revoke {
    /// The client: NAME.pem in the folder
    #[arg(required_unless_present_any = ["serial", "renew"])]
    pub name: Option<String>,
    /// A serial number in hex, when the certificate's file is gone
    #[arg(long, value_name = "HEX", conflicts_with = "name")]
    pub serial: Option<String>,
    /// Make the list anew, with a later end; the first one may be empty
    #[arg(long)]
    pub renew: bool,
    /// Folder of the certificates and keys
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
}

/// A connector's id, as an argument or as a flag.
#[derive(Debug, Clone, Default, Args)]
pub struct Id {
    /// The connector's id, as in connector.toml; `--id ID` says the same
    #[arg(value_name = "ID", required_unless_present = "id_flag")]
    id: Option<String>,
    #[arg(
        long = "id",
        id = "id_flag",
        value_name = "ID",
        conflicts_with = "id",
        hide = true
    )]
    flag: Option<String>,
}

impl Id {
    fn get(&self) -> &str {
        self.id
            .as_deref()
            .or(self.flag.as_deref())
            .unwrap_or_default()
    }
}

impl From<&str> for Id {
    fn from(id: &str) -> Self {
        Self {
            id: Some(id.into()),
            flag: None,
        }
    }
}

/// A client's name, as an argument or as a flag.
#[derive(Debug, Clone, Default, Args)]
pub struct Name {
    /// The client's name, usually the device's host name; `--name NAME` says the same
    #[arg(value_name = "NAME", required_unless_present = "name_flag")]
    name: Option<String>,
    #[arg(
        long = "name",
        id = "name_flag",
        value_name = "NAME",
        conflicts_with = "name",
        hide = true
    )]
    flag: Option<String>,
}

impl Name {
    fn get(&self) -> &str {
        self.name
            .as_deref()
            .or(self.flag.as_deref())
            .unwrap_or_default()
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self {
            name: Some(name.into()),
            flag: None,
        }
    }
}

/// A certificate and its key as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Runs one command and prints what it wrote to `out`. The error is one line for people.
pub fn run(command: &Command, out: &mut dyn Write) -> Result<(), String> {
    let issued = match command {
        Command::Init(args) => init(args)?,
        Command::Server(args) => vec![server(args)?],
        Command::Connector(args) => vec![connector(args)?],
        Command::Client(args) => vec![client(args)?],
        Command::Revoke(args) => return revoke::run(args, out),
    };
    for Issued { certificate, key } in issued {
        let written = writeln!(out, "{}\n{}", certificate.display(), key.display());
        written.map_err(|error| format!("cannot print: {error}"))?;
    }
    Ok(())
}

/// Both CAs.
pub fn init(args: &Init) -> Result<Vec<Issued>, String> {
    let life = Life::of(&args.validity, CA_DAYS)?;
    let dir = &args.place.dir;
    std::fs::create_dir_all(dir)
        .map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
    let pairs = [(CA, "Tidegate CA"), (CLIENTS_CA, "Tidegate clients CA")];
    if !args.place.force {
        for (stem, _) in pairs {
            files::refuse_existing(dir, stem)?;
        }
    }
    pairs
        .iter()
        .map(|(stem, name)| {
            files::write_pair(
                dir,
                stem,
                &authority::new_ca(name, &life)?,
                args.place.force,
            )
        })
        .collect()
}

/// The gateway's certificate.
pub fn server(args: &Server) -> Result<Issued, String> {
    let default = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
    let names = if args.names.is_empty() {
        default
    } else {
        args.names.clone()
    };
    issue(
        &args.place,
        CA,
        SERVER,
        &Subject::server(names),
        &args.validity,
    )
}

/// A connector's certificate.
pub fn connector(args: &Connector) -> Result<Issued, String> {
    check_stem("connector id", args.id.get())?;
    issue(
        &args.place,
        CA,
        args.id.get(),
        &Subject::connector(args.id.get()),
        &args.validity,
    )
}

/// A client's certificate.
pub fn client(args: &Client) -> Result<Issued, String> {
    check_stem("client name", args.name.get())?;
    issue(
        &args.place,
        CLIENTS_CA,
        args.name.get(),
        &Subject::client(args.name.get()),
        &args.validity,
    )
}

fn issue(
    place: &Place,
    ca: &str,
    stem: &str,
    subject: &Subject,
    validity: &Validity,
) -> Result<Issued, String> {
    let life = Life::of(validity, LEAF_DAYS)?;
    if !place.force {
        files::refuse_existing(&place.dir, stem)?;
    }
    let pair = Authority::open(&place.dir, ca)?.issue(subject, &life)?;
    files::write_pair(&place.dir, stem, &pair, place.force)
}

/// A name becomes a file name and a CN: letters, digits, `.`, `_`, `-`; not one of the CA's own files.
fn check_stem(what: &str, name: &str) -> Result<(), String> {
    crate::control::settings::check_name(name).map_err(|why| format!("{what} {name:?} {why}"))?;
    if [CA, CLIENTS_CA, SERVER]
        .iter()
        .any(|own| own.eq_ignore_ascii_case(name))
    {
        return Err(format!(
            "{what} {name:?} is the name of one of the CA's own files"
        ));
    }
    Ok(())
}

/// `DIR/STEM.pem`.
pub fn certificate_file(dir: &Path, stem: &str) -> PathBuf {
    dir.join(format!("{stem}.pem"))
}

/// `DIR/STEM.key`.
pub fn key_file(dir: &Path, stem: &str) -> PathBuf {
    dir.join(format!("{stem}.key"))
}

#[cfg(test)]
mod tests;
