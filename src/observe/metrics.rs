//! Counters of a shard and their Prometheus text (exposition format 0.0.4).
//!
//! A shard owns one [`ShardStats`] and adds to its fields; on request it hands out a copy. Names and help texts stand
//! once, in the table of `stats!`; a field without a family cannot be written.

use std::fmt::Write;

/// Different error codes that are counted; `gateway/fault` and the connector have some twenty.
pub const MAX_ERROR_CODES: usize = 48;

macro_rules! stats {
    ($($kind:ident $name:literal $help:literal [$($(#[$doc:meta])* $field:ident $label:literal)+])+) => {
        /// What one shard counts. Gauges are values of now; the rest only grows.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct ShardStats {
            /// Whose they are: the label `shard`.
            pub shard: u32,
            $($($(#[$doc])* pub $field: u64,)+)+
            /// Error answers by `code` (DESIGN §6).
            pub errors: ErrorCounts,
            /// Requests by time from the head's end to the answer's end.
            pub request_time: Histogram,
        }

        impl ShardStats {
            /// Adds another shard's numbers to these; `shard` stays.
            pub fn merge(&mut self, other: &Self) {
                $($(self.$field = self.$field.saturating_add(other.$field);)+)+
                for (code, count) in other.errors.iter() {
                    self.errors.add_many(code, count);
                }
                self.request_time.merge(&other.request_time);
            }
        }

        fn render_families(stats: &[ShardStats], out: &mut String) {
            $(
                head(out, $name, stringify!($kind), $help);
                for shard in stats {
                    $(sample(out, $name, shard.shard, $label, shard.$field);)+
                }
            )+
        }
    };
}

stats! {
    counter "tidegate_connections_accepted_total" "Client connections accepted." [
        accepted ""
    ]
    gauge "tidegate_connections" "Client connections open." [
        connections ""
    ]
    counter "tidegate_connections_refused_total" "Client connections closed at once, by the limit that was reached." [
        /// The process's limit.
        refused_limit r#"limit="connections""#
        /// One address's limit.
        refused_address r#"limit="address""#
    ]
    counter "tidegate_proxy_headers_total" "Connections of listed balancers, by what their PROXY header was." [
        /// It named a client.
        proxy_headers r#"outcome="client""#
        /// LOCAL or UNSPEC: the balancer's own address stands.
        proxy_local r#"outcome="local""#
        /// Wrong, missing, cut or late.
        proxy_bad r#"outcome="bad""#
    ]
    counter "tidegate_connections_ended_total" "Client connections ended by a deadline or an abort." [
        /// The head did not come in time.
        ended_head_timeout r#"reason="head_timeout""#
        /// A body stood still.
        ended_body_timeout r#"reason="body_timeout""#
        /// Nothing between requests.
        ended_idle r#"reason="idle""#
        /// Reset or broken by the peer.
        ended_reset r#"reason="reset""#
        /// Bytes that break TLS or HTTP.
        ended_protocol r#"reason="protocol""#
    ]
    counter "tidegate_client_keys_dropped_total" "Times that a silent client's expanded record keys were given up; its next record makes them again." [
        keys_dropped ""
    ]
    counter "tidegate_handshakes_total" "TLS handshakes with clients, by outcome." [
        handshakes_full r#"outcome="full""#
        handshakes_resumed r#"outcome="resumed""#
        handshakes_failed r#"outcome="failed""#
    ]
    gauge "tidegate_handshakes_open" "TLS handshakes in progress." [
        handshakes_open ""
    ]
    counter "tidegate_requests_total" "Requests by class of the answer; aborted: the client left first." [
        responses_1xx r#"class="1xx""#
        responses_2xx r#"class="2xx""#
        responses_3xx r#"class="3xx""#
        responses_4xx r#"class="4xx""#
        responses_5xx r#"class="5xx""#
        requests_aborted r#"class="aborted""#
    ]
    gauge "tidegate_requests_open" "Requests in progress." [
        requests_open ""
    ]
    gauge "tidegate_requests_held" "Requests that wait for a relay link." [
        requests_held ""
    ]
    counter "tidegate_requests_retried_total" "Requests sent again to another connector." [
        requests_retried ""
    ]
    counter "tidegate_retries_withheld_total" "Requests not sent again because a tenth of the traffic had been." [
        retries_withheld ""
    ]
    counter "tidegate_auth_total" "Judgements of client certificates, by result; cached: no judgement was needed." [
        auth_accepted r#"result="accepted""#
        auth_rejected r#"result="rejected""#
        auth_revoked r#"result="revoked""#
        auth_cached r#"result="cached""#
    ]
    counter "tidegate_tokens_total" "Judgements of clients' tokens, by result; cached: no judgement was needed." [
        tokens_accepted r#"result="accepted""#
        tokens_rejected r#"result="rejected""#
        tokens_revoked r#"result="revoked""#
        tokens_cached r#"result="cached""#
    ]
    counter "tidegate_requests_revoked_total" "Requests cut in their course because their client was denied." [
        requests_revoked ""
    ]
    counter "tidegate_bytes_total" "Bytes by peer and direction, TLS included." [
        client_bytes_in r#"peer="client",direction="in""#
        client_bytes_out r#"peer="client",direction="out""#
        relay_bytes_in r#"peer="relay",direction="in""#
        relay_bytes_out r#"peer="relay",direction="out""#
        upstream_bytes_in r#"peer="upstream",direction="in""#
        upstream_bytes_out r#"peer="upstream",direction="out""#
    ]
    gauge "tidegate_relay_links" "Relay links ready for requests." [
        links ""
    ]
    gauge "tidegate_relay_links_wanted" "Relay links that a connector keeps: one to every shard of every instance." [
        links_wanted ""
    ]
    counter "tidegate_relay_links_total" "Relay links by event." [
        links_opened r#"event="opened""#
        links_lost r#"event="lost""#
        links_refused r#"event="refused""#
        /// Accepted by another shard and moved here, or away from here.
        links_moved r#"event="moved""#
    ]
    gauge "tidegate_streams" "Relay streams open." [
        streams ""
    ]
    counter "tidegate_streams_total" "Relay streams by event." [
        streams_opened r#"event="opened""#
        streams_reset r#"event="reset""#
        /// Reset to free memory: the longest-stalled first.
        streams_evicted r#"event="evicted""#
    ]
    gauge "tidegate_channels" "Notification channels open, by kind and by what their clients showed." [
        channels_sse_certificate r#"kind="sse",auth="certificate""#
        channels_sse_token r#"kind="sse",auth="token""#
        channels_websocket_certificate r#"kind="websocket",auth="certificate""#
        channels_websocket_token r#"kind="websocket",auth="token""#
        channels_poll_certificate r#"kind="poll",auth="certificate""#
        channels_poll_token r#"kind="poll",auth="token""#
    ]
    counter "tidegate_channels_opened_total" "Notification channels opened." [
        channels_opened ""
    ]
    counter "tidegate_channels_ended_total" "Notification channels ended, by reason; answered: a long poll got its answer." [
        channels_left r#"reason="left""#
        channels_lost r#"reason="lost""#
        channels_answered r#"reason="answered""#
        channels_replaced r#"reason="replaced""#
        channels_denied r#"reason="denied""#
        channels_requested r#"reason="requested""#
        channels_draining r#"reason="draining""#
        channels_revoked r#"reason="revoked""#
        channels_expired r#"reason="expired""#
        channels_misbehaved r#"reason="misbehaved""#
        channels_slow_ended r#"reason="slow""#
        channels_forbidden r#"reason="forbidden""#
    ]
    counter "tidegate_channel_pushes_total" "Pushes to channels by what became of them." [
        channel_sent r#"fate="sent""#
        channel_gone r#"fate="gone""#
        channel_dropped r#"fate="dropped""#
    ]
    counter "tidegate_channel_receipts_total" "Receipts of clients; lost: their connector had no link here." [
        channel_receipts r#"outcome="sent""#
        channel_receipts_lost r#"outcome="lost""#
    ]
    counter "tidegate_channel_keep_alives_total" "Signs of life sent on idle channels." [
        channel_keep_alives ""
    ]
    counter "tidegate_channel_lists_restarted_total" "Full lists of channels begun anew because a link had no room for news." [
        channel_lists_restarted ""
    ]
    counter "tidegate_channel_links_paused_total" "Times a link was not read because its pushes came faster than they went out." [
        channel_links_paused ""
    ]
    gauge "tidegate_channel_backlog" "Pushes that wait for channels that do not read." [
        channel_backlog ""
    ]
    gauge "tidegate_channels_slow" "Channels for which something waits." [
        channel_slow ""
    ]
    gauge "tidegate_channel_bytes" "Memory of the channels in this process, their sockets excepted." [
        channel_bytes ""
    ]
    gauge "tidegate_stalled_bytes" "Body bytes that wait for a slow reader." [
        stalled_bytes ""
    ]
    gauge "tidegate_memory_charged_bytes" "Memory charged to the process's cap." [
        memory_charged ""
    ]
    counter "tidegate_settings_total" "Published settings by verdict." [
        settings_accepted r#"verdict="accepted""#
        settings_refused r#"verdict="refused""#
    ]
    gauge "tidegate_upstream_connections" "Connections to upstreams by state." [
        upstream_active r#"state="active""#
        upstream_idle r#"state="idle""#
        /// HTTP/2: many requests on each.
        upstream_shared r#"state="shared""#
    ]
    counter "tidegate_upstream_total" "Connections to upstreams by event." [
        upstream_connects r#"event="connected""#
        upstream_reused r#"event="reused""#
        upstream_connect_failed r#"event="connect_failed""#
        upstream_timeouts r#"event="timeout""#
        /// Broke off, or sent what is not HTTP.
        upstream_broken r#"event="broken""#
        /// A pooled connection was closed by the upstream while it was idle.
        upstream_idle_closed r#"event="idle_closed""#
        /// A request went on to another endpoint of its route, or once more to the same.
        upstream_moved_on r#"event="moved_on""#
        /// An endpoint was left out for its failures.
        upstream_went_out r#"event="went_out""#
        upstream_came_back r#"event="came_back""#
    ]
    gauge "tidegate_connector_upstream_ports_used" "Local ports in use between the source and the upstream address that use most, by this shard." [
        upstream_ports_used ""
    ]
    gauge "tidegate_connector_upstream_ports_available" "Local ports that the host has between one source and one upstream address, for all shards." [
        upstream_ports_available ""
    ]
    gauge "tidegate_upstream_endpoints_out" "Upstream endpoints that this shard leaves out for their failures." [
        upstream_out ""
    ]
    counter "tidegate_upstream_handshakes_total" "TLS handshakes with upstreams, by outcome." [
        upstream_handshakes_full r#"outcome="full""#
        upstream_handshakes_resumed r#"outcome="resumed""#
        upstream_handshakes_failed r#"outcome="failed""#
    ]
    counter "tidegate_log_dropped_total" "Access log records dropped because their writer was behind." [
        access_log_dropped ""
    ]
    counter "tidegate_loop_total" "Turns of the shard's loop, and times it slept." [
        turns r#"event="turn""#
        sleeps r#"event="sleep""#
    ]
    counter "tidegate_ring_events_total" "Completions of the ring." [
        ring_events ""
    ]
    counter "tidegate_ring_no_buffers_total" "Receives that had to wait for a buffer." [
        ring_no_buffers ""
    ]
}

impl ShardStats {
    pub fn new(shard: u32) -> Self {
        Self {
            shard,
            ..Self::default()
        }
    }

    /// Counts a channel's end by its reason; one that the table does not name counts as lost.
    pub fn count_channel_end(&mut self, reason: &str) {
        let count = match reason {
            "left" => &mut self.channels_left,
            "answered" => &mut self.channels_answered,
            "replaced" => &mut self.channels_replaced,
            "denied" => &mut self.channels_denied,
            "requested" => &mut self.channels_requested,
            "draining" => &mut self.channels_draining,
            "revoked" => &mut self.channels_revoked,
            "expired" => &mut self.channels_expired,
            "misbehaved" => &mut self.channels_misbehaved,
            "slow" => &mut self.channels_slow_ended,
            "forbidden" => &mut self.channels_forbidden,
            _ => &mut self.channels_lost,
        };
        *count += 1;
    }

    /// Counts an answer by its class.
    pub fn count_response(&mut self, status: u16) {
        let class = match status / 100 {
            1 => &mut self.responses_1xx,
            2 => &mut self.responses_2xx,
            3 => &mut self.responses_3xx,
            4 => &mut self.responses_4xx,
            _ => &mut self.responses_5xx,
        };
        *class += 1;
    }
}

/// Counts by a code from our own source, never from a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorCounts(Vec<(&'static str, u64)>);

impl ErrorCounts {
    pub fn add(&mut self, code: &'static str) {
        self.add_many(code, 1);
    }

    fn add_many(&mut self, code: &'static str, count: u64) {
        if let Some((_, known)) = self.0.iter_mut().find(|(known, _)| *known == code) {
            *known += count;
        } else if self.0.len() < MAX_ERROR_CODES {
            self.0.push((code, count));
        } else if let Some((_, last)) = self.0.last_mut() {
            // More codes than the table has: none is lost from the sum.
            *last += count;
        }
    }

    pub fn get(&self, code: &str) -> u64 {
        self.0
            .iter()
            .find(|(known, _)| *known == code)
            .map_or(0, |(_, count)| *count)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().copied()
    }
}

/// Upper bounds double from 128 µs to 67 s; one more bucket takes the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; Histogram::BOUNDS + 1],
    sum_us: u64,
}

impl Histogram {
    const BOUNDS: usize = 20;
    const FIRST_BOUND_LOG2_US: u32 = 7;

    /// Some three instructions: no table, no float.
    pub fn add(&mut self, us: u64) {
        let log2_up = u64::BITS - us.saturating_sub(1).leading_zeros();
        let bucket = log2_up.saturating_sub(Self::FIRST_BOUND_LOG2_US) as usize;
        self.buckets[bucket.min(Self::BOUNDS)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    fn render(&self, name: &str, shard: u32, out: &mut String) {
        let mut below = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            below += count;
            let bound = if index == Self::BOUNDS {
                "+Inf".to_string()
            } else {
                seconds(1 << (index as u32 + Self::FIRST_BOUND_LOG2_US))
            };
            let _ = writeln!(
                out,
                "{name}_bucket{{shard=\"{shard}\",le=\"{bound}\"}} {below}"
            );
        }
        let _ = writeln!(
            out,
            "{name}_sum{{shard=\"{shard}\"}} {}",
            seconds(self.sum_us)
        );
        let _ = writeln!(out, "{name}_count{{shard=\"{shard}\"}} {below}");
    }
}

/// Microseconds as a decimal of seconds, exactly.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// A value that is no shard's, e.g. a certificate's end.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    /// `tidegate_…`.
    pub name: &'static str,
    pub help: &'static str,
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
}

impl Gauge {
    /// The end of a certificate in unix seconds.
    pub fn certificate_expiry(expiry: &crate::control::certificates::expiry::Expiry) -> Self {
        Self {
            name: "tidegate_certificate_expiry_seconds",
            help: "End of a certificate, in seconds since 1970.",
            labels: vec![
                ("file", expiry.file.display().to_string()),
                ("subject", expiry.subject.clone()),
            ],
            value: expiry.not_after as f64,
        }
    }
}

/// The whole text of `/metrics`. Gauges of one name must stand together.
pub fn render(stats: &[ShardStats], gauges: &[Gauge]) -> String {
    let mut out = String::with_capacity(16 << 10);
    render_families(stats, &mut out);
    let name = "tidegate_errors_total";
    head(&mut out, name, "counter", "Error answers by code.");
    for shard in stats {
        for (code, count) in shard.errors.iter() {
            sample(
                &mut out,
                name,
                shard.shard,
                &format!("code=\"{code}\""),
                count,
            );
        }
    }
    let name = "tidegate_request_seconds";
    head(
        &mut out,
        name,
        "histogram",
        "Time from a request's head to the end of its answer.",
    );
    for shard in stats {
        shard.request_time.render(name, shard.shard, &mut out);
    }
    head(
        &mut out,
        "tidegate_build_info",
        "gauge",
        "The version that runs.",
    );
    let _ = writeln!(
        out,
        "tidegate_build_info{{version=\"{}\"}} 1",
        env!("CARGO_PKG_VERSION")
    );
    let mut last = "";
    for gauge in gauges {
        if gauge.name != last {
            head(&mut out, gauge.name, "gauge", gauge.help);
            last = gauge.name;
        }
        let label = |(key, value): &(&str, String)| format!("{key}=\"{}\"", escape(value));
        let labels: Vec<_> = gauge.labels.iter().map(label).collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        let _ = writeln!(out, "{}{labels} {}", gauge.name, gauge.value);
    }
    out
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(out: &mut String, name: &str, shard: u32, label: &str, value: u64) {
    let comma = if label.is_empty() { "" } else { "," };
    let _ = writeln!(out, "{name}{{shard=\"{shard}\"{comma}{label}}} {value}");
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn line<'t>(text: &'t str, start: &str) -> &'t str {
        text.lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_else(|| panic!("no {start} in\n{text}"))
    }

    #[test]
    fn a_shards_numbers_come_out_under_their_names() {
        let mut one = ShardStats::new(1);
        one.accepted = 7;
        one.handshakes_resumed = 3;
        one.count_response(204);
        one.errors.add("no_connector");
        one.request_time.add(1000);
        let text = render(&[ShardStats::new(0), one], &[]);
        assert_eq!(
            line(&text, "tidegate_connections_accepted_total{shard=\"1\""),
            "tidegate_connections_accepted_total{shard=\"1\"} 7"
        );
        assert!(text.contains("tidegate_handshakes_total{shard=\"1\",outcome=\"resumed\"} 3\n"));
        assert!(text.contains("tidegate_requests_total{shard=\"1\",class=\"2xx\"} 1\n"));
        assert!(text.contains("tidegate_errors_total{shard=\"1\",code=\"no_connector\"} 1\n"));
        assert!(text.contains("tidegate_request_seconds_bucket{shard=\"1\",le=\"0.000512\"} 0\n"));
        assert!(text.contains("tidegate_request_seconds_bucket{shard=\"1\",le=\"0.001024\"} 1\n"));
        assert!(text.contains("tidegate_request_seconds_bucket{shard=\"1\",le=\"+Inf\"} 1\n"));
        assert!(text.contains("tidegate_request_seconds_sum{shard=\"1\"} 0.001\n"));
    }

    #[test]
    fn the_text_is_well_formed() {
        let gauge = |n: f64| Gauge {
            name: "tidegate_x",
            help: "X.",
            labels: vec![("f", "a\"b\\c\nd".into())],
            value: n,
        };
        let text = render(
            &[ShardStats::new(0), ShardStats::new(1)],
            &[gauge(1.5), gauge(2.0)],
        );
        let (mut typed, mut seen) = (HashSet::new(), HashSet::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert!(
                    typed.insert(rest.split(' ').next().unwrap()),
                    "two TYPE lines: {line}"
                );
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').unwrap();
                value.parse::<f64>().unwrap();
                let name = series.split('{').next().unwrap();
                let family = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|s| name.strip_suffix(s))
                    .unwrap_or(name);
                assert!(
                    typed.contains(name) || typed.contains(family),
                    "no TYPE before {line}"
                );
                assert!(name.starts_with("tidegate_"));
                if name != "tidegate_x" {
                    assert!(seen.insert(series.to_string()), "twice: {series}");
                }
            }
        }
        assert!(text.contains(r#"tidegate_x{f="a\"b\\c\nd"} 1.5"#));
    }

    #[test]
    fn merging_adds_everything() {
        let mut a = ShardStats::new(0);
        a.accepted = 1;
        a.errors.add("x");
        a.request_time.add(5);
        let mut b = ShardStats::new(1);
        b.accepted = 2;
        b.streams = 4;
        b.errors.add("x");
        b.errors.add("y");
        b.request_time.add(u64::MAX);
        a.merge(&b);
        assert_eq!((a.shard, a.accepted, a.streams), (0, 3, 4));
        assert_eq!(
            (a.errors.get("x"), a.errors.get("y"), a.request_time.count()),
            (2, 1, 2)
        );
    }

    #[test]
    fn buckets_hold_what_their_bound_says() {
        for (us, bucket) in [
            (0, 0),
            (1, 0),
            (128, 0),
            (129, 1),
            (256, 1),
            (257, 2),
            (1 << 26, 19),
            ((1 << 26) + 1, 20),
            (u64::MAX, 20),
        ] {
            let mut histogram = Histogram::default();
            histogram.add(us);
            assert_eq!(
                histogram.buckets.iter().position(|n| *n == 1),
                Some(bucket),
                "{us} µs"
            );
        }
    }

    #[test]
    fn codes_are_bounded_and_none_is_lost() {
        let mut counts = ErrorCounts::default();
        for i in 0..100 {
            counts.add(Box::leak(format!("code{i}").into_boxed_str()));
        }
        assert_eq!(counts.iter().count(), MAX_ERROR_CODES);
        assert_eq!(counts.iter().map(|(_, n)| n).sum::<u64>(), 100);
    }
}
