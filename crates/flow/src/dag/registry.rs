//! Actions by name, with their schemas made ready.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use serde_json::Value;

use super::action::{NodeAction, NodeCtx, NodeOutput};
use super::executor::DagExecutor;
use crate::error::DagError;

/// An action with its schemas made ready.
pub(crate) struct Registered {
    pub(crate) action: Arc<dyn NodeAction>,
    pub(crate) input: Option<jsonschema::Validator>,
    pub(crate) output: Option<jsonschema::Validator>,
    pub(crate) version: String,
}

impl Registered {
    fn new(action: Arc<dyn NodeAction>) -> Result<Self, DagError> {
        let compile = |which: &str, schema: Option<Value>| match schema {
            None => Ok(None),
            Some(schema) => jsonschema::validator_for(&schema).map(Some).map_err(|error| {
                let name = action.name();
                DagError::ValidationError(format!("action {name}: {which} schema: {error}"))
            }),
        };
        let input = compile("input", action.input_schema())?;
        let output = compile("output", action.output_schema())?;
        let version = action.version();
        Ok(Self { action, input, output, version })
    }
}

/// Actions by name. A handle; clones share them.
#[derive(Clone, Default)]
pub struct ActionRegistry(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    actions: HashMap<String, Arc<Registered>>,
    /// What went wrong where nobody looked at the answer.
    unheard: Vec<DagError>,
}

impl fmt::Debug for ActionRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ActionRegistry").field(&self.names()).finish()
    }
}

impl ActionRegistry {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an action under its own name. Another one of the same name is [`DagError::ValidationError`].
    pub fn register(&self, action: Arc<dyn NodeAction>) -> Result<(), DagError> {
        let name = action.name();
        let registered = Registered::new(action)?;
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = known.actions.get(&name) {
            if Arc::ptr_eq(&before.action, &registered.action) {
                return Ok(());
            }
            return Err(DagError::ValidationError(format!(
                "action `{name}` is registered already; give this one another name"
            )));
        }
        known.actions.insert(name, Arc::new(registered));
        Ok(())
    }

    /// Names, sorted.
    pub fn names(&self) -> Vec<String> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<String> = known.actions.keys().cloned().collect();
        names.sort();
        names
    }

    /// Whether there is an action of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Registered>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).actions.get(name).cloned()
    }

    fn unheard(&self, error: DagError) {
        tracing::error!(%error, "an action was not registered");
        self.0.write().unwrap_or_else(PoisonError::into_inner).unheard.push(error);
    }

    /// Fails with the first registration that failed unseen.
    pub(crate) fn check(&self) -> Result<(), DagError> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.unheard.first().cloned().map_or(Ok(()), Err)
    }
}

type Shared = HashMap<String, Arc<dyn NodeAction>>;

impl From<Arc<RwLock<Shared>>> for ActionRegistry {
    /// Takes what is in it now.
    fn from(shared: Arc<RwLock<Shared>>) -> Self {
        let registry = Self::new();
        for (name, action) in shared.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let renamed = Arc::new(Renamed { name: name.clone(), action: Arc::clone(action) });
            if let Err(error) = registry.register(renamed) {
                registry.unheard(error);
            }
        }
        registry
    }
}

/// An action under the name that a map had for it.
struct Renamed {
    name: String,
    action: Arc<dyn NodeAction>,
}

#[async_trait]
impl NodeAction for Renamed {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn execute(&self, ctx: &NodeCtx) -> anyhow::Result<NodeOutput> {
        self.action.execute(ctx).await
    }

    fn validate_inputs(&self, inputs: &Value) -> anyhow::Result<()> {
        self.action.validate_inputs(inputs)
    }

    fn input_schema(&self) -> Option<Value> {
        self.action.input_schema()
    }

    fn output_schema(&self) -> Option<Value> {
        self.action.output_schema()
    }

    fn version(&self) -> String {
        self.action.version()
    }
}

/// The answer of `register_action!`: the action is registered already; awaiting it tells whether that went well.
#[derive(Debug)]
pub struct Registration {
    result: Option<Result<(), DagError>>,
    registry: ActionRegistry,
}

impl Registration {
    /// Registers an action now.
    pub fn now(executor: &DagExecutor, action: Arc<dyn NodeAction>) -> Self {
        let registry = executor.registry().clone();
        Self { result: Some(registry.register(action)), registry }
    }
}

impl Future for Registration {
    type Output = Result<(), DagError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::task::Poll::Ready(self.result.take().unwrap_or(Ok(())))
    }
}

impl Drop for Registration {
    /// A failure that nobody looked at is told by the next run.
    fn drop(&mut self) {
        if let Some(Err(error)) = self.result.take() {
            self.registry.unheard(error);
        }
    }
}
