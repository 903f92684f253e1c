//! The document a connector publishes: its site's settings (the same on each connector of the site) and its own routes.
//!
//! On the wire it is JSON, at most [`MAX_DOCUMENT_BYTES`], unknown fields refused. It names trusted CAs and never
//! holds a secret. `decode` checks form and limits; certificates are read when a snapshot is made
//! (`snapshot::Registry::publish`). Everything in it comes from a peer: an authenticated one, but not ours to trust
//! for anything beyond its own site.

mod sources;

pub use sources::{
    CrlFail, KeySource, MAX_CRL_BYTES, MAX_CRLS, MAX_ISSUERS, MAX_KEY_SET_BYTES, PublishedCrl,
    PublishedIssuer, PublishedKind, TENANT_MARK, check_crl_url, check_key_url, is_loopback,
    without_query,
};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;
pub const MAX_ROUTES: usize = 1024;
pub const MAX_CAS: usize = 64;
/// PEM text of one CA entry.
pub const MAX_CA_BYTES: usize = 256 << 10;
/// Entries of one deny-list. At some 45 bytes an entry, the document's size is reached about there.
pub const MAX_DENIED: usize = 65_536;
pub const MAX_PATH_BYTES: usize = 1024;
pub const MAX_METHODS: usize = 64;
/// A week. What adds it to a clock never overflows.
pub const MAX_TIMEOUT_MS: u64 = 7 * 24 * 3600 * 1000;
/// Whole numbers up to here survive every JSON reader.
pub const MAX_REVISION: u64 = 1 << 53;
/// Site names, CA names, connector ids.
pub const MAX_NAME_BYTES: usize = 64;

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SiteDocument {
    pub site: SiteSettings,
    pub routes: Vec<PublishedRoute>,
}
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SiteSettings {
    pub revision: u64,
    pub client_ca: Vec<PublishedCa>,
    pub deny_serials: Vec<String>,
    pub deny_clients: Vec<String>,
    // What follows came later: absent while unused, so that gateways of an earlier version still read the document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny_tokens: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crl: Vec<PublishedCrl>,
    #[serde(default, skip_serializing_if = "CrlFail::is_default")]
    pub crl_fail: CrlFail,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<PublishedIssuer>,
    /// Who may open a notification channel; `Any` unless said. Never `None`: a channel is somebody's.
    #[serde(default, skip_serializing_if = "Auth::is_any")]
    pub channels: Auth,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PublishedCa {
    pub name: String,
    /// PEM of one or more CA certificates.
    pub pem: String,
    pub id: IdField,
}
/// Which field of a client certificate is the client's id.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum IdField {
    /// First DNS name of subjectAltName; the first CN when there is none.
    DnsSan,
    Cn,
    UriSan,
    Serial,
}
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    Certificate,
    Token,
    #[default]
    Any,
    None,
}
impl Auth {
    fn is_any(&self) -> bool {
        *self == Auth::Any
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PublishedRoute {
    pub path: String,
    pub auth: Auth,
    /// Empty: any.
    pub methods: Vec<String>,
    /// Bytes; 0: no body at all; `u64::MAX`: no limit.
    pub max_body: u64,
    /// To the first byte of the answer; 0: none.
    pub timeout_ms: u64,
    pub case_insensitive: bool,
}

impl SiteDocument {
    /// Canonical bytes (JSON, fields in declaration order, lists as they stand) and their SHA-256.
    pub fn encode(&self) -> (Vec<u8>, [u8; 32]) {
        // Strings, numbers and lists: serialising them cannot fail.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let hash = sha256(&bytes);
        (bytes, hash)
    }

    /// Reads and checks a document; the error is one line for its publisher.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(format!(
                "the document has {} bytes; {MAX_DOCUMENT_BYTES} is the limit",
                bytes.len()
            ));
        }
        let document: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("the document cannot be read: {error}"))?;
        document.check()?;
        Ok(document)
    }

    /// Names, paths, methods and limits. Both ends check: the connector to fail early, the gateway to be safe.
    pub fn check(&self) -> Result<(), String> {
        let site = &self.site;
        if site.revision > MAX_REVISION {
            return Err(format!("revision {} is over 2^53", site.revision));
        }
        if site.channels == Auth::None {
            return Err("channels is \"none\": a channel is somebody's".into());
        }
        at_most("client_ca", site.client_ca.len(), MAX_CAS)?;
        at_most("routes", self.routes.len(), MAX_ROUTES)?;
        at_most("deny.serials", site.deny_serials.len(), MAX_DENIED)?;
        at_most("deny.clients", site.deny_clients.len(), MAX_DENIED)?;
        at_most("deny.tokens", site.deny_tokens.len(), MAX_DENIED)?;
        at_most("crl", site.crl.len(), MAX_CRLS)?;
        at_most("oidc", site.issuers.len(), MAX_ISSUERS)?;
        for (index, ca) in site.client_ca.iter().enumerate() {
            check_name(&ca.name).map_err(|why| format!("client_ca name {:?} {why}", ca.name))?;
            if site.client_ca[..index]
                .iter()
                .any(|other| other.name == ca.name)
            {
                return Err(format!("client_ca name {:?} stands twice", ca.name));
            }
            at_most("bytes of a client_ca", ca.pem.len(), MAX_CA_BYTES)?;
        }
        for serial in &site.deny_serials {
            if serial_key(serial).is_none() {
                return Err(format!("deny.serials: {serial:?} is not a serial in hex"));
            }
        }
        site.crl.iter().try_for_each(PublishedCrl::check)?;
        for (index, issuer) in site.issuers.iter().enumerate() {
            issuer.check()?;
            let same =
                |other: &PublishedIssuer| other.kind == issuer.kind && other.name == issuer.name;
            if site.issuers[..index].iter().any(same) {
                return Err(format!("oidc name {:?} stands twice", issuer.name));
            }
        }
        for route in &self.routes {
            route
                .check()
                .map_err(|why| format!("route {:?} {why}", route.path))?;
        }
        Ok(())
    }
}

impl SiteSettings {
    /// SHA-256 of what the settings mean: order of CAs, spelling of serials and repeats do not count, so that
    /// connectors whose files differ only in these agree. The revision is not part of it, nor are the
    /// contents of revocation lists.
    pub fn meaning_hash(&self) -> [u8; 32] {
        let mut same = self.clone();
        same.revision = 0;
        same.client_ca.sort_by(|a, b| a.name.cmp(&b.name));
        let serials = same
            .deny_serials
            .iter()
            .filter_map(|serial| serial_key(serial));
        same.deny_serials = sorted(serials.collect());
        let clients = same
            .deny_clients
            .iter()
            .map(|client| client.to_ascii_lowercase());
        same.deny_clients = sorted(clients.collect());
        same.deny_tokens = sorted(same.deny_tokens);
        // Lists that stand in the document are judged by their own signature and number: only that there are some
        // counts.
        for list in &mut same.crl {
            if let PublishedCrl::Der(text) = list {
                text.clear();
            }
        }
        same.crl.sort();
        same.crl.dedup();
        same.issuers = same
            .issuers
            .iter()
            .map(PublishedIssuer::canonical)
            .collect();
        same.issuers
            .sort_by(|a, b| (a.kind as u8, &a.name).cmp(&(b.kind as u8, &b.name)));
        sha256(&serde_json::to_vec(&same).unwrap_or_default())
    }
}

impl PublishedRoute {
    fn check(&self) -> Result<(), String> {
        check_route_path(&self.path)?;
        at_most("methods", self.methods.len(), MAX_METHODS)?;
        if self.timeout_ms > MAX_TIMEOUT_MS {
            return Err(format!(
                "has a timeout of {} ms, over a week",
                self.timeout_ms
            ));
        }
        match self.methods.iter().find(|method| !is_method(method)) {
            Some(method) => Err(format!("has a method {method:?}, which is no HTTP method")),
            None => Ok(()),
        }
    }

    /// What must agree when several connectors publish one route.
    pub fn agrees(&self, other: &Self) -> bool {
        let methods = |route: &Self| sorted(route.methods.clone());
        self.auth == other.auth
            && self.max_body == other.max_body
            && self.timeout_ms == other.timeout_ms
            && self.case_insensitive == other.case_insensitive
            && methods(self) == methods(other)
    }
}

/// A name that is safe in a header, a log, a file name and a client id: letters, digits, `.`, `_`, `-`, the first one
/// a letter or digit.
pub fn check_name(name: &str) -> Result<(), String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() {
        return Err("is empty".into());
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("has over {MAX_NAME_BYTES} characters"));
    }
    if !name.bytes().all(good) || !name.as_bytes()[0].is_ascii_alphanumeric() {
        return Err(
            "may hold letters, digits, `.`, `_` and `-`, and begins with a letter or digit".into(),
        );
    }
    Ok(())
}

/// A route's path must stand as the gateway normalises request paths, or it would never match: absolute, no empty, `.`
/// or `..` segment, escapes only where a character cannot stand for itself, in upper case, never of `/` or `\`.
pub fn check_route_path(path: &str) -> Result<(), String> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err("does not begin with `/`".into());
    }
    if bytes.len() > MAX_PATH_BYTES {
        return Err(format!("has over {MAX_PATH_BYTES} bytes"));
    }
    if let Some(byte) = bytes
        .iter()
        .find(|b| !b.is_ascii_graphic() || b"?#\\\"<>^`{|}*".contains(b))
    {
        return Err(format!(
            "holds {:?}, which cannot stand in a path",
            char::from(*byte)
        ));
    }
    let inner = path.trim_start_matches('/');
    if path.len() - inner.len() > 1 || path.contains("//") {
        return Err("has an empty segment (`//`)".into());
    }
    if path
        .split('/')
        .any(|segment| segment == "." || segment == "..")
    {
        return Err("has a `.` or `..` segment".into());
    }
    check_escapes(bytes)?;
    if is_reserved(path) {
        return Err("lies under `/.tidegate`, which is the gateway's own".into());
    }
    Ok(())
}

fn is_reserved(path: &str) -> bool {
    const OWN: &str = "/.tidegate";
    path.get(..OWN.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(OWN))
        && matches!(path.as_bytes().get(OWN.len()), None | Some(b'/'))
}

fn check_escapes(path: &[u8]) -> Result<(), String> {
    for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let digit = |offset: usize| match path.get(at + offset) {
            Some(d @ b'0'..=b'9') => Some(d - b'0'),
            Some(d @ b'A'..=b'F') => Some(d - b'A' + 10),
            _ => None,
        };
        let (Some(high), Some(low)) = (digit(1), digit(2)) else {
            return Err("has a `%` without two upper-case hex digits".into());
        };
        match high << 4 | low {
            b'/' | b'\\' | 0 => {
                return Err("escapes `/`, `\\` or NUL, which the gateway refuses".into());
            }
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                return Err(format!(
                    "escapes {:?}, which stands for itself",
                    char::from(byte)
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// An HTTP method is a token (RFC 9110 §5.6.2), case-sensitive.
pub fn is_method(text: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(token)
}

/// A serial number as compared: hex digits in lower case, without `0x`, colons, blanks and leading zeros.
pub fn serial_key(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text
        .strip_prefix("0x")
        .or(text.strip_prefix("0X"))
        .unwrap_or(text);
    let mut key = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ':' | ' ' | '-' => {}
            c if c.is_ascii_hexdigit() => key.push(c.to_ascii_lowercase()),
            _ => return None,
        }
    }
    // RFC 5280 §4.1.2.2: 20 octets; some CAs write one more.
    if key.is_empty() || key.len() > 64 {
        return None;
    }
    let trimmed = key.trim_start_matches('0');
    Some(if trimmed.is_empty() {
        "0".into()
    } else {
        trimmed.into()
    })
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

fn at_most(what: &str, count: usize, limit: usize) -> Result<(), String> {
    if count > limit {
        Err(format!("{what}: {count}, and {limit} is the limit"))
    } else {
        Ok(())
    }
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list.dedup();
    list
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn route(path: &str) -> PublishedRoute {
        PublishedRoute {
            path: path.into(),
            auth: Auth::Certificate,
            methods: vec![],
            max_body: 1 << 30,
            timeout_ms: 60_000,
            case_insensitive: false,
        }
    }

    pub fn document(revision: u64, paths: &[&str]) -> SiteDocument {
        SiteDocument {
            site: SiteSettings {
                revision,
                ..SiteSettings::default()
            },
            routes: paths.iter().map(|path| route(path)).collect(),
        }
    }

    #[test]
    fn a_document_survives_the_wire() {
        let mut sent = document(7, &["/a/", "/b"]);
        sent.routes[1].max_body = u64::MAX;
        sent.site.deny_serials.push("00:Ab".into());
        let (bytes, hash) = sent.encode();
        assert_eq!(hash, sha256(&bytes));
        assert_eq!(SiteDocument::decode(&bytes), Ok(sent));
    }

    #[test]
    fn unknown_fields_and_junk_are_refused() {
        let (bytes, _) = document(1, &["/a/"]).encode();
        let text = String::from_utf8(bytes).unwrap();
        let extra = text.replacen("\"revision\"", "\"shell\":\"x\",\"revision\"", 1);
        assert!(
            SiteDocument::decode(extra.as_bytes())
                .unwrap_err()
                .contains("shell")
        );
        assert!(SiteDocument::decode(text.replace("certificate", "trust_me").as_bytes()).is_err());
        assert!(SiteDocument::decode(&text.as_bytes()[..text.len() - 1]).is_err());
        assert!(
            SiteDocument::decode(&vec![b'['; 100_000]).is_err(),
            "deep nesting"
        );
        assert!(
            SiteDocument::decode(&vec![b' '; MAX_DOCUMENT_BYTES + 1])
                .unwrap_err()
                .contains("limit")
        );
    }

    #[test]
    fn paths_that_could_not_match_are_refused() {
        for good in [
            "/",
            "/a",
            "/a/",
            "/a/b.c/",
            "/a%20b/",
            "/~x/",
            "/a;b/",
            "/CCM_Proxy_MutualAuth/72/",
            "/.tidegatex/",
        ] {
            assert_eq!(check_route_path(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a",
            "//",
            "/a//b",
            "/a/./b",
            "/a/..",
            "/a?b",
            "/a#b",
            "/a\\b",
            "/a b",
            "/ä",
            "/%2fx",
            "/%2Fx",
            "/%5C",
            "/%00",
            "/%41",
            "/%7E",
            "/%",
            "/%4",
            "/a%zz",
            "/a\n",
            "/*",
            "/.tidegate",
            "/.TideGate/x",
        ] {
            assert!(check_route_path(bad).is_err(), "{bad:?} was taken");
        }
        assert!(check_route_path(&format!("/{}", "a".repeat(MAX_PATH_BYTES))).is_err());
    }

    #[test]
    fn what_is_over_its_limit_is_refused() {
        let changes: [fn(&mut SiteDocument); 9] = [
            |d| d.site.revision = MAX_REVISION + 1,
            |d| d.routes[0].timeout_ms = MAX_TIMEOUT_MS + 1,
            |d| d.routes[0].methods = vec!["GET".into(); MAX_METHODS + 1],
            |d| d.routes[0].methods = vec!["G T".into()],
            |d| d.routes = vec![route("/a"); MAX_ROUTES + 1],
            |d| d.site.deny_serials = vec!["0a".into(); MAX_DENIED + 1],
            |d| d.site.deny_clients = vec![String::new(); MAX_DENIED + 1],
            |d| d.site.deny_serials = vec!["not hex".into()],
            |d| {
                let ca = |i| PublishedCa {
                    name: format!("c{i}"),
                    pem: String::new(),
                    id: IdField::Cn,
                };
                d.site.client_ca = (0..=MAX_CAS).map(ca).collect();
            },
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut document = document(1, &["/a/"]);
            assert_eq!(document.check(), Ok(()));
            change(&mut document);
            assert!(
                SiteDocument::decode(&document.encode().0).is_err(),
                "change {index} was taken"
            );
        }
    }

    #[test]
    fn serials_compare_by_value() {
        for same in ["0A:1b", "a1b", "0x0A1B", "00 0a 1b", "A1B"] {
            assert_eq!(serial_key(same).as_deref(), Some("a1b"), "{same}");
        }
        assert_eq!(serial_key("00").as_deref(), Some("0"));
        for wrong in ["", "0x", "xyz", ":"] {
            assert_eq!(serial_key(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_meaning_hash_ignores_spelling_and_order() {
        let mut a = document(1, &[]).site;
        a.deny_serials = vec!["0A".into(), "0b".into()];
        a.deny_clients = vec!["cert:corp/PC1".into()];
        let mut b = document(9, &[]).site;
        b.deny_serials = vec!["B".into(), "a".into(), "0x0a".into()];
        b.deny_clients = vec!["cert:corp/pc1".into()];
        assert_eq!(a.meaning_hash(), b.meaning_hash());
        b.deny_serials.push("c".into());
        assert_ne!(a.meaning_hash(), b.meaning_hash());
    }

    proptest! {
        #[test]
        fn junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = SiteDocument::decode(&junk);
        }

        #[test]
        fn any_text_is_judged_as_a_path(text in "\\PC{0,40}") {
            if check_route_path(&text).is_ok() {
                prop_assert!(text.starts_with('/') && text.is_ascii() && !text.contains("//"));
            }
        }
    }
}
