//! What else a header may hold.

use super::Verdict::Invalid;
use super::{IDP, Table};
use serde_json::json;

impl Table<'_> {
    pub(super) fn headers(&mut self) {
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
}
