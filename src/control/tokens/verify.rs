//! The judgement: cut, read, check what is cheap, then the signature.

use super::claims::Claims;
use super::jose::{Compact, Header};
use super::keys::Outcome;
use super::{Issuer, Refusal, TokenIdentity};

/// Judges a token in its compact form at `unix_now` (seconds). Of several issuers that it fits, the first whose keys
/// verify it counts.
///
/// It costs one signature check as a rule, 25 to 50 µs; what is refused before that, one to two (benches/token.rs).
pub fn verify(issuers: &[Issuer], token: &[u8], unix_now: i64) -> Result<TokenIdentity, Refusal> {
    let compact = Compact::parse(token).map_err(invalid)?;
    let header = Header::parse(&compact.header, compact.signature.len()).map_err(invalid)?;
    let claims = Claims::parse(&compact.payload).map_err(invalid)?;
    let not_after = claims.not_after(unix_now).map_err(invalid)?;
    let mut refusal = (
        Step::Issuer,
        invalid("the token's issuer is not one of ours"),
    );
    for (index, issuer) in issuers.iter().enumerate() {
        if !claims.is_of(issuer) {
            continue;
        }
        match judge(&compact, &header, &claims, (index, issuer), not_after) {
            Ok(identity) => return Ok(identity),
            Err(new) if new.0 > refusal.0 => refusal = new,
            Err(_) => {}
        }
    }
    Err(refusal.1)
}

/// How far a token came with an issuer: of several refusals that of the last step counts, for it tells most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Issuer,
    Claims,
    Signature,
    /// Newer keys may turn this refusal.
    Keys,
}

fn judge(
    compact: &Compact<'_>,
    header: &Header,
    claims: &Claims<'_>,
    (index, issuer): (usize, &Issuer),
    not_after: i64,
) -> Result<TokenIdentity, (Step, Refusal)> {
    let wrong = |why| (Step::Claims, invalid(why));
    claims.fits(issuer).map_err(wrong)?;
    let identity = claims.identity(index, issuer, not_after).map_err(wrong)?;
    let Some(keys) = &issuer.keys else {
        return Err((Step::Keys, Refusal::NoKeys { issuer: index }));
    };
    let kid = header.kid.as_deref();
    match keys.check(header.algorithm, kid, compact.signed, &compact.signature) {
        Outcome::Verified => Ok(identity),
        Outcome::Forged => Err((Step::Signature, invalid("the token's signature is wrong"))),
        Outcome::OtherAlgorithm => {
            let why = "the token's key is for another algorithm";
            Err((Step::Signature, invalid(why)))
        }
        Outcome::Unknown => Err((Step::Keys, Refusal::UnknownKey { issuer: index })),
    }
}

fn invalid(why: &'static str) -> Refusal {
    Refusal::Invalid(why.to_owned())
}
