//! Who is there: lists, news, losses, graces.

use super::call::HubEvent;
use super::core::{Core, Sweep};
use super::limits::{CHANNELS, GRACE, SWEPT_PER_TURN};
use super::message::{FromShard, LinkId, ToShard, Ups};
use super::presence::Channel;
use crate::wire::relay::{
    ChannelAuth, ChannelKey, ChannelKind, ChannelUp, CloseReason, DownReason,
};

/// Why a channel is gone, for the event stream.
fn reason_name(reason: DownReason) -> &'static str {
    match reason {
        DownReason::Other => "other",
        DownReason::Left => "left",
        DownReason::Lost => "lost",
        DownReason::Answered => "answered",
        DownReason::Closed => "closed",
        DownReason::Draining => "draining",
        DownReason::Revoked => "revoked",
        DownReason::Misbehaved => "misbehaved",
    }
}

impl Core {
    /// A message of a connector's shard.
    pub fn handle_shard(&mut self, shard: usize, message: FromShard) {
        match message {
            FromShard::LinkUp { link, gateway } => {
                match self.gateways.link_up(link, shard, gateway) {
                    Some(gateway) => self.send_held_to_all(gateway, link),
                    None => self.stats.left_out += 1,
                }
            }
            FromShard::LinkLost { link } => {
                self.lose_link(link);
            }
            FromShard::Up {
                link,
                list_starts,
                list_ends,
                ups,
            } => self.handle_ups(link, list_starts, list_ends, &ups),
            FromShard::Down { link, channels } => {
                let Some(gateway) = self.gateways.of_link(link) else {
                    return;
                };
                for (key, reason) in channels {
                    if let Some(channel) = self.find_channel(gateway, key) {
                        self.channel_gone(
                            channel,
                            reason_name(reason),
                            reason == DownReason::Answered,
                        );
                    }
                }
            }
            FromShard::Outcomes {
                link,
                push,
                channels,
            } => {
                for (key, fate) in channels {
                    self.outcome(link, push, key, fate);
                }
            }
            FromShard::OutcomeOfAll { link, push, totals } => {
                self.outcome_of_all(link, push, totals)
            }
            FromShard::Refused {
                link,
                push,
                targets,
            } => self.not_sent(link, push, targets),
            FromShard::Receipts { receipts } => {
                for (push, client) in receipts {
                    self.receipt(push, &client);
                }
            }
        }
    }

    pub(super) fn find_channel(&self, gateway: u16, key: ChannelKey) -> Option<u32> {
        let at = self.presence.at(gateway, key.slot)?;
        let channel = self.presence.channel(at)?;
        (channel.key() == key).then_some(at)
    }

    fn handle_ups(&mut self, link: LinkId, list_starts: bool, list_ends: bool, ups: &Ups) {
        let Some(at) = self.gateways.of_link(link) else {
            self.stats.left_out += ups.len() as u64;
            return;
        };
        if list_starts && let Some(gateway) = self.gateways.get_mut(at) {
            // Another link's list may be under way: this one is as good, and newer.
            gateway.listing = Some(link);
            gateway.mark = gateway.mark.wrapping_add(1);
            self.sweeps.retain(|sweep| sweep.gateway != at);
        }
        let Some((mark, listing)) = self
            .gateways
            .get(at)
            .map(|g| (g.mark, g.listing == Some(link)))
        else {
            return;
        };
        for up in ups.iter() {
            self.channel_up(at, mark, listing, &up);
        }
        if list_ends
            && listing
            && let Some(gateway) = self.gateways.get_mut(at)
        {
            gateway.listing = None;
            self.sweeps.push_back(Sweep {
                gateway: at,
                cursor: 0,
            });
        }
    }

    fn channel_up(&mut self, gateway: u16, mark: u16, listing: bool, up: &ChannelUp<'_>) {
        if let Some(at) = self.presence.at(gateway, up.key.slot) {
            let same = self.presence.channel(at).is_some_and(|channel| {
                channel.key() == up.key
                    && (channel.kind(), channel.auth()) == (up.kind, up.auth)
                    && self.presence.is(channel.client, up.client)
            });
            if same {
                self.confirm(at, mark);
                return;
            }
            self.channel_gone(at, "other", false);
        }
        let seconds = self.seconds();
        let Some(at) = self.presence.add(gateway, mark, up, seconds) else {
            self.stats.left_out += 1;
            return;
        };
        if let Some(gateway) = self.gateways.get_mut(gateway) {
            gateway.channels += 1;
        }
        self.count_channel(up.kind, up.auth, 1);
        self.event(|_| HubEvent::Up {
            client: up.client.to_owned(),
            kind: up.kind,
            auth: up.auth,
        });
        let Some(client) = self.presence.channel(at).map(|channel| channel.client) else {
            return;
        };
        if self.grace_ends.remove(&client).is_some() {
            self.presence.keep(client, false);
        }
        self.close_surplus(client, at, listing);
        if self.presence.channel(at).is_some() {
            self.client_arrived(client, at, up.client);
        }
    }

    /// It was known, and is still there.
    fn confirm(&mut self, at: u32, mark: u16) {
        let Some(channel) = self.presence.channel_mut(at) else {
            return;
        };
        channel.mark = mark;
        let client = channel.client;
        self.client_confirmed(client);
    }

    fn count_channel(&mut self, kind: ChannelKind, auth: ChannelAuth, n: i64) {
        let by_kind = match kind {
            ChannelKind::EventStream => &mut self.stats.channels_sse,
            ChannelKind::WebSocket => &mut self.stats.channels_websocket,
            ChannelKind::LongPoll => &mut self.stats.channels_poll,
        };
        *by_kind = by_kind.saturating_add_signed(n);
        let by_auth = match auth {
            ChannelAuth::Certificate => &mut self.stats.channels_certificate,
            ChannelAuth::Token => &mut self.stats.channels_token,
        };
        *by_auth = by_auth.saturating_add_signed(n);
    }

    /// The newest channels of a client stay, up to its limit. News count by their coming; of a list, which may be old,
    /// by the gateways' clocks.
    fn close_surplus(&mut self, client: u32, newest: u32, listing: bool) {
        let allowed = self.settings.channels_per_client.max(1);
        if self.presence.channels_of(client).nth(allowed).is_none() {
            return;
        }
        let mut channels: Vec<(u32, u32)> = self
            .presence
            .channels_of(client)
            .map(|(at, channel)| (channel.since, at))
            .collect();
        while channels.len() > allowed {
            // They come with the last one first, so that of equal ones the older is found last.
            let oldest = channels
                .iter()
                .enumerate()
                .filter(|(_, (_, at))| listing || *at != newest)
                .min_by_key(|(order, (since, _))| (*since, usize::MAX - order));
            let Some((order, _)) = oldest else { return };
            let (_, at) = channels.remove(order);
            self.close_channel(at, CloseReason::Replaced);
            self.channel_gone(at, "replaced", false);
        }
    }

    /// Asks the gateway to close a channel; without a link it is asked when the channel is announced again.
    pub(super) fn close_channel(&mut self, at: u32, reason: CloseReason) {
        let Some((gateway, key)) = self.presence.channel(at).map(|c| (c.gateway(), c.key())) else {
            return;
        };
        if let Some(link) = self.gateways.link_to(gateway) {
            // No room: it stays open, and comes up again with the next list.
            let _ = self.tell(ToShard::Close {
                link,
                channels: vec![key],
                reason,
            });
        }
    }

    /// A channel is gone. After the answer to a long poll its client stays for a grace.
    pub(super) fn channel_gone(&mut self, at: u32, reason: &'static str, answered: bool) {
        let Some(gone) = self.presence.remove(at) else {
            return;
        };
        self.uncount(&gone);
        self.event(|core| HubEvent::Down {
            client: core.presence.id(gone.client),
            reason,
        });
        let last = self.presence.channels_of(gone.client).next().is_none();
        if last && answered && self.graces.len() < CHANNELS {
            let seconds = self.seconds();
            self.presence.saw(gone.client, seconds);
            self.presence.keep(gone.client, true);
            self.graces.push_back((self.now + GRACE, gone.client));
            self.grace_ends.insert(gone.client, self.now + GRACE);
        } else if last {
            self.client_gone(gone.client);
        }
    }

    fn uncount(&mut self, gone: &Channel) {
        if let Some(gateway) = self.gateways.get_mut(gone.gateway()) {
            gateway.channels = gateway.channels.saturating_sub(1);
        }
        self.count_channel(gone.kind(), gone.auth(), -1);
    }

    /// A client has neither channel nor grace any more.
    fn client_gone(&mut self, client: u32) {
        self.presence.keep(client, false);
        self.drop_held(client);
        self.presence.tidy(client);
    }

    /// Clients whose grace is over, and gateway shards.
    pub(super) fn end_graces(&mut self) {
        while let Some((at, client)) = self.graces.front().copied() {
            if at > self.now {
                break;
            }
            self.graces.pop_front();
            // One that polled again meanwhile, and was answered again, has a later entry.
            if self.grace_ends.get(&client) == Some(&at) {
                self.grace_ends.remove(&client);
                self.client_gone(client);
            }
        }
        while let Some(at) = self.gateways.poll_gone(self.now) {
            self.drop_held_to_all(at);
            if let Some(gateway) = self.gateways.get_mut(at) {
                gateway.mark = gateway.mark.wrapping_add(1);
                self.sweeps.retain(|sweep| sweep.gateway != at);
                self.sweeps.push_back(Sweep {
                    gateway: at,
                    cursor: 0,
                });
            }
        }
    }

    /// Takes channels away that the newest list of their gateway shard does not name, a part a turn.
    pub(super) fn sweep(&mut self) {
        let mut budget = SWEPT_PER_TURN;
        while let Some(Sweep { gateway, cursor }) = self.sweeps.front() {
            let (gateway, mut cursor) = (*gateway, *cursor);
            let mark = self.gateways.get(gateway).map_or(0, |g| g.mark);
            while budget > 0 {
                let Some((at, channel)) = self.presence.next_channel(cursor) else {
                    self.sweeps.pop_front();
                    self.forget_gateway(gateway);
                    break;
                };
                let gone = channel.gateway() == gateway && channel.mark != mark;
                cursor = at + 1;
                budget -= 1;
                if gone {
                    self.channel_gone(at, "lost", false);
                }
            }
            if budget == 0 {
                if let Some(sweep) = self.sweeps.front_mut().filter(|s| s.gateway == gateway) {
                    sweep.cursor = cursor;
                }
                return;
            }
        }
    }

    /// A gateway shard that is gone with all its channels.
    fn forget_gateway(&mut self, at: u16) {
        let gone = self
            .gateways
            .get(at)
            .is_some_and(|g| g.is_gone(self.now) && g.channels == 0);
        if gone {
            self.gateways.forget(at);
        }
    }
}
