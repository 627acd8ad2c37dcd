//! The alias is another one.

use async_trait::async_trait;

use super::Fake;
use crate::api::*;

#[async_trait]
impl Announcing for Fake {
    async fn change_announcement(&self, change: AnnouncementChange) -> Result<Vec<AnnouncementOp>, ApiError> {
        let op = AnnouncementOp { entity: "alias", actions: vec!["changed to carol".to_owned()] };
        self.asked(change, vec![op])
    }
}
