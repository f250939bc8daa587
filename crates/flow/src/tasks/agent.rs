//! Agents: what works on tasks. An agent is a type, or a function that `#[task_agent]` makes one of.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;

use super::context::TaskContext;
use super::task::json;
use crate::error::{AgentError, DagError};

/// Works on tasks that name it. One value serves all of them, several at once.
#[async_trait]
pub trait TaskAgent: Send + Sync {
    /// The name that tasks call it by.
    fn name(&self) -> String;

    /// One attempt; what it gives is the task's output. [`AgentError::User`] is not tried again.
    async fn execute(&self, input: Bytes, ctx: Arc<TaskContext>) -> Result<Bytes, AgentError>;

    /// For people and for models that choose among agents.
    fn description(&self) -> String {
        String::new()
    }

    /// JSON Schema that inputs must match; without one, any bytes are taken.
    fn input_schema(&self) -> Option<Value> {
        None
    }

    /// JSON Schema that outputs must match.
    fn output_schema(&self) -> Option<Value> {
        None
    }
}

/// An agent with its schemas made ready.
pub(crate) struct Registered {
    pub(crate) agent: Arc<dyn TaskAgent>,
    input: Option<jsonschema::Validator>,
    output: Option<jsonschema::Validator>,
}

impl Registered {
    fn new(agent: Arc<dyn TaskAgent>) -> Result<Self, DagError> {
        let compile = |which: &str, schema: Option<Value>| match schema {
            None => Ok(None),
            Some(schema) => jsonschema::validator_for(&schema).map(Some).map_err(|error| {
                let name = agent.name();
                DagError::ValidationError(format!("agent {name}: {which} schema: {error}"))
            }),
        };
        let input = compile("input", agent.input_schema())?;
        let output = compile("output", agent.output_schema())?;
        Ok(Self { agent, input, output })
    }

    /// Refuses an input that does not match.
    pub(crate) fn check_input(&self, input: &[u8]) -> Result<(), String> {
        held("input", self.input.as_ref(), input)
    }

    /// Refuses an output that does not match.
    pub(crate) fn check_output(&self, output: &[u8]) -> Result<(), String> {
        held("output", self.output.as_ref(), output)
    }
}

fn held(which: &str, schema: Option<&jsonschema::Validator>, bytes: &[u8]) -> Result<(), String> {
    let Some(schema) = schema else { return Ok(()) };
    let value = json(bytes).map_err(|error| format!("{which} is not JSON: {error}"))?;
    schema.validate(&value).map_err(|error| format!("{which} does not match its schema: {error}"))
}

/// Agents by name. A handle; clones share them.
#[derive(Clone, Default)]
pub struct AgentRegistry(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    agents: HashMap<String, Arc<Registered>>,
    /// The names, as claims need them.
    names: Arc<[String]>,
}

impl fmt::Debug for AgentRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AgentRegistry").field(&self.names()).finish()
    }
}

impl AgentRegistry {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an agent under its own name. Another one of the same name, a name that is empty and a schema that is none
    /// are [`DagError::ValidationError`].
    pub fn register(&self, agent: Arc<dyn TaskAgent>) -> Result<(), DagError> {
        let name = agent.name();
        if name.is_empty() {
            return Err(DagError::ValidationError("an agent's name is empty".to_owned()));
        }
        let registered = Registered::new(agent)?;
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = known.agents.get(&name) {
            if Arc::ptr_eq(&before.agent, &registered.agent) {
                return Ok(());
            }
            return Err(DagError::ValidationError(format!(
                "agent `{name}` is registered already; give this one another name"
            )));
        }
        known.agents.insert(name, Arc::new(registered));
        let mut names: Vec<String> = known.agents.keys().cloned().collect();
        names.sort();
        known.names = names.into();
        Ok(())
    }

    /// Names, sorted.
    pub fn names(&self) -> Arc<[String]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).names)
    }

    /// Name and description of each agent, sorted by name.
    pub fn descriptions(&self) -> Vec<(String, String)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let line =
            |name: &String| Some((name.clone(), known.agents.get(name)?.agent.description()));
        known.names.iter().filter_map(line).collect()
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Registered>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).agents.get(name).cloned()
    }
}

/// What a function agent's error means: whatever could not end otherwise is [`AgentError::User`].
///
/// For code that `#[task_agent]` writes.
#[doc(hidden)]
pub fn agent_error(error: impl Into<anyhow::Error>) -> AgentError {
    let error = error.into();
    if let Some(known) = error.downcast_ref::<AgentError>() {
        return known.clone();
    }
    let text = format!("{error:#}");
    if crate::error::is_permanent(&error) {
        AgentError::User(text)
    } else {
        AgentError::System(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Strict(&'static str, Value);

    #[async_trait]
    impl TaskAgent for Strict {
        fn name(&self) -> String {
            self.0.to_owned()
        }

        async fn execute(&self, input: Bytes, _ctx: Arc<TaskContext>) -> Result<Bytes, AgentError> {
            Ok(input)
        }

        fn input_schema(&self) -> Option<Value> {
            Some(self.1.clone())
        }
    }

    #[test]
    fn a_name_is_taken_once_and_schemas_must_be_some() {
        let registry = AgentRegistry::new();
        let agent: Arc<dyn TaskAgent> = Arc::new(Strict("a", json!({ "type": "object" })));
        registry.register(Arc::clone(&agent)).unwrap();
        registry.register(agent).unwrap();
        for (agent, part) in [
            (Strict("a", json!({})), "registered already"),
            (Strict("", json!({})), "empty"),
            (Strict("b", json!({ "type": 5 })), "input schema"),
        ] {
            let error = registry.register(Arc::new(agent)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(*registry.names(), ["a".to_owned()]);
        let found = registry.find("a").unwrap();
        assert!(found.check_input(b"{}").is_ok());
        assert!(found.check_input(b"5").unwrap_err().contains("does not match"));
        assert!(found.check_input(b"{").unwrap_err().contains("not JSON"));
        assert!(found.check_output(b"{").is_ok());
    }

    #[test]
    fn errors_keep_their_sort() {
        let user = agent_error(AgentError::User("x".into()));
        assert!(matches!(user, AgentError::User(_)));
        let wrapped = anyhow::Error::new(AgentError::Timeout("x".into())).context("outer");
        assert!(matches!(agent_error(wrapped), AgentError::Timeout(_)));
        assert!(matches!(agent_error(anyhow::anyhow!("x")), AgentError::System(_)));
        let permanent = DagError::ValidationError("x".into());
        assert!(matches!(agent_error(permanent), AgentError::User(_)));
    }
}
