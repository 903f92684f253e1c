//! Right files give the plan they say; wrong ones give every complaint, at its line, with a hint.

use super::*;
use crate::control::settings::{Auth, IdField};
use crate::control::testing::Folder;
use crate::control::{check, pki};
use std::time::Duration;

const GATEWAY: &str = r#"
[gateway]
name = "gw-east"
instance = 2
[listen]
clients = ["127.0.0.1:0", "[::1]:8443"]
admin = ""
[tls]
certificate = "server.pem"
key = "server.key"
[relay]
connector_ca = "ca.pem"
[[site]]
name = "main"
hosts = ["localhost"]
connectors = ["cp-1", "cp-2"]
"#;

const CONNECTOR: &str = r#"
[connector]
id = "cp-1"
site = "main"
tls = { certificate = "cp-1.pem", key = "cp-1.key", gateway_ca = "ca.pem" }
[[gateway]]
host = "GW-east.example.com"
instances = 3
[site]
revision = 4
client_ca = [{ name = "corp", file = "clients-ca.pem", id = "cn" }]
[[route]]
path = "/mp/"
upstream = ["http://127.0.0.1:9080"]
[[route]]
path = "/open"
upstream = ["http://App.corp/base/", "http://[::1]:81"]
auth = "none"
methods = ["GET", "CCM_POST"]
max_body = "64 KiB"
timeout = 0
connect_timeout = "500ms"
idle_timeout = "2m"
strip_prefix = true
case_insensitive = true
source_addresses = ["127.0.0.2"]
"#;

/// A folder with every file the configs name.
struct Lab {
    folder: Folder,
}

impl Lab {
    fn new() -> Self {
        let folder = Folder::new();
        let place = || pki::Place {
            dir: folder.path().to_path_buf(),
            force: true,
        };
        let validity = pki::Validity::default;
        pki::init(&pki::Init {
            place: place(),
            validity: validity(),
        })
        .unwrap();
        pki::server(&pki::Server {
            place: place(),
            validity: validity(),
            names: vec![],
        })
        .unwrap();
        let token = "0123456789abcdef0123456789abcdef\n";
        std::fs::write(folder.path().join("api.token"), token).unwrap();
        let connector = |id: &str, days| {
            let validity = pki::Validity {
                days: Some(days),
                not_after: None,
            };
            pki::connector(&pki::Connector {
                id: id.into(),
                place: place(),
                validity,
            })
            .unwrap();
        };
        connector("cp-1", 90);
        connector("old", -2);
        pki::client(&pki::Client {
            name: "pc-1".into(),
            place: place(),
            validity: validity(),
        })
        .unwrap();
        let both = ["clients-ca.pem", "clients-ca.key"]
            .map(|f| std::fs::read_to_string(folder.file(f)).unwrap());
        folder.write("both.pem", &both.concat());
        folder.write("tickets.keys", "not a key\n");
        folder.write("good.keys", &"0".repeat(64));
        Self { folder }
    }

    fn gateway(&self, text: &str) -> Loaded<GatewayConfig> {
        load_gateway(&self.folder.write("gateway.toml", text))
    }
    fn connector(&self, text: &str) -> Loaded<ConnectorConfig> {
        load_connector(&self.folder.write("connector.toml", text))
    }
}

fn lines(complaints: &[Complaint]) -> String {
    complaints.iter().map(|c| format!("{c}\n")).collect()
}

#[track_caller]
fn good<T>(loaded: Loaded<T>) -> T {
    match loaded {
        Ok((plan, warnings)) if warnings.is_empty() => plan,
        Ok((_, warnings)) => panic!("warnings:\n{}", lines(&warnings)),
        Err(complaints) => panic!("refused:\n{}", lines(&complaints)),
    }
}

#[test]
fn a_gateways_file_is_its_plan() {
    let lab = Lab::new();
    let plan = good(lab.gateway(GATEWAY));
    assert_eq!((plan.name.as_str(), plan.instance), ("gw-east", 2));
    assert!(plan.shards >= 1);
    assert_eq!(
        plan.listen_clients,
        [
            "127.0.0.1:0".parse().unwrap(),
            "[::1]:8443".parse().unwrap()
        ]
    );
    assert_eq!(
        plan.listen_relay,
        ["0.0.0.0:10142".parse().unwrap()],
        "10140 + instance"
    );
    assert_eq!(plan.admin, None);
    assert_eq!(
        plan.tls.certificate,
        lab.folder.file("server.pem"),
        "relative to the file"
    );
    assert_eq!(plan.connector_ca, lab.folder.file("ca.pem"));
    assert!(plan.sni.is_empty() && plan.ticket_keys.is_none());
    assert_eq!(plan.sites[0].hosts, ["localhost"]);
    assert_eq!(plan.sites[0].connectors, ["cp-1", "cp-2"]);
    assert_eq!(plan.access_log, AccessLog::Errors);
    let limits = plan.limits;
    assert_eq!(
        (
            limits.connections,
            limits.memory_mib,
            limits.head_kib,
            limits.headers
        ),
        (100_000, 1024, 64, 100)
    );
    assert_eq!(
        (
            limits.head_seconds,
            limits.body_idle_seconds,
            limits.idle_seconds
        ),
        (10, 60, 300)
    );
    assert_eq!(limits.connections_per_address, usize::MAX, "no limit");
    assert!(!limits.half_close);
}

#[test]
fn a_file_without_sites_and_listeners_has_the_defaults() {
    let lab = Lab::new();
    let text = "[gateway]\nname = \"g\"\n[tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\nticket_keys = \"good.keys\"\n\
                [relay]\nconnector_ca = \"ca.pem\"\n[limits]\nconnections_per_address = 7\nconnections = 1_000\n[log]\naccess = \"sample:10\"\n";
    let plan = good(lab.gateway(text));
    assert_eq!(
        plan.listen_clients,
        ["0.0.0.0:443".parse().unwrap(), "[::]:443".parse().unwrap()]
    );
    assert_eq!(plan.listen_relay, ["0.0.0.0:10140".parse().unwrap()]);
    assert_eq!(plan.admin, Some("127.0.0.1:9441".parse().unwrap()));
    assert_eq!(plan.sites.len(), 1);
    assert_eq!(
        (plan.sites[0].name.as_str(), plan.sites[0].hosts[0].as_str()),
        ("main", "*")
    );
    assert!(plan.sites[0].connectors.is_empty());
    assert_eq!(plan.limits.connections_per_address, 7);
    assert_eq!(plan.limits.connections, 1000, "digits may be grouped");
    assert_eq!(plan.access_log, AccessLog::Sample(10));
    assert_eq!(plan.ticket_keys, Some(lab.folder.file("good.keys")));
}

#[test]
fn a_site_may_be_an_address() {
    let lab = Lab::new();
    let hosts = "hosts = [\"2001:DB8:0::1\", \"[::1]\", \"127.0.0.1\", \"localhost\"]";
    let loaded = lab.gateway(&GATEWAY.replace("hosts = [\"localhost\"]", hosts));
    let (plan, warnings) = loaded.unwrap();
    assert_eq!(
        plan.sites[0].hosts,
        ["[2001:db8::1]", "[::1]", "127.0.0.1", "localhost"]
    );
    // The certificate names localhost, 127.0.0.1 and ::1.
    assert_eq!(warnings.len(), 1, "{}", lines(&warnings));
    assert!(warnings[0].text.contains("[2001:db8::1]"));
}

#[test]
fn balancers_are_ranges_or_single_addresses() {
    let lab = Lab::new();
    let listed = |list: &str| {
        let line = format!("admin = \"\"\nproxy_protocol_from = {list}");
        lab.gateway(&GATEWAY.replace("admin = \"\"", &line))
    };
    let plan = good(listed(
        "[\"10.1.2.3/8\", \"fd00::/8\", \"127.0.0.1\", \"::1\", \"::ffff:192.0.2.1\"]",
    ));
    let texts: Vec<_> = plan
        .proxy_protocol_from
        .iter()
        .map(|net| net.to_string())
        .collect();
    assert_eq!(
        texts,
        [
            "10.0.0.0/8",
            "fd00::/8",
            "127.0.0.1/32",
            "::1/128",
            "192.0.2.1/32"
        ]
    );
    let (_, warnings) = listed("\"0.0.0.0/0\"").unwrap();
    assert!(warnings[0].text.contains("is everybody") && warnings[0].line == 8);
    let many = format!("[{}]", "\"10.0.0.1\",".repeat(257));
    assert!(lines(&listed(&many).unwrap_err()).contains("more than 256 entries"));
}

#[test]
fn a_connector_that_is_to_log_requests_is_warned() {
    let lab = Lab::new();
    let with = |access: &str| {
        let loaded = lab.connector(&format!("{CONNECTOR}\n[log]\naccess = \"{access}\"\n"));
        loaded.unwrap().1
    };
    assert_eq!(lines(&with("off")), "");
    let warnings = with("all");
    assert_eq!(warnings.len(), 1, "{}", lines(&warnings));
    assert!(warnings[0].text.contains("writes no access log"));
}

#[test]
fn shards_poll_when_they_are_told_to() {
    let lab = Lab::new();
    assert_eq!(good(lab.connector(CONNECTOR)).busy_poll, Duration::ZERO);
    let polling = CONNECTOR.replacen("[connector]", "[connector]\nbusy_poll_us = 50", 1);
    let plan = good(lab.connector(&polling));
    assert_eq!(plan.busy_poll, Duration::from_micros(50));
    let polling = GATEWAY.replacen("[gateway]", "[gateway]\nbusy_poll_us = 1001", 1);
    let complaints = lab.gateway(&polling).unwrap_err();
    assert!(
        lines(&complaints).contains("from 0 to 1000"),
        "{}",
        lines(&complaints)
    );
}

#[test]
fn a_connectors_file_is_its_plan_and_its_publication() {
    let lab = Lab::new();
    let plan = good(lab.connector(CONNECTOR));
    assert_eq!((plan.id.as_str(), plan.site.as_str()), ("cp-1", "main"));
    assert_eq!(plan.admin, Some("127.0.0.1:9442".parse().unwrap()));
    let gateway = &plan.gateways[0];
    assert_eq!(
        (gateway.host.as_str(), gateway.port, gateway.instances),
        ("gw-east.example.com", 10_140, 3)
    );
    assert_eq!(plan.gateway_ca, lab.folder.file("ca.pem"));
    assert_eq!(plan.pool.idle_per_upstream, 256);

    let [mp, open] = &plan.routes[..] else {
        panic!()
    };
    assert_eq!(mp.timeout, Some(Duration::from_secs(60)));
    assert_eq!(mp.connect_timeout, Duration::from_secs(5));
    assert_eq!(mp.idle_timeout, Duration::from_secs(60));
    assert_eq!(mp.strip, 0);
    assert_eq!(
        (mp.upstream[0].host.as_str(), mp.upstream[0].port),
        ("127.0.0.1", 9080)
    );
    assert_eq!((open.strip, open.case_insensitive), ("/open".len(), true));
    assert_eq!(open.timeout, None);
    assert_eq!(open.connect_timeout, Duration::from_millis(500));
    assert_eq!(open.idle_timeout, Duration::from_secs(120));
    assert_eq!(
        open.source_addresses,
        ["127.0.0.2".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(
        (open.upstream[0].port, open.upstream[0].base_path.as_str()),
        (80, "/base")
    );
    assert_eq!(
        (open.upstream[1].host.as_str(), open.upstream[1].port),
        ("::1", 81)
    );

    let [mp, open] = &plan.settings.routes[..] else {
        panic!()
    };
    assert_eq!(
        (mp.path.as_str(), mp.auth, mp.max_body, mp.timeout_ms),
        ("/mp/", Auth::Certificate, 1 << 30, 60_000)
    );
    assert_eq!(
        (open.auth, open.max_body, open.timeout_ms),
        (Auth::None, 65_536, 0)
    );
    assert_eq!(open.methods, ["GET", "CCM_POST"]);
    assert!(open.case_insensitive);
    let site = &plan.settings.site;
    assert_eq!(
        (
            site.revision,
            site.client_ca[0].name.as_str(),
            site.client_ca[0].id
        ),
        (4, "corp", IdField::Cn)
    );
    assert!(
        site.client_ca[0]
            .pem
            .starts_with("-----BEGIN CERTIFICATE-----\n")
    );
    let (bytes, _) = plan.settings.encode();
    assert_eq!(
        crate::control::settings::SiteDocument::decode(&bytes).as_ref(),
        Ok(&plan.settings)
    );
}

#[test]
fn a_bare_ca_path_is_named_after_its_file() {
    let lab = Lab::new();
    for client_ca in [r#"["clients-ca.pem"]"#, r#""clients-ca.pem""#] {
        let text = CONNECTOR.replace(
            r#"[{ name = "corp", file = "clients-ca.pem", id = "cn" }]"#,
            client_ca,
        );
        let plan = good(lab.connector(&text));
        let ca = &plan.settings.site.client_ca[0];
        assert_eq!((ca.name.as_str(), ca.id), ("clients-ca", IdField::DnsSan));
    }
}

/// A change to one of the files above, and the one complaint it must give: at the line that the change marks with
/// `#<<` (line 1 when it marks none).
struct Case {
    from: &'static str,
    to: &'static str,
    text: &'static str,
    hint: &'static str,
}

const fn case(
    from: &'static str,
    to: &'static str,
    text: &'static str,
    hint: &'static str,
) -> Case {
    Case {
        from,
        to,
        text,
        hint,
    }
}

#[rustfmt::skip]
const WRONG_GATEWAYS: &[Case] = &[
    // keys and tables
    case("name = \"gw-east\"", "nam = \"gw-east\" #<<", "unknown key `nam` in [gateway]", "did you mean `name`?"),
    case("[listen]", "[lisen] #<<", "unknown table `lisen`", "did you mean `listen`?"),
    case("[relay]", "[limits]\nbanana = 1 #<<\n[relay]", "unknown key `banana` in [limits]", "known here: "),
    case("[relay]", "[[tls.sni]]\nhosts = [\"localhost\"]\ncertificate = \"server.pem\"\nkey = \"server.key\"\nx = 1 #<<\n[relay]", "unknown key `x` in [[sni]]", "known here: "),
    case("name = \"gw-east\"\n", "", "[gateway] needs `name`", "name = \"gateway-1\""),
    case("key = \"server.key\"\n", "", "[tls] needs `key`", "private key"),
    case("connector_ca = \"ca.pem\"\n", "", "[relay] needs `connector_ca`", "connector_ca = \"ca.pem\""),
    // types and ranges
    case("instance = 2", "instance = \"2\" #<<", "`instance` is text, not a whole number", "from 0 to 15"),
    case("instance = 2", "instance = 16 #<<", "`instance` is 16, which is out of range", "from 0 to 15"),
    case("instance = 2", "instance = -1 #<<", "out of range", "from 0 to 15"),
    case("instance = 2", "instance = 99999999999999999999 #<<", "out of range", "from 0 to 15"),
    case("instance = 2", "shards = \"many\" #<<", "`shards` is \"many\"", "\"auto\""),
    case("instance = 2", "shards = 0 #<<", "`shards` is 0", "from 1 to 256"),
    case("[relay]", "[limits]\nhead_kib = 65 #<<\n[relay]", "`head_kib` is 65", "from 4 to 64"),
    case("[relay]", "[limits]\nhead_seconds = 0 #<<\n[relay]", "`head_seconds` is 0", "from 1 to"),
    case("[relay]", "[limits]\nhalf_close = \"yes\" #<<\n[relay]", "`half_close` is text", "true or false"),
    case("[relay]", "[limits]\nmemory_mib = 1.5 #<<\n[relay]", "`memory_mib` is a fraction", "from 64 to"),
    case("[relay]", "[log]\naccess = \"some\" #<<\n[relay]", "`access` is \"some\"", "sample:N"),
    case("[relay]", "[log]\naccess = \"sample:0\" #<<\n[relay]", "`access` is \"sample:0\"", "sample:N"),
    case("[gateway]\nname = \"gw-east\"\ninstance = 2", "[[gateway]] #<<\nname = \"gw-east\"", "`gateway` is a list, not a table", "single brackets"),
    case("[[site]]", "[site] #<<", "`site` is a table, not a list of tables", "[[site]]"),
    // addresses
    case("\"[::1]:8443\"", "\"[::1]\" #<<\n", "\"[::1]\" is no address", "an IP address and a port"),
    case("\"[::1]:8443\"", "\"10.0.0.1\" #<<\n", "\"10.0.0.1\" is no address", "the port is missing"),
    case("\"[::1]:8443\"", "\"localhost:8443\" #<<\n", "no address to listen on", "an IP address and a port"),
    case("\"[::1]:8443\"", "\"0.0.0.0:10142\"", "0.0.0.0:10142 is listened on twice", "its own port"),
    case("\"[::1]:8443\"", "\"[::ffff:127.0.0.1]:8443\" #<<\n", "is IPv4 inside IPv6", "IPv6 listeners take IPv6 alone"),
    case("clients = [\"127.0.0.1:0\", \"[::1]:8443\"]", "clients = [] #<<", "`clients` names no address", "clients = ["),
    case("\"[::1]:8443\"", "7 #<<\n", "an item of `clients` is a whole number", "double quotes"),
    case("admin = \"\"", "admin = \"\"\nproxy_protocol_from = [\"10.0.0.0/33\"] #<<", "`proxy_protocol_from`: \"10.0.0.0/33\" is no address range", "10.0.0.0/8"),
    case("admin = \"\"", "admin = \"\"\nproxy_protocol_from = [\"::1\",\n\"lb.corp\" #<<\n]", "\"lb.corp\" is no address range", "10.0.0.7"),
    case("admin = \"\"", "admin = \"\"\nproxy_protocol_from = [\"10.0.0.1:443\"] #<<", "\"10.0.0.1:443\" is no address range", "10.0.0.7"),
    case("admin = \"\"", "admin = \"\"\nproxy_protocol_from = [\"::ffff:10.0.0.0/104\"] #<<", "is IPv4 inside IPv6", "write it as IPv4"),
    // what this version does not have
    case("admin = \"\"", "admin = \"\"\nrelay_https = [\"0.0.0.0:443\"] #<<", "`relay_https`: this version does not have", "leave it empty"),
    // files
    case("certificate = \"server.pem\"", "certificate = \"none.pem\" #<<", "none.pem does not exist", "relative to the config file"),
    case("certificate = \"server.pem\"", "certificate = \"\" #<<", "`certificate` is empty", "PEM file"),
    case("key = \"server.key\"", "key = \"ca.key\" #<<", "does not belong to", "first certificate"),
    case("key = \"server.key\"", "key = \"server.pem\" #<<", "holds no private key", "PKCS#8"),
    case("certificate = \"server.pem\"\nkey = \"server.key\"", "certificate = \"cp-1.pem\" #<<\nkey = \"cp-1.key\"", "is not for serverAuth", "extended key usage"),
    case("certificate = \"server.pem\"\nkey = \"server.key\"", "certificate = \"ca.pem\" #<<\nkey = \"ca.key\"", "begins with a CA's certificate", "service's own"),
    case("connector_ca = \"ca.pem\"", "connector_ca = \"server.pem\" #<<", "is not a CA", "the CA's own"),
    case("connector_ca = \"ca.pem\"", "connector_ca = \"server.key\" #<<", "holds no certificate", "BEGIN CERTIFICATE"),
    case("key = \"server.key\"", "key = \"server.key\"\nticket_keys = \"tickets.keys\" #<<", "line 1 is not 32 bytes", "openssl rand -hex 32"),
    // sites and names
    case("name = \"main\"", "name = \"ma in\" #<<", "site name \"ma in\" may hold", "a short name"),
    case("hosts = [\"localhost\"]", "hosts = [\"https://localhost\"] #<<", "is no host name", "no scheme"),
    case("hosts = [\"localhost\"]", "hosts = [\"[::1]\", \"0:0::1\"] #<<", "host \"[::1]\" belongs to site \"main\" already", "one site"),
    case("hosts = [\"localhost\"]", "hosts = [\"[::1]:443\"] #<<", "is no host name", "no port"),
    case("[relay]", "[[tls.sni]]\nhosts = [\"[::1]\"] #<<\ncertificate = \"server.pem\"\nkey = \"server.key\"\n[relay]", "\"[::1]\" is no host name", "no port"),
    case("hosts = [\"localhost\"]", "hosts = [] #<<", "has no host", "[\"*\"]"),
    case("hosts = [\"localhost\"]", "hosts = [\"localhost\", \"LOCALHOST\"] #<<", "belongs to site \"main\" already", "one site"),
    case("connectors = [\"cp-1\", \"cp-2\"]", "connectors = [\"cp-1\", \"cp-1\"] #<<", "stands twice", "once"),
    case("connectors = [\"cp-1\", \"cp-2\"]", "connectors = []\n[[site]]\nname = \"main\" #<<\nhosts = [\"*\"]", "site \"main\" stands twice", "one [[site]]"),
    case("[relay]", "[[tls.sni]]\nhosts = [\"*\"] #<<\ncertificate = \"server.pem\"\nkey = \"server.key\"\n[relay]", "cannot stand under [[tls.sni]]", "all other hosts"),
    // syntax
    case("instance = 2", "instance = #<<", "", "key = value"),
    case("instance = 2", "instance = 2\ninstance = 3 #<<", "duplicate key", "stands once"),
    case("name = \"gw-east\"", "name = \"gw-east #<<", "", "key = value"),
];

#[rustfmt::skip]
const WRONG_CONNECTORS: &[Case] = &[
    case("id = \"cp-1\"", "id = \"cp-2\" #<<", "id \"cp-2\", but", "tidegate pki connector"),
    case("id = \"cp-1\"\n", "", "[connector] needs `id`", "id = \"cp-1\""),
    case("site = \"main\"", "sites = \"main\" #<<", "unknown key `sites` in [connector]", "did you mean `site`?"),
    case("tls = { certificate = \"cp-1.pem\", key = \"cp-1.key\", gateway_ca = \"ca.pem\" }", "", "[connector] needs `tls`", "gateway_ca"),
    case(", gateway_ca = \"ca.pem\" }", " } #<<", "`tls` needs `gateway_ca`", "the gateway's certificate"),
    case("certificate = \"cp-1.pem\", key = \"cp-1.key\"", "certificate = \"server.pem\", key = \"server.key\"", "is not for clientAuth", "extended key usage"),
    // gateways
    case("[[gateway]]\nhost = \"GW-east.example.com\"\ninstances = 3", "", "names no gateway", "[[gateway]]"),
    case("host = \"GW-east.example.com\"", "host = \"https://gw\" #<<", "neither a host name nor", "without scheme"),
    case("host = \"GW-east.example.com\"", "host = \"gw:10140\" #<<", "neither a host name nor", "without scheme or port"),
    case("instances = 3", "instances = 17 #<<", "`instances` is 17", "from 1 to 16"),
    case("instances = 3", "instances = 3\nport = 65534 #<<", "leaves no room for 3 instances", "port + i"),
    case("instances = 3", "proxy = \"http://proxy:3128\" #<<", "`proxy`: this version", "leave it empty"),
    case("instances = 3", "instances = 3\n[[gateway]]\nhost = \"gw-east.example.com\" #<<\nport = 10142", "stands twice", "`instances`"),
    // the site
    case("revision = 4", "revision = \"4\" #<<", "`revision` is text", "a whole number from 0"),
    case("revision = 4", "revision = 4\ncrl = [\"clients.crl\"] #<<", "clients.crl does not exist", "config file's folder"),
    case("revision = 4", "revision = 4\ncrl = [\"ca.pem\"] #<<", "is no revocation list", "PEM or DER"),
    case("revision = 4", "revision = 4\ncrl = [\"ldap://x/y\"] #<<", "has scheme \"ldap\"", "which the gateway fetches"),
    case("revision = 4", "revision = 4\ncrl = [\"http://x/y.crl\"]\ncrl_fail = \"medium\" #<<", "`crl_fail` is \"medium\"", "hard | soft"),
    case("revision = 4", "revision = 4\ntokens = [\"ca.pem\"] #<<", "ca.pem", "JWKS"),
    case("revision = 4", "revision = 4\ndeny = { files = [\"no.txt\"] } #<<", "no.txt does not exist", "config file's folder"),
    case("revision = 4", "revision = 4\ndeny = { files = [\"ca.pem\"] } #<<", "is no entry", "token <id>"),
    case("revision = 4", "revision = 4\nchannels = \"all\" #<<", "`channels` is \"all\"", "certificate | token | any"),
    case("revision = 4", "revision = 4\ndeny = { serials = [\"xyz\"] } #<<", "not a serial number", "openssl x509 -serial"),
    case("revision = 4", "revision = 4\ndeny = { serial = [] } #<<", "unknown key `serial` in `deny`", "did you mean `serials`?"),
    case("[[route]]\npath = \"/mp/\"", "[[site.oidc]] #<<\nname = \"entra\"\nissuer = \"https://x\"\n[[route]]\npath = \"/mp/\"", "needs `audience`", "ConfigMgrService"),
    case("[[route]]\npath = \"/mp/\"", "[[site.oidc]]\nname = \"entra\"\naudience = \"a\"\nissuer = \"http://x\" #<<\n[[route]]\npath = \"/mp/\"", "https is wanted", "`jwks`"),
    case("[[route]]\npath = \"/mp/\"", "[[site.oidc]]\nname = \"entra\"\naudience = \"a\"\nissuer = \"https://x/{tenantid}\" #<<\n[[route]]\npath = \"/mp/\"", "any tenant would pass", "onboarded"),
    case("[[route]]\npath = \"/mp/\"", "[[site.oidc]]\nname = \"e\"\naudience = \"a\"\nissuer = \"https://x\"\njwks = \"ca.pem\" #<<\n[[route]]\npath = \"/mp/\"", "ca.pem", "JWKS"),
    case("id = \"cn\" }", "id = \"cnn\" } #<<\n", "`id` is \"cnn\"", "did you mean \"cn\"?"),
    case("file = \"clients-ca.pem\"", "file = \"both.pem\"", "holds a private key", "certificate only"),
    case("file = \"clients-ca.pem\"", "file = \"pc-1.pem\"", "is not a CA", "not a client's"),
    case("name = \"corp\", ", "", "needs `name`", "cert:corp/"),
    case("name = \"corp\"", "name = \"co/rp\"", "client_ca name \"co/rp\" may hold", "a short name"),
    case("id = \"cn\" }", "id = \"cn\" }, { name = \"corp\", file = \"ca.pem\" } #<<\n", "client_ca name \"corp\" stands twice", "client ids"),
    case("client_ca = [{ name = \"corp\", file = \"clients-ca.pem\", id = \"cn\" }]", "", "nobody could pass", "client_ca = ["),
    // routes
    case("path = \"/mp/\"\n", "", "[[route]] needs `path`", "path = \"/app/\""),
    case("path = \"/mp/\"", "path = \"mp\" #<<", "does not begin with `/`", "normalisation"),
    case("path = \"/mp/\"", "path = \"/a/../b\" #<<", "`.` or `..`", "normalisation"),
    case("path = \"/mp/\"", "path = \"/.tidegate/x\" #<<", "the gateway's own", "normalisation"),
    case("path = \"/open\"", "path = \"/mp\" #<<", "routes \"/mp/\" and \"/mp\" are one", "one [[route]] a path"),
    case("path = \"/open\"", "path = \"/MP\" #<<", "are one", "one [[route]] a path"),
    case("upstream = [\"http://127.0.0.1:9080\"]", "", "[[route]] needs `upstream`", "http://"),
    case("upstream = [\"http://127.0.0.1:9080\"]", "upstream = [] #<<", "names 0 servers", "http://"),
    case("upstream = [\"http://127.0.0.1:9080\"]", "upstream = [\"127.0.0.1:9080\"] #<<", "has no scheme", "http://"),
    case("upstream = [\"http://127.0.0.1:9080\"]", "upstream = [\"http://a\", \"http://A:80/\"] #<<", "stands twice", "once"),
    case("auth = \"none\"", "auth = \"token\" #<<", "[site] names no issuer", "site-tokens.jwks"),
    case("auth = \"none\"", "auth = \"nobody\" #<<", "`auth` is \"nobody\"", "certificate | token | any | none"),
    case("\"CCM_POST\"]", "\"CCM POST\"] #<<", "is no HTTP method", "empty: any"),
    case("max_body = \"64 KiB\"", "max_body = \"64 K\" #<<", "unit \"k\" is not known", "GiB"),
    case("timeout = 0\n", "timeout = 60 #<<\n", "`timeout` is 60, without a unit", "60s"),
    case("timeout = 0\n", "timeout = \"9999h\" #<<\n", "over a week", "60s"),
    case("connect_timeout = \"500ms\"", "connect_timeout = 0 #<<", "`connect_timeout` is 0", "an end"),
    case("source_addresses = [\"127.0.0.2\"]", "source_addresses = [\"127.0.0.2:0\"] #<<", "is no IP address", "without port"),
    case("source_addresses = [\"127.0.0.2\"]", "source_addresses = [\"127.0.0.2\", \"127.0.0.2\"] #<<", "stands twice", "once"),
    case("upstream = [\"http://127.0.0.1:9080\"]", "upstream = [\"https://a\"]\ntls = { ca = \"x.pem\" } #<<", "x.pem does not exist", "relative to"),
    case("upstream = [\"http://127.0.0.1:9080\"]", "upstream = [\"https://a\"]\ntls = { ca = \"pc-1.pem\" } #<<", "is not a CA", "CA's own"),
    case("upstream = [\"http://127.0.0.1:9080\"]", "upstream = [\"https://a\"]\ntls = { ca = \"ca.pem\", certificate = \"pc-1.pem\" } #<<", "`tls` needs `key`", "private key"),
    case("upstream = [\"http://127.0.0.1:9080\"]", "upstream = [\"https://a\"]\ntls = { ca = \"ca.pem\", certificate = \"\", key = \"pc-1.key\" } #<<", "`certificate` is empty", "intermediates"),
    case("upstream = [\"http://127.0.0.1:9080\"]", "upstream = [\"https://a\"]\ntls = { ca = \"ca.pem\", certificate = \"pc-1.pem\", key = \"cp-1.key\" } #<<", "does not belong to", "the key's own"),
    case("upstream = [\"http://127.0.0.1:9080\"]", "upstream = [\"https://a\"]\ntls = { ca = \"ca.pem\", certificate = \"server.pem\", key = \"server.key\" } #<<", "is not for clientAuth: upstreams", "clientAuth"),
    case("[site]", "[[preset]]\nname = \"confgmgr\" #<<\nid = \"8\"\nmanagement_point = [\"http://mp\"]\n\n[site]", "no preset is named \"confgmgr\"", "name = \"configmgr\""),
    case("[site]", "[[preset]] #<<\nid = \"8\"\nmanagement_point = [\"http://mp\"]\n\n[site]", "needs `name`", "configmgr"),
    case("[site]", "[[preset]] #<<\nname = \"configmgr\"\nmanagement_point = [\"http://mp\"]\n\n[site]", "needs `id`", "72057594037927941"),
    case("[site]", "[[preset]]\nname = \"configmgr\"\nid = \"008\" #<<\nmanagement_point = [\"http://mp\"]\n\n[site]", "`id` is \"008\", no number", "CCM_Proxy_MutualAuth"),
    case("[site]", "[[preset]]\nname = \"configmgr\"\nid = \"8/SMS_MP\" #<<\nmanagement_point = [\"http://mp\"]\n\n[site]", "no number of a role", "CCM_Proxy_MutualAuth"),
    case("[site]", "[[preset]] #<<\nname = \"configmgr\"\nid = \"8\"\n[site]", "neither a `management_point` nor an `update_point`", "management_point ="),
    case("[site]", "[[preset]]\nname = \"configmgr\"\nid = \"8\"\nmanagement_point = [\"mp\"] #<<\n[site]", "management_point \"mp\" has no scheme", "management_point ="),
    case("[site]", "[[preset]]\nname = \"configmgr\"\nid = \"8\"\nupdate_point = [] #<<\n[site]", "`update_point` names 0 servers", "1 to"),
    case("[site]", "[[preset]]\nname = \"configmgr\"\nid = \"8\"\ntokens = true #<<\nmanagement_point = [\"http://mp\"]\n\n[site]", "wants tokens", "tokens = false"),
    case("[site]", "[[preset]]\nname = \"configmgr\"\nid = \"8\"\nport = 1 #<<\nmanagement_point = [\"http://mp\"]\n\n[site]", "unknown key `port` in [[preset]]", "known here"),
    case("[site]", "[[preset]]\nname = \"configmgr\"\nid = \"8\"\nmanagement_point = [\"http://mp\"]\n[[preset]] #<<\nname = \"configmgr\"\nid = \"8\"\nmanagement_point = [\"http://mp\"]\n\n[site]", "is published twice", "one [[preset]] an id"),
    case("path = \"/mp/\"", "path = \"/CCM_Proxy_MutualAuth/9/ApiRemoting30/\" #<<", "must stay closed", "take the route out"),
    case("path = \"/mp/\"", "path = \"/ccm_proxy_serverauth/9/selfupdate\" #<<", "must stay closed", "take the route out"),
    case("path = \"/mp/\"", "path = \"/CCM_Proxy_MutualAuth/9/SMS_MP_WindowsAuth/x\" #<<", "must stay closed", "take the route out"),
    case("path = \"/mp/\"", "path = \"/CCM_Proxy_MutualAuth/9/DSSAuthWebService./\" #<<", "must stay closed", "take the route out"),
    case("path = \"/mp/\"", "path = \"/\" #<<\nupstream = [\"http://x\"]\n[[preset]]\nname = \"configmgr\"\nid = \"8\"\nmanagement_point = [\"http://mp\"]\n[[route]]\npath = \"/mp/\"", "takes all that the preset keeps closed", "a path of its own"),
    case("path = \"/mp/\"", "path = \"/CCM_Proxy_MutualAuth/\" #<<\nupstream = [\"http://x\"]\n[[preset]]\nname = \"configmgr\"\nid = \"8\"\nmanagement_point = [\"http://mp\"]\n[[route]]\npath = \"/mp/\"", "takes all that the preset keeps closed", "a path of its own"),
    case("path = \"/mp/\"", "path = \"/ccm_proxy_serverauth/8\" #<<\nupstream = [\"http://x\"]\n[[preset]]\nname = \"configmgr\"\nid = \"8\"\nmanagement_point = [\"http://mp\"]\n[[route]]\npath = \"/mp/\"", "takes all that the preset keeps closed", "a path of its own"),
    case("path = \"/mp/\"", "path = \"/ccm_proxy_mutualauth/8/bgb\"\nupstream = [\"http://x\"]\n[[preset]] #<<\nname = \"configmgr\"\nid = \"8\"\nmanagement_point = [\"http://mp\"]\n[[route]]\npath = \"/mp/\"", "/BGB/\" is published twice", "another path"),
    case("strip_prefix = true", "strip-prefix = true #<<", "unknown key `strip-prefix` in [[route]]", "did you mean `strip_prefix`?"),
    case("[[gateway]]", "[notify]\nlisten = \"10.0.0.1:9500\" #<<\n[[gateway]]", "where others could push", "token_file"),
    case("[[gateway]]", "[notify]\ntoken_file = \"nowhere\" #<<\n[[gateway]]", "nowhere", "openssl rand"),
    case("[[gateway]]", "[notify]\nchannels_per_client = 0 #<<\n[[gateway]]", "`channels_per_client` is 0", "from 1 to 64"),
    case("[[gateway]]", "[notify]\nstores = \"x\" #<<\n[[gateway]]", "unknown key `stores`", "did you mean `store`?"),
    case("[[gateway]]", "[connector.pool]\nidle_seconds = 0 #<<\n[[gateway]]", "`idle_seconds` is 0", "from 1 to 3600"),
    case("[[gateway]]", "[connector.pool]\nidle = 1 #<<\n[[gateway]]", "unknown key `idle` in `pool`", "known here"),
];

#[test]
fn https_upstreams_are_read_with_their_tls() {
    let lab = Lab::new();
    let text = CONNECTOR.replacen(
        "upstream = [\"http://127.0.0.1:9080\"]",
        "upstream = [\"https://MP.corp\", \"https://[::1]:8443/base\", \"http://plain\"]\n\
         tls = { ca = \"ca.pem\", certificate = \"pc-1.pem\", key = \"pc-1.key\" }",
        1,
    );
    let plan = good(lab.connector(&text));
    let route = &plan.routes[0];
    let read: Vec<_> = route
        .upstream
        .iter()
        .map(|u| (u.https, u.host.as_str(), u.port))
        .collect();
    assert_eq!(
        read,
        [
            (true, "mp.corp", 443),
            (true, "::1", 8443),
            (false, "plain", 80)
        ]
    );
    assert_eq!(route.tls.ca, Some(lab.folder.file("ca.pem")));
    let own = route.tls.identity.as_ref().expect("an identity");
    assert_eq!(own.key, lab.folder.file("pc-1.key"));
    let quiet = CONNECTOR.replacen(
        "[[route]]",
        "[[route]]\ntls = { ca = \"\", certificate = \"\", key = \"\" }",
        1,
    );
    assert_eq!(
        good(lab.connector(&quiet)).routes[0].tls,
        UpstreamTls::default()
    );
}

/// The 1-based line with the mark; without one, where the changed text begins tells nothing: 0.
fn marked(text: &str) -> usize {
    text.lines()
        .position(|line| line.contains("#<<"))
        .map_or(0, |index| index + 1)
}

fn check_case<T>(base: &str, case: &Case, load: impl Fn(&str) -> Loaded<T>) -> Result<(), String> {
    if base.matches(case.from).count() == 0 {
        return Err(format!("nothing to change: {:?}", case.from));
    }
    let text = base.replacen(case.from, case.to, 1);
    let Err(complaints) = load(&text) else {
        return Err(format!("{:?} was taken", case.to));
    };
    let errors: Vec<_> = complaints.into_iter().filter(|c| !c.warning).collect();
    let line = marked(&text);
    let right = |c: &Complaint| {
        c.text.contains(case.text) && c.hint.contains(case.hint) && (line == 0 || c.line == line)
    };
    if errors.len() == 1 && errors.iter().all(right) {
        return Ok(());
    }
    Err(format!(
        "{:?}: wanted one error at line {line} with {:?} and hint {:?}, got:\n{}",
        case.to,
        case.text,
        case.hint,
        lines(&errors)
    ))
}

#[test]
fn each_wrong_file_gives_one_complaint_at_its_line_with_a_hint() {
    let lab = Lab::new();
    let gateways = WRONG_GATEWAYS
        .iter()
        .map(|case| check_case(GATEWAY, case, |text| lab.gateway(text)));
    let connectors = WRONG_CONNECTORS
        .iter()
        .map(|case| check_case(CONNECTOR, case, |text| lab.connector(text)));
    let failures: Vec<_> = gateways.chain(connectors).filter_map(Result::err).collect();
    assert!(
        failures.is_empty(),
        "{} cases:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(WRONG_GATEWAYS.len() + WRONG_CONNECTORS.len() >= 90);
}

#[test]
fn missing_things_are_told_at_their_tables_header() {
    let lab = Lab::new();
    let line_of = |loaded: Vec<Complaint>| loaded[0].line;
    let text = GATEWAY.replace("key = \"server.key\"\n", "");
    let header = text.lines().position(|line| line == "[tls]").unwrap() + 1;
    assert_eq!(line_of(lab.gateway(&text).unwrap_err()), header);
    let text = CONNECTOR.replace("path = \"/open\"\n", "");
    let header = text
        .lines()
        .enumerate()
        .filter(|(_, line)| *line == "[[route]]")
        .last()
        .unwrap()
        .0
        + 1;
    assert_eq!(line_of(lab.connector(&text).unwrap_err()), header);
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_lines() {
    let lab = Lab::new();
    let text = GATEWAY
        .replace("instance = 2", "instance = 99")
        .replace("admin = \"\"", "admin = \"nowhere\"")
        .replace("server.key", "none.key")
        .replace("hosts = [\"localhost\"]", "host = [\"localhost\"]")
        + "[log]\naccess = 1\n";
    let complaints = lab.gateway(&text).unwrap_err();
    assert_eq!(
        complaints.iter().filter(|c| !c.warning).count(),
        5,
        "{}",
        lines(&complaints)
    );
    assert!(complaints.is_sorted_by_key(|c| c.line));
}

#[test]
fn several_syntax_errors_are_told_at_once() {
    let lab = Lab::new();
    let text = GATEWAY
        .replace("instance = 2", "instance = ")
        .replace("admin = \"\"", "admin = = 3");
    let complaints = lab.gateway(&text).unwrap_err();
    assert!(complaints.len() >= 2, "{}", lines(&complaints));
}

#[test]
fn what_has_no_effect_is_warned_of_and_taken() {
    let lab = Lab::new();
    let warned = |loaded: Vec<Complaint>, text: &str| {
        assert!(
            loaded.iter().any(|c| c.warning && c.text.contains(text)),
            "{text}:\n{}",
            lines(&loaded)
        );
    };
    for (from, to, text) in [
        (
            "revision = 4",
            "revision = 4\nchannels = \"token\"",
            "no client can open a channel",
        ),
        (
            "[[route]]",
            "[[route]]\ntls = { ca = \"ca.pem\" }",
            "`tls` has no effect: no upstream of this route is https",
        ),
        (
            "upstream = [\"http://127.0.0.1:9080\"]",
            "upstream = [\"https://mp.corp\"]\ntls = { ca = \"ca.pem\", certificate = \"old.pem\", key = \"old.key\" }",
            "expired 2 days ago",
        ),
        (
            "[[gateway]]",
            "[notify]\nlisten = \"10.0.0.1:9500\"\ntoken_file = \"api.token\"\nstore = \"x\"\n[[gateway]]",
            "without TLS: its token can be read",
        ),
        (
            "revision = 4",
            "revision = 4\ndeny = { clients = [\"pc-1\"] }",
            "no client has the id",
        ),
        ("\"GET\"", "\"get\"", "has small letters"),
        (
            "[[gateway]]",
            "admin = \"0.0.0.0:9442\"\n[[gateway]]",
            "where others can read",
        ),
        (
            "[[gateway]]",
            "[connector.pool]\nconnections_per_upstream = 1\n[[gateway]]",
            "never reached",
        ),
    ] {
        let (_, warnings) = lab
            .connector(&CONNECTOR.replacen(from, to, 1))
            .unwrap_or_else(|c| panic!("{}", lines(&c)));
        warned(warnings, text);
    }
    let host = GATEWAY.replace(
        "[\"localhost\"]",
        "[\"localhost\", \"gw.example.com\", \"*.example.com\"]",
    );
    let (_, warnings) = lab.gateway(&host).unwrap();
    assert_eq!(warnings.len(), 2, "{}", lines(&warnings));
    warned(
        warnings,
        "no certificate under [tls] names host \"gw.example.com\"",
    );
    let share = GATEWAY.to_string() + "[limits]\nhandshake_share = 50\n";
    warned(
        lab.gateway(&share).unwrap().1,
        "`handshake_share` has no effect",
    );
    // The defaults of the same keys, written out, are silent.
    let quiet = CONNECTOR
        .replacen("revision = 4", "revision = 4\nchannels = \"any\"\ncrl = []\ndeny = { serials = [], tokens = [], clients = [] }", 1)
        .replacen("instances = 3", "instances = 3\nproxy = \"\"", 1)
        .replacen("strip_prefix = true", "h2 = \"auto\"\ntls = { ca = \"\", certificate = \"\", key = \"\" }", 1);
    good(lab.connector(&quiet));
}

#[test]
fn a_certificate_near_its_end_is_warned_of_and_still_taken() {
    let lab = Lab::new();
    let text = CONNECTOR.replace("cp-1", "old");
    let (_, warnings) = lab
        .connector(&text)
        .unwrap_or_else(|c| panic!("{}", lines(&c)));
    assert!(
        warnings[0].text.contains("expired 2 days ago"),
        "{}",
        lines(&warnings)
    );
    assert_eq!(warnings[0].line, 5);
}

#[test]
fn an_open_key_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    std::fs::set_permissions(
        lab.folder.file("server.key"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let (_, warnings) = lab.gateway(GATEWAY).unwrap();
    assert!(warnings[0].text.contains("every user") && warnings[0].hint.contains("chmod 600"));
}

#[test]
fn an_rsa_certificate_is_warned_of() {
    let lab = Lab::new();
    let ca = crate::control::testing::ca("lab");
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let der = crate::control::testing::leaf_with_key("localhost", &ca, &key, |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
    });
    lab.folder.write(
        "server.pem",
        &crate::control::certificates::pem::canonical(&[der.into()]),
    );
    lab.folder.write("server.key", &key.serialize_pem());
    let (_, warnings) = lab
        .gateway(GATEWAY)
        .unwrap_or_else(|c| panic!("{}", lines(&c)));
    let rsa = |c: &Complaint| c.text.contains("RSA key") && c.hint.contains("ECDSA");
    assert!(warnings.iter().any(rsa), "{}", lines(&warnings));
}

#[test]
fn a_file_of_windows_is_read_alike() {
    let lab = Lab::new();
    let text = format!("\u{feff}{}", GATEWAY.replace('\n', "\r\n"));
    good(lab.gateway(&text));
    let wrong = text.replace("instance = 2", "instance = 99");
    assert_eq!(lab.gateway(&wrong).unwrap_err()[0].line, 4);
}

#[test]
fn auth_any_is_taken_where_there_is_a_ca() {
    let lab = Lab::new();
    let plan = good(lab.connector(&CONNECTOR.replace("auth = \"none\"", "auth = \"any\"")));
    assert_eq!(plan.settings.routes[1].auth, Auth::Any);
}

#[test]
fn a_preset_is_a_set_of_routes() {
    let lab = Lab::new();
    let preset = "[[preset]]\nname = \"configmgr\"\nid = \"72057594037927941\"\n\
                  management_point = [\"http://mp.corp\", \"http://mp2.corp:81/base\"]\nupdate_point = [\"http://sup.corp:8530\"]\n\
                  source_addresses = [\"127.0.0.9\"]\n[site]";
    let text = CONNECTOR.replace("[site]", preset);
    let plan = good(lab.connector(&text));
    assert_eq!((plan.routes.len(), plan.preset_routes), (12, 10));
    let (route, published) = (&plan.routes[3], &plan.settings.routes[3]);
    let prefix = "/CCM_Proxy_MutualAuth/72057594037927941";
    assert_eq!(published.path, format!("{prefix}/CCM_System/request"));
    assert_eq!(
        (route.path.as_str(), route.strip),
        (published.path.as_str(), prefix.len())
    );
    assert_eq!(published.auth, Auth::Certificate);
    assert_eq!(route.upstream[1].to_string(), "http://mp2.corp:81/base");
    assert_eq!(
        route.source_addresses,
        ["127.0.0.9".parse::<IpAddr>().unwrap()]
    );
    // Only one of the two servers.
    let no_mp = "management_point = [\"http://mp.corp\", \"http://mp2.corp:81/base\"]\n";
    let plan = good(lab.connector(&text.replace(no_mp, "")));
    assert_eq!(plan.preset_routes, 3);
    // Endpoints of one's own beside it, and a preset alone.
    let beside = text.replace(
        "\"/mp/\"",
        "\"/CCM_Proxy_MutualAuth/72057594037927941/AdminService/\"",
    );
    assert_eq!(good(lab.connector(&beside)).routes.len(), 12);
    let alone = &text[..text.find("[[route]]").unwrap()];
    assert_eq!(good(lab.connector(alone)).routes.len(), 10);

    let mut out = Vec::new();
    assert_eq!(
        check::run_to(&lab.folder.write("c.toml", &text), true, &mut out),
        0
    );
    let said = String::from_utf8(out).unwrap();
    assert!(
        said.contains("publishes 12 routes: 2 by [[route]], 10 by [[preset]]\n"),
        "{said}"
    );
    let line = format!(
        "{prefix}/Content/  auth certificate  GET,HEAD  body 0  wait 60s  -> http://sup.corp:8530 without {prefix}\n"
    );
    assert!(said.contains(&line), "{said}");
}

#[test]
fn files_that_are_no_config_are_refused() {
    let lab = Lab::new();
    let refused = |file: &Path, text: &str| {
        let complaints = check::complaints(file).unwrap_err();
        assert!(
            complaints.iter().any(|c| c.text.contains(text)),
            "{}",
            lines(&complaints)
        );
    };
    refused(&lab.folder.file("none.toml"), "does not exist");
    refused(lab.folder.path(), "is a folder");
    refused(&lab.folder.write("empty.toml", ""), "neither");
    refused(
        &lab.folder.write("both.toml", "[gateway]\n[connector]\n"),
        "at once",
    );
    refused(&lab.folder.file("server.pem"), "neither");
    let binary = lab.folder.file("binary");
    std::fs::write(&binary, [0xff, 0xfe, 0]).unwrap();
    refused(&binary, "UTF-8");
    std::fs::write(&binary, vec![b'#'; 5 << 20]).unwrap();
    refused(&binary, "larger than");
    assert!(
        load_connector(&lab.folder.write("g.toml", GATEWAY)).is_err(),
        "the other's file"
    );
    assert!(load_gateway(&lab.folder.write("c.toml", CONNECTOR)).is_err());
}

#[test]
fn check_prints_each_complaint_and_gives_the_exit_code() {
    let lab = Lab::new();
    let run = |name: &str, text: &str| {
        let mut out = Vec::new();
        let file = lab.folder.write(name, text);
        (
            check::run_to(&file, false, &mut out),
            String::from_utf8(out).unwrap(),
            file,
        )
    };
    let (code, text, file) = run("g.toml", GATEWAY);
    assert_eq!(
        (code, text),
        (
            0,
            format!("{}: ok (0 errors, 0 warnings)\n", file.display())
        )
    );
    let (code, text, file) = run(
        "c.toml",
        &CONNECTOR.replace("instances = 3", "instances = 99"),
    );
    assert_eq!(code, 1);
    let first = format!(
        "{}:8: `instances` is 99, which is out of range (hint: a whole number from 1 to 16)",
        file.display()
    );
    assert_eq!(text.lines().next(), Some(first.as_str()));
    let (code, text, _) = run(
        "c.toml",
        &CONNECTOR.replace("revision = 4", "revision = 4\nchannels = \"token\""),
    );
    assert_eq!(code, 0);
    assert!(
        text.contains(": warning: no client can open a channel")
            && text.contains("(0 errors, 1 warnings)"),
        "{text}"
    );
}

/// The commented examples that ship must be right, and must show every key there is.
#[test]
fn the_example_files_parse_and_name_every_key() {
    let lab = Lab::new();
    let example = |name: &str| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tuning")
            .join(name);
        std::fs::read_to_string(file).unwrap()
    };
    let (gateway, connector) = (example("gateway.toml"), example("connector.toml"));
    good(lab.gateway(&gateway));
    good(lab.connector(&connector));
    // Written-out defaults are the defaults.
    let plan = good(lab.gateway(&gateway)).limits;
    assert_eq!(format!("{plan:?}"), format!("{:?}", Limits::default()));
    let pool = good(lab.connector(&connector)).pool;
    assert_eq!(format!("{pool:?}"), format!("{:?}", PoolLimits::default()));
    // A key that the readers know and the example does not name would be listed as known here.
    for (file, sections) in [
        (
            &gateway,
            &[
                "[gateway]",
                "[listen]",
                "[tls]",
                "[relay]",
                "[[site]]",
                "[limits]",
                "[log]",
            ][..],
        ),
        (
            &connector,
            &[
                "[connector]",
                "[connector.pool]",
                "[[gateway]]",
                "[site]",
                "[[route]]",
                "[log]",
            ][..],
        ),
    ] {
        for section in sections {
            let start = format!("\n{section}");
            assert!(file.contains(&start), "{section}");
            let probed = file.replacen(&start, &format!("{start}\nzzzzzzzzzzzzzzzz = 1"), 1);
            let loaded = if file == &gateway {
                lab.gateway(&probed).map(|_| ())
            } else {
                lab.connector(&probed).map(|_| ())
            };
            let complaints = loaded.unwrap_err();
            let known = complaints[0]
                .hint
                .strip_prefix("known here: ")
                .unwrap_or_else(|| panic!("{}", lines(&complaints)));
            for key in known.split(", ") {
                let named = [
                    format!("\n{key} = "),
                    format!("\n# {key} = "),
                    format!(".{key}]"),
                    format!("# [[{key}]]"),
                ];
                let as_table = key == "sni" || key == "oidc";
                assert!(
                    as_table || named.iter().any(|n| file.contains(n)),
                    "{section} {key} is not in the example"
                );
            }
        }
    }
}

proptest::proptest! {
    /// Whatever stands in the file: complaints, no panic.
    #[test]
    fn any_text_is_judged(text in "([\\[\\]a-z=\"{}.,#0-9\n ]|gateway|connector|\\[\\[route\\]\\]|tls|=){0,60}") {
        let source = Source::from_text(Path::new("f.toml"), text);
        let table = source.parse();
        let top = reader::Section::top(&source, table.get_ref());
        let _ = gateway::read(&top);
    }

    /// Each line of a good file, damaged: never a panic, and either taken or told.
    #[test]
    fn a_damaged_file_is_told(at in 0usize..700, with in "[\\[\\]\"={}a-z0-9-]") {
        let mut text = CONNECTOR.to_string();
        let at = at % text.len();
        text.replace_range(at..=at, &with);
        let source = Source::from_text(Path::new("f.toml"), text);
        let table = source.parse();
        let _ = connector::read(&reader::Section::top(&source, table.get_ref()));
        drop(table);
        proptest::prop_assert!(!source.into_complaints().is_empty(), "the files are not there at the least");
    }
}
