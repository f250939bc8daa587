//! Arguments of attributes: `name = "text"`, separated by commas.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::parse::Parser as _;
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprLit, Lit, LitStr, MetaNameValue, Result, Token};

/// Reads `key = "text"` pairs; another key or another kind of value is an error at its place.
pub(crate) fn texts(tokens: TokenStream, known: &[&str]) -> Result<Vec<(String, LitStr)>> {
    let pairs = Punctuated::<MetaNameValue, Token![,]>::parse_terminated.parse2(tokens)?;
    let mut found: Vec<(String, LitStr)> = Vec::new();
    for pair in pairs {
        let key = pair.path.get_ident().map(ToString::to_string).unwrap_or_default();
        if !known.contains(&key.as_str()) {
            let message = format!("unknown argument `{key}`; expected one of {}", known.join(", "));
            return Err(Error::new_spanned(&pair.path, message));
        }
        if found.iter().any(|(before, _)| *before == key) {
            return Err(Error::new_spanned(&pair.path, format!("`{key}` is given twice")));
        }
        match pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => found.push((key, text)),
            other => {
                let message = format!("`{key}` takes a text, such as {key} = \"...\"");
                return Err(Error::new_spanned(other, message));
            }
        }
    }
    Ok(found)
}

/// The path of `mayfly-flow` in the program, which may call it by another name.
pub(crate) fn library() -> TokenStream {
    let name = match crate_name("mayfly-flow") {
        Ok(FoundCrate::Name(name)) => name,
        // Its own tests and examples, and whatever does not say.
        Ok(FoundCrate::Itself) | Err(_) => "mayfly_flow".to_owned(),
    };
    let name = Ident::new(&name, Span::call_site());
    quote!(::#name)
}

/// The text of a key.
pub(crate) fn text(found: &[(String, LitStr)], key: &str) -> Option<LitStr> {
    found.iter().find(|(known, _)| known == key).map(|(_, text)| text.clone())
}

/// A schema, checked as far as it can be here: it is JSON, and an object or a boolean.
fn schema(found: &[(String, LitStr)], key: &str) -> Result<Option<LitStr>> {
    let Some(text) = text(found, key) else { return Ok(None) };
    match serde_json::from_str::<serde_json::Value>(&text.value()) {
        Ok(serde_json::Value::Object(_) | serde_json::Value::Bool(_)) => Ok(Some(text)),
        Ok(_) => Err(Error::new(text.span(), format!("`{key}` must be a JSON Schema: an object"))),
        Err(error) => Err(Error::new(text.span(), format!("`{key}` is not JSON: {error}"))),
    }
}

/// The methods that give the schemas of `input_schema` and `output_schema`.
pub(crate) fn schemas(found: &[(String, LitStr)], library: &TokenStream) -> Result<TokenStream> {
    let optional = |value: Option<LitStr>| {
        value.map_or_else(
            || quote!(::core::option::Option::None),
            |text| quote!(#library::serde_json::from_str(#text).ok()),
        )
    };
    let input = optional(schema(found, "input_schema")?);
    let output = optional(schema(found, "output_schema")?);
    Ok(quote! {
        fn input_schema(&self) -> ::core::option::Option<#library::serde_json::Value> {
            #input
        }
        fn output_schema(&self) -> ::core::option::Option<#library::serde_json::Value> {
            #output
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let cases = [
            (quote!(title = "x"), "unknown argument `title`"),
            (quote!(name = 5), "`name` takes a text"),
            (quote!(name = "a", name = "b"), "given twice"),
        ];
        for (tokens, part) in cases {
            let error = texts(tokens, &["name"]).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        for (text, part) in [("{", "not JSON"), ("5", "an object")] {
            let found = texts(quote!(schema = #text), &["schema"]).unwrap();
            let error = schema(&found, "schema").unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
