//! `#[pubsub_agent]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, FnArg, ItemFn, LitStr, Result, ReturnType, parse2};

use crate::arguments::{library, schemas, text, texts};

const FORM: &str =
    "an agent is an `async fn(Message) -> Result<T>`, where `T` is `()` or what it publishes";

pub(crate) fn expand(attributes: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let keys = ["subscribe", "publish", "name", "description", "input_schema", "output_schema"];
    let found = texts(attributes, &keys)?;
    let function: ItemFn = parse2(item)?;
    if function.sig.asyncness.is_none() {
        return Err(Error::new_spanned(&function.sig, FORM));
    }
    let takes_context = match function.sig.inputs.len() {
        1 => false,
        2 => true,
        _ => return Err(Error::new_spanned(&function.sig.inputs, takes())),
    };
    if let Some(receiver @ FnArg::Receiver(_)) = function.sig.inputs.first() {
        return Err(Error::new_spanned(receiver, takes()));
    }
    let ReturnType::Type(_, returns) = &function.sig.output else {
        return Err(Error::new_spanned(&function.sig, FORM));
    };
    let Some(subscribe) = text(&found, "subscribe") else {
        let message = "an agent needs `subscribe = \"channel, another\"`";
        return Err(Error::new_spanned(&function.sig.ident, message));
    };
    let subscriptions = channels(&subscribe)?;
    let publications =
        text(&found, "publish").map_or_else(|| Ok(Vec::new()), |text| channels(&text))?;
    let (visibility, ident) = (&function.vis, &function.sig.ident);
    let attributes = &function.attrs;
    let name = text(&found, "name").map_or_else(|| ident.to_string(), |text| text.value());
    let description = text(&found, "description").map(|text| text.value()).unwrap_or_default();
    let library = library();
    let schemas = schemas(&found, &library)?;
    let (parameters, body) = (&function.sig.inputs, &function.block);
    let call = if takes_context { quote!(#ident(message, ctx)) } else { quote!(#ident(message)) };
    Ok(quote! {
        #(#attributes)*
        #visibility fn #ident() -> ::std::boxed::Box<dyn #library::PubSubAgent> {
            async fn #ident(#parameters) -> #returns #body
            struct Agent;
            #[#library::async_trait]
            impl #library::PubSubAgent for Agent {
                fn name(&self) -> ::std::string::String {
                    ::std::string::String::from(#name)
                }
                fn description(&self) -> ::std::string::String {
                    ::std::string::String::from(#description)
                }
                fn subscriptions(&self) -> ::std::vec::Vec<::std::string::String> {
                    ::std::vec![#(::std::string::String::from(#subscriptions)),*]
                }
                fn publications(&self) -> ::std::vec::Vec<::std::string::String> {
                    ::std::vec![#(::std::string::String::from(#publications)),*]
                }
                #schemas
                async fn process_message(
                    &mut self,
                    ctx: &#library::PubSubCtx,
                    message: #library::Message,
                ) -> #library::anyhow::Result<()> {
                    let returned = #call.await?;
                    #library::pubsub::agent::publish_returned(ctx, returned).await
                }
            }
            ::std::boxed::Box::new(Agent)
        }
    })
}

fn takes() -> &'static str {
    "an agent takes its `Message`, and if it needs one a `&PubSubCtx` after that"
}

/// Names of channels, separated by commas.
fn channels(text: &LitStr) -> Result<Vec<String>> {
    let value = text.value();
    let names: Vec<String> = value.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) {
        let message = "expected names of channels, separated by commas, such as \"a, b\"";
        return Err(Error::new(text.span(), message));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_agent_is_refused_with_the_form_expected() {
        let refuse = |attributes: TokenStream, item: TokenStream| {
            expand(attributes, item).unwrap_err().to_string()
        };
        let good = quote!(subscribe = "a");
        let function = quote!(
            async fn f(m: Message) -> Result<()> {
                Ok(())
            }
        );
        assert!(expand(good.clone(), function.clone()).is_ok());
        assert!(refuse(quote!(), function.clone()).contains("needs `subscribe"));
        assert!(refuse(quote!(subscribe = "a,,b"), function).contains("separated by commas"));
        let plain = quote!(
            fn f(m: Message) -> Result<()> {
                Ok(())
            }
        );
        assert!(refuse(good.clone(), plain).contains("async fn"));
        let none = quote!(
            async fn f() -> Result<()> {
                Ok(())
            }
        );
        assert!(refuse(good.clone(), none).contains("takes its `Message`"));
        let silent = quote!(
            async fn f(m: Message) {}
        );
        assert!(refuse(good, silent).contains("-> Result<T>"));
    }
}
