//! Long polls: a client that waits as a parked channel, and is a client again with its answer.

use crate::ring::{Receive, Verbs};
use crate::wire::Put;
use crate::wire::http1;
use crate::wire::relay::DownReason;
use std::fmt::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use super::super::auth::{Chain, JudgedToken};
use super::super::client::{Client, Phase, State};
use super::super::shard::{Gateway, Owner};
use super::payload::Payload;

/// What the connection needs to go on after the answer. It is more than a channel that stays: its client's certificate
/// chain, which is judged again with the next request.
pub struct Poll {
    pub until: Instant,
    peer: SocketAddr,
    counted: bool,
    address: Box<str>,
    sni: Option<Box<str>>,
    chain: Option<Rc<Chain>>,
    last_token: Option<Rc<JudgedToken>>,
    bad_tokens: u8,
    /// The request asked for the connection's end.
    close: bool,
}

impl Poll {
    pub fn of(state: State, until: Instant, close: bool) -> Box<Poll> {
        Box::new(Poll {
            until,
            peer: state.peer,
            counted: state.counted,
            address: state.address,
            sni: state.sni,
            chain: state.chain,
            last_token: state.last_token,
            bad_tokens: state.bad_tokens,
            close,
        })
    }
}

impl Gateway {
    /// Answers a long poll: with a push, or without when its time is over. The connection is a client's again.
    pub(super) fn answer_poll<R: Verbs>(
        &mut self,
        ring: &mut R,
        slot: u32,
        payload: Option<&Payload>,
    ) {
        if !self.go_down(slot, DownReason::Answered) {
            return;
        }
        self.cx.stats.count_channel_end("answered");
        let Gateway { channels, cx, .. } = self;
        channels.rhythm.take(&mut channels.table, slot);
        let Some(poll) = channels.polls.remove(&slot) else {
            return self.drop_channel(ring, slot, false);
        };
        let Some(channel) = channels.table.remove(slot) else {
            return;
        };
        channels.who_bytes -= channel.who.bytes();
        let tls = channel.tls.wake();
        let layout = tls.layout();
        let mut out = cx.outgoing(layout);
        write_answer(&mut out, payload, poll.close);
        let (key, stamp) = (self.clients.vacant_key(), cx.stamp());
        let mut http = http1::Server::new(cx.plan.http);
        if poll.close {
            http.close_after_response();
        }
        self.clients.insert(Client {
            tls,
            http,
            state: State {
                key,
                socket: channel.socket,
                layout,
                stamp,
                peer: poll.peer,
                counted: poll.counted,
                address: poll.address,
                sni: poll.sni,
                chain: poll.chain,
                last_token: poll.last_token,
                bad_tokens: poll.bad_tokens,
                phase: if poll.close {
                    Phase::Closing
                } else {
                    Phase::Open
                },
                out: Some(out),
                exchange: None,
                reading: Receive::Small,
                dirty: false,
                finished: false,
                progress: cx.now,
                head_since: None,
                armed: None,
                drained: 0,
            },
        });
        self.own(channel.socket, Owner::Client(key));
        if let Some(client) = self.clients.get_mut(key) {
            self.cx.mark_client(&mut client.state);
        }
        self.count_connections();
    }
}

/// 200 with the push, or 204.
fn write_answer(out: &mut impl Put, payload: Option<&Payload>, close: bool) {
    let end = if close { "Connection: close\r\n" } else { "" };
    let mut head = String::with_capacity(192);
    let _ = match payload {
        Some(payload) => write!(
            head,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n{end}Content-Length: {}\r\n\r\n{{\"pushes\":[",
            payload.envelope().len() + "{\"pushes\":[]}".len()
        ),
        None => write!(
            head,
            "HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n{end}\r\n"
        ),
    };
    out.put(head.as_bytes());
    if let Some(payload) = payload {
        out.put(payload.envelope().as_bytes());
        out.put(b"]}");
    }
}
