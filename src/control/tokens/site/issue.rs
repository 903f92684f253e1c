//! Issuing one token.

use super::super::jose::encode;
use super::super::{Issuer, IssuerKind, verify};
use super::keys::{self, Signer};
use super::{
    AUDIENCE, Event, Issue, Kind, Ledger, REGISTRATION, is_plain, issuer, print, time_text,
};
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Arc;

const DAY: i64 = 86_400;
/// Default and longest lifetime of each kind, in seconds.
const CLIENT_LIFETIME: (i64, i64) = (30 * DAY, 365 * DAY);
const REGISTRATION_LIFETIME: (i64, i64) = (3 * DAY, 7 * DAY);

pub fn run(
    args: &Issue,
    now: i64,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), String> {
    let (kind, subject) = whom(args)?;
    let lifetime = lifetime_of(kind, args.lifetime)?;
    // Held until the token is in the ledger: no other command changes the key meanwhile.
    keys::expect_key(&args.dir)?;
    let mut ledger = Ledger::open_or_make(&args.dir)?;
    let signer = Signer::open(&args.dir)?;
    keys::check_site(&signer.site, args.site.as_deref())?;
    let expires = now
        .checked_add(lifetime)
        .ok_or("the clock is out of range")?;
    let id = new_id()?;
    let claims = claims(args, kind, &subject, (now, expires), &id, &signer.site)?;
    let token = sign(&signer, &claims)?;
    check(&token, kind, &args.audience, now, signer)?;
    ledger.append(Event::Issued {
        id: id.clone(),
        kind,
        sub: subject.clone(),
        issued: now,
        expires,
    })?;
    print(out, format_args!("{token}"))?;
    let whom = if kind == Kind::Client {
        subject.as_str()
    } else {
        "registration"
    };
    print(
        notes,
        format_args!("token {id} for {whom}, until {}", time_text(expires)),
    )?;
    if kind == Kind::Registration {
        let note = "no route takes it: gateways of this version have no registration";
        print(notes, format_args!("{note}"))?;
    }
    if args.audience != AUDIENCE {
        print(
            notes,
            format_args!("its audience is not {AUDIENCE:?}: gateways refuse it"),
        )?;
    }
    Ok(())
}

/// `"90s"`, `"15m"`, `"12h"`, `"30d"`, in seconds.
pub fn lifetime(text: &str) -> Result<i64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let seconds = match unit.trim() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => DAY,
        _ => return Err("is no time such as 12h or 30d".into()),
    };
    let number: i64 = number
        .parse()
        .map_err(|_| "does not begin with a whole number")?;
    let lifetime = number.checked_mul(seconds).filter(|lifetime| *lifetime > 0);
    lifetime.ok_or_else(|| "is nothing, or far too long".into())
}

fn lifetime_of(kind: Kind, asked: Option<i64>) -> Result<i64, String> {
    let (default, longest) = match kind {
        Kind::Client => CLIENT_LIFETIME,
        Kind::Registration => REGISTRATION_LIFETIME,
    };
    let lifetime = asked.unwrap_or(default);
    if lifetime > longest {
        let (kind, days) = (kind.word(), longest / DAY);
        return Err(format!(
            "--lifetime: a {kind} token is valid for at most {days} days"
        ));
    }
    Ok(lifetime)
}

fn whom(args: &Issue) -> Result<(Kind, String), String> {
    let Some(client) = &args.client else {
        return Ok((Kind::Registration, REGISTRATION.into()));
    };
    plain("--client", client)?;
    if client.eq_ignore_ascii_case(REGISTRATION) {
        return Err(format!(
            "--client {client:?} would pass for a registration token"
        ));
    }
    Ok((Kind::Client, client.clone()))
}

/// What the gateway would refuse or drop is refused here, where somebody sees it.
fn plain(flag: &str, text: &str) -> Result<(), String> {
    if is_plain(text) {
        return Ok(());
    }
    Err(format!(
        "{flag} {text:?} must be printable ASCII, 1 to 128 characters, without blanks at its ends"
    ))
}

fn claims(
    args: &Issue,
    kind: Kind,
    subject: &str,
    (issued, expires): (i64, i64),
    id: &str,
    site: &str,
) -> Result<Value, String> {
    plain("--audience", &args.audience)?;
    let mut claims = json!({
        "iss": issuer(site), "aud": args.audience, "sub": subject, "jti": id, "kind": kind.word(),
        "iat": issued, "nbf": issued, "exp": expires,
    });
    if let Some(device) = &args.device {
        plain("--device", device)?;
        claims["device_id"] = json!(device);
    }
    if let Some(user) = &args.user {
        plain("--user", user)?;
        claims["preferred_username"] = json!(user);
    }
    Ok(claims)
}

fn sign(signer: &Signer, claims: &Value) -> Result<String, String> {
    let header = json!({"alg": "ES256", "kid": signer.kid, "typ": "JWT"});
    let signed = format!(
        "{}.{}",
        encode(header.to_string()),
        encode(claims.to_string())
    );
    let signature = encode(signer.sign(signed.as_bytes())?);
    Ok(format!("{signed}.{signature}"))
}

/// Judges the token as a gateway will, with the published keys. A registration token, which no gateway takes, is judged
/// as another issuer's: in all but its `kind`.
fn check(token: &str, kind: Kind, audience: &str, now: i64, signer: Signer) -> Result<(), String> {
    let issuer = Issuer {
        issuer: issuer(&signer.site),
        name: signer.site,
        kind: match kind {
            Kind::Client => IssuerKind::Site,
            Kind::Registration => IssuerKind::Oidc,
        },
        audience: vec![audience.to_owned()],
        tenants: vec![],
        id: "sub".into(),
        keys: Some(Arc::new(signer.published)),
    };
    match verify(&[issuer], token.as_bytes(), now) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(format!("a gateway would refuse the token: {refusal}")),
    }
}

/// 128 random bits in hex: an argument that begins with no dash, a line of a list.
fn new_id() -> Result<String, String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system gives no random numbers")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
