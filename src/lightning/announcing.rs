//! What the node says of itself to the network.

use std::sync::PoisonError;

use async_trait::async_trait;

use super::{LightningNode, graph::address};
use crate::{
    api::{AnnouncementChange, AnnouncementOp, Announcing, ApiError},
    driver::announced::{Announced, node_address},
    limits::MAX_ANNOUNCED_ADDRESSES,
    store::ChangedAnnouncement,
};

#[async_trait]
impl Announcing for LightningNode {
    async fn change_announcement(&self, change: AnnouncementChange) -> Result<Vec<AnnouncementOp>, ApiError> {
        self.read(move |services| {
            let mut announced = services.announced.write().unwrap_or_else(PoisonError::into_inner);
            let (changed, ops) = changed(&announced, &change)?;
            let kept = kept(services.store.changed_announcement()?, &announced, &changed);
            services.store.put_changed_announcement(&kept)?;
            *announced = changed;
            Ok(ops)
        })
        .await
    }
}

/// What was changed before, with what is changed now.
fn kept(before: ChangedAnnouncement, now: &Announced, changed: &Announced) -> ChangedAnnouncement {
    ChangedAnnouncement {
        alias: Some(&changed.alias).filter(|alias| **alias != now.alias).cloned().or(before.alias),
        color: Some(changed.color).filter(|color| *color != now.color).or(before.color),
        addresses: Some(&changed.addresses).filter(|all| **all != now.addresses).cloned().or(before.addresses),
    }
}

fn changed(now: &Announced, change: &AnnouncementChange) -> Result<(Announced, Vec<AnnouncementOp>), ApiError> {
    let too_many = || {
        let text = format!("address_updates: at most {MAX_ANNOUNCED_ADDRESSES} addresses are told to the network");
        ApiError::invalid(text)
    };
    // Before each is compared with all others.
    if change.add.len() > MAX_ANNOUNCED_ADDRESSES || change.remove.len() > MAX_ANNOUNCED_ADDRESSES {
        return Err(too_many());
    }
    let (mut changed, mut ops) = (now.clone(), Vec::new());
    if let Some(color @ [red, green, blue]) = change.color
        && color != now.color
    {
        changed.color = color;
        let actions = vec![format!("changed to #{red:02x}{green:02x}{blue:02x}")];
        ops.push(AnnouncementOp { entity: "color", actions });
    }
    if let Some(alias) = change.alias.as_ref().filter(|alias| **alias != now.alias) {
        changed.alias.clone_from(alias);
        ops.push(AnnouncementOp { entity: "alias", actions: vec![format!("changed to {alias}")] });
    }
    let mut actions = Vec::new();
    for gone in &change.remove {
        let gone = node_address(gone);
        if changed.addresses.contains(&gone) {
            actions.push(format!("{} removed", address(&gone)));
            changed.addresses.retain(|known| *known != gone);
        }
    }
    for new in &change.add {
        let new = node_address(new);
        if !changed.addresses.contains(&new) {
            actions.push(format!("{} added", address(&new)));
            changed.addresses.push(new);
        }
    }
    if changed.addresses.len() > MAX_ANNOUNCED_ADDRESSES {
        return Err(too_many());
    }
    if !actions.is_empty() {
        ops.push(AnnouncementOp { entity: "addresses", actions });
    }
    if ops.is_empty() {
        return Err(ApiError::invalid("unable to detect any new values to update the node announcement"));
    }
    Ok((changed, ops))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Announced {
        let addresses = vec![node_address(&"192.0.2.1:9735".parse().unwrap())];
        Announced { alias: "alice".to_owned(), color: [1, 2, 3], addresses }
    }

    #[test]
    fn what_is_said_of_the_node_changes_part_by_part() {
        let change = AnnouncementChange {
            alias: Some("carol".to_owned()),
            color: Some([0xc4, 0x2a, 0x81]),
            add: vec!["[2001:db8::1]:9735".parse().unwrap(), "192.0.2.2:9735".parse().unwrap()],
            remove: vec!["192.0.2.1:9735".parse().unwrap(), "192.0.2.9:9735".parse().unwrap()],
        };
        let (changed, ops) = changed(&now(), &change).unwrap();
        assert_eq!((changed.alias.as_str(), changed.color, changed.addresses.len()), ("carol", [0xc4, 0x2a, 0x81], 2));
        let told: Vec<_> = ops.iter().map(|op| (op.entity, op.actions.join(", "))).collect();
        assert_eq!(told[0], ("color", "changed to #c42a81".to_owned()));
        assert_eq!(told[1], ("alias", "changed to carol".to_owned()));
        let addresses = "192.0.2.1:9735 removed, [2001:db8::1]:9735 added, 192.0.2.2:9735 added";
        assert_eq!(told[2], ("addresses", addresses.to_owned()));
    }

    #[test]
    fn only_what_was_changed_is_kept() {
        let first = Announced { color: [9, 9, 9], ..now() };
        let before = kept(ChangedAnnouncement::default(), &now(), &first);
        assert_eq!(before, ChangedAnnouncement { color: Some([9, 9, 9]), ..ChangedAnnouncement::default() });
        let second = Announced { alias: "carol".to_owned(), ..first.clone() };
        let after = kept(before, &first, &second);
        assert_eq!((after.alias.as_deref(), after.color, after.addresses), (Some("carol"), Some([9, 9, 9]), None));
    }

    #[test]
    fn what_changes_nothing_or_too_much_is_refused() {
        let same = AnnouncementChange { alias: Some("alice".to_owned()), ..Default::default() };
        for change in [AnnouncementChange::default(), same] {
            assert!(changed(&now(), &change).unwrap_err().to_string().contains("unable to detect any new values"));
        }
        let add = (0..=MAX_ANNOUNCED_ADDRESSES).map(|port| format!("192.0.2.7:{}", port + 1).parse().unwrap());
        let many = AnnouncementChange { add: add.collect(), ..Default::default() };
        assert!(changed(&now(), &many).unwrap_err().to_string().contains("address_updates"));
        // The network cannot know so many of them.
        let gone = AnnouncementChange { remove: many.add, ..Default::default() };
        assert!(changed(&now(), &gone).unwrap_err().to_string().contains("address_updates"));
    }
}
