//! Attributes that turn functions into actions and agents of `mayfly-flow`, which re-exports them.

mod action;
mod arguments;
mod pubsub_agent;
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

/// Makes an agent of `async fn(Message) -> Result<T>`, or of one that takes a `&PubSubCtx` after the message.
///
/// The function becomes one without parameters that gives the agent, to be passed to `PubSubExecutor::register_agent`. It
/// takes the messages of the channels in `subscribe = "a, b"`, and what it returns (`()`, a `Value`, a `Message`, an `Option`
/// or a `Vec` of them) goes to each channel in `publish = "c"`. It is named after the function unless `name = "..."` says
/// otherwise; `description`, `input_schema` and `output_schema` are texts, the schemas JSON.
#[proc_macro_attribute]
pub fn pubsub_agent(attributes: TokenStream, item: TokenStream) -> TokenStream {
    pubsub_agent::expand(attributes.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
