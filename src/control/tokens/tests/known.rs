//! Signatures of the RFCs' own examples.

use super::super::jose::{Algorithm, Compact, Header};
use super::super::keys::Outcome;
use super::*;

/// Checks the signature alone: these examples are no tokens for us (one has expired, one holds no claims).
fn check(jwks: &str, token: &str) -> Outcome {
    let compact = Compact::parse(token.as_bytes()).unwrap();
    let header = Header::parse(&compact.header, compact.signature.len()).unwrap();
    let keys = KeySet::parse(jwks.as_bytes()).unwrap();
    assert_eq!(keys.len(), 1);
    keys.check(
        header.algorithm,
        header.kid.as_deref(),
        compact.signed,
        &compact.signature,
    )
}

/// One byte of the signature changed.
fn spoilt(token: &str) -> String {
    let dot = token.rfind('.').unwrap();
    let other = if &token[dot + 5..dot + 6] == "A" {
        "B"
    } else {
        "A"
    };
    format!("{}{other}{}", &token[..dot + 5], &token[dot + 6..])
}

fn holds(jwks: &str, token: &str) {
    assert_eq!(check(jwks, token), Outcome::Verified);
    assert_ne!(check(jwks, &spoilt(token)), Outcome::Verified);
}

#[test]
fn rfc_7515_a_2_rs256() {
    let jwks = r#"{"keys":[{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}]}"#;
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    holds(jwks, token);
}

#[test]
fn rfc_7515_a_3_es256() {
    let jwks = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    holds(jwks, token);
}

#[test]
fn rfc_8037_a_4_eddsa() {
    let jwks = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    holds(jwks, token);
}

#[test]
fn algorithm_names_are_as_registered() {
    for (name, algorithm) in [
        ("RS256", Algorithm::Rs256),
        ("ES256", Algorithm::Es256),
        ("EdDSA", Algorithm::EdDsa),
    ] {
        assert_eq!(Algorithm::of(name), Some(algorithm));
    }
}
