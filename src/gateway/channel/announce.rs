//! Connectors learn of channels: news of each turn to all of a site's, the whole list to one that came, or that fell
//! behind.
//!
//! | listing | news | leaves by |
//! |---|---|---|
//! | Off | sent each turn | no room → Behind |
//! | From(slot) | sent too: they count for the list | last slot → Off; no room for news → Behind |
//! | Behind | not sent: a list will say it | room again → From(0) |

use crate::wire::relay::{Batch, ChannelDown, ChannelKey, DownReason, Downs, Ups};

use super::super::shard::Gateway;
use super::table::Stage;
use super::{Channels, gauge};

/// Channel frames of a full list that one turn sends: some 2,000 channels, 100 µs.
const FRAMES_A_TURN: usize = 8;
/// Room that the session must have for a frame of a list.
const FRAME: usize = 16_384;

/// How far one link's connector knows the channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listing {
    #[default]
    Off,
    From(u32),
    Behind,
}

/// What became of a list in this turn.
#[derive(Clone, Copy)]
enum Part {
    Sent,
    /// The link takes no more at the moment: it goes on when the link has sent.
    NoRoom,
    /// The list is over, or its link is gone.
    Last,
}

/// What the connectors of a site are to be told at the end of this turn.
#[derive(Default)]
pub struct News {
    ups: Ups,
    downs: Downs,
}

impl News {
    fn is_empty(&self) -> bool {
        self.ups.is_empty() && self.downs.is_empty()
    }
}

impl Channels {
    fn news(&mut self, site: usize) -> &mut News {
        if site >= self.news.len() {
            self.news.resize_with(site + 1, News::default);
        }
        self.news_wait = true;
        &mut self.news[site]
    }

    pub fn has_news(&self) -> bool {
        self.news_wait
    }
}

impl Gateway {
    /// A channel is there.
    pub(super) fn announce_up(&mut self, slot: u32) {
        let Gateway { channels, cx, .. } = self;
        let Some(channel) = channels.table.get(slot) else {
            return;
        };
        cx.stats.channels_opened += 1;
        *gauge(channel, cx) += 1;
        let site = usize::from(channel.site);
        if self.cx.sites.get(site).is_none_or(|site| site.is_empty()) {
            return;
        }
        for _ in 0..2 {
            let channels = &mut self.channels;
            channels.news(site);
            let (Some(channel), Some(news)) =
                (channels.table.get(slot), channels.news.get_mut(site))
            else {
                return;
            };
            if news.ups.push(&channel.up(slot)) {
                return;
            }
            self.tell(site);
        }
    }

    /// A channel is gone. Its going up was told before: ups of a turn go first.
    pub(super) fn announce_down(&mut self, site: u16, key: ChannelKey, reason: DownReason) {
        let site = usize::from(site);
        if self.cx.sites.get(site).is_none_or(|site| site.is_empty()) {
            return;
        }
        if !self
            .channels
            .news(site)
            .downs
            .push(ChannelDown { key, reason })
        {
            self.tell(site);
            self.channels
                .news(site)
                .downs
                .push(ChannelDown { key, reason });
        }
    }

    /// Sends what all sites' connectors are to be told.
    pub(in crate::gateway) fn announce(&mut self) {
        self.channels.news_wait = false;
        for site in 0..self.channels.news.len() {
            if !self.channels.news[site].is_empty() {
                self.tell(site);
            }
        }
    }

    fn tell(&mut self, site: usize) {
        let Gateway {
            channels,
            links,
            cx,
            ..
        } = self;
        let Some(News { ups, downs }) = channels.news.get_mut(site) else {
            return;
        };
        for nth in 0.. {
            let Some(key) = cx.sites.get(site).and_then(|site| site.keys().nth(nth)) else {
                break;
            };
            let Some(link) = links.get_mut(key) else {
                continue;
            };
            if link.state.listing == Listing::Behind {
                continue;
            }
            let Some((session, out)) = link.session() else {
                continue;
            };
            if !session.has_channels() {
                continue;
            }
            if !session.send_batch(ups, out) || !session.send_batch(downs, out) {
                link.state.listing = Listing::Behind;
                cx.stats.channel_lists_restarted += 1;
            }
            cx.mark_link(&mut link.state);
        }
        ups.clear();
        downs.clear();
    }

    /// A link is ready: its connector gets the whole list.
    pub(in crate::gateway) fn begin_list(&mut self, key: usize) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        if !link.session.has_channels() {
            return;
        }
        link.state.listing = Listing::From(0);
        if !self.channels.listing.contains(&key) {
            self.channels.listing.push(key);
        }
    }

    /// There is room on the link again.
    pub(in crate::gateway) fn catch_up(&mut self, key: usize) {
        let behind = self.links.get_mut(key).is_some_and(|link| {
            link.state.listing == Listing::Behind && link.session.poll_channel_room()
        });
        if behind {
            self.begin_list(key);
        }
    }

    /// The next part of every list that is under way.
    pub(in crate::gateway) fn list_some(&mut self) {
        let mut at = 0;
        self.channels.lists_wait = true;
        while let Some(key) = self.channels.listing.get(at).copied() {
            match self.list_part(key) {
                Part::Last => {
                    self.channels.listing.swap_remove(at);
                    continue;
                }
                Part::Sent => self.channels.lists_wait = false,
                Part::NoRoom => {}
            }
            at += 1;
        }
    }

    /// Some frames of a link's list.
    fn list_part(&mut self, key: usize) -> Part {
        let Gateway {
            channels,
            links,
            cx,
            ..
        } = self;
        let Some(link) = links.get_mut(key) else {
            return Part::Last;
        };
        let site = link.state.site as u16;
        let mut part = Part::NoRoom;
        for _ in 0..FRAMES_A_TURN {
            let Listing::From(from) = link.state.listing else {
                return Part::Last;
            };
            let Some((session, out)) = link.session() else {
                return Part::Last;
            };
            if session.channel_room() < FRAME {
                return part;
            }
            let list = &mut channels.list;
            list.clear();
            if from == 0 {
                list.start_list();
            }
            let mut at = from;
            let next = loop {
                let Some((slot, channel)) = channels.table.next_from(at) else {
                    list.end_list();
                    break None;
                };
                let theirs = channel.site == site && channel.stage == Stage::Open;
                if theirs && !list.push(&channel.up(slot)) {
                    break Some(slot);
                }
                at = slot + 1;
            };
            if !session.send_batch(list, out) {
                return part;
            }
            part = Part::Sent;
            cx.mark_link(&mut link.state);
            match next {
                // A list that begins and does not end begins with the first slot only.
                Some(slot) => link.state.listing = Listing::From(slot.max(1)),
                None => {
                    link.state.listing = Listing::Off;
                    return Part::Last;
                }
            }
        }
        part
    }
}
