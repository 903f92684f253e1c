//! Whose token it is, for whom, when, and whom it names.

use super::super::{OTHER_TENANT, TENANT};
use super::Verdict::{Invalid, Valid};
use super::{ENTRA, IDP, Table};
use serde_json::json;

impl Table<'_> {
    pub(super) fn issuers(&mut self) {
        for iss in [
            "https://idp.example/",
            "https://IDP.example",
            "http://idp.example",
            "https://idp.example ",
            " https://idp.example",
            "https://idp.example\0",
            "https://idp.example.evil.example",
            "",
            "idp",
            "https://idp．example",
            "https://login.example/{tenantid}/v2.0",
        ] {
            self.claims(&format!("iss {iss:?}"), json!({"iss": iss}), Invalid);
        }
        self.claims("iss missing", json!({"iss": null}), Invalid);
        self.claims(
            "iss a list",
            json!({"iss": ["https://idp.example"]}),
            Invalid,
        );
        self.claims(
            "iss an object",
            json!({"iss": {"https://idp.example": 1}}),
            Invalid,
        );
        self.claims("iss a number", json!({"iss": 1}), Invalid);
    }

    pub(super) fn audiences(&mut self) {
        for aud in [
            "",
            "Gate",
            "gate ",
            "gate,gate-2",
            "gat",
            "gates",
            "*",
            "api://gate",
            "tidegate",
            "gate\0",
        ] {
            self.claims(&format!("aud {aud:?}"), json!({"aud": aud}), Invalid);
        }
        self.claims("aud missing", json!({"aud": null}), Invalid);
        for aud in [
            json!([]),
            json!({}),
            json!(0),
            json!(true),
            json!(["x", "y"]),
            json!([["gate"]]),
            json!({"gate": 1}),
            json!(["gate", 1]),
            json!(["gate", null]),
            json!(["gate", ["gate"]]),
        ] {
            self.claims(&format!("aud {aud}"), json!({"aud": aud}), Invalid);
        }
        self.claims("aud in a list", json!({"aud": ["x", "gate-2"]}), IDP);
        let many = |count: usize| -> Vec<String> {
            (1..count)
                .map(|n| format!("a{n}"))
                .chain(["gate".to_owned()])
                .collect()
        };
        self.claims("16 audiences", json!({"aud": many(16)}), IDP);
        self.claims("17 audiences", json!({"aud": many(17)}), Invalid);
        // In the list of both issuers: the first counts.
        self.claims(
            "aud of two issuers",
            json!({"aud": ["apps", "gate"], "client": "app-7"}),
            IDP,
        );
        self.claims(
            "aud of the second, no claim of its",
            json!({"aud": "apps"}),
            Invalid,
        );
        self.site("site's token for another", json!({"aud": "gate"}), Invalid);
    }

    pub(super) fn tenants(&mut self) {
        let iss = |tid: &str| format!("https://login.example/{tid}/v2.0");
        let upper = TENANT.to_uppercase();
        self.entra(
            "tid in upper case",
            json!({"tid": upper, "iss": iss(&upper)}),
            ENTRA,
        );
        self.entra(
            "tid and iss in different case",
            json!({"tid": upper}),
            Invalid,
        );
        self.entra(
            "other tenant",
            json!({"tid": OTHER_TENANT, "iss": iss(OTHER_TENANT)}),
            Invalid,
        );
        self.entra(
            "other tenant's iss",
            json!({"iss": iss(OTHER_TENANT)}),
            Invalid,
        );
        self.entra("other tenant's tid", json!({"tid": OTHER_TENANT}), Invalid);
        self.entra("no tid", json!({"tid": null}), Invalid);
        self.entra("tid a list", json!({"tid": [TENANT]}), Invalid);
        self.entra("tid empty", json!({"tid": "", "iss": iss("")}), Invalid);
        self.entra(
            "the placeholder itself",
            json!({"tid": "{tenantid}", "iss": iss("{tenantid}")}),
            Invalid,
        );
        self.entra(
            "common",
            json!({"tid": "common", "iss": iss("common")}),
            Invalid,
        );
        let padded = format!("{TENANT} ");
        self.entra(
            "tid with a blank",
            json!({"tid": padded, "iss": iss(&padded)}),
            Invalid,
        );
        self.entra(
            "tid leads elsewhere",
            json!({"tid": "x/../y", "iss": iss("x/../y")}),
            Invalid,
        );
        self.claims(
            "a tid where none is asked for",
            json!({"tid": OTHER_TENANT}),
            IDP,
        );
    }

    pub(super) fn times(&mut self) {
        let now = self.now;
        self.claims("exp in a second", json!({"exp": now + 1}), IDP);
        self.claims("exp now", json!({"exp": now}), Invalid);
        self.claims("exp past", json!({"exp": now - 1}), Invalid);
        self.claims("exp in 1.9 s", json!({"exp": now as f64 + 1.9}), IDP);
        self.claims("exp in 0.9 s", json!({"exp": now as f64 + 0.9}), Invalid);
        self.claims("exp missing", json!({"exp": null}), Invalid);
        self.claims(
            "exp a string",
            json!({"exp": (now + 60).to_string()}),
            Invalid,
        );
        self.claims(
            "exp a date",
            json!({"exp": "2099-01-01T00:00:00Z"}),
            Invalid,
        );
        self.claims("exp a list", json!({"exp": [now + 60]}), Invalid);
        self.claims("exp true", json!({"exp": true}), Invalid);
        self.claims("exp 0", json!({"exp": 0}), Invalid);
        self.claims("exp negative", json!({"exp": -now}), Invalid);
        self.claims("exp least", json!({"exp": i64::MIN}), Invalid);
        self.claims("exp most", json!({"exp": i64::MAX}), Invalid);
        self.claims("exp most unsigned", json!({"exp": u64::MAX}), Invalid);
        self.claims(
            "exp in milliseconds",
            json!({"exp": (now + 60) * 1000}),
            Invalid,
        );
        self.claims(
            "exp at the end of 9999",
            json!({"exp": 253_402_300_799_i64}),
            IDP,
        );
        self.claims(
            "exp in the year 10000",
            json!({"exp": 253_402_300_800_i64}),
            Invalid,
        );
        let claims = |exp: &str| {
            format!(r#"{{"iss":"https://idp.example","aud":"gate","sub":"pc-1","exp":{exp}}}"#)
        };
        let header = br#"{"alg":"ES256","kid":"e1"}"#;
        for exp in [
            "1e300",
            "-1e300",
            "1e999",
            "-1e999",
            "1e-999",
            "NaN",
            "Infinity",
            "-Infinity",
            "null",
            "-0",
            "0x7fffffff",
            "99999999999999999999999999999999999999",
            "+4102444800",
            "4102444800.",
            "04102444800",
            "4_102_444_800",
        ] {
            self.raw(
                &format!("exp {exp}"),
                header,
                claims(exp).as_bytes(),
                Invalid,
            );
        }
        self.raw(
            "exp 4.1024448e9",
            header,
            claims("4.1024448e9").as_bytes(),
            IDP,
        );
        for name in ["nbf", "iat"] {
            let case = |what: &str| format!("{name} {what}");
            self.claims(&case("now"), json!({name: now}), IDP);
            self.claims(&case("in 5 s"), json!({name: now + 5}), IDP);
            self.claims(&case("in 5.5 s"), json!({name: now as f64 + 5.5}), Invalid);
            self.claims(&case("in 6 s"), json!({name: now + 6}), Invalid);
            self.claims(&case("most"), json!({name: i64::MAX}), Invalid);
            self.claims(&case("least"), json!({name: i64::MIN}), IDP);
            self.claims(&case("a string"), json!({name: "0"}), Invalid);
            self.claims(&case("a list"), json!({name: [0]}), Invalid);
        }
    }

    /// The claim that names the client.
    pub(super) fn names(&mut self) {
        for sub in [
            "",
            " ",
            " pc-1",
            "pc-1 ",
            "pc-1\n",
            "pc\r\nX: y",
            "pc\0",
            "pc\u{7f}",
            "pc-é",
            "ｐｃ-1",
            "pc\u{200b}-1",
            "\tpc",
        ] {
            self.claims(&format!("sub {sub:?}"), json!({"sub": sub}), Invalid);
        }
        for sub in [json!(1), json!(["pc-1"]), json!({"pc-1": 1}), json!(false)] {
            self.claims(&format!("sub {sub}"), json!({"sub": sub}), Invalid);
        }
        self.claims("sub missing", json!({"sub": null}), Invalid);
        self.claims(
            "sub with a blank within",
            json!({"sub": "pc 1"}),
            Valid("oidc:idp/pc 1"),
        );
        self.claims(
            "sub with a slash",
            json!({"sub": "a/../b"}),
            Valid("oidc:idp/a/../b"),
        );
        self.claims(
            "client id over 128 bytes",
            json!({"sub": "x".repeat(120)}),
            Invalid,
        );
        self.claims(
            "sub over 128 bytes",
            json!({"sub": "x".repeat(4000)}),
            Invalid,
        );
        let odd =
            json!({"jti": "é", "email": "x".repeat(129), "upn": 5, "device_id": " x", "tid": ""});
        self.claims("optional claims that cannot be used", odd, IDP);
    }

    /// What a site's token is for. The same key signs those that name no client.
    pub(super) fn kinds(&mut self) {
        self.site(
            "a registration token",
            json!({"kind": "registration", "sub": "registration"}),
            Invalid,
        );
        self.site(
            "a registration token that names a client",
            json!({"kind": "registration"}),
            Invalid,
        );
        self.site("kind missing", json!({"kind": null}), Invalid);
        for kind in [
            json!("Client"),
            json!("client "),
            json!(""),
            json!(["client"]),
            json!(true),
        ] {
            self.site(&format!("kind {kind}"), json!({"kind": kind}), Invalid);
        }
        self.claims(
            "another issuer's kind means nothing",
            json!({"kind": "registration"}),
            IDP,
        );
    }

    /// Who the user is said to be.
    pub(super) fn users(&mut self) {
        self.user("email, verified", json!({}), "bob@corp.example");
        self.user(
            "email, no word of verification",
            json!({"email_verified": null}),
            "",
        );
        for verified in [json!(false), json!("true"), json!(1), json!([true])] {
            self.user(
                &format!("email, verified {verified}"),
                json!({"email_verified": verified}),
                "",
            );
        }
        self.user(
            "a user name beside an e-mail address that is not verified",
            json!({"email_verified": false, "upn": "bob"}),
            "bob",
        );
    }
}
