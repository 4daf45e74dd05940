//! What components say about extensions: where their queues are, who checks credentials, who adds
//! them to requests. Checked before anything is built, with the place of each mistake.

use std::collections::BTreeSet;

use super::plan::Plan;
use crate::component::{Kind, Offer};
use crate::config::{ConfigError, Content, Mark, Node, did_you_mean};
use crate::delivery::{Delivery, separate};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<ConfigError>,
    pub(super) warnings: Vec<ConfigError>,
}

/// Checks all components of a plan; `broken` are those with mistakes of their own.
pub(super) fn check(plan: &Plan, broken: &BTreeSet<(Kind, String)>) -> Findings {
    let mut check = Check { plan, broken, found: Findings::default() };
    for ((kind, _), defined) in &plan.components {
        let path = defined.section.path();
        match kind {
            Kind::Receiver => {
                check.auth(defined.section.node(), path, Offer::ServerAuth);
                check.symbol_storage(defined.section.node(), path);
            }
            Kind::Exporter => {
                check.auth(defined.section.node(), path, Offer::ClientAuth);
                check.storage(defined.section.node(), path);
                let (_, ours) = separate(&defined.section, |_| true);
                let delivery = Delivery::of(&ours, (defined.factory.delivery)());
                // Its mistakes are known already.
                for (field, message) in delivery.map(|d| d.warnings).unwrap_or_default() {
                    let path = format!("{path}::{field}");
                    let warning = ConfigError::at(ours.mark_of(field), path, message);
                    check.found.warnings.push(warning);
                }
            }
            Kind::Processor => {
                check.auth(defined.section.node(), path, Offer::ClientAuth);
                check.symbol_storage(defined.section.node(), path);
            }
            Kind::Extension => {}
        }
    }
    check.found
}

struct Check<'a> {
    plan: &'a Plan,
    broken: &'a BTreeSet<(Kind, String)>,
    found: Findings,
}

impl Check<'_> {
    fn storage(&mut self, section: &Node, path: &str) {
        let storage = section.get("sending_queue").and_then(|queue| queue.get("storage"));
        if let Some((id, mark)) = storage.and_then(text) {
            self.reference(id, mark, format!("{path}::sending_queue::storage"), Offer::Storage);
        }
    }

    fn symbol_storage(&mut self, section: &Node, path: &str) {
        if let Some((id, mark)) = section.get("symbol_storage").and_then(text) {
            self.reference(id, mark, format!("{path}::symbol_storage"), Offer::SymbolStorage);
        }
    }

    /// Every `auth: {authenticator: id}`, wherever it is.
    fn auth(&mut self, node: &Node, path: &str, offer: Offer) {
        for entry in node.entries() {
            let path = format!("{path}::{}", entry.key);
            let named = entry.value.get("authenticator").filter(|_| entry.key == "auth");
            if let Some((id, mark)) = named.and_then(text) {
                self.reference(id, mark, format!("{path}::authenticator"), offer);
            }
            self.auth(&entry.value, &path, offer);
        }
        for (at, item) in node.items().iter().enumerate() {
            self.auth(item, &format!("{path}::{at}"), offer);
        }
    }

    fn reference(&mut self, id: &str, mark: &Mark, path: String, offer: Offer) {
        let known = (Kind::Extension, id.to_owned());
        if self.broken.contains(&known) {
            return;
        }
        let message = match self.plan.components.get(&known) {
            None => {
                let there = self.plan.components.keys().chain(self.broken);
                let of_kind = there.filter(|(kind, _)| *kind == Kind::Extension);
                let hint = did_you_mean(id, of_kind.map(|(_, id)| id.as_str()));
                format!("`{id}` is not defined under `extensions`{hint}")
            }
            Some(defined) => {
                let offers = (defined.factory.offers)();
                let name = defined.factory.name;
                if offers.is_some_and(|offers| !offers.contains(&offer)) {
                    match offer {
                        Offer::Storage => format!("`{name}` keeps no queues; use `file_storage`"),
                        Offer::ClientAuth => format!("`{name}` has no credentials for requests"),
                        Offer::ServerAuth => format!("`{name}` cannot check who sends a request"),
                        Offer::SymbolStorage => {
                            format!("`{name}` keeps no symbols; use `symbol_storage`")
                        }
                    }
                } else if !self.plan.extensions.contains(&known.1) {
                    format!("`{id}` does not run; list it in `service::extensions`")
                } else {
                    return;
                }
            }
        };
        self.found.errors.push(ConfigError::at(mark, path, message));
    }
}

/// A scalar that is written, and where.
fn text(node: &Node) -> Option<(&str, &Mark)> {
    match &node.content {
        Content::Scalar(scalar) if !node.is_null() => Some((&scalar.text, &node.mark)),
        _ => None,
    }
}
