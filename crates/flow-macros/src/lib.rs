//! Attributes that turn functions into actions and agents of `mayfly-flow`, which re-exports them.

mod action;
mod arguments;
mod task_agent;

use proc_macro::TokenStream;

/// Makes an action of `async fn(Value) -> Result<Value>`.
///
/// The function becomes one without parameters that gives the action, to be passed to `DagExecutor::register`. It is named
/// after the function unless `name = "..."` says otherwise; `description`, `input_schema` and `output_schema` are texts. The
/// schemas must be JSON here and JSON Schema when the action is registered; inputs and outputs are held to them.
#[proc_macro_attribute]
pub fn action(attributes: TokenStream, item: TokenStream) -> TokenStream {
    action::expand(attributes.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a task agent of `async fn(Task) -> Result<Value>`, or of
/// `async fn(Bytes, Arc<TaskContext>) -> Result<Bytes, AgentError>`.
///
/// The function becomes one without parameters that gives the agent, to be passed to `TaskSystem::register`. It is named
/// after the function unless `name = "..."` says otherwise; `description`, `input_schema` and `output_schema` are texts. The
/// schemas must be JSON here and JSON Schema when the agent is registered; inputs and outputs are held to them.
#[proc_macro_attribute]
pub fn task_agent(attributes: TokenStream, item: TokenStream) -> TokenStream {
    task_agent::expand(attributes.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
