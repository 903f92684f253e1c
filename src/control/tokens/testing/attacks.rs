//! Tokens that must not pass, and beside each limit one that must: a table to be played against anything that takes
//! tokens of a [`Lab`]'s issuers.

use super::{Lab, OTHER_TENANT, TENANT, TestKey, base64url, jwks};
use aws_lc_rs::hmac;
use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// With this client id.
    Valid(&'static str),
    Invalid,
    UnknownKey,
    NoKeys,
}
use Verdict::{Invalid, NoKeys, UnknownKey, Valid};

pub struct Case {
    pub name: String,
    pub token: Vec<u8>,
    pub verdict: Verdict,
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
        });
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

    fn algorithms(&mut self) {
        let (lab, claims) = (self.lab, self.lab.idp_claims(self.now).to_string());
        for alg in ["none", "None", "NONE", "nOnE", "none ", ""] {
            let header = json!({"alg": alg, "typ": "JWT"}).to_string();
            let unsigned = format!("{}.{}.", base64url(&header), base64url(&claims));
            self.add(format!("alg {alg:?}, unsigned"), unsigned.clone(), Invalid);
            self.add(
                format!("alg {alg:?}, no third part"),
                unsigned.trim_end_matches('.'),
                Invalid,
            );
            self.add(
                format!("alg {alg:?}, signed"),
                lab.ec.token_of(header, &claims),
                Invalid,
            );
        }
        for alg in [
            "es256", "ES256 ", "ES384", "ES256K", "PS256", "RS512", "RS1", "Ed25519", "dir",
        ] {
            self.header(&format!("alg {alg:?}"), json!({"alg": alg}), Invalid);
        }
        for alg in [
            Value::Null,
            json!(256),
            json!(["ES256"]),
            json!({"ES256": 1}),
            json!(true),
        ] {
            self.header(&format!("alg {alg}"), json!({"alg": alg}), Invalid);
        }
        // The key decides: a name of another algorithm over the right signature, and the reverse.
        self.header("EdDSA over an ES256 key", json!({"alg": "EdDSA"}), Invalid);
        self.header("RS256 over an ES256 key", json!({"alg": "RS256"}), Invalid);
        let header = json!({"alg": "ES256", "kid": "d1"}).to_string();
        self.add(
            "ES256 with an EdDSA key's id",
            lab.ec.token_of(header, &claims),
            Invalid,
        );
        let header = json!({"alg": "ES256", "kid": "d1"}).to_string();
        self.add(
            "ES256 said, EdDSA signed",
            lab.ed.token_of(header, &claims),
            Invalid,
        );
        let header = json!({"alg": "EdDSA"}).to_string();
        self.add(
            "EdDSA said, ES256 signed",
            lab.ec.token_of(header, &claims),
            UnknownKey,
        );
    }

    /// The public key as the secret of an HMAC, in each form a careless library might take it in.
    fn hmacs(&mut self) {
        let lab = self.lab;
        let claims = lab.entra_claims(self.now).to_string();
        let jwk = lab.rsa.jwk();
        let modulus = jwk["n"].as_str().unwrap_or_default().to_owned();
        let secrets: [(&str, Vec<u8>); 6] = [
            ("DER", lab.rsa.public().to_vec()),
            ("PEM", pem(lab.rsa.public())),
            ("JWK", jwk.to_string().into_bytes()),
            ("JWKS", jwks(&[&lab.rsa]).into_bytes()),
            ("modulus", modulus.into_bytes()),
            ("nothing", Vec::new()),
        ];
        for (form, secret) in secrets {
            for alg in ["HS256", "RS256"] {
                let header = json!({"alg": alg, "typ": "JWT", "kid": "r1"}).to_string();
                let signed = format!("{}.{}", base64url(header), base64url(&claims));
                let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
                let tag = base64url(hmac::sign(&key, signed.as_bytes()));
                self.add(
                    format!("{alg}, HMAC by {form}"),
                    format!("{signed}.{tag}"),
                    Invalid,
                );
            }
        }
    }

    /// Keys of nobody, and of the wrong one.
    fn strangers(&mut self) {
        let (lab, now) = (self.lab, self.now);
        let (entra, idp, site) = (
            lab.entra_claims(now),
            lab.idp_claims(now),
            lab.site_claims(now),
        );
        self.add(
            "RS256 by a stranger",
            lab.strange_rsa.token(&entra),
            Invalid,
        );
        self.add("ES256 by a stranger", lab.strange_ec.token(&idp), Invalid);
        self.add("EdDSA by a stranger", lab.strange_ed.token(&idp), Invalid);
        self.add(
            "idp's claims by entra's key",
            lab.rsa.token(&idp),
            UnknownKey,
        );
        self.add(
            "idp's claims by the site's key",
            lab.site.token(&idp),
            UnknownKey,
        );
        self.add(
            "site's claims by idp's key",
            lab.ec.token(&site),
            UnknownKey,
        );
        self.add(
            "entra's claims by idp's key",
            lab.ec.token(&entra),
            UnknownKey,
        );
        let forged = |key: &TestKey, kid: &str, claims: &Value| {
            let header = json!({"alg": key.algorithm(), "kid": kid}).to_string();
            key.token_of(header, claims.to_string())
        };
        self.add(
            "site's key under idp's id",
            forged(&lab.site, "e1", &idp),
            Invalid,
        );
        self.add(
            "idp's key under the site's id",
            forged(&lab.ec, "s1", &site),
            Invalid,
        );
        self.add(
            "idp's key under entra's id",
            forged(&lab.ec, "r1", &entra),
            Invalid,
        );
        let no_kid = json!({"alg": "ES256"}).to_string();
        let stranger = lab.strange_ec.token_of(&no_kid, idp.to_string());
        self.add("stranger without kid", stranger, UnknownKey);
        let late = changed(idp, &json!({"iss": "https://late.example"}));
        self.add("keys not there yet", lab.ec.token(&late), NoKeys);
        self.add(
            "keys not there yet, stranger",
            lab.strange_ed.token(&late),
            NoKeys,
        );
    }

    /// What a token says of keys selects among the issuer's, or nothing.
    fn keys_of_the_token(&mut self) {
        let lab = self.lab;
        let claims = lab.idp_claims(self.now).to_string();
        for (name, member, value) in [
            ("jwk", "jwk", lab.strange_ec.jwk()),
            ("jku", "jku", json!("https://evil.example/keys.json")),
            ("x5u", "x5u", json!("https://evil.example/cert.pem")),
            ("x5c", "x5c", json!(["MIIB"])),
            ("x5t", "x5t", json!("AAAA")),
        ] {
            let mut header = lab.strange_ec.header();
            header[member] = value.clone();
            let token = lab.strange_ec.token_of(header.to_string(), &claims);
            self.add(format!("own key by {name}"), token, Invalid);
            header["kid"] = json!("mine");
            let token = lab.strange_ec.token_of(header.to_string(), &claims);
            self.add(format!("own key by {name}, own kid"), token, UnknownKey);
            self.header(
                &format!("{name} beside a good key"),
                json!({ member: value }),
                IDP,
            );
        }
        for kid in [
            "",
            "E1",
            "e1 ",
            "e1\0",
            "../e1",
            "e1' or '1'='1",
            "s1",
            "r1",
            "0",
            "ｅ1",
        ] {
            self.header(&format!("kid {kid:?}"), json!({"kid": kid}), UnknownKey);
        }
        for kid in [
            json!(1),
            json!(["e1"]),
            json!({"e1": 1}),
            json!(true),
            json!("k".repeat(257)),
        ] {
            self.header(&format!("kid {kid:.20}"), json!({"kid": kid}), Invalid);
        }
        self.raw(
            "kid null",
            br#"{"alg":"ES256","kid":null}"#,
            claims.as_bytes(),
            Invalid,
        );
        self.header(
            "kid of another algorithm's key",
            json!({"kid": "d1"}),
            Invalid,
        );
    }

    fn headers(&mut self) {
        let claims = self.lab.idp_claims(self.now).to_string();
        self.header("crit", json!({"crit": ["exp"]}), Invalid);
        self.header("crit, empty", json!({"crit": []}), Invalid);
        self.header("crit b64", json!({"crit": ["b64"], "b64": true}), Invalid);
        self.header("b64 false", json!({"b64": false}), Invalid);
        self.header("b64 true", json!({"b64": true}), Invalid);
        self.header("zip", json!({"zip": "DEF"}), Invalid);
        self.header("enc", json!({"enc": "A128GCM"}), Invalid);
        for typ in [
            "JWT",
            "jwt",
            "at+jwt",
            "AT+JWT",
            "application/at+jwt",
            "Application/JWT",
        ] {
            self.header(&format!("typ {typ:?}"), json!({"typ": typ}), IDP);
        }
        for typ in [
            "",
            "JWS",
            "JOSE",
            "logout+jwt",
            "dpop+jwt",
            "secevent+jwt",
            "jwt ",
            "JWT;x",
            "application/",
            "application/application/jwt",
            "text/jwt",
            "id_token",
            "ＪＷＴ",
            "kb+jwt",
        ] {
            self.header(&format!("typ {typ:?}"), json!({"typ": typ}), Invalid);
        }
        self.header("typ no string", json!({"typ": ["JWT"]}), Invalid);
        self.header(
            "unknown members",
            json!({"nonce": "x", "cty": "x", "y": {"z": []}}),
            IDP,
        );
        for (name, header) in [
            ("alg twice", r#"{"alg":"ES256","alg":"ES256","kid":"e1"}"#),
            (
                "alg twice, none last",
                r#"{"alg":"ES256","kid":"e1","alg":"none"}"#,
            ),
            ("kid twice", r#"{"alg":"ES256","kid":"x","kid":"e1"}"#),
            (
                "kid twice by an escape",
                r#"{"alg":"ES256","kid":"e1","\u006bid":"e1"}"#,
            ),
            (
                "crit by an escape",
                r#"{"alg":"ES256","kid":"e1","cr\u0069t":["x"]}"#,
            ),
            ("header a list", r#"[{"alg":"ES256"}]"#),
            ("header a string", r#""ES256""#),
            ("header null", "null"),
            ("header no JSON", "alg=ES256"),
            ("header cut", r#"{"alg":"ES256","kid":"e1""#),
            ("header and more", r#"{"alg":"ES256","kid":"e1"}{}"#),
            (
                "header deep",
                r#"{"alg":"ES256","kid":"e1","a":[[[[[[[[1]]]]]]]]}"#,
            ),
        ] {
            self.raw(name, header.as_bytes(), claims.as_bytes(), Invalid);
        }
        let long = json!({"alg": "ES256", "kid": "e1", "x5c": ["A".repeat(6200)]}).to_string();
        self.raw(
            "header over its limit",
            long.as_bytes(),
            claims.as_bytes(),
            Invalid,
        );
    }

    fn issuers(&mut self) {
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

    fn audiences(&mut self) {
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
        let site = changed(self.lab.site_claims(self.now), &json!({"aud": "gate"}));
        self.add(
            "site's token for another",
            self.lab.site.token(&site),
            Invalid,
        );
    }

    fn tenants(&mut self) {
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

    fn times(&mut self) {
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
    fn names(&mut self) {
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

    fn json(&mut self) {
        let (header, now) = (br#"{"alg":"ES256","kid":"e1"}"#, self.now);
        let with = |more: &str| {
            let exp = now + 60;
            format!(
                r#"{{"iss":"https://idp.example","aud":"gate","sub":"pc-1","exp":{exp}{more}}}"#
            )
        };
        self.raw("claims as written here", header, with("").as_bytes(), IDP);
        for more in [
            r#","exp":4102444800"#,
            r#","sub":"admin""#,
            r#","s\u0075b":"admin""#,
            r#","aud":"gate""#,
            r#","x":1,"x":1"#,
            r#","iss":"https://idp.example""#,
            r#","x":{"y":1,"y":1}"#,
            r#","x":NaN"#,
            r#","x":"\ud800""#,
            ",",
            "}",
            r#","x":"#,
            r#","x":[[[[[[[[1]]]]]]]]"#,
            ",\"x\":\"\n\"",
            ",/**/\"x\":1",
            "}{\"sub\":\"admin\"",
            ",\"x\":'y'",
        ] {
            self.raw(
                &format!("claims with {more}"),
                header,
                with(more).as_bytes(),
                Invalid,
            );
        }
        let escaped = r#","x":"\u0061\ud83d\ude00","\u0078y":1.5e3,"z":{"a":[null,true]}"#;
        self.raw("claims with much", header, with(escaped).as_bytes(), IDP);
        let mut broken = with("").into_bytes();
        broken.splice(1..1, *b"\"x\":\"\xff\xfe\",");
        self.raw("claims not UTF-8", header, &broken, Invalid);
        let overlong = [b"{\"x\":\"\xc0\xae\",", &with("").as_bytes()[1..]].concat();
        self.raw("claims overlong UTF-8", header, &overlong, Invalid);
        self.raw(
            "claims after a BOM",
            header,
            format!("\u{feff}{}", with("")).as_bytes(),
            Invalid,
        );
        let utf16: Vec<u8> = with("").encode_utf16().flat_map(u16::to_le_bytes).collect();
        self.raw("claims in UTF-16", header, &utf16, Invalid);
        self.raw(
            "claims a list",
            header,
            format!("[{}]", with("")).as_bytes(),
            Invalid,
        );
        self.raw("claims null", header, b"null", Invalid);
        self.raw("claims empty object", header, b"{}", Invalid);
        let nested = self.idp_token();
        self.raw(
            "a token in a token",
            header,
            format!("\"{nested}\"").as_bytes(),
            Invalid,
        );
        self.raw(
            "a bare token in a token",
            header,
            nested.as_bytes(),
            Invalid,
        );
        let deep = format!(r#"{{"x":{}"#, "[".repeat(9000));
        self.raw(
            "claims nested without end",
            header,
            deep.as_bytes(),
            Invalid,
        );
        let groups: Vec<String> = (0..200)
            .map(|n| format!("{n:08x}-86f1-41af-91ab-2d7cd011db47"))
            .collect();
        self.claims("200 groups", json!({ "groups": groups }), IDP);
        self.claims(
            "over the longest token",
            json!({ "x": "y".repeat(13_000) }),
            Invalid,
        );
    }

    fn forms(&mut self) {
        let token = self.idp_token();
        let parts: Vec<&str> = token.split('.').collect();
        let (header, claims, signature) = (parts[0], parts[1], parts[2]);
        for (name, form) in [
            ("nothing", String::new()),
            ("a dot", ".".into()),
            ("two dots", "..".into()),
            ("one part", header.into()),
            ("two parts", format!("{header}.{claims}")),
            ("no signature", format!("{header}.{claims}.")),
            ("no header", format!(".{claims}.{signature}")),
            ("no claims", format!("{header}..{signature}")),
            ("four parts", format!("{token}.")),
            ("four parts, full", format!("{token}.{signature}")),
            (
                "five parts",
                format!("{header}.{claims}.{signature}.{claims}.{signature}"),
            ),
            ("five parts, empty", format!("{header}....")),
            ("dot before", format!(".{token}")),
            ("signature before", format!("{signature}.{header}.{claims}")),
            ("parts swapped", format!("{claims}.{header}.{signature}")),
            ("Bearer before", format!("Bearer {token}")),
            ("quoted", format!("\"{token}\"")),
            ("twice", format!("{token}{token}")),
            ("list of two", format!("{token},{token}")),
            (
                "JSON form",
                json!({"payload": claims, "protected": header, "signature": signature}).to_string(),
            ),
            ("half", token[..token.len() / 2].into()),
            ("too long", format!("{token}{}", "A".repeat(17_000))),
            ("much too long", "A.".repeat(100_000)),
        ] {
            self.add(name, form, Invalid);
        }
        for cut in [1, 2, 3, 4, 8, 43, 85] {
            self.add(
                format!("{cut} bytes cut"),
                &token[..token.len() - cut],
                Invalid,
            );
        }
        self.add("first byte cut", &token[1..], Invalid);
    }

    fn base64(&mut self) {
        let token = self.idp_token();
        let parts: Vec<&str> = token.split('.').collect();
        for (name, more) in [
            ("padding", "="),
            ("paddings", "=="),
            ("a blank", " "),
            ("a line end", "\n"),
            ("CR LF", "\r\n"),
            ("a NUL", "\0"),
            ("a tab", "\t"),
            ("a plus", "+"),
            ("a slash", "/"),
            ("a letter", "A"),
            ("four letters", "AAAA"),
            ("a percent escape", "%3D"),
            ("an umlaut", "ä"),
        ] {
            for part in 0..3 {
                let mut changed: Vec<String> = parts.iter().map(|&part| part.to_owned()).collect();
                changed[part].push_str(more);
                self.add(
                    format!("{name} behind part {}", part + 1),
                    changed.join("."),
                    Invalid,
                );
            }
        }
        self.add("blank before", format!(" {token}"), Invalid);
        // 64 bytes are 86 characters, of which the last holds four bits that say nothing: 0 in the one right spelling.
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = token.as_bytes()[token.len() - 1];
        let value = alphabet.iter().position(|&c| c == last).unwrap_or_default();
        for bits in 1..16 {
            let mut other = token.clone().into_bytes();
            let end = other.len() - 1;
            other[end] = alphabet[value | bits];
            self.add(format!("trailing bits {bits:04b}"), other, Invalid);
        }
        // The plain alphabet, where the token has one of the two characters that differ.
        for (ours, plain) in [("-", "+"), ("_", "/")] {
            if token.contains(ours) {
                self.add(
                    format!("{plain} for {ours}"),
                    token.replace(ours, plain),
                    Invalid,
                );
            }
        }
    }

    fn signatures(&mut self) {
        let (lab, now) = (self.lab, self.now);
        for (key, claims) in [
            (&lab.rsa, lab.entra_claims(now)),
            (&lab.ec, lab.idp_claims(now)),
            (&lab.ed, lab.idp_claims(now)),
        ] {
            let alg = key.algorithm();
            let token = key.token(&claims);
            let signed = token.rsplit_once('.').map_or("", |(signed, _)| signed);
            let signature = key.sign(signed.as_bytes());
            let len = signature.len();
            let mut with = |name: &str, bytes: &[u8]| {
                let token = format!("{signed}.{}", base64url(bytes));
                self.add(format!("{alg}, {name}"), token, Invalid);
            };
            with("zeros", &vec![0; len]);
            with("ones", &vec![0xff; len]);
            with("one byte", &[0]);
            with("a zero byte more", &[&signature[..], &[0]].concat());
            with("a zero byte before", &[&[0], &signature[..]].concat());
            with("a byte less", &signature[..len - 1]);
            with("twice", &signature.repeat(2));
            with(
                "of other claims",
                &key.sign(format!("{signed}A").as_bytes()),
            );
            with(
                "of the claims alone",
                &key.sign(claims.to_string().as_bytes()),
            );
            with(
                "reversed",
                &signature.iter().rev().copied().collect::<Vec<_>>(),
            );
        }
        self.ecdsa();
        self.eddsa();
    }

    fn ecdsa(&mut self) {
        let token = self.idp_token();
        let signed = token
            .rsplit_once('.')
            .map_or("", |(signed, _)| signed)
            .to_owned();
        let signature = self.lab.ec.sign(signed.as_bytes());
        let (r, s) = signature.split_at(32);
        let zero = [0u8; 32];
        let other_s = minus(&ORDER, s);
        let cases: [(&str, Vec<u8>, Verdict); 9] = [
            ("r zero", [&zero, s].concat(), Invalid),
            ("s zero", [r, &zero].concat(), Invalid),
            ("r the order", [&ORDER, s].concat(), Invalid),
            ("s the order", [r, &ORDER].concat(), Invalid),
            ("r and s the order", ORDER.repeat(2), Invalid),
            ("r and s swapped", [s, r].concat(), Invalid),
            ("in DER", der(r, s), Invalid),
            ("r negated", [&minus(&ORDER, r), s].concat(), Invalid),
            // RFC 7518 §3.4 asks for no half: the same signature in its other form, and the same identity.
            ("the other s", [r, &other_s].concat(), IDP),
        ];
        for (name, bytes, verdict) in cases {
            self.add(
                format!("ES256, {name}"),
                format!("{signed}.{}", base64url(bytes)),
                verdict,
            );
        }
    }

    fn eddsa(&mut self) {
        let lab = self.lab;
        let token = lab.ed.token(&lab.idp_claims(self.now));
        let signed = token
            .rsplit_once('.')
            .map_or("", |(signed, _)| signed)
            .to_owned();
        let signature = lab.ed.sign(signed.as_bytes());
        let (r, s) = signature.split_at(32);
        let identity: Vec<u8> = std::iter::once(1).chain([0; 31]).collect();
        for (name, bytes) in [
            ("S + L", [r, &plus_l(s)].concat()),
            ("S zero", [r, &[0; 32]].concat()),
            ("R the identity, S zero", [&identity[..], &[0; 32]].concat()),
            ("S with a high bit", [r, &s[..31], &[s[31] | 0x80]].concat()),
        ] {
            self.add(
                format!("EdDSA, {name}"),
                format!("{signed}.{}", base64url(bytes)),
                Invalid,
            );
        }
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

fn pem(der: &[u8]) -> Vec<u8> {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN RSA PUBLIC KEY-----\n{body}\n-----END RSA PUBLIC KEY-----\n").into_bytes()
}

/// The order of P-256, big-endian.
#[rustfmt::skip]
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// a − b, big-endian.
fn minus(a: &[u8; 32], b: &[u8]) -> [u8; 32] {
    let (mut out, mut borrow) = ([0; 32], 0i16);
    for at in (0..32).rev() {
        let digit = i16::from(a[at]) - i16::from(b[at]) - borrow;
        borrow = i16::from(digit < 0);
        out[at] = digit.rem_euclid(256) as u8;
    }
    out
}

/// The order of Ed25519's base point, little-endian.
#[rustfmt::skip]
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// s + L, little-endian: the same number to a verifier that does not look (RFC 8032 §5.1.7 asks it to).
fn plus_l(s: &[u8]) -> [u8; 32] {
    let (mut out, mut carry) = ([0; 32], 0u16);
    for at in 0..32 {
        let digit = u16::from(s[at]) + u16::from(L[at]) + carry;
        out[at] = (digit & 0xff) as u8;
        carry = digit >> 8;
    }
    out
}

/// ECDSA-Sig-Value, as TLS and X.509 have it.
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let mut digits: Vec<u8> = number
            .iter()
            .copied()
            .skip_while(|byte| *byte == 0)
            .collect();
        if digits.first().is_none_or(|high| high & 0x80 != 0) {
            digits.insert(0, 0);
        }
        [&[2, digits.len() as u8], &digits[..]].concat()
    };
    let body = [integer(r), integer(s)].concat();
    [&[0x30, body.len() as u8], &body[..]].concat()
}
