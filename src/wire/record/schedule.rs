//! The steps of TLS 1.3's key schedule that a record plane needs (RFC 8446 §7.1–§7.3): key and iv of a traffic secret,
//! and the secret of the next generation.

use aws_lc_rs::hkdf;

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label(secret, label, "", out.len()) into `out` (RFC 8446 §7.1). `label` goes without "tls13 ".
///
/// False only for an output longer than HKDF gives, which no caller here asks for.
#[must_use]
pub(super) fn expand_label(
    hash: hkdf::Algorithm,
    secret: &[u8],
    label: &str,
    out: &mut [u8],
) -> bool {
    const PREFIX: &[u8] = b"tls13 ";
    debug_assert!(secret.len() <= 64 && label.len() < 200 && out.len() <= 255);
    let length = (out.len() as u16).to_be_bytes();
    let label_len = [(PREFIX.len() + label.len()) as u8];
    let context_len = [0];
    let info: [&[u8]; 5] = [&length, &label_len, PREFIX, label.as_bytes(), &context_len];
    let prk = hkdf::Prk::new_less_safe(hash, secret);
    prk.expand(&info, Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .is_ok()
}
