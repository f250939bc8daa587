//! `#[action]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, FnArg, ItemFn, Result, ReturnType, parse2};

use crate::arguments::{library, schemas, text, texts};

pub(crate) fn expand(attributes: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let keys = ["name", "description", "input_schema", "output_schema", "version"];
    let found = texts(attributes, &keys)?;
    let function: ItemFn = parse2(item)?;
    if function.sig.asyncness.is_none() {
        return Err(Error::new_spanned(
            &function.sig,
            "an action is an `async fn(Value) -> Result<Value>`",
        ));
    }
    if function.sig.inputs.len() != 1
        || matches!(function.sig.inputs.first(), Some(FnArg::Receiver(_)))
    {
        return Err(Error::new_spanned(
            &function.sig.inputs,
            "an action takes one parameter, its input as a `Value`",
        ));
    }
    let (visibility, ident) = (&function.vis, &function.sig.ident);
    let attributes = &function.attrs;
    let name = text(&found, "name").map_or_else(|| ident.to_string(), |text| text.value());
    let library = library();
    let schemas = schemas(&found, &library)?;
    let version = text(&found, "version").map(|text| text.value()).unwrap_or_default();
    let description = text(&found, "description").map(|text| quote!(#[doc = #text]));
    let ReturnType::Type(_, returns) = &function.sig.output else {
        return Err(Error::new_spanned(&function.sig, "an action returns a `Result<Value>`"));
    };
    let (parameter, body) = (&function.sig.inputs, &function.block);
    Ok(quote! {
        #(#attributes)*
        #description
        #visibility fn #ident() -> ::std::sync::Arc<dyn #library::NodeAction> {
            fn #ident(
                #parameter
            ) -> impl ::core::future::Future<Output = #returns> + ::core::marker::Send {
                async move #body
            }
            struct Action;
            #[#library::async_trait]
            impl #library::NodeAction for Action {
                fn name(&self) -> ::std::string::String {
                    ::std::string::String::from(#name)
                }
                fn version(&self) -> ::std::string::String {
                    ::std::string::String::from(#version)
                }
                #schemas
                async fn execute(
                    &self,
                    ctx: &#library::NodeCtx,
                ) -> #library::anyhow::Result<#library::NodeOutput> {
                    let value = #ident(::core::clone::Clone::clone(&ctx.inputs)).await?;
                    ::core::result::Result::Ok(#library::NodeOutput::success(value))
                }
            }
            ::std::sync::Arc::new(Action)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_action_is_refused_with_the_form_expected() {
        let refuse = |item: TokenStream| expand(TokenStream::new(), item).unwrap_err().to_string();
        assert!(
            refuse(quote!(
                fn a(x: Value) -> Result<Value> {
                    x
                }
            ))
            .contains("async fn")
        );
        assert!(
            refuse(quote!(
                async fn a() -> Result<Value> {
                    x
                }
            ))
            .contains("one parameter")
        );
    }
}
