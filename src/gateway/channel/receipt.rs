//! Receipts: a client says that it has a push, and the connector that the push id names learns it.

use crate::wire::relay::{Batch, PushId, Receipt};
use serde::Deserialize;
use slab::Slab;

use super::super::context::Context;
use super::super::fault::Fault;
use super::super::relay::{self, Link};
use super::super::request::Failure;
use super::super::shard::Gateway;

/// Ids in one message.
pub const RECEIPTS: usize = 64;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    receipt: Ids<'a>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Ids<'a> {
    One(&'a str),
    #[serde(borrow)]
    Many(Vec<&'a str>),
}

/// Reads `{"receipt": "<id>"}` or `{"receipt": ["<id>", …]}`.
pub fn read(text: &[u8], pushes: &mut Vec<PushId>) -> Result<(), &'static str> {
    let message: Message<'_> =
        serde_json::from_slice(text).map_err(|_| "not {\"receipt\": \"<id>\"}")?;
    let mut take = |id: &str| match id.parse() {
        Ok(push) => {
            pushes.push(push);
            Ok(())
        }
        Err(()) => Err("a receipt names a push id"),
    };
    match message.receipt {
        Ids::One(id) => take(id),
        Ids::Many(ids) if ids.len() > RECEIPTS => Err("too many receipts in one message"),
        Ids::Many(ids) => ids.into_iter().try_for_each(take),
    }
}

/// Hands a receipt to the connector that its push names. False: that one has no link here, or no room on it.
pub fn hand_on(receipt: Receipt<'_>, site: u32, links: &mut Slab<Link>, cx: &mut Context) -> bool {
    let Some(site_links) = cx.sites.get(site as usize) else {
        return false;
    };
    let wanted = receipt.push.connector();
    let fits = |key: &usize| {
        let link = links.get(*key)?;
        (link.state.push_prefix == wanted && link.session.has_channels()).then_some(*key)
    };
    let Some(key) = site_links.keys().find_map(|key| fits(&key)) else {
        return false;
    };
    let Some(link) = links.get_mut(key) else {
        return false;
    };
    cx.receipts.push(receipt);
    let sent = match link.session() {
        Some((session, out)) => session.send_batch(&mut cx.receipts, out),
        None => false,
    };
    cx.receipts.clear();
    if sent {
        cx.stats.channel_receipts += 1;
    }
    relay::mark(links, key, cx);
    sent
}

/// All receipts of a request's body.
pub fn take(
    body: &[u8],
    client: &str,
    site: u32,
    links: &mut Slab<Link>,
    cx: &mut Context,
) -> Result<(), Failure> {
    let mut pushes = Vec::new();
    read(body, &mut pushes).map_err(|why| (Fault::BadRequest, why.to_owned()))?;
    for push in pushes {
        if !hand_on(Receipt { push, client }, site, links, cx) {
            let text = format!("the connector that holds push {push} is not linked here");
            return Err((Fault::NoConnector, text));
        }
    }
    Ok(())
}

impl Gateway {
    /// The client of a channel has a push. Without a way to its connector it is not acknowledged: the client gets the push
    /// again, and says so again.
    pub(super) fn acknowledge(&mut self, slot: u32, push: PushId) {
        let Gateway {
            channels,
            links,
            cx,
            ..
        } = self;
        let Some(channel) = channels.table.get(slot) else {
            return;
        };
        let receipt = Receipt {
            push,
            client: channel.who.client(),
        };
        if !hand_on(receipt, u32::from(channel.site), links, cx) {
            cx.stats.channel_receipts_lost += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_or_some() {
        let (a, b) = (PushId([1; 16]), PushId([2; 16]));
        let mut pushes = Vec::new();
        let text = format!("{{\"receipt\":\"{a}\"}}");
        assert_eq!(read(text.as_bytes(), &mut pushes), Ok(()));
        let text = format!("{{\"receipt\":[\"{a}\",\"{b}\"],\"more\":1}}");
        assert_eq!(read(text.as_bytes(), &mut pushes), Ok(()));
        assert_eq!(pushes, [a, a, b]);
    }

    #[test]
    fn anything_else_is_refused() {
        let many = vec!["\"00000000000000000000000000\""; RECEIPTS + 1].join(",");
        for text in [
            "",
            "{}",
            "[]",
            "{\"receipt\":1}",
            "{\"receipt\":\"\"}",
            "{\"receipt\":\"0000000000000000000000000G\"}",
            "{\"receipt\":[\"x\"]}",
            &format!("{{\"receipt\":[{many}]}}"),
        ] {
            assert!(read(text.as_bytes(), &mut Vec::new()).is_err(), "{text}");
        }
    }
}
