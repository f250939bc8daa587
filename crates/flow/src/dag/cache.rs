//! Values of a run: what it was given, what its nodes gave, what is global. A handle; clones share the values.
//!
//! An attempt sees the run's values through a layer of its own: what it writes becomes the run's when it completes, and
//! is thrown away when it fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::DagError;
use crate::model::entry::Write;
use crate::model::graph::IField;

/// Scope of what a run was given.
pub const INPUTS: &str = "inputs";

pub(crate) type Scopes = BTreeMap<String, Map<String, Value>>;

/// Values by scope (a node's id, `inputs`, or `global:<dag>`) and key.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    base: Arc<RwLock<Scopes>>,
    layer: Option<Arc<Mutex<Vec<Write>>>>,
}

impl Cache {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn of(scopes: Scopes) -> Self {
        Self { base: Arc::new(RwLock::new(scopes)), layer: None }
    }

    /// The same values under a layer that takes what is written.
    pub(crate) fn layered(&self) -> Self {
        Self { base: Arc::clone(&self.base), layer: Some(Arc::default()) }
    }

    /// What was written into the layer.
    pub(crate) fn take_writes(&self) -> Vec<Write> {
        let layer = self.layer.as_ref();
        layer.map(|layer| std::mem::take(&mut *lock(layer))).unwrap_or_default()
    }

    /// One value.
    pub fn get(&self, scope: &str, key: &str) -> Option<Value> {
        let mut value =
            self.read(|scopes| scopes.get(scope).and_then(|values| values.get(key)).cloned());
        if let Some(layer) = &self.layer {
            for write in lock(layer).iter().filter(|write| write.scope == scope && write.key == key)
            {
                value = Some(written(value, write));
            }
        }
        value
    }

    /// Writes one value.
    pub(crate) fn put(&self, write: Write) {
        match &self.layer {
            Some(layer) => lock(layer).push(write),
            None => self.apply(&[write]),
        }
    }

    /// Writes into the values themselves.
    pub(crate) fn apply(&self, writes: &[Write]) {
        let mut scopes = self.base.write().unwrap_or_else(PoisonError::into_inner);
        apply(&mut scopes, writes);
    }

    /// A copy of all values.
    pub(crate) fn scopes(&self) -> Scopes {
        let mut scopes = self.read(Clone::clone);
        if let Some(layer) = &self.layer {
            apply(&mut scopes, &lock(layer));
        }
        scopes
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Scopes) -> T) -> T {
        look(&self.base.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn apply(scopes: &mut Scopes, writes: &[Write]) {
    for write in writes {
        let values = scopes.entry(write.scope.clone()).or_default();
        let value = written(values.remove(&write.key), write);
        values.insert(write.key.clone(), value);
    }
}

fn written(before: Option<Value>, write: &Write) -> Value {
    if !write.append {
        return write.value.clone();
    }
    let mut list = match before {
        Some(Value::Array(list)) => list,
        Some(Value::Null) | None => Vec::new(),
        Some(other) => vec![other],
    };
    list.push(write.value.clone());
    Value::Array(list)
}

/// Follows dots into objects and arrays.
pub(crate) fn dig<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|part| !part.is_empty()).try_fold(value, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        Value::Object(fields) => fields.get(part),
        _ => None,
    })
}

/// What a reference leads to: `inputs.<key>` (then the globals of `dag`) or `<node>.<output>`.
pub(crate) fn look_up(
    reference: &str,
    dag: &str,
    get: &dyn Fn(&str, &str) -> Option<Value>,
) -> Option<Value> {
    let (scope, rest) = reference.split_once('.')?;
    let (key, path) = rest.split_once('.').unwrap_or((rest, ""));
    let found = get(scope, key)
        .or_else(|| (scope == INPUTS).then(|| get(&format!("global:{dag}"), key)).flatten())?;
    dig(&found, path).cloned()
}

fn typed<T: DeserializeOwned>(what: &str, value: Value) -> Result<T, DagError> {
    serde_json::from_value(value)
        .map_err(|error| DagError::ValidationError(format!("{what} has another type: {error}")))
}

fn missing(what: &str) -> DagError {
    DagError::ValidationError(format!("{what} has no value"))
}

/// Writes an output of a node, or any value under any scope.
pub fn insert_value(
    cache: &Cache,
    node: impl AsRef<str>,
    key: impl AsRef<str>,
    value: impl Serialize,
) -> Result<(), DagError> {
    let (scope, key) = (node.as_ref().to_owned(), key.as_ref().to_owned());
    cache.put(Write { scope, key, value: serde_json::to_value(value)?, append: false });
    Ok(())
}

/// Reads a value; [`DagError::ValidationError`] when there is none or it is of another type.
pub fn get_input<T: DeserializeOwned>(
    cache: &Cache,
    node: impl AsRef<str>,
    key: impl AsRef<str>,
) -> Result<T, DagError> {
    let what = format!("{}.{}", node.as_ref(), key.as_ref());
    let value = cache.get(node.as_ref(), key.as_ref()).ok_or_else(|| missing(&what))?;
    typed(&what, value)
}

/// Reads a declared input by its name: through its reference, else its default.
///
/// [`DagError::ValidationError`] when it is not declared, leads nowhere, or is of another type.
pub fn parse_input_from_name<T: DeserializeOwned>(
    cache: &Cache,
    name: impl AsRef<str>,
    inputs: impl AsRef<[IField]>,
) -> Result<T, DagError> {
    let name = name.as_ref();
    let field = inputs.as_ref().iter().find(|input| input.name == name);
    let what = format!("input `{name}`");
    let field =
        field.ok_or_else(|| DagError::ValidationError(format!("{what} is not declared")))?;
    typed(&what, resolve(field, "", &|scope, key| cache.get(scope, key))?)
}

/// The value of a declared input.
pub(crate) fn resolve(
    field: &IField,
    dag: &str,
    get: &dyn Fn(&str, &str) -> Option<Value>,
) -> Result<Value, DagError> {
    let own;
    let reference = if let Some(reference) = &field.reference {
        reference
    } else {
        own = format!("{INPUTS}.{}", field.name);
        &own
    };
    let found = look_up(reference, dag, get).or_else(|| field.default.clone());
    found.ok_or_else(|| {
        let name = &field.name;
        DagError::ValidationError(format!(
            "input `{name}`: `{reference}` leads to no value and there is no default"
        ))
    })
}

/// Writes a value that every node of the flow `dag` may read.
pub fn insert_global_value(
    cache: &Cache,
    dag: impl AsRef<str>,
    key: impl AsRef<str>,
    value: impl Serialize,
) -> Result<(), DagError> {
    insert_value(cache, format!("global:{}", dag.as_ref()), key, value)
}

/// Adds to a list that every node of the flow `dag` may read; appends of several nodes are all kept.
pub fn append_global_value(
    cache: &Cache,
    dag: impl AsRef<str>,
    key: impl AsRef<str>,
    value: impl Serialize,
) -> Result<(), DagError> {
    let (scope, key) = (format!("global:{}", dag.as_ref()), key.as_ref().to_owned());
    cache.put(Write { scope, key, value: serde_json::to_value(value)?, append: true });
    Ok(())
}

/// Reads a global value of the flow `dag`.
pub fn get_global_input<T: DeserializeOwned>(
    cache: &Cache,
    dag: impl AsRef<str>,
    key: impl AsRef<str>,
) -> Result<T, DagError> {
    get_input(cache, format!("global:{}", dag.as_ref()), key)
}

/// All values as JSON: an object of scopes.
pub fn serialize_cache_to_json(cache: &Cache) -> Result<String, DagError> {
    Ok(serde_json::to_string(&cache.scopes())?)
}

/// [`serialize_cache_to_json`] for people.
pub fn serialize_cache_to_pretty_json(cache: &Cache) -> Result<String, DagError> {
    Ok(serde_json::to_string_pretty(&cache.scopes())?)
}

/// Reads what [`serialize_cache_to_json`] wrote.
pub fn load_cache_from_json(json: impl AsRef<str>) -> Result<Cache, DagError> {
    Ok(Cache::of(serde_json::from_str(json.as_ref())?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_layer_keeps_its_writes_until_they_are_applied() {
        let cache = Cache::new();
        insert_value(&cache, "a", "x", 1).unwrap();
        let layer = cache.layered();
        insert_value(&layer, String::from("a"), "x", 2).unwrap();
        append_global_value(&layer, "d", "list", "one").unwrap();
        append_global_value(&layer, "d", "list", "two").unwrap();
        assert_eq!(get_input::<i32>(&layer, "a", "x").unwrap(), 2);
        assert_eq!(get_input::<i32>(&cache, "a", "x").unwrap(), 1);
        cache.apply(&layer.take_writes());
        assert_eq!(get_input::<i32>(&cache, "a", "x").unwrap(), 2);
        let list: Vec<String> = get_global_input(&cache, "d", "list").unwrap();
        assert_eq!(list, ["one", "two"]);
        let again = load_cache_from_json(serialize_cache_to_pretty_json(&cache).unwrap()).unwrap();
        assert_eq!(again.scopes(), cache.scopes());
    }

    #[test]
    fn regression_24_a_reference_that_leads_nowhere_is_an_error_never_null() {
        let cache = Cache::new();
        insert_value(&cache, "a", "out", json!({ "list": [1, { "deep": "x" }] })).unwrap();
        let field = |reference: &str| IField {
            name: "in".into(),
            reference: Some(reference.into()),
            ..IField::default()
        };
        let read =
            |reference: &str| parse_input_from_name::<Value>(&cache, "in", [field(reference)]);
        assert_eq!(read("a.out.list.1.deep").unwrap(), json!("x"));
        for reference in ["a.out.list.7", "a.nothing", "b.out", "inputs.x"] {
            let error = read(reference).unwrap_err();
            assert!(error.to_string().contains(reference), "{error}");
        }
        let with_default = IField { default: Some(json!(5)), ..field("b.out") };
        let number: i32 = parse_input_from_name(&cache, "in", [with_default]).unwrap();
        assert_eq!(number, 5);
        assert!(parse_input_from_name::<Value>(&cache, "other", [field("a.out")]).is_err());
        assert!(parse_input_from_name::<i32>(&cache, "in", [field("a.out")]).is_err());
    }
}
