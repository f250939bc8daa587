//! What is said to a language server.

use serde_json::{Value, json};

use super::answers::Position;
use super::paths;

/// The first request: who asks, where, and what it understands.
pub(super) fn initialize(folder: &str) -> Value {
    let uri = paths::uri(folder);
    json!({
        "processId": null,
        "clientInfo": { "name": "mayfly", "version": env!("CARGO_PKG_VERSION") },
        "rootPath": folder,
        "rootUri": uri,
        "workspaceFolders": [{ "uri": uri, "name": folder }],
        "capabilities": {
            "general": { "positionEncodings": ["utf-16"] },
            "textDocument": {
                "synchronization": { "didSave": false },
                "completion": {
                    "contextSupport": true,
                    "completionItem": {
                        "snippetSupport": false,
                        "documentationFormat": ["markdown", "plaintext"],
                    },
                },
                "documentSymbol": { "hierarchicalDocumentSymbolSupport": true },
            },
            "workspace": { "symbol": {}, "configuration": true, "workspaceFolders": true },
            "window": { "workDoneProgress": false },
        },
    })
}

/// The answer to a request of the server, or nothing for what is not known here.
pub(super) fn reply(method: &str, params: &Value, folder: &str) -> Option<Value> {
    match method {
        "workspace/configuration" => {
            // No setting has a value; as many answers as there are questions.
            let count = params["items"].as_array().map_or(0, Vec::len);
            Some(Value::Array(vec![Value::Null; count]))
        }
        "workspace/workspaceFolders" => {
            Some(json!([{ "uri": paths::uri(folder), "name": folder }]))
        }
        "workspace/applyEdit" => Some(json!({ "applied": false })),
        "client/registerCapability"
        | "client/unregisterCapability"
        | "window/showMessageRequest"
        | "window/workDoneProgress/create" => Some(Value::Null),
        method if method.starts_with("workspace/") && method.ends_with("/refresh") => {
            Some(Value::Null)
        }
        _ => None,
    }
}

pub(super) fn opened(uri: &str, language: &str, version: i32, text: &str) -> Value {
    json!({ "textDocument": { "uri": uri, "languageId": language, "version": version, "text": text } })
}

pub(super) fn changed(uri: &str, version: i32, text: &str) -> Value {
    json!({ "textDocument": { "uri": uri, "version": version }, "contentChanges": [{ "text": text }] })
}

pub(super) fn document(uri: &str) -> Value {
    json!({ "textDocument": { "uri": uri } })
}

pub(super) fn query(query: &str) -> Value {
    json!({ "query": query })
}

/// Completions at a position; `trigger` is why they are asked for, by default because somebody wants them.
pub(super) fn at(uri: &str, position: Position, trigger: Option<(u32, Option<String>)>) -> Value {
    let context = match trigger {
        None => json!({ "triggerKind": 1 }),
        Some((kind, None)) => json!({ "triggerKind": kind }),
        Some((kind, Some(character))) => {
            json!({ "triggerKind": kind, "triggerCharacter": character })
        }
    };
    json!({
        "textDocument": { "uri": uri },
        "position": { "line": position.line, "character": position.character },
        "context": context,
    })
}
