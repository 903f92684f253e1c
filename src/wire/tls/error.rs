//! Whose fault it was and why.

use super::alert;
use rustls::CertificateError;
use std::borrow::Cow;

/// Why a connection cannot go on. When the peer can be told, an alert waits in `Connection::transmit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    /// True when the peer's bytes are at fault (counted), false when it is ours.
    pub peer: bool,
    /// One line for a log, e.g. `bad record mac`, `peer sent fatal alert: unknown ca`.
    pub text: String,
    /// The alert that the peer sent us, if that is what ended it.
    pub received_alert: Option<u8>,
}

impl TlsError {
    pub(super) fn ours(text: impl Into<String>) -> Self {
        Self {
            peer: false,
            text: text.into(),
            received_alert: None,
        }
    }

    pub(super) fn peer(text: impl Into<String>) -> Self {
        Self {
            peer: true,
            text: text.into(),
            received_alert: None,
        }
    }

    pub(super) fn received(code: u8) -> Self {
        let text = match alert::name(code) {
            // After the handshake it is no error and does not come here.
            "close notify" => "peer closed during the handshake".to_string(),
            "unknown alert" => format!("peer sent fatal alert: number {code}"),
            name => format!("peer sent fatal alert: {name}"),
        };
        Self {
            peer: true,
            text,
            received_alert: Some(code),
        }
    }
}

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for TlsError {}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        use rustls::Error as E;
        match &error {
            E::AlertReceived(description) => Self::received(u8::from(*description)),
            E::InvalidCertificate(why) => Self::peer(format!("peer's certificate {}", of(why))),
            E::InappropriateMessage { .. }
            | E::InappropriateHandshakeMessage { .. }
            | E::InvalidEncryptedClientHello(_)
            | E::InvalidMessage(_)
            | E::NoCertificatesPresented
            | E::DecryptError
            | E::PeerIncompatible(_)
            | E::PeerMisbehaved(_)
            | E::PeerSentOversizedRecord
            | E::NoApplicationProtocol => Self::peer(format!("handshake failed: {error}")),
            _ => Self::ours(format!("handshake failed: {error}")),
        }
    }
}

/// What is wrong with a certificate, for people who can mend it.
fn of(why: &CertificateError) -> String {
    use CertificateError as C;
    match why {
        C::UnknownIssuer => "is not issued by a trusted CA".into(),
        // Of the certificate (another CA of the same name issued it), or of the handshake.
        C::BadSignature => {
            "has a bad signature: another CA of that name, or not its own key".into()
        }
        C::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "is not for {}, but for {}",
            expected.to_str(),
            if presented.is_empty() {
                "no name at all".into()
            } else {
                presented.join(", ")
            }
        ),
        C::NotValidForName => "is for another name".into(),
        C::ExpiredContext { time, not_after } => format!(
            "expired {} days ago",
            time.as_secs().saturating_sub(not_after.as_secs()) / 86_400
        ),
        C::Expired => "has expired".into(),
        C::NotValidYet | C::NotValidYetContext { .. } => {
            "is not valid yet (or this host's clock is wrong)".into()
        }
        C::Revoked => "is revoked".into(),
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => {
            "is not for this purpose (extended key usage)".into()
        }
        other => format!("cannot be used: {other}"),
    }
}

/// What a record did wrong after the handshake, and the alert that says so. Becomes a [`TlsError`] in one place.
#[derive(Debug)]
pub(super) struct Fault {
    /// The alert to send; `None` when the peer's own alert is what ended it.
    pub alert: Option<u8>,
    pub error: TlsError,
}

impl Fault {
    pub fn peer(alert: u8, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            alert: Some(alert),
            error: TlsError::peer(text.into()),
        }
    }

    pub fn ours(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            alert: Some(alert::INTERNAL_ERROR),
            error: TlsError::ours(text.into()),
        }
    }

    pub fn received(code: u8) -> Self {
        Self {
            alert: None,
            error: TlsError::received(code),
        }
    }
}
