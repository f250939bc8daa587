//! `#[task_agent]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, FnArg, ItemFn, Result, ReturnType, Signature, Type, parse2};

use crate::arguments::{library, schemas, text, texts};

const FORMS: &str = "a task agent is an `async fn(Task) -> Result<Value>` or an \
                     `async fn(Bytes, Arc<TaskContext>) -> Result<Bytes, AgentError>`";

pub(crate) fn expand(attributes: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let found = texts(attributes, &["name", "description", "input_schema", "output_schema"])?;
    let function: ItemFn = parse2(item)?;
    let signature = &function.sig;
    let returns = check(signature)?;
    let (visibility, ident) = (&function.vis, &signature.ident);
    let attributes = &function.attrs;
    let name = text(&found, "name").map_or_else(|| ident.to_string(), |text| text.value());
    if name.is_empty() {
        let place = text(&found, "name");
        return Err(Error::new_spanned(place, "`name` is empty; tasks call an agent by its name"));
    }
    let description = text(&found, "description").map(|text| text.value()).unwrap_or_default();
    let document = text(&found, "description").map(|text| quote!(#[doc = #text]));
    let library = library();
    let schemas = schemas(&found, &library)?;
    let call = if signature.inputs.len() == 1 {
        quote! {
            let value = #ident(::core::clone::Clone::clone(ctx.task()))
                .await
                .map_err(|error| #library::tasks::agent::agent_error(error))?;
            let _ = input;
            #library::serde_json::to_vec(&value)
                .map(::core::convert::Into::into)
                .map_err(|error| #library::tasks::agent::agent_error(error))
        }
    } else {
        quote!(#ident(input, ctx).await)
    };
    let (parameters, body) = (&signature.inputs, &function.block);
    Ok(quote! {
        #(#attributes)*
        #document
        #visibility fn #ident() -> ::std::sync::Arc<dyn #library::TaskAgent> {
            fn #ident(
                #parameters
            ) -> impl ::core::future::Future<Output = #returns> + ::core::marker::Send {
                async move #body
            }
            struct Agent;
            #[#library::async_trait]
            impl #library::TaskAgent for Agent {
                fn name(&self) -> ::std::string::String {
                    ::std::string::String::from(#name)
                }
                fn description(&self) -> ::std::string::String {
                    ::std::string::String::from(#description)
                }
                #schemas
                async fn execute(
                    &self,
                    input: #library::bytes::Bytes,
                    ctx: ::std::sync::Arc<#library::TaskContext>,
                ) -> ::core::result::Result<#library::bytes::Bytes, #library::AgentError> {
                    #call
                }
            }
            ::std::sync::Arc::new(Agent)
        }
    })
}

/// Refuses what is no agent, with the forms that are; answers what it returns.
fn check(signature: &Signature) -> Result<&Type> {
    if signature.asyncness.is_none() {
        return Err(Error::new_spanned(signature, FORMS));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(&signature.generics, "a task agent has no type parameters"));
    }
    let takes_self = matches!(signature.inputs.first(), Some(FnArg::Receiver(_)));
    if takes_self || !matches!(signature.inputs.len(), 1 | 2) {
        return Err(Error::new_spanned(&signature.inputs, FORMS));
    }
    match &signature.output {
        ReturnType::Type(_, returns) => Ok(returns),
        ReturnType::Default => {
            Err(Error::new_spanned(signature, format!("it returns nothing; {FORMS}")))
        }
    }
}
