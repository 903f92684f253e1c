//! Signatures of the wrong length, the wrong thing, the wrong form.

use super::super::base64url;
use super::Verdict::{self, Invalid};
use super::{IDP, Table};

impl Table<'_> {
    pub(super) fn signatures(&mut self) {
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

    pub(super) fn ecdsa(&mut self) {
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

    pub(super) fn eddsa(&mut self) {
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
