//! Tokens that must not pass, and beside each limit one that must: a table to be played against anything that takes
//! tokens of a [`Lab`]'s issuers.

mod claims;
mod form;
mod header;
mod keys;
mod signature;

use super::Lab;
use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// With this client id.
    Valid(&'static str),
    Invalid,
    UnknownKey,
    NoKeys,
}
use Verdict::Valid;

pub struct Case {
    pub name: String,
    pub token: Vec<u8>,
    pub verdict: Verdict,
    /// The user that it names, where the case is about that; the empty text: none.
    pub user: Option<&'static str>,
}

const IDP: Verdict = Valid("oidc:idp/pc-1");
const ENTRA: Verdict = Valid("oidc:entra/0f1e2d3c");

/// The whole table, for the time `now` (unix seconds).
pub fn all(lab: &Lab, now: i64) -> Vec<Case> {
    let mut table = Table {
        lab,
        now,
        cases: Vec::new(),
    };
    table.good();
    table.algorithms();
    table.hmacs();
    table.strangers();
    table.keys_of_the_token();
    table.headers();
    table.issuers();
    table.audiences();
    table.tenants();
    table.times();
    table.names();
    table.kinds();
    table.users();
    table.json();
    table.forms();
    table.base64();
    table.signatures();
    table.cases
}

struct Table<'a> {
    lab: &'a Lab,
    now: i64,
    cases: Vec<Case>,
}

impl Table<'_> {
    fn add(&mut self, name: impl Into<String>, token: impl Into<Vec<u8>>, verdict: Verdict) {
        let (name, token) = (name.into(), token.into());
        self.cases.push(Case {
            name,
            token,
            verdict,
            user: None,
        });
    }

    /// `idp`'s token with claims set, which is valid and names this user, or none.
    fn user(&mut self, name: &str, changes: Value, user: &'static str) {
        self.claims(name, changes, IDP);
        if let Some(case) = self.cases.last_mut() {
            case.user = Some(user);
        }
    }

    /// The site's token with claims set, or removed by null.
    fn site(&mut self, name: &str, changes: Value, verdict: Verdict) {
        let claims = changed(self.lab.site_claims(self.now), &changes);
        self.add(name, self.lab.site.token(&claims), verdict);
    }

    /// `idp`'s token with claims set, or removed by null.
    fn claims(&mut self, name: &str, changes: Value, verdict: Verdict) {
        let claims = changed(self.lab.idp_claims(self.now), &changes);
        self.add(name, self.lab.ec.token(&claims), verdict);
    }

    /// `entra`'s token with claims set, or removed by null.
    fn entra(&mut self, name: &str, changes: Value, verdict: Verdict) {
        let claims = changed(self.lab.entra_claims(self.now), &changes);
        self.add(name, self.lab.rsa.token(&claims), verdict);
    }

    /// `idp`'s token with header members set, or removed by null; signed after that.
    fn header(&mut self, name: &str, changes: Value, verdict: Verdict) {
        let header = changed(self.lab.ec.header(), &changes).to_string();
        let claims = self.lab.idp_claims(self.now).to_string();
        self.add(name, self.lab.ec.token_of(header, claims), verdict);
    }

    /// `idp`'s token with these texts.
    fn raw(&mut self, name: &str, header: &[u8], claims: &[u8], verdict: Verdict) {
        self.add(name, self.lab.ec.token_of(header, claims), verdict);
    }

    fn idp_token(&self) -> String {
        self.lab.ec.token(&self.lab.idp_claims(self.now))
    }

    fn good(&mut self) {
        let (lab, now) = (self.lab, self.now);
        self.entra("RS256", json!({}), ENTRA);
        self.claims("ES256", json!({}), IDP);
        self.add("EdDSA", lab.ed.token(&lab.idp_claims(now)), IDP);
        self.add(
            "site",
            lab.site.token(&lab.site_claims(now)),
            Valid("site:main/pc-1"),
        );
        self.header("no kid", json!({"kid": null}), IDP);
        self.header("no typ", json!({"typ": null}), IDP);
        let changes = json!({"aud": "apps", "client": "app-7"});
        self.claims(
            "second issuer of one iss",
            changes,
            Valid("oidc:apps/app-7"),
        );
    }
}

/// Members set; null removes one.
fn changed(mut object: Value, changes: &Value) -> Value {
    let (Some(members), Some(changes)) = (object.as_object_mut(), changes.as_object()) else {
        return object;
    };
    for (name, value) in changes {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    object
}
