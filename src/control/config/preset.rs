//! `[[preset]]` of connector.toml: a set of routes by one name. It becomes plain routes here; nothing behind the config
//! knows of presets.

use super::configmgr::{self, ENDPOINTS, Role, SIDES, Side};
use super::reader::Section;
use super::routes::{self, Routes};
use super::site_settings::Accepts;
use super::source::Source;
use super::{H2, RouteConfig, Upstream, UpstreamTls};
use crate::control::settings::{Auth, PublishedRoute};
use std::net::IpAddr;
use std::time::Duration;

/// The preset `configmgr`, read.
struct ConfigMgr {
    /// Decimal digits.
    id: String,
    management_point: Vec<Upstream>,
    update_point: Vec<Upstream>,
    tls: UpstreamTls,
    h2: H2,
    source_addresses: Vec<IpAddr>,
    /// Which sides are published.
    sides: Accepts,
}

/// Adds the routes of every preset to `routes`, and looks for routes that would undo what a preset keeps closed.
pub fn read(top: &Section<'_>, accepts: Accepts, routes: &mut Routes) {
    let source = top.source();
    let mut prefixes = Vec::new();
    for section in top.sections("preset") {
        let name = section.text("name");
        let name = section.require("name", name, "name = \"configmgr\"");
        if let Some(name) = name.filter(|name| name.value != "configmgr") {
            let text = format!("no preset is named {:?}", name.value);
            source.error(name.line, text, "name = \"configmgr\"");
        }
        let Some(preset) = ConfigMgr::read(&section, accepts) else {
            continue;
        };
        let line = section.line();
        for (route, publication) in preset.expand() {
            if routes.same(&publication.path, true).is_some() {
                let text = format!("{:?} is published twice", publication.path);
                let hint = "one [[preset]] an id; a [[route]] takes another path";
                source.error(line, text, hint);
                break;
            }
            routes.push(route, publication);
            routes.by_presets += 1;
        }
        prefixes.extend(SIDES.map(|(side, _)| format!("{side}/{}", preset.id)));
    }
    for path in &routes.written {
        check_route(source, &path.value, path.line, &prefixes);
    }
}

/// A [[route]] may add an endpoint to a preset's; it opens none that must stay closed, nor all of them at once.
fn check_route(source: &Source, path: &str, line: usize, prefixes: &[String]) {
    let trimmed = path.trim_end_matches('/');
    let above = |prefix: &&String| {
        let head = prefix.get(..trimmed.len());
        let border = prefix.as_bytes().get(trimmed.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(trimmed))
            && matches!(border, None | Some(b'/'))
    };
    if let Some(prefix) = prefixes.iter().find(above) {
        let text = format!("route {path:?} takes all that the preset keeps closed under {prefix}");
        let hint = "publish it under a path of its own, or on another site";
        return source.error(line, text, hint);
    }
    // `/<id>/<endpoint>/…`; under whatever id, since another connector of the site may have the preset.
    let endpoint = configmgr::below_a_side(path).and_then(|rest| rest.split('/').nth(2));
    if let Some(closed) = endpoint.and_then(configmgr::closed) {
        let text = format!(
            "route {path:?} opens an endpoint of Configuration Manager that must stay closed ({closed})"
        );
        let hint =
            "it is for administrators and other servers, not for clients: take the route out";
        source.error(line, text, hint);
    }
}

impl ConfigMgr {
    fn read(section: &Section<'_>, accepts: Accepts) -> Option<ConfigMgr> {
        let source = section.source();
        let management_point = routes::read_upstreams(section, "management_point");
        let update_point = routes::read_upstreams(section, "update_point");
        if management_point.is_none() && update_point.is_none() {
            source.error(
                section.line(),
                "[[preset]] names neither a `management_point` nor an `update_point`",
                "management_point = [\"https://mp.corp.example\"]",
            );
        }
        let upstreams = |list: Option<Vec<Upstream>>| list.unwrap_or_default();
        let (management_point, update_point) =
            (upstreams(management_point), upstreams(update_point));
        let all: Vec<_> = management_point
            .iter()
            .chain(&update_point)
            .cloned()
            .collect();
        let tls = routes::read_tls(section, &all);
        let h2 = routes::read_h2(section);
        let source_addresses = routes::read_source_addresses(section);
        let tokens = section.boolean("tokens");
        if let Some(tokens) = tokens.as_ref().filter(|at| at.value && !accepts.tokens) {
            source.error(
                tokens.line,
                "the preset wants tokens, and [site] accepts none: nobody could pass",
                "tokens = false, or tell [site] which tokens it accepts",
            );
        }
        let tokens = tokens.map_or(accepts.tokens, |at| at.value);
        if !accepts.certificates && !tokens {
            source.error(
                section.line(),
                "the preset wants client certificates or tokens, and [site] names no CA for them: nobody could pass",
                "client_ca = [{ name = \"corp\", file = \"clients-ca.pem\" }]",
            );
        }
        Some(ConfigMgr {
            id: read_id(section)?,
            management_point,
            update_point,
            tls,
            h2,
            source_addresses,
            sides: Accepts { tokens, ..accepts },
        })
    }

    fn expand(&self) -> Vec<(RouteConfig, PublishedRoute)> {
        let mut routes = Vec::new();
        for (side, auth) in SIDES {
            let published = match auth {
                Auth::Token => self.sides.tokens,
                _ => self.sides.certificates,
            };
            if !published {
                continue;
            }
            let prefix = format!("{side}/{}", self.id);
            for endpoint in ENDPOINTS {
                let upstream = match endpoint.role {
                    Role::ManagementPoint => &self.management_point,
                    Role::UpdatePoint => &self.update_point,
                };
                let here = endpoint.side == Side::Both || auth == Auth::Token;
                if upstream.is_empty() || !here {
                    continue;
                }
                let path = format!("{prefix}{}", endpoint.path);
                let route = RouteConfig {
                    path: path.clone(),
                    upstream: upstream.clone(),
                    tls: self.tls.clone(),
                    strip: prefix.len(),
                    case_insensitive: true,
                    timeout: Some(endpoint.timeout),
                    connect_timeout: routes::CONNECT_TIMEOUT,
                    idle_timeout: endpoint.idle_timeout,
                    h2: self.h2,
                    source_addresses: self.source_addresses.clone(),
                };
                let publication = PublishedRoute {
                    path,
                    auth,
                    methods: endpoint.methods.iter().map(ToString::to_string).collect(),
                    max_body: endpoint.max_body,
                    timeout_ms: milliseconds(endpoint.timeout),
                    case_insensitive: true,
                };
                routes.push((route, publication));
            }
        }
        routes
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The role's number in the site, as clients put it into paths: `72057594037927941`, `8`.
fn read_id(section: &Section<'_>) -> Option<String> {
    const HINT: &str = "id = \"72057594037927941\": the number behind CCM_Proxy_MutualAuth/ in what clients ask for";
    let id = section.require("id", section.text("id"), HINT)?;
    let number = id.value.parse::<u64>().ok();
    if number.is_none_or(|number| number.to_string() != id.value) {
        let text = format!("`id` is {:?}, no number of a role", id.value);
        section.source().error(id.line, text, HINT);
        return None;
    }
    Some(id.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::snapshot::PathTable;
    use crate::wire::path;
    use proptest::prelude::*;

    const ID: &str = "72057594037927941";
    const CLOSED: [&str; 11] = [
        "ApiRemoting30",
        "ServerSyncWebService",
        "DSSAuthWebService",
        "SelfUpdate",
        "SMS_MP_WindowsAuth",
        "SMS_MP_AltAuth",
        "CCM_System_WindowsAuth",
        "CCM_System_AltAuth",
        "CMUserService_WindowsAuth",
        "ReportingWebService",
        "AdminService",
    ];

    fn server(host: &str, port: u16) -> Vec<Upstream> {
        vec![Upstream {
            https: true,
            host: host.into(),
            port,
            base_path: String::new(),
        }]
    }

    fn preset(tokens: bool) -> ConfigMgr {
        ConfigMgr {
            id: ID.into(),
            management_point: server("mp", 443),
            update_point: server("sup", 8531),
            tls: UpstreamTls::default(),
            h2: H2::Auto,
            source_addresses: vec![],
            sides: Accepts {
                certificates: true,
                tokens,
            },
        }
    }

    /// Both ends of the path, as a request meets them.
    struct World {
        routes: Vec<(RouteConfig, PublishedRoute)>,
        table: PathTable,
    }

    impl World {
        fn new(tokens: bool) -> World {
            let routes = preset(tokens).expand();
            let paths = routes.iter().map(|(route, _)| (route.path.as_str(), true));
            let table = PathTable::new(paths);
            World { routes, table }
        }

        /// The route of a target, and what its upstream is asked for.
        fn ask(&self, target: &str) -> Option<(&PublishedRoute, &str, String)> {
            let mut scratch = Vec::new();
            let normal = path::normalise(target.as_bytes(), &mut scratch).ok()?;
            let index = self.table.find(normal.path)?;
            let (route, publication) = &self.routes[index as usize];
            let path = std::str::from_utf8(&normal.path[route.strip..]).unwrap();
            let query = normal
                .query
                .map(|q| String::from_utf8_lossy(q).into_owned());
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            Some((
                publication,
                &route.upstream[0].host,
                format!("{path}{query}"),
            ))
        }
    }

    #[test]
    fn the_clients_requests_reach_their_servers() {
        let world = World::new(true);
        let (mutual, server) = ("/CCM_Proxy_MutualAuth", "/CCM_Proxy_ServerAuth");
        #[rustfmt::skip]
        let requests = [
            (mutual, Auth::Certificate, "GET", "/SMS_MP/.sms_aut?SITESIGNCERT", "mp"),
            (mutual, Auth::Certificate, "GET", "/SMS_MP/.sms_aut?MPLIST2&CM1", "mp"),
            (mutual, Auth::Certificate, "HEAD", "/SMS_MP/.sms_pol?{F7}.1_00", "mp"),
            (mutual, Auth::Certificate, "CCM_POST", "/ccm_system/request", "mp"),
            (mutual, Auth::Certificate, "BITS_POST", "/CCM_Incoming/{0A}/x.zip", "mp"),
            (mutual, Auth::Certificate, "GET", "/CCM_STS", "mp"),
            (mutual, Auth::Certificate, "PROPFIND", "/CCM_Client/", "mp"),
            (mutual, Auth::Certificate, "POST", "/bgb/handler.ashx?RequestType=LogIn", "mp"),
            (mutual, Auth::Certificate, "POST", "/CMUserService/applicationviewservice.asmx", "mp"),
            (mutual, Auth::Certificate, "POST", "/ClientWebService/client.asmx", "sup"),
            (mutual, Auth::Certificate, "POST", "/SimpleAuthWebService/SimpleAuth.asmx", "sup"),
            (mutual, Auth::Certificate, "GET", "/Content/AB/0123.txt", "sup"),
            (server, Auth::Token, "GET", "/CCM_STS?x", "mp"),
            (server, Auth::Token, "HEAD", "/CCM_Client/ccmsetup.cab", "mp"),
            (server, Auth::Token, "CCM_POST", "/ccm_system_tokenauth/request", "mp"),
            (server, Auth::Token, "GET", "/SMS_MP_TokenAuth/.sms_aut?MPLIST", "mp"),
        ];
        for (side, auth, method, rest, host) in requests {
            for side in [
                side.to_string(),
                side.to_ascii_uppercase(),
                side.to_ascii_lowercase(),
            ] {
                let target = format!("{side}/{ID}{rest}");
                let (route, upstream, asked) = world.ask(&target).expect(&target);
                assert_eq!((route.auth, upstream), (auth, host), "{target}");
                assert!(
                    route.methods.iter().any(|m| m == method),
                    "{method} {target}"
                );
                let escaped = rest.replace('{', "%7B").replace('}', "%7D");
                let query_kept = rest.contains("?{");
                assert_eq!(asked, if query_kept { rest } else { &escaped }, "{target}");
            }
        }
    }

    #[test]
    fn a_side_is_published_when_what_it_asks_for_is_accepted() {
        let sides = |certificates, tokens| {
            let mut preset = preset(tokens);
            preset.sides.certificates = certificates;
            let routes = preset.expand();
            let on = |auth| routes.iter().filter(|(_, p)| p.auth == auth).count();
            (on(Auth::Certificate), on(Auth::Token))
        };
        assert_eq!(sides(true, false), (10, 0));
        assert_eq!(sides(true, true), (10, 12));
        assert_eq!(sides(false, true), (0, 12));
        let world = World::new(true);
        for only in ["SMS_MP_TokenAuth/.sms_aut", "ccm_system_tokenauth/request"] {
            assert!(
                world
                    .ask(&format!("/CCM_Proxy_MutualAuth/{ID}/{only}"))
                    .is_none()
            );
        }
    }

    #[test]
    fn limits_fit_their_endpoints() {
        let world = World::new(true);
        let route = |rest: &str| {
            world
                .ask(&format!("/CCM_Proxy_MutualAuth/{ID}{rest}"))
                .unwrap()
                .0
        };
        assert_eq!(route("/ccm_system/request").max_body, 32 << 20);
        assert_eq!(route("/sms_mp/.sms_pol").max_body, 32 << 20);
        assert_eq!(route("/ccm_incoming/x").max_body, 100 << 20);
        assert_eq!(route("/Content/x").max_body, 0);
        assert!(route("/CCM_STS").max_body <= 1 << 20);
        // Longer than the longest silence of the notification server.
        assert!(route("/BGB/handler.ashx").timeout_ms > 15 * 60 * 1000);
        for (config, publication) in &world.routes {
            assert_eq!(
                config.timeout.map(milliseconds),
                Some(publication.timeout_ms)
            );
            assert!(!publication.methods.is_empty() && publication.case_insensitive);
        }
    }

    /// Ways to write a path that servers may take for the plain one.
    fn spellings(first: &str) -> Vec<String> {
        let escaped = format!("%{:02x}{}", first.as_bytes()[0], &first[1..]);
        let all: String = first.bytes().map(|b| format!("%{b:02X}")).collect();
        let twice = format!("%25{:02x}{}", first.as_bytes()[0], &first[1..]);
        let names = [
            first.to_string(),
            first.to_ascii_lowercase(),
            first.to_ascii_uppercase(),
            escaped,
            all,
            twice,
            format!("{first}."),
            format!("{first}.."),
            format!("{first}%2e"),
            format!("{first};"),
            format!("{first};x=y"),
            format!("{first}%3b"),
            format!("{first}%20"),
            format!("{first}::$DATA"),
            format!("{first}%00"),
        ];
        let around = |name: &String| {
            [
                "",
                "/",
                "./",
                "x/../",
                "SMS_MP/../",
                "ClientWebService/..;/",
                "Content/%2e%2e/",
                "Content//../",
                "Content/..%2f",
                "Content/..%5c",
                "Content/..\\",
                "Content/..%20/",
                "Content/.%2e/",
                "Content/%252e%252e/",
                "Content/..%c0%af",
                "Content/. ./",
            ]
            .map(|before| format!("{before}{name}/WebService.asmx"))
        };
        names.iter().flat_map(around).collect()
    }

    #[test]
    fn what_must_stay_closed_is_refused_in_every_spelling() {
        let world = World::new(true);
        for (side, _) in SIDES {
            for name in CLOSED {
                for rest in spellings(name) {
                    for target in [
                        format!("{side}/{ID}/{rest}"),
                        format!("{}/{ID}//{rest}", side.to_ascii_uppercase()),
                    ] {
                        let found = world.ask(&target).map(|(_, _, asked)| asked);
                        assert_eq!(found, None, "{target}");
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_is_published_beside_the_prefix_or_above_the_endpoints() {
        let world = World::new(true);
        for target in [
            "/",
            "/SMS_MP/.sms_aut",
            "/CCM_Proxy_MutualAuth/",
            "/CCM_Proxy_MutualAuth/72057594037927941",
            "/CCM_Proxy_MutualAuth/72057594037927941/",
            "/CCM_Proxy_MutualAuth/72057594037927942/SMS_MP/.sms_aut",
            "/CCM_Proxy_MutualAuth/SMS_MP/.sms_aut",
            "/CCM_Proxy_MutualAuth/72057594037927941/CCM_System/",
            "/CCM_Proxy_MutualAuth/72057594037927941/CCM_System/other",
            "/CCM_Proxy_MutualAuth/72057594037927941/CCM_System/requests",
            "/CCM_Proxy_MutualAuth/72057594037927941/SMS_MPX/.sms_aut",
            "/CCM_Proxy_MutualAuthX/72057594037927941/SMS_MP/.sms_aut",
        ] {
            assert!(world.ask(target).is_none(), "{target}");
        }
    }

    /// The first segment as a server might see it that decodes once more, takes `\` for `/`, cuts parameters off, and
    /// drops blanks and dots at a name's end.
    fn as_a_lenient_server(path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let mut rest = path.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            let hex = after.get(..2).filter(|_| *first == b'%');
            let hex =
                hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
            bytes.push(hex.unwrap_or(*first));
            rest = if hex.is_some() { &after[2..] } else { after };
        }
        let text = String::from_utf8_lossy(&bytes).replace('\\', "/");
        let mut segments: Vec<String> = Vec::new();
        for segment in text.split('/') {
            let segment = segment
                .split(';')
                .next()
                .unwrap_or_default()
                .trim_end_matches(' ');
            match segment {
                "" | "." => {}
                ".." => {
                    segments.pop();
                }
                name => segments.push(name.trim_end_matches('.').to_ascii_lowercase()),
            }
        }
        segments.into_iter().next()
    }

    proptest! {
        #[test]
        fn no_path_of_pieces_reaches_what_is_closed(
            pieces in proptest::collection::vec(prop_oneof![
                Just("Content"), Just("SMS_MP"), Just("clientwebservice"), Just("CCM_System/request"),
                Just("ApiRemoting30"), Just("%41piRemoting30"), Just("apiremoting30."), Just("SelfUpdate;x"),
                Just(".."), Just("."), Just(""), Just("%2e%2e"), Just(".%2E"), Just("..;"), Just("..%20"),
                Just("%20"), Just("..."), Just("%2e."), Just("..%3b"), Just("x"), Just("%5c.."), Just("..%2f.."),
            ], 1..7),
            side in 0usize..2,
        ) {
            let world = World::new(true);
            let target = format!("{}/{ID}/{}", SIDES[side].0, pieces.join("/"));
            if let Some((_, _, asked)) = world.ask(&target) {
                let first = as_a_lenient_server(&asked).unwrap_or_default();
                let open = ENDPOINTS.iter().any(|e| e.path[1..].split('/').next().unwrap().eq_ignore_ascii_case(&first));
                prop_assert!(open, "{target} -> {asked}: {first:?}");
            }
        }
    }
}
