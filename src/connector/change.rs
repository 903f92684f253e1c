//! What a reload means to what is open: links to gateways that are gone are left in order, new ones are dialled, and
//! changed settings are published over the links that stand. Requests end on the route and upstream they began with.

use crate::ring::Verbs;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use super::context::Context;
use super::dial::{Dial, Target};
use super::link::Phase;
use super::plan::Plan;
use super::reload::Verdict;
use super::shard::Connector;

/// How long requests on a link may go on that a reload took away.
const LEAVE: Duration = Duration::from_secs(60);

impl Context {
    /// Shard 0 of every instance is dialled by our shard 0; READY tells how many more there are.
    pub fn add_targets(&mut self) {
        if self.shard != 0 {
            return;
        }
        for (gateway, at) in self
            .plan
            .gateways
            .iter()
            .enumerate()
            .filter(|(_, at)| at.wanted)
        {
            for instance in 0..at.address.instances {
                let known = |t: &Target| (t.gateway, t.instance, t.shard) == (gateway, instance, 0);
                if !self.targets.iter().any(known) {
                    self.targets
                        .push(Target::new(gateway, instance, 0, self.now));
                }
            }
        }
    }
}

impl Connector {
    pub(super) fn replan<R: Verbs>(
        &mut self,
        ring: &mut R,
        plan: Arc<Plan>,
        verdicts: Option<SyncSender<Verdict>>,
    ) {
        let other_settings = plan.document_hash != self.cx.plan.document_hash;
        self.cx.set_plan(plan);
        for index in 0..self.cx.targets.len() {
            self.retarget(ring, index);
        }
        self.cx.add_targets();
        self.learn_early();
        self.arm_targets();
        if other_settings {
            self.publish_again(verdicts);
        }
    }

    /// Puts a target on or off as the plan has it.
    fn retarget<R: Verbs>(&mut self, ring: &mut R, index: usize) {
        let target = &mut self.cx.targets[index];
        let gateway = &self.cx.plan.gateways[target.gateway];
        let off = !gateway.wanted || target.instance >= gateway.address.instances;
        if off == target.off {
            return;
        }
        target.off = off;
        let Dial::Up(key) = target.state else {
            target.state = Dial::Waiting(self.cx.now);
            return;
        };
        if !off {
            // The link that stands is on its way out; the next one is dialled when it has ended.
            return;
        }
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        match link.session() {
            Some((session, out)) => {
                session.send_go_away(LEAVE, Duration::ZERO, out);
                self.cx.mark_link(&mut link.state);
            }
            None => self.drop_link(ring, key, "the gateway is not configured any more"),
        }
    }

    /// One link per instance carries the settings.
    fn publish_again(&mut self, verdicts: Option<SyncSender<Verdict>>) {
        let plan = self.cx.plan.clone();
        let mut published = Vec::new();
        for (_, link) in &mut self.links {
            let target = &self.cx.targets[link.state.target];
            if target.shard != 0 || target.off || link.state.phase != Phase::Ready {
                continue;
            }
            let at = (target.gateway, target.instance);
            if let Some((session, out)) = link.session()
                && session.publish(plan.document_hash, plan.document.clone(), out)
            {
                published.push(at);
            }
            self.cx.mark_link(&mut link.state);
        }
        if let Some(verdicts) = verdicts {
            self.cx.await_verdicts(verdicts, published);
        }
    }
}
