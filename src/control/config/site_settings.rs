//! `[site]` of connector.toml: whom the site lets in. It is published as it stands here.

use super::common::checked_name;
use super::files;
use super::reader::{At, Section};
use super::site_trust;
use super::source::Source;
use crate::control::certificates::{facts, pem};
use crate::control::settings::{Auth, IdField, MAX_REVISION, PublishedCa, SiteSettings};
use std::path::{Path, PathBuf};
use toml::de::DeValue;

/// What the site can judge clients by: a route that wants another would let nobody in.
#[derive(Debug, Clone, Copy)]
pub struct Accepts {
    pub certificates: bool,
    pub tokens: bool,
}

/// The settings, what they name at all (a file that cannot be read is told once), and the files of revocation lists.
pub fn read(top: &Section<'_>, site: &str) -> (SiteSettings, Accepts, Vec<PathBuf>) {
    let section = top.section("site");
    let source = section.source();
    let revision = section
        .integer("revision", 0..=MAX_REVISION)
        .map_or(1, |at| at.value);
    let mut client_ca: Vec<PublishedCa> = Vec::new();
    let items = section.items("client_ca");
    for item in &items {
        let Some(ca) = read_ca(&section, item) else {
            continue;
        };
        if client_ca.iter().any(|other| other.name == ca.name) {
            source.error(
                item.line,
                format!("client_ca name {:?} stands twice", ca.name),
                "a name of its own for each CA: it is part of client ids",
            );
        }
        client_ca.push(ca);
    }
    let (crl, crl_fail, crl_files) = site_trust::read_crl(&section, &client_ca);
    let channels = section.word("channels", &["certificate", "token", "any"]);
    let denied = site_trust::read_deny(&section);
    let issuers = site_trust::read_issuers(&section, site);
    let accepts = Accepts {
        certificates: !items.is_empty(),
        tokens: !section.items("tokens").is_empty() || !section.items("oidc").is_empty(),
    };
    let settings = SiteSettings {
        revision,
        client_ca,
        deny_serials: denied.serials,
        deny_clients: denied.clients,
        deny_tokens: denied.tokens,
        crl,
        crl_fail,
        issuers,
        channels: read_channels(source, channels, accepts),
    };
    (settings, accepts, crl_files)
}

/// Who may open a channel. What nobody could show is told.
fn read_channels(source: &Source, word: Option<At<&str>>, accepts: Accepts) -> Auth {
    let Some(word) = word else {
        return Auth::Any;
    };
    let (auth, accepted, hint) = match word.value {
        "certificate" => (
            Auth::Certificate,
            accepts.certificates,
            "name the clients' CA in `client_ca`",
        ),
        "token" => (
            Auth::Token,
            accepts.tokens,
            "name an issuer in [[site.oidc]], or `tokens`",
        ),
        _ => (Auth::Any, true, ""),
    };
    if !accepted {
        let what = format!(
            "no client can open a channel: `channels` is {:?}",
            word.value
        );
        source.warn(word.line, what, hint);
    }
    auth
}

/// `{ name, file, id }`, or a bare path, then named after its file.
fn read_ca(section: &Section<'_>, item: &At<&DeValue<'_>>) -> Option<PublishedCa> {
    let source = section.source();
    let (name, path, id, line) = match item.value {
        DeValue::String(path) => {
            let name = Path::new(path.as_ref())
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            (name, path.to_string(), IdField::DnsSan, item.line)
        }
        DeValue::Table(table) => {
            let entry = section.inner("client_ca", item.line, table);
            let file = entry.require("file", entry.text("file"), "file = \"clients-ca.pem\"");
            let name = entry.require(
                "name",
                entry.text("name"),
                "name = \"corp\": it begins the client ids, cert:corp/…",
            );
            let id = entry
                .word("id", &["dns_san", "cn", "uri_san", "serial"])
                .map_or("dns_san", |at| at.value);
            let (file, name) = (file?, name?);
            (name.value, file.value, id_field(id), file.line)
        }
        _ => {
            let hint = "client_ca = [{ name = \"corp\", file = \"clients-ca.pem\" }]";
            source.error(
                item.line,
                "an item of `client_ca` is neither a table nor a path",
                hint,
            );
            return None;
        }
    };
    let name = checked_name(
        source,
        At {
            value: name,
            line: item.line,
        },
        "client_ca",
    );
    let file = source.resolve(&path);
    let complain = |wrong: pem::Wrong| files::complain(section, line, wrong);
    let certificates = pem::certificates(&file).map_err(complain).ok()?;
    if pem::holds_a_key(&file) {
        let text = format!("{} holds a private key", file.display());
        source.error(
            line,
            text,
            "give a file with the CA's certificate only; this one would be a secret to publish",
        );
        return None;
    }
    for certificate in &certificates {
        if let Err(why) = facts::check_ca(certificate) {
            source.error(
                line,
                format!("{}: {why}", file.display()),
                "the CA's certificate is wanted, not a client's",
            );
            return None;
        }
    }
    files::warn_of_end(section, &At { value: file, line });
    Some(PublishedCa {
        name,
        pem: pem::canonical(&certificates),
        id,
    })
}

fn id_field(word: &str) -> IdField {
    match word {
        "cn" => IdField::Cn,
        "uri_san" => IdField::UriSan,
        "serial" => IdField::Serial,
        _ => IdField::DnsSan,
    }
}
