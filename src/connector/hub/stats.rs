//! What the hub counts. Gauges are values of now; the rest only grows.

use crate::observe::metrics::Gauge;

macro_rules! stats {
    ($($name:literal $help:literal [$($field:ident $label:literal $value:literal)+])+) => {
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Stats { $($(pub $field: u64,)+)+ }

        impl Stats {
            /// All of them, families together, for `/metrics`.
            pub fn gauges(&self) -> Vec<Gauge> {
                let mut gauges = Vec::new();
                $($({
                    let labels: Vec<(&'static str, String)> = match $label {
                        "" => Vec::new(),
                        label => vec![(label, $value.to_owned())],
                    };
                    gauges.push(Gauge { name: $name, help: $help, labels, value: self.$field as f64 });
                })+)+
                gauges
            }
        }
    };
}

stats! {
    "tidegate_hub_clients" "Clients present, those in the grace of a long poll among them." [ clients "" "" ]
    "tidegate_hub_channels" "Channels by kind." [
        channels_sse "kind" "sse"
        channels_websocket "kind" "websocket"
        channels_poll "kind" "poll"
    ]
    "tidegate_hub_channels_by_auth" "Channels by what their client was recognised by." [
        channels_certificate "auth" "certificate"
        channels_token "auth" "token"
    ]
    "tidegate_hub_presence_bytes" "Memory of the presence table." [ presence_bytes "" "" ]
    "tidegate_hub_links" "Relay links that carry channels." [ links "" "" ]
    "tidegate_hub_gateway_shards" "Gateway shards that have such a link." [ gateway_shards "" "" ]
    "tidegate_hub_left_out_total" "Channels and gateway shards left out because a table was full." [ left_out "" "" ]
    "tidegate_hub_pushes_total" "Pushes accepted." [
        pushes_to_clients "to" "clients"
        pushes_to_all "to" "all"
    ]
    "tidegate_hub_deliveries_total" "Deliveries to channels by outcome." [
        sent "outcome" "sent"
        gone "outcome" "gone"
        dropped "outcome" "dropped"
        unknown "outcome" "unknown"
    ]
    "tidegate_hub_repeats_total" "Notifications that were marked as a repeat." [ repeats "" "" ]
    "tidegate_hub_receipts_total" "Receipts of clients, by whether their push is known." [
        receipts "push" "known"
        receipts_unknown "push" "unknown"
    ]
    "tidegate_hub_expired_total" "Targets whose time ended before a receipt." [ expired "" "" ]
    "tidegate_hub_queued" "Queued pushes that are not done." [ queued "" "" ]
    "tidegate_hub_queued_bytes" "Payload bytes of queued pushes." [ queued_bytes "" "" ]
    "tidegate_hub_remembered" "Pushes whose results can be read." [ remembered "" "" ]
    "tidegate_hub_held" "Pushes held for clients in their grace." [ held "" "" ]
    "tidegate_hub_store_usable" "1: queued pushes are taken; 0: the store cannot be used." [ store_usable "" "" ]
    "tidegate_hub_store_commits_total" "Commits of the store." [ commits "" "" ]
    "tidegate_hub_store_commands_total" "Changes in those commits." [ commit_commands "" "" ]
    "tidegate_hub_store_failures_total" "Commits and openings of the store that failed." [ store_failures "" "" ]
}
