//! What a lab is to be, and the config files that follow from it.

use super::lab::Ports;
use std::path::Path;

/// Where a lab's processes listen and dial.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// All on 127.0.0.1.
    Four,
    /// All on ::1.
    Six,
    /// Clients and links on every address of both families; the connector dials ::1, upstream and admin are on 127.0.0.1.
    Both,
}

/// What a lab is to be.
pub struct Plan {
    pub(super) family: Family,
    pub(super) gateway_host: Option<String>,
    pub(super) hosts: Option<String>,
    pub(super) alone: bool,
    pub(super) gateway_shards: u16,
    pub(super) connector_shards: u16,
    pub(super) connectors: u16,
    pub(super) instances: u16,
    pub(super) listen: String,
    pub(super) limits: String,
    pub(super) gateway: String,
    pub(super) site: String,
    pub(super) issuers: String,
    pub(super) routes: String,
    pub(super) prepare: Vec<Prepare>,
    pub(super) with_nginx: bool,
    pub(super) with_connector: bool,
    pub(super) notify: Option<String>,
}

/// What a test does in the lab's folder before the processes start.
type Prepare = Box<dyn FnOnce(&Path)>;

impl Plan {
    pub fn family(mut self, family: Family) -> Plan {
        self.family = family;
        self
    }

    /// The connector dials this name.
    pub fn gateway_host(mut self, host: &str) -> Plan {
        self.gateway_host = Some(host.to_owned());
        self
    }

    /// The processes see this in place of /etc/hosts (needs root).
    pub fn hosts(mut self, text: &str) -> Plan {
        self.hosts = Some(text.to_owned());
        self
    }

    /// Nothing else runs meanwhile: for tests that measure.
    pub fn alone(mut self) -> Plan {
        self.alone = true;
        self
    }

    pub fn shards(mut self, gateway: u16, connector: u16) -> Plan {
        (self.gateway_shards, self.connector_shards) = (gateway, connector);
        self
    }

    /// So many connectors may serve the site, `cp-1` and on. The lab starts the first one only.
    pub fn connectors(mut self, count: u16) -> Plan {
        self.connectors = count;
        self
    }

    /// So many instances of the gateway are dialled. The lab starts number 0 only.
    pub fn instances(mut self, count: u16) -> Plan {
        self.instances = count;
        self
    }

    /// More lines for `[listen]` of gateway.toml.
    pub fn listen(mut self, lines: &str) -> Plan {
        self.listen = lines.to_owned();
        self
    }

    /// Lines for `[limits]` of gateway.toml.
    pub fn limits(mut self, lines: &str) -> Plan {
        self.limits = lines.to_owned();
        self
    }

    /// More tables for gateway.toml.
    pub fn gateway(mut self, tables: &str) -> Plan {
        self.gateway.push_str(tables);
        self
    }

    /// More lines for `[site]` of connector.toml.
    pub fn site(mut self, lines: &str) -> Plan {
        self.site.push_str(lines);
        self.site.push('\n');
        self
    }

    /// One more issuer of tokens, by the lines of its `[[site.oidc]]`.
    pub fn oidc(mut self, lines: &str) -> Plan {
        self.issuers.push_str(&format!("[[site.oidc]]\n{lines}\n"));
        self
    }

    /// Does something in the lab's folder once its PKI is there, before any process starts.
    pub fn prepare(mut self, with: impl FnOnce(&Path) + 'static) -> Plan {
        self.prepare.push(Box::new(with));
        self
    }

    /// One more route to the test upstream, with lines of its own (an `upstream` among them takes another one).
    pub fn route(mut self, path: &str, lines: &str) -> Plan {
        let upstream = if lines.contains("upstream =") {
            ""
        } else {
            "upstream = [\"http://UPSTREAM\"]\n"
        };
        self.routes.push_str(&format!(
            "[[route]]\npath = \"{path}\"\n{upstream}{lines}\n"
        ));
        self
    }

    /// More tables for connector.toml; UPSTREAM is the test upstream's address.
    pub fn connector(mut self, tables: &str) -> Plan {
        self.routes.push_str(tables);
        self
    }

    /// An nginx behind `/files/`.
    pub fn nginx(mut self) -> Plan {
        self.with_nginx = true;
        self
    }

    /// A notification API on its port, with more lines for `[notify]`.
    pub fn notify(mut self, lines: &str) -> Plan {
        self.notify = Some(lines.to_owned());
        self
    }

    pub fn without_connector(mut self) -> Plan {
        self.with_connector = false;
        self
    }

    pub(super) fn new() -> Plan {
        Plan {
            family: Family::Four,
            gateway_host: None,
            hosts: None,
            alone: false,
            gateway_shards: 1,
            connector_shards: 1,
            connectors: 1,
            instances: 1,
            listen: String::new(),
            limits: String::new(),
            gateway: String::new(),
            site: String::new(),
            issuers: String::new(),
            routes: String::new(),
            prepare: Vec::new(),
            with_nginx: false,
            with_connector: true,
            notify: None,
        }
    }

    pub(super) fn gateway_toml(&self, ports: Ports) -> String {
        let Ports {
            clients,
            relay,
            gateway_admin,
            ..
        } = ports;
        let connectors: Vec<_> = (1..=self.connectors).map(|n| format!("cp-{n}")).collect();
        let at = |port: u16| match self.family {
            Family::Four => format!("\"127.0.0.1:{port}\""),
            Family::Six => format!("\"[::1]:{port}\""),
            Family::Both => format!("\"0.0.0.0:{port}\", \"[::]:{port}\""),
        };
        format!(
            "[gateway]\nname = \"lab\"\nshards = {shards}\n\
             [listen]\nclients = [{clients}]\nrelay = [{relay}]\n\
             admin = \"{admin}:{gateway_admin}\"\n{listen}\n\
             [tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\n\
             [relay]\nconnector_ca = \"ca.pem\"\n\
             [[site]]\nname = \"main\"\nhosts = [\"*\"]\nconnectors = {connectors:?}\n\
             [limits]\n{limits}\n[log]\naccess = \"all\"\n{more}\n",
            clients = at(clients),
            relay = at(relay),
            admin = self.admin(),
            shards = self.gateway_shards,
            listen = self.listen,
            limits = self.limits,
            more = self.gateway,
        )
    }

    pub(super) fn connector_toml(&self, ports: Ports, upstream: u16) -> String {
        let Ports {
            relay,
            connector_admin,
            notify: notify_port,
            ..
        } = ports;
        let notify = self.notify.as_ref().map_or(String::new(), |lines| {
            format!(
                "[notify]\nlisten = \"127.0.0.1:{notify_port}\"\nstore = \"notify.redb\"\n{lines}\n"
            )
        });
        let text = format!(
            "[connector]\nid = \"cp-1\"\nsite = \"main\"\nshards = {shards}\nadmin = \"{admin}:{connector_admin}\"\n\
             tls = {{ certificate = \"cp-1.pem\", key = \"cp-1.key\", gateway_ca = \"ca.pem\" }}\n\
             [[gateway]]\nhost = \"{host}\"\nport = {relay}\ninstances = {instances}\n\
             [site]\nrevision = 1\nclient_ca = [{{ name = \"lab\", file = \"clients-ca.pem\" }}]\n{site}{issuers}\
             {notify}[[route]]\npath = \"/t/\"\nupstream = [\"http://UPSTREAM\"]\nauth = \"none\"\n\
             [[route]]\npath = \"/cert/\"\nupstream = [\"http://UPSTREAM\"]\nauth = \"certificate\"\n{routes}",
            admin = self.admin(),
            host = self.gateway_host.as_deref().unwrap_or(match self.family {
                Family::Four => "127.0.0.1",
                Family::Six | Family::Both => "::1",
            }),
            shards = self.connector_shards,
            instances = self.instances,
            site = self.site,
            issuers = self.issuers,
            routes = self.routes,
        );
        text.replace("UPSTREAM", &format!("{}:{upstream}", self.admin()))
    }

    /// Where admin and the upstream listen, as a URL has it.
    pub(super) fn admin(&self) -> &'static str {
        match self.family {
            Family::Four | Family::Both => "127.0.0.1",
            Family::Six => "[::1]",
        }
    }
}
