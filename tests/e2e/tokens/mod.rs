//! Tokens through the real binaries: forgeries against every route that takes tokens, who the upstream is told the client
//! is, connections whose tokens change or end, deny-lists, and the site's own tokens.

mod attacks;
mod connections;
mod denied;
#[path = "../../../src/control/tokens/testing/mod.rs"]
mod issuers;
mod routes;
mod site;

use crate::harness::lab::{Plan, tidegate};
use crate::harness::{Answer, Lab, ports};
use issuers::Lab as Issuers;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock after 1970").as_secs() as i64
}

/// A lab that takes tokens of these issuers on `/tok/`, and beside certificates on `/any/`. Keys stand in files; `late`'s
/// are at an address where nobody answers.
fn plan(issuers: &Issuers) -> Plan {
    let mut plan = Lab::plan()
        .route("/tok/", "auth = \"token\"")
        .route("/any/", "auth = \"any\"");
    for issuer in issuers.issuers() {
        let name = issuer.name;
        let keys = match issuer.jwks {
            Some(keys) => {
                let file = format!("{name}.jwks");
                let path = file.clone();
                plan = plan.prepare(move |dir| fs::write(dir.join(path), keys).expect("keys"));
                file
            }
            None => format!("http://127.0.0.1:{}/{name}.jwks", ports::free()),
        };
        plan = if issuer.is_site {
            plan.site(&format!("tokens = [{keys:?}]"))
        } else {
            plan.oidc(&format!(
                "name = {name:?}\nissuer = {:?}\naudience = {:?}\ntenants = {:?}\nid = {:?}\njwks = {keys:?}",
                issuer.issuer, issuer.audience, issuer.tenants, issuer.id
            ))
        };
    }
    plan
}

/// Runs `tidegate token …`; what it printed on stdout.
#[track_caller]
fn token(dir: &Path, arguments: &[&str]) -> String {
    let output = tidegate()
        .arg("token")
        .args(arguments)
        .arg("--dir")
        .arg(dir)
        .output()
        .expect("tidegate token");
    assert!(
        output.status.success(),
        "token {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Asserts that the upstream's `head` came, and was told of this client.
#[track_caller]
fn assert_known(answer: &Answer, means: &str, id: &str) {
    assert_eq!(answer.status, 200, "{}\n{}", answer.head, answer.text());
    assert_eq!(told(answer, "Tidegate-Client-Id"), [id]);
    assert_eq!(told(answer, "Tidegate-Auth"), [means]);
}

/// All values of a field in the head that the upstream sent back.
fn told(answer: &Answer, name: &str) -> Vec<String> {
    let text = answer.text();
    let fields = text.lines().filter_map(|line| line.split_once(": "));
    fields
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.to_owned())
        .collect()
}
