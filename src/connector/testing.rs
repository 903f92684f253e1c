//! A connector's config with its files, and one shard of it, for tests.

use crate::control::config::{self, ConnectorConfig};
use crate::control::pki;
use crate::control::testing::Folder;
use crate::ring::Wake;
use crate::shard::mesh;
use clap::Parser;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::context::Context;
use super::plan::{self, Plan};
use super::resolve::Resolver;
use super::shard::{Connector, Message};

#[derive(clap::Parser)]
struct Cli {
    #[command(subcommand)]
    command: pki::Command,
}

/// A folder with a CA, clients of which one is revoked, and `connector.toml`.
pub struct Place(Folder);

pub struct Nobody;
impl Wake for Nobody {
    fn wake(&self) {}
}

impl Place {
    pub fn new() -> Place {
        let place = Place(Folder::new());
        for line in [
            "init",
            "connector cp-1",
            "client client-a",
            "client client-b",
            "revoke client-a",
        ] {
            place.pki(line);
        }
        place.gateways(&[("127.0.0.1", 2)]);
        place
    }

    /// Writes the config, with these gateways and how many instances each has.
    pub fn gateways(&self, gateways: &[(&str, u16)]) {
        let mut text = String::from(
            r#"[connector]
id = "cp-1"
admin = ""
tls = { certificate = "cp-1.pem", key = "cp-1.key", gateway_ca = "ca.pem" }
[site]
revision = 1
client_ca = [{ name = "corp", file = "clients-ca.pem" }]
crl = ["clients.crl"]
[[route]]
path = "/"
upstream = ["http://127.0.0.1:9"]
"#,
        );
        for (host, instances) in gateways {
            text += &format!("[[gateway]]\nhost = \"{host}\"\ninstances = {instances}\n");
        }
        self.write("connector.toml", &text);
    }

    fn pki(&self, line: &str) {
        let dir = self.0.path().display().to_string();
        let words = ["pki"].into_iter().chain(line.split(' '));
        let cli = Cli::try_parse_from(words.chain(["--dir", &dir])).unwrap();
        pki::run(&cli.command, &mut Vec::new()).unwrap();
    }

    pub fn revoke(&self, client: &str) {
        self.pki(&format!("revoke {client}"));
    }

    /// A list that holds this client alone, whatever the file held.
    pub fn revoke_anew(&self, client: &str) {
        std::fs::remove_file(self.file("clients.crl")).unwrap();
        self.revoke(client);
    }

    /// A list of the clients' CA whose next update is long past.
    pub fn list_that_ended(&self) -> String {
        let key = std::fs::read_to_string(self.file("clients-ca.key")).unwrap();
        let key = rcgen::KeyPair::from_pem(&key).unwrap();
        let text = std::fs::read_to_string(self.file("clients-ca.pem")).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(&text, key).unwrap();
        let at = |unix| time::OffsetDateTime::from_unix_timestamp(unix).unwrap();
        let params = rcgen::CertificateRevocationListParams {
            this_update: at(1_600_000_000),
            next_update: at(1_600_086_400),
            crl_number: rcgen::SerialNumber::from(9),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&issuer).unwrap().pem().unwrap()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.file(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        self.0.write(name, text);
    }

    pub fn config(&self) -> PathBuf {
        self.file("connector.toml")
    }

    pub fn load(&self) -> (ConnectorConfig, Arc<Plan>) {
        self.load_after(None)
    }

    pub fn load_after(&self, before: Option<&Plan>) -> (ConnectorConfig, Arc<Plan>) {
        let (config, _) = config::load_connector(&self.config()).unwrap();
        let plan = Arc::new(plan::build(&config, before).unwrap());
        (config, plan)
    }

    /// Shard `number` of `of`, whose messages go nowhere.
    pub fn shard(&self, plan: Arc<Plan>, number: u16, of: usize) -> Connector {
        let (sender, receiver) = mesh::channel::<Message>(16, Nobody);
        let resolver = Resolver::start().unwrap().replying_to(sender.clone());
        let cx = Context::new(plan, number, Instant::now(), resolver, 7);
        Connector::new(cx, receiver, vec![sender; of])
    }
}
