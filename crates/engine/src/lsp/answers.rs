//! What a language server answers, in the few forms that the protocol allows for each.

use mayfly_core::{Error, Kind, Result};
use serde::Deserialize;
use serde_json::Value;

/// Most entries of an answer; of completions the rest is left out and said to be.
const MOST: usize = 10_000;

/// A place in a file, counted from 0; characters in UTF-16 units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Character within the line.
    pub character: u32,
}

/// From a place to before another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First place.
    pub start: Position,
    /// First place after it.
    pub end: Position,
}

/// Something with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its name.
    pub name: String,
    /// The protocol's number of its kind: 5 class, 12 function, 13 variable, ...
    pub kind: u32,
    /// File that defines it.
    pub uri: String,
    /// Where it is there.
    pub range: Range,
}

/// Text about a completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documentation {
    /// `plaintext` or `markdown`.
    pub kind: String,
    /// The text.
    pub value: String,
}

/// Something that could stand there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// As it is shown.
    pub label: String,
    /// The protocol's number of its kind: 2 method, 3 function, 6 variable, ...
    pub kind: Option<u32>,
    /// More about it, such as its type.
    pub detail: Option<String>,
    /// Text about it.
    pub documentation: Option<Documentation>,
    /// Orders it among the others, else the label.
    pub sort_text: Option<String>,
    /// Is compared with what was typed, else the label.
    pub filter_text: Option<String>,
    /// Is put there, else the label.
    pub insert_text: Option<String>,
}

/// What could stand at a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completions {
    /// More typing gives others.
    pub is_incomplete: bool,
    /// In the server's order.
    pub items: Vec<Completion>,
}

#[derive(Deserialize)]
struct PositionForm {
    line: u32,
    character: u32,
}

#[derive(Deserialize)]
struct RangeForm {
    start: PositionForm,
    end: PositionForm,
}

#[derive(Deserialize)]
struct LocationForm {
    uri: String,
    /// Missing where the server would find it out on request.
    range: Option<RangeForm>,
}

#[derive(Deserialize)]
struct SymbolForm {
    name: String,
    kind: u32,
    /// Of a flat list.
    location: Option<LocationForm>,
    /// Of a tree.
    range: Option<RangeForm>,
    #[serde(default)]
    children: Vec<SymbolForm>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum DocumentationForm {
    Plain(String),
    Marked { kind: String, value: String },
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EditForm {
    new_text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemForm {
    label: String,
    kind: Option<u32>,
    detail: Option<String>,
    documentation: Option<DocumentationForm>,
    sort_text: Option<String>,
    filter_text: Option<String>,
    insert_text: Option<String>,
    text_edit: Option<EditForm>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ItemsForm {
    Items(Vec<ItemForm>),
    List {
        #[serde(rename = "isIncomplete")]
        is_incomplete: bool,
        items: Vec<ItemForm>,
    },
}

impl From<RangeForm> for Range {
    fn from(range: RangeForm) -> Self {
        let position = |form: PositionForm| Position { line: form.line, character: form.character };
        Self { start: position(range.start), end: position(range.end) }
    }
}

impl From<ItemForm> for Completion {
    fn from(item: ItemForm) -> Self {
        let documentation = item.documentation.and_then(|documentation| match documentation {
            DocumentationForm::Plain(value) => {
                Some(Documentation { kind: "plaintext".to_owned(), value })
            }
            DocumentationForm::Marked { kind, value } => Some(Documentation { kind, value }),
            DocumentationForm::Other(_) => None,
        });
        Self {
            label: item.label,
            kind: item.kind,
            detail: item.detail,
            documentation,
            sort_text: item.sort_text,
            filter_text: item.filter_text,
            insert_text: item.insert_text.or_else(|| item.text_edit.map(|edit| edit.new_text)),
        }
    }
}

/// Reads the answer to `textDocument/completion`.
pub(super) fn completions(answer: Value) -> Result<Completions> {
    let form: Option<ItemsForm> = read(answer)?;
    let (mut is_incomplete, mut items) = match form {
        None => (false, Vec::new()),
        Some(ItemsForm::Items(items)) => (false, items),
        Some(ItemsForm::List { is_incomplete, items }) => (is_incomplete, items),
    };
    is_incomplete |= items.len() > MOST;
    items.truncate(MOST);
    Ok(Completions { is_incomplete, items: items.into_iter().map(Completion::from).collect() })
}

/// Reads a list or tree of symbols, a tree as the list of all in it; `shown` gives a file's name.
pub(super) fn symbols(answer: Value, shown: impl Fn(&str) -> String) -> Result<Vec<Symbol>> {
    let forms: Option<Vec<SymbolForm>> = read(answer)?;
    let mut symbols = Vec::new();
    // The last comes off first, so everything is put there backwards.
    let mut rest = forms.unwrap_or_default();
    rest.reverse();
    while let Some(SymbolForm { name, kind, location, range, children }) = rest.pop() {
        if symbols.len() == MOST {
            break;
        }
        rest.extend(children.into_iter().rev());
        let (uri, range) = match location {
            Some(location) => (location.uri, location.range.or(range)),
            None => (String::new(), range),
        };
        let range = range.map(Range::from).unwrap_or_default();
        symbols.push(Symbol { name, kind, uri: shown(&uri), range });
    }
    Ok(symbols)
}

fn read<T: for<'de> Deserialize<'de>>(answer: Value) -> Result<T> {
    serde_json::from_value(answer).map_err(|error| {
        Error::new(Kind::Unavailable, "the language server gave an answer of no known form")
            .with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn completions_of_every_form_become_one() {
        let item = json!({ "label": "a", "kind": 3, "documentation": "text", "textEdit": { "newText": "a()" }, "data": {} });
        let expected = Completion {
            label: "a".into(),
            kind: Some(3),
            documentation: Some(Documentation { kind: "plaintext".into(), value: "text".into() }),
            insert_text: Some("a()".into()),
            ..Completion::default()
        };
        assert_eq!(completions(json!([item])).unwrap().items, std::slice::from_ref(&expected));
        let list = completions(json!({ "isIncomplete": true, "items": [item] })).unwrap();
        assert!(list.is_incomplete && list.items == [expected]);
        assert_eq!(completions(Value::Null).unwrap(), Completions::default());
        let marked =
            json!([{ "label": "", "documentation": { "kind": "markdown", "value": "*" } }]);
        assert_eq!(
            completions(marked).unwrap().items[0].documentation.as_ref().unwrap().kind,
            "markdown"
        );
        let many = completions(json!(vec![json!({ "label": "x" }); MOST + 1])).unwrap();
        assert!(many.is_incomplete && many.items.len() == MOST);
        for odd in [
            json!(1),
            json!([{ "kind": 1 }]),
            json!({ "items": 1 }),
            json!([{ "label": "a", "kind": -1 }]),
        ] {
            assert!(completions(odd).is_err());
        }
    }

    #[test]
    fn symbols_come_as_a_list_in_the_order_of_the_file() {
        let range = |line: u32| json!({ "start": { "line": line, "character": 0 }, "end": { "line": line, "character": 4 } });
        let tree = json!([
            { "name": "A", "kind": 5, "range": range(1), "selectionRange": range(1), "children": [
                { "name": "b", "kind": 6, "range": range(2), "selectionRange": range(2) },
            ]},
            { "name": "c", "kind": 12, "range": range(3), "selectionRange": range(3) },
        ]);
        let found = symbols(tree, |_| "file://x".to_owned()).unwrap();
        let names: Vec<(&str, u32, u32)> =
            found.iter().map(|s| (s.name.as_str(), s.kind, s.range.start.line)).collect();
        assert_eq!(names, [("A", 5, 1), ("b", 6, 2), ("c", 12, 3)]);
        assert!(found.iter().all(|symbol| symbol.uri == "file://x"));
        let flat = json!([{ "name": "A", "kind": 5, "location": { "uri": "file:///y", "range": range(7) } }, { "name": "B", "kind": 5, "location": { "uri": "u" } }]);
        let found = symbols(flat, str::to_uppercase).unwrap();
        assert_eq!((found[0].uri.as_str(), found[0].range.end.character), ("FILE:///Y", 4));
        assert_eq!(found[1].range, Range::default());
        assert_eq!(symbols(Value::Null, str::to_owned).unwrap(), []);
        let deep = (0..100)
            .fold(json!([]), |inner, _| json!([{ "name": "n", "kind": 1, "children": inner }]));
        assert_eq!(symbols(deep, str::to_owned).unwrap().len(), 100);
    }
}
