//! The site's own tokens, made by `tidegate token`: whose are taken, for how long, and under which name.

use super::{Issuers, assert_known, now, plan, token};
use crate::harness::lab::{Folder, Plan, pki};
use crate::harness::{Lab, Tls};

fn site_plan() -> Plan {
    Lab::plan()
        .route("/tok/", "auth = \"token\"")
        .route("/any/", "auth = \"any\"")
        .site("tokens = [\"site-tokens.jwks\"]")
        .prepare(|dir| drop(token(dir, &["init", "--site", "main"])))
}

#[test]
fn tokens_of_this_site_and_of_no_other() {
    let lab = site_plan().start();
    let issue = |dir, more: &[&str]| token(dir, &[&["issue", "--client", "pc-1"], more].concat());
    let good = issue(
        lab.dir(),
        &["--lifetime", "1h", "--device", "pc-1.corp", "--user", "ann"],
    );
    let mut client = Tls::connect(&lab);
    for route in ["/tok/head", "/any/head"] {
        let answer = client.get_with(route, &good);
        assert_known(&answer, "token", "site:main/pc-1");
        assert_eq!(super::told(&answer, "Tidegate-Device"), ["pc-1.corp"]);
        assert_eq!(super::told(&answer, "Tidegate-User"), ["ann"]);
        assert!(super::told(&answer, "Tidegate-Tenant").is_empty());
    }
    let (other, namesake) = (Folder::new(), Folder::new());
    token(&other.0, &["init", "--site", "other"]);
    token(&namesake.0, &["init", "--site", "main"]);
    for (what, refused) in [
        ("another site's", issue(&other.0, &[])),
        ("by another key of the same name", issue(&namesake.0, &[])),
        (
            "for another audience",
            issue(lab.dir(), &["--audience", "elsewhere"]),
        ),
        (
            "a registration token, which names no client",
            token(lab.dir(), &["issue", "--registration"]),
        ),
    ] {
        println!("{what}");
        client.get_with("/tok/head", refused).assert_invalid_token();
    }
    assert_eq!(lab.upstream.count("/head"), 2);
}

#[test]
fn rotated_keys_are_taken_once_published_and_old_ones_until_dropped() {
    let lab = site_plan().start();
    let issue = || token(lab.dir(), &["issue", "--client", "pc-1"]);
    let mut client = Tls::connect(&lab);
    let mut ask = |token: &str| client.get_with("/tok/head", token);
    let old = issue();
    assert_known(&ask(&old), "token", "site:main/pc-1");

    token(lab.dir(), &["init", "--rotate"]);
    let new = issue();
    ask(&new).assert_invalid_token(); // as `token init --rotate` says: not before it is published
    assert_known(&ask(&old), "token", "site:main/pc-1");
    lab.revise(1, "");
    for token in [&old, &new] {
        assert_known(&ask(token), "token", "site:main/pc-1");
    }

    token(lab.dir(), &["init", "--rotate", "--drop-old"]);
    let newest = issue();
    assert_known(&ask(&old), "token", "site:main/pc-1");
    lab.revise(2, "");
    for token in [&old, &new] {
        ask(token).assert_invalid_token();
    }
    assert_known(&ask(&newest), "token", "site:main/pc-1");
}

/// A certificate's client, an OpenID provider's and the site's own have one name, and are three.
#[test]
fn one_name_of_three_kinds_is_three_clients() {
    let issuers = Issuers::new();
    let lab = plan(&issuers)
        .prepare(|dir| pki(dir, &["client", "pc-1"]))
        .start();
    let oidc = issuers.ec.token(&issuers.idp_claims(now()));
    let site = issuers.site.token(&issuers.site_claims(now()));
    let ask = || {
        let certificate = Tls::connect_as(&lab, "pc-1").get("/any/head");
        let oidc = Tls::connect(&lab).get_with("/any/head", &oidc);
        let site = Tls::connect(&lab).get_with("/any/head", &site);
        [certificate, oidc, site]
    };
    let known = [
        ("certificate", "cert:lab/pc-1"),
        ("token", "oidc:idp/pc-1"),
        ("token", "site:main/pc-1"),
    ];
    for (answer, (means, id)) in ask().iter().zip(known) {
        assert_known(answer, means, id);
    }
    // Denying one of them denies no other.
    let mut deny = String::new();
    for (number, (_, denied)) in (1..).zip(known) {
        let new = format!("deny = {{ clients = [{denied:?}] }}");
        if number == 1 {
            lab.revise(1, &new);
        } else {
            lab.rewrite("connector.toml", "connector.toml", &[(&deny, &new)]);
            lab.revise(number, "");
        }
        deny = new;
        for (answer, (means, id)) in ask().iter().zip(known) {
            if id == denied {
                answer.assert_problem(403, "revoked");
            } else {
                assert_known(answer, means, id);
            }
        }
    }
}
