//! Every maximum of the hub, in one place, with what happens at it.

use std::time::Duration;

/// Bytes of a client id; a longer one is not taken into the table (the gateway never sends one).
pub const CLIENT_ID_BYTES: usize = 128;
/// Channels in the presence table; one more is counted and left out: its client cannot be reached.
pub const CHANNELS: usize = 4 << 20;
/// Gateway shards known at once (16 instances of 64 gateways, 4 shards each); what one more announces is left out.
pub const GATEWAY_SHARDS: usize = 4096;
/// How long the channels of a lost link, and the client of an answered long poll, stay present.
pub const GRACE: Duration = Duration::from_secs(10);
/// Pushes held for one client in its grace; one more is `dropped`.
pub const HELD_PER_CLIENT: usize = 8;
/// Pushes held in all; one more is `dropped`.
pub const HELD: usize = 200_000;

/// Bytes of a payload as it goes to the client; above it 413.
pub const PAYLOAD_BYTES: usize = 4096;
/// Client ids of one push; above it 413.
pub const CLIENTS_PER_PUSH: usize = 10_000;
/// Seconds a push may live; above it 400.
pub const TTL_SECONDS: u64 = 7 * 24 * 3600;
pub const DEFAULT_TTL_SECONDS: u64 = 3600;

/// Pushes remembered with their results; at it the oldest finished one goes, and when none is finished, 507.
pub const PUSHES: usize = 100_000;
/// (push, client) pairs remembered; as above.
pub const TARGETS: usize = 2_000_000;
/// Payload bytes of queued pushes; at it 507.
pub const QUEUED_BYTES: usize = 256 << 20;
/// Queued pushes that wait for one client; at it 507.
pub const QUEUED_PER_CLIENT: usize = 1024;
/// Queued pushes to all at once; at it 507.
pub const QUEUED_TO_ALL: usize = 64;
/// How long the results of a finished push stay readable.
pub const RESULTS_KEPT: Duration = Duration::from_secs(3600);

/// Bytes of an idempotency key; above it 400.
pub const KEY_BYTES: usize = 128;
/// Idempotency keys remembered; at it 507 for pushes that bring one.
pub const KEYS: usize = 200_000;
/// How long a key is kept at least; as long as its push's ttl when that is more.
pub const KEY_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Messages that may wait for the hub from one shard; a full queue gives the message back and the shard tries again.
pub const FROM_SHARD: usize = 1024;
/// Calls of the API that may wait for the hub; one more is 503 `overloaded`.
pub const CALLS: usize = 1024;
/// Messages that may wait in the hub for one shard whose queue is full; one more is `dropped`.
pub const TO_SHARD: usize = 65_536;
/// Work between two looks at the queues: messages of one source, and clients whose queued pushes are sent again.
pub const PER_TURN: usize = 256;
/// Targets in one message to a shard.
pub const TARGETS_PER_MESSAGE: usize = 2000;

/// Commands that may wait for the store; at it a push is 503 `overloaded`, a receipt waits in the hub.
pub const STORE_QUEUE: usize = 16_384;
/// How long a group commit collects, and how much.
pub const COMMIT_COLLECTS: Duration = Duration::from_millis(2);
pub const COMMIT_COMMANDS: usize = 2048;
/// How often a store that cannot be used is tried again.
pub const STORE_RETRY: Duration = Duration::from_secs(5);

/// Listeners of the event stream; one more is 503 `overloaded`.
pub const LISTENERS: usize = 16;
/// Events that may wait for a listener; at it the listener is cut.
pub const EVENTS_PER_LISTENER: usize = 4096;

/// Connections to the API; more wait to be accepted.
pub const API_CONNECTIONS: usize = 256;
/// Requests of the API at work, event streams apart; one more is 503 `overloaded`.
pub const API_REQUESTS: usize = 128;
/// Bytes of a request's body: 10,000 ids of 128 bytes, and a payload with every byte escaped.
pub const API_BODY_BYTES: usize = 2 << 20;
/// How long a request's body, and a TLS handshake, may take.
pub const API_PATIENCE: Duration = Duration::from_secs(10);
/// Clients of one page.
pub const PAGE: usize = 1000;
