//! The record plane: seals and opens TLS records in place in our own buffers, for TLS 1.3 (RFC 8446 §5) and the AEAD
//! suites of TLS 1.2 (RFC 5246 §6.2.3.3, RFC 5288, RFC 7905).

mod outgoing;
pub use outgoing::{Layout, Outgoing};
// sealer.rs: Sealer; opener.rs: Opener; suite.rs: Suite, key schedule steps (HKDF-Expand-Label, "traffic upd")
