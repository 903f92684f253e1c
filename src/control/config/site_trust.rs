//! What `[site]` trusts beside its CAs, and whom it denies: `crl`, `[[site.oidc]]`, `tokens`, `deny`.

use super::common::checked_name;
use super::reader::{At, Section};
use crate::control::certificates::expiry::unix_now;
use crate::control::certificates::pem::{self, Wrong};
use crate::control::settings::{
    CrlFail, KeySource, MAX_CRL_BYTES, MAX_KEY_SET_BYTES, PublishedCa, PublishedCrl,
    PublishedIssuer, PublishedKind, TENANT_MARK, check_crl_url, check_key_url, serial_key,
};
use crate::control::snapshot::{MAX_LIST_BYTES, RevocationList};
use crate::control::tokens::{KeySet, site};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::path::{Path, PathBuf};

/// A deny-list file: some hundred thousand lines.
const MAX_DENY_FILE_BYTES: u64 = 8 << 20;

/// `crl = [file or address, …]` and `crl_fail`, with the files of the lists that are published themselves, in order.
pub fn read_crl(
    section: &Section<'_>,
    cas: &[PublishedCa],
) -> (Vec<PublishedCrl>, CrlFail, Vec<PathBuf>) {
    let source = section.source();
    let fail = match section
        .word("crl_fail", &["hard", "soft"])
        .map(|at| at.value)
    {
        Some("soft") => CrlFail::Soft,
        _ => CrlFail::Hard,
    };
    let (mut lists, mut files) = (Vec::new(), Vec::new());
    for item in section.texts("crl").unwrap_or_default() {
        if item.value.contains("://") {
            match check_crl_url(&item.value) {
                Ok(()) => lists.push(PublishedCrl::Url(item.value)),
                Err(why) => source.error(
                    item.line,
                    format!("crl {why}"),
                    "a file, or \"http://crl.corp.example/corp.crl\", which the gateway fetches",
                ),
            }
        } else if let Some(list) = read_list(section, &item, cas) {
            lists.push(list);
            files.push(source.resolve(&item.value));
        }
    }
    if lists.is_empty() && fail == CrlFail::Soft {
        source.warn(
            section.line_of("crl_fail"),
            "`crl_fail` has no effect without `crl`",
            "name revocation lists, or take it out",
        );
    }
    (lists, fail, files)
}

fn read_list(
    section: &Section<'_>,
    item: &At<String>,
    cas: &[PublishedCa],
) -> Option<PublishedCrl> {
    let source = section.source();
    let file = source.resolve(&item.value);
    let read = read_list_file(&file)
        .map_err(|text| Wrong::new(text, "paths are relative to the config file's folder"))
        .and_then(|bytes| list_to_publish(&file, &bytes, cas));
    match read {
        Ok(list) => {
            if list.list.next_update() <= unix_now() {
                let text = format!("{} is out of date", file.display());
                source.warn(
                    item.line,
                    text,
                    "with crl_fail = \"hard\" nobody of its CA comes in",
                );
            }
            Some(PublishedCrl::Der(list.text))
        }
        Err(wrong) => {
            source.error(item.line, wrong.text, &wrong.hint);
            None
        }
    }
}

/// A revocation list's file.
pub fn read_list_file(file: &Path) -> Result<Vec<u8>, String> {
    pem::read_bounded(file, MAX_LIST_BYTES as u64)
}

/// A list that gateways take.
pub struct ListToPublish {
    /// Base64 of the DER.
    pub text: String,
    pub list: RevocationList,
}

/// Judges what a list's file holds, whenever it is read: a list that can be used, small enough, signed by one of these
/// CAs. Its date is the caller's to judge.
pub fn list_to_publish(
    file: &Path,
    bytes: &[u8],
    cas: &[PublishedCa],
) -> Result<ListToPublish, Wrong> {
    let list = RevocationList::read(bytes).map_err(|why| {
        Wrong::new(
            format!("{} {why}", file.display()),
            "a complete list of one CA, PEM or DER, with nextUpdate",
        )
    })?;
    let text = BASE64_STANDARD.encode(list.der());
    if text.len() > MAX_CRL_BYTES {
        return Err(Wrong::new(
            format!("{} is too large to be published", file.display()),
            "name it by address, and the gateway fetches it",
        ));
    }
    let signs = |ca: &PublishedCa| {
        pem::certificates_in(&ca.pem)
            .is_ok_and(|certificates| certificates.iter().any(|one| list.is_signed_by(one)))
    };
    if !cas.iter().any(signs) {
        return Err(Wrong::new(
            format!(
                "{} is signed by no CA of client_ca ({})",
                file.display(),
                list.issuer
            ),
            "add the CA's certificate to client_ca, an intermediate's too",
        ));
    }
    Ok(ListToPublish { text, list })
}

/// `[[site.oidc]]`, and `tokens = ["site-tokens.jwks"]`: the site's own.
pub fn read_issuers(section: &Section<'_>, site_name: &str) -> Vec<PublishedIssuer> {
    let source = section.source();
    let mut issuers: Vec<PublishedIssuer> = Vec::new();
    for oidc in section.sections("oidc") {
        let line = oidc.line_of("name");
        let Some(issuer) = read_issuer(&oidc) else {
            continue;
        };
        if issuers.iter().any(|other| other.name == issuer.name) {
            source.error(
                line,
                format!("oidc name {:?} stands twice", issuer.name),
                "a name of its own for each issuer: it is part of client ids",
            );
        }
        issuers.push(issuer);
    }
    let files = section.texts("tokens").unwrap_or_default();
    if files.len() > 1 {
        source.error(
            files[1].line,
            "`tokens` names more than one key set",
            "`tidegate token init --rotate` keeps old and new keys in one file",
        );
    }
    if let Some(file) = files.first()
        && let Some(keys) = read_key_set(section, file)
    {
        issuers.push(PublishedIssuer {
            name: site_name.to_owned(),
            kind: PublishedKind::Site,
            issuer: site::issuer(site_name),
            audience: vec![site::AUDIENCE.to_owned()],
            tenants: Vec::new(),
            id: "sub".to_owned(),
            keys,
        });
    }
    issuers
}

fn read_issuer(oidc: &Section<'_>) -> Option<PublishedIssuer> {
    let source = oidc.source();
    let name = oidc.require(
        "name",
        oidc.text("name"),
        "name = \"entra\": it begins the client ids, oidc:entra/…",
    );
    let issuer = oidc.require(
        "issuer",
        oidc.text("issuer"),
        "issuer = \"https://login.example.com/tenant/v2.0\"",
    );
    let audience = oidc.texts("audience").unwrap_or_default();
    if audience.is_empty() {
        source.error(
            oidc.line_of("audience"),
            "[[site.oidc]] needs `audience`",
            "audience = \"https://ConfigMgrService\": whom the tokens are for",
        );
    }
    let tenants = oidc.texts("tenants").unwrap_or_default();
    let id = oidc
        .text("id")
        .map_or_else(|| "sub".to_owned(), |at| at.value);
    let jwks = oidc.text("jwks").filter(|at| !at.value.is_empty());
    let keys = match jwks {
        None => Some(KeySource::Discovery),
        Some(at) if at.value.contains("://") => {
            if let Err(why) = check_key_url(&at.value) {
                source.error(at.line, format!("`jwks` {why}"), "https://…, or a file");
            }
            Some(KeySource::Url(at.value))
        }
        Some(at) => read_key_set(oidc, &at),
    };
    let (name, issuer, keys) = (name?, issuer?, keys?);
    let issuer_line = issuer.line;
    if keys == KeySource::Discovery
        && let Err(why) = check_key_url(&issuer.value)
    {
        source.error(
            issuer_line,
            format!("`issuer` {why}"),
            "https://…, or name the keys with `jwks`",
        );
    }
    if issuer.value.contains(TENANT_MARK) && tenants.is_empty() {
        source.error(
            issuer_line,
            format!("`issuer` holds {TENANT_MARK} and `tenants` is empty: any tenant would pass"),
            "tenants = [\"…\"]: the tenants that are onboarded",
        );
    }
    let texts = |list: Vec<At<String>>| list.into_iter().map(|at| at.value).collect();
    Some(PublishedIssuer {
        name: checked_name(source, name, "oidc"),
        kind: PublishedKind::Oidc,
        issuer: issuer.value,
        audience: texts(audience),
        tenants: texts(tenants),
        id,
        keys,
    })
}

fn read_key_set(section: &Section<'_>, at: &At<String>) -> Option<KeySource> {
    const HINT: &str = "a JWKS document of public keys, {\"keys\": […]}";
    let file = section.source().resolve(&at.value);
    let wrong = |text: String| section.source().error(at.line, text, HINT);
    let bytes = pem::read_bounded(&file, MAX_KEY_SET_BYTES as u64)
        .map_err(wrong)
        .ok()?;
    match KeySet::parse(&bytes) {
        Ok(keys) if keys.is_empty() => {
            wrong(format!(
                "{} holds no key that verifies tokens",
                file.display()
            ));
            None
        }
        Ok(_) => String::from_utf8(bytes).ok().map(KeySource::Set),
        Err(why) => {
            wrong(format!("{}: {why}", file.display()));
            None
        }
    }
}

/// `deny = { serials, tokens, clients, files }`.
#[derive(Debug, Default)]
pub struct Denied {
    pub serials: Vec<String>,
    pub tokens: Vec<String>,
    pub clients: Vec<String>,
}

pub fn read_deny(section: &Section<'_>) -> Denied {
    let deny = section.section("deny");
    let source = deny.source();
    let mut denied = Denied::default();
    let mut add = |kind: &str, value: String, line: usize| match kind {
        "serial" if serial_key(&value).is_none() => source.error(
            line,
            format!("{value:?} is not a serial number in hex"),
            "as in `openssl x509 -serial`, e.g. \"0A1B2C\"",
        ),
        "serial" => denied.serials.push(value),
        "token" => denied.tokens.push(value),
        _ => {
            if !["cert:", "oidc:", "site:"]
                .iter()
                .any(|kind| value.starts_with(kind))
            {
                source.warn(
                    line,
                    format!("no client has the id {value:?}"),
                    "client ids begin with cert:<ca name>/, oidc:<issuer name>/ or site:<site>/",
                );
            }
            denied.clients.push(value);
        }
    };
    for (key, kind) in [
        ("serials", "serial"),
        ("tokens", "token"),
        ("clients", "client"),
    ] {
        for item in deny.texts(key).unwrap_or_default() {
            add(kind, item.value, item.line);
        }
    }
    for item in deny.texts("files").unwrap_or_default() {
        let file = source.resolve(&item.value);
        for (kind, value) in read_deny_file(&file, |text, hint| source.error(item.line, text, hint))
        {
            add(kind, value, item.line);
        }
    }
    denied
}

/// One entry a line: `token <id>`, `serial <hex>` or `client <client id>`; `#` begins a remark.
fn read_deny_file(file: &Path, complain: impl Fn(String, &str)) -> Vec<(&'static str, String)> {
    const HINT: &str = "one entry a line: `token <id>`, `serial <hex>` or `client <client id>`";
    let text = match pem::read_bounded(file, MAX_DENY_FILE_BYTES) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(text) => {
            complain(text, "paths are relative to the config file's folder");
            return Vec::new();
        }
    };
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry = line.split_once(' ').and_then(|(kind, value)| {
            let kind = ["token", "serial", "client"]
                .into_iter()
                .find(|known| *known == kind)?;
            Some((kind, value.trim().to_owned()))
        });
        match entry {
            Some(entry) => entries.push(entry),
            None => {
                complain(
                    format!("{}:{}: {line:?} is no entry", file.display(), number + 1),
                    HINT,
                );
                break;
            }
        }
    }
    entries
}
