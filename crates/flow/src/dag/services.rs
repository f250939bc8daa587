//! What attempts of all runs share: the program's own values, and places that are limited.

use std::any::{Any, TypeId};
use std::sync::{Arc, PoisonError};

use tokio::sync::Semaphore;

use super::executor::DagExecutor;
use crate::model::graph::Node;

impl DagExecutor {
    /// What every attempt finds in [`super::action::NodeCtx::app_data`].
    pub fn set_app_state(&self, state: Arc<dyn Any + Send + Sync>) {
        *self.inner.app.write().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }

    /// Keeps a value that actions find by its type.
    pub fn set_services<T: Send + Sync + 'static>(&self, services: Arc<T>) {
        let mut all = self.inner.services.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(TypeId::of::<T>(), services);
    }

    /// The value of a type that was kept.
    pub fn get_services<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let all = self.inner.services.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&TypeId::of::<T>()).cloned().and_then(|any| any.downcast().ok())
    }

    /// How many attempts of all runs may work at once; who waits longest goes first. Default: no limit.
    pub fn set_max_running(&self, most: usize) {
        let places = Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)));
        *self.inner.all_places.write().unwrap_or_else(PoisonError::into_inner) = Some(places);
    }

    pub(crate) fn app_data(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.inner.app.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Places that an attempt of the node needs besides one of its run's.
    pub(crate) fn places(&self, node: &Node) -> Vec<Arc<Semaphore>> {
        let mut needed = Vec::new();
        if let Some(limit) = &node.concurrency {
            let mut places = self.inner.places.lock().unwrap_or_else(PoisonError::into_inner);
            let most = limit.limit.clamp(1, Semaphore::MAX_PERMITS);
            let place = places.entry(limit.key.clone());
            needed.push(Arc::clone(place.or_insert_with(|| Arc::new(Semaphore::new(most)))));
        }
        // A sub-flow's own attempts need places; it must not hold one while it waits for them.
        if node.flow.is_none() {
            needed.extend(
                self.inner.all_places.read().unwrap_or_else(PoisonError::into_inner).clone(),
            );
        }
        needed
    }
}
