//! Forgets what is over and takes up what was left lying.

use std::sync::Arc;

use mayfly_core::time::Timestamp;

use crate::house::House;
use crate::reconcile::{refusals, volumes, world};
use crate::{audit, commit};

/// One round.
pub(crate) async fn pass(house: Arc<House>) {
    refusals::write(&house).await;
    audit::flush(&house).await;
    if let Err(error) = world::compare(&house).await {
        tracing::warn!(%error, "store and runtime were not compared");
    }
    let kept = i64::try_from(house.settings.keep_destroyed.as_millis()).unwrap_or(i64::MAX);
    let before = Timestamp(house.now().wall.0.saturating_sub(kept));
    if let Err(error) = commit::forget(&house, before).await {
        tracing::warn!(%error, "destroyed sandboxes were not forgotten");
    }
    volumes::pass(&house, before).await;
}
