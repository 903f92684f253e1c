//! JSON, the three parts, and base64url.

use super::Verdict::Invalid;
use super::{IDP, Table};
use serde_json::json;

impl Table<'_> {
    pub(super) fn json(&mut self) {
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

    pub(super) fn forms(&mut self) {
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

    pub(super) fn base64(&mut self) {
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
}
