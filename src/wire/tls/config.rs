//! What a rustls config needs so that its connections can be taken over.

use super::error::TlsError;
use super::sink::{NotingResolver, TrafficSecrets};
use rustls::{ClientConfig, NoKeyLog, ServerConfig};
use std::sync::Arc;

/// Prepares a server config: secret extraction on, our key log and certificate resolver in front, no early data.
///
/// Call it last: it wraps the certificate resolver that is set. A key log that was set is replaced, since secrets are
/// never logged.
pub fn prepare_server_config(config: &mut ServerConfig) {
    config.enable_secret_extraction = true;
    config.key_log = Arc::new(TrafficSecrets);
    config.cert_resolver = Arc::new(NotingResolver(config.cert_resolver.clone()));
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
}

/// Prepares a client config: secret extraction on, no early data, no key log.
pub fn prepare_client_config(config: &mut ClientConfig) {
    config.enable_secret_extraction = true;
    config.key_log = Arc::new(NoKeyLog);
    config.enable_early_data = false;
}

/// Prepares a client config for connections that may be parked ([`Connection::park`](super::Connection::park)): as
/// [`prepare_client_config`], but their traffic secrets are kept instead of what stores session tickets, so they resume no
/// session and drop the tickets that they are given.
pub fn prepare_parking_client_config(config: &mut ClientConfig) {
    prepare_client_config(config);
    config.key_log = Arc::new(TrafficSecrets);
    config.resumption = rustls::client::Resumption::disabled();
}

pub(super) fn check_server(config: &ServerConfig) -> Result<(), TlsError> {
    if !config.enable_secret_extraction
        || config.max_early_data_size != 0
        || config.send_half_rtt_data
    {
        return Err(TlsError::ours(
            "server config did not go through prepare_server_config",
        ));
    }
    Ok(())
}

pub(super) fn check_client(config: &ClientConfig) -> Result<(), TlsError> {
    if !config.enable_secret_extraction || config.enable_early_data {
        return Err(TlsError::ours(
            "client config did not go through prepare_client_config",
        ));
    }
    Ok(())
}
