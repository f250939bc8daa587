//! Definitions that are loaded: from text, files and folders, and what is known of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use sha2::{Digest as _, Sha256};

use super::executor::DagExecutor;
use super::yaml;
use crate::error::DagError;
use crate::model::check::{check, levels};
use crate::model::graph::GraphDefinition;

/// A loaded definition and its stored form.
#[derive(Clone)]
pub(super) struct Definition {
    pub(super) graph: Arc<GraphDefinition>,
    pub(super) body: Arc<str>,
    /// SHA-256 of the body.
    pub(super) hash: [u8; 32],
}

impl Definition {
    pub(super) fn new(graph: GraphDefinition) -> Result<Self, DagError> {
        let body = serde_json::to_string(&graph)?;
        let hash = Sha256::digest(body.as_bytes()).into();
        Ok(Self { graph: Arc::new(graph), body: body.into(), hash })
    }
}

/// One line about a loaded flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DagMetadata {
    /// Its name.
    pub name: String,
    /// What it says about itself.
    pub description: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its author.
    pub author: String,
    /// Its version.
    pub version: String,
    /// Number of its nodes.
    pub nodes: usize,
}

impl DagExecutor {
    /// Loads a definition from text; answers its name. See [`yaml::parse`] for errors.
    pub fn load_yaml(&self, text: &str) -> Result<String, DagError> {
        let loaded = yaml::parse(text)?;
        for warning in &loaded.warnings {
            tracing::warn!(flow = loaded.graph.name, "{warning}");
        }
        for node in &loaded.graph.nodes {
            if !node.failure.is_empty() && !self.registry().contains(&node.failure) {
                let (flow, node, action) = (&loaded.graph.name, &node.id, &node.failure);
                tracing::warn!(flow, node, action, "the failure action is not registered");
            }
        }
        self.load(loaded.graph)
    }

    /// Loads a definition; later runs of its name use it, earlier ones keep theirs. Answers its name.
    pub fn load(&self, graph: GraphDefinition) -> Result<String, DagError> {
        let problems: Vec<String> = check(&graph)
            .into_iter()
            .map(|problem| match problem.node {
                Some(node) => format!("node {node}: {}", problem.message),
                None => problem.message,
            })
            .collect();
        if !problems.is_empty() {
            let text = format!("flow {}: {}", graph.name, problems.join("; "));
            return Err(DagError::InvalidGraph(text));
        }
        let name = graph.name.clone();
        self.dags_mut().insert(name.clone(), Definition::new(graph)?);
        Ok(name)
    }

    /// Loads a definition from a file; answers its name.
    pub async fn load_yaml_file(&self, path: impl AsRef<Path>) -> Result<String, DagError> {
        let path = path.as_ref().to_owned();
        let failed = |error: std::io::Error| {
            DagError::ValidationError(format!("cannot read {}: {error}", path.display()))
        };
        let reading = tokio::task::spawn_blocking({
            let path = path.clone();
            move || std::fs::read_to_string(path)
        });
        let text = reading.await.map_err(|error| DagError::ExecutionError(error.to_string()))?;
        let text = text.map_err(failed)?;
        self.load_yaml(&text).map_err(|error| match error {
            DagError::InvalidGraph(text) => {
                DagError::InvalidGraph(format!("{}: {text}", path.display()))
            }
            other => DagError::ValidationError(format!("{}: {other}", path.display())),
        })
    }

    /// Loads every `.yaml` and `.yml` file of a folder, in the order of their names; answers each file's name or error.
    pub async fn load_yaml_dir(
        &self,
        folder: impl AsRef<Path>,
    ) -> Result<Vec<(std::path::PathBuf, Result<String, DagError>)>, DagError> {
        let folder = folder.as_ref().to_owned();
        let failed = |error: std::io::Error| {
            DagError::ValidationError(format!("cannot read {}: {error}", folder.display()))
        };
        let mut paths: Vec<_> = std::fs::read_dir(&folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .map_err(failed)?;
        let is_yaml = |path: &std::path::PathBuf| {
            path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml")
        };
        paths.retain(is_yaml);
        paths.sort();
        let mut loaded = Vec::with_capacity(paths.len());
        for path in paths {
            let result = self.load_yaml_file(&path).await;
            loaded.push((path, result));
        }
        Ok(loaded)
    }

    fn dags_mut(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Definition>> {
        self.inner.dags.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn definitions(&self) -> Vec<Arc<GraphDefinition>> {
        let dags = self.inner.dags.read().unwrap_or_else(PoisonError::into_inner);
        dags.values().map(|definition| Arc::clone(&definition.graph)).collect()
    }

    pub(super) fn definition(&self, name: &str) -> Result<Definition, DagError> {
        let dags = self.inner.dags.read().unwrap_or_else(PoisonError::into_inner);
        let found = dags.get(name).cloned();
        found.ok_or_else(|| DagError::DagNotFound(format!("no flow `{name}` is loaded")))
    }

    /// A loaded definition.
    pub fn dag(&self, name: &str) -> Result<Arc<GraphDefinition>, DagError> {
        self.definition(name).map(|definition| definition.graph)
    }

    /// Names of all loaded flows, sorted.
    pub fn list_dags(&self) -> Vec<String> {
        self.definitions().iter().map(|graph| graph.name.clone()).collect()
    }

    /// Names of flows of which a tag contains the text.
    pub fn list_dag_filtered_tag(&self, part: &str) -> Vec<String> {
        let has = |graph: &&Arc<GraphDefinition>| graph.tags.iter().any(|tag| tag.contains(part));
        self.definitions().iter().filter(has).map(|graph| graph.name.clone()).collect()
    }

    /// Names of flows that have all of these tags.
    pub fn list_dag_multiple_tags(&self, tags: &[impl AsRef<str>]) -> Vec<String> {
        let has = |graph: &&Arc<GraphDefinition>| {
            tags.iter().all(|tag| graph.tags.iter().any(|known| known == tag.as_ref()))
        };
        self.definitions().iter().filter(has).map(|graph| graph.name.clone()).collect()
    }

    /// What all loaded flows say about themselves.
    pub fn list_dags_metadata(&self) -> Vec<DagMetadata> {
        let line = |graph: &Arc<GraphDefinition>| DagMetadata {
            name: graph.name.clone(),
            description: graph.description.clone(),
            tags: graph.tags.clone(),
            author: graph.author.clone(),
            version: graph.version.clone(),
            nodes: graph.nodes.len(),
        };
        self.definitions().iter().map(line).collect()
    }

    /// Nodes of a loaded flow by level: each needs only earlier levels.
    pub fn compute_levels(&self, name: &str) -> Result<Vec<Vec<String>>, DagError> {
        Ok(levels(&self.dag(name)?.nodes.iter().collect::<Vec<_>>()))
    }
}
