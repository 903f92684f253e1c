//! More processes of a lab: connectors of its site, instances of its gateway. Each has config, logs and admin port of its
//! own.

use super::lab::{self, Lab, START};
use super::process::Process;
use super::{ports, until};
use std::path::PathBuf;

/// One such process, with its config file.
pub struct Member {
    pub admin: u16,
    pub process: Process,
    role: &'static str,
    name: String,
    config: PathBuf,
}

impl Member {
    fn start(lab: &Lab, role: &'static str, name: &str, admin: u16, config: PathBuf) -> Member {
        Member {
            admin,
            process: lab.spawn_with(role, name, &config),
            role,
            name: name.to_owned(),
            config,
        }
    }

    /// Starts it again, without waiting.
    pub fn spawn(&mut self, lab: &Lab) {
        self.process = lab.spawn_with(self.role, &self.name, &self.config);
    }

    #[track_caller]
    pub fn wait_ready(&mut self) {
        until(&format!("{} is ready", self.name), START, || {
            assert!(
                self.process.ended().is_none(),
                "{} ended:\n{}",
                self.name,
                self.process.log()
            );
            lab::is_ready(self.admin).then_some(())
        });
    }
}

/// A further instance of the lab's gateway.
pub struct Instance {
    pub member: Member,
    /// Its port for clients.
    pub clients: u16,
}

impl Lab {
    /// The connector `cp-N` with the lab's own settings and these changes in its file.
    pub fn start_member(&self, number: u16, changes: &[(&str, &str)]) -> Member {
        let (id, admin) = (format!("cp-{number}"), ports::free());
        let (old, new) = (
            format!("127.0.0.1:{}", self.ports.connector_admin),
            format!("127.0.0.1:{admin}"),
        );
        let all = [&[("cp-1", id.as_str()), (&old, &new)], changes].concat();
        let config = self.rewrite("connector.toml", &format!("{id}.toml"), &all);
        Member::start(self, "connector", &id, admin, config)
    }

    /// Instance `number` of the lab's gateway.
    pub fn start_instance(&self, number: u16, shards: u16) -> Instance {
        let (admin, clients) = (ports::free(), ports::free());
        let at = |port: u16| format!("\"127.0.0.1:{port}\"");
        let (own, relay) = (self.ports, at(self.ports.relay + number));
        let lines = format!("instance = {number}\nshards = {shards} # ");
        let changes = [
            (at(own.gateway_admin), at(admin)),
            (at(own.clients), at(clients)),
            (at(own.relay), relay),
            ("shards = ".to_owned(), lines),
        ];
        let changes = changes
            .each_ref()
            .map(|(old, new)| (old.as_str(), new.as_str()));
        let name = format!("instance-{number}");
        let config = self.rewrite("gateway.toml", &format!("{name}.toml"), &changes);
        Instance {
            member: Member::start(self, "gateway", &name, admin, config),
            clients,
        }
    }
}
