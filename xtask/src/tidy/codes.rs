//! Every error code has its page, and every page its code.

use std::collections::BTreeSet;

use super::Finding;

/// Where the finer codes are declared.
pub(crate) const CORE_ERRORS: &str = "crates/core/src/error.rs";

/// Where pages stand.
const PAGES: &str = "docs/errors/";

/// Where errors get their wire codes.
pub(crate) const WIRE_ERRORS: &str = "crates/mayfly/src/http/fault.rs";

/// Variants of an enum, as the wire writes them.
pub(crate) fn of_enum(name: &str, text: &str) -> BTreeSet<String> {
    let head = format!("enum {name} {{");
    let Some((_, body)) = text.split_once(&head) else { return BTreeSet::new() };
    let body = body.split("\n}").next().unwrap_or(body);
    let names = body.lines().map(str::trim).filter(|line| !line.starts_with(['/', '#']));
    let names = names.filter_map(|line| line.strip_suffix(','));
    names.filter(|name| name.chars().all(char::is_alphanumeric)).map(wire_form).collect()
}

/// Words in quotes that are written like a code: `"NOT_FOUND"`.
pub(crate) fn in_literals(text: &str) -> BTreeSet<String> {
    let product = text.split("#[cfg(test)]").next().unwrap_or(text);
    let words = product.split('"').skip(1).step_by(2);
    words.filter(|word| is_code(word)).map(str::to_owned).collect()
}

/// Codes without a page and pages without a code.
pub(crate) fn pages(codes: &BTreeSet<String>, files: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for code in codes {
        let page = format!("{PAGES}{code}.md");
        if !files.contains(&page) {
            findings.push(Finding::new(&page, 0, format!("error code {code} has no page")));
        }
    }
    for file in files.iter().filter_map(|file| file.strip_prefix(PAGES)) {
        let name = file.trim_end_matches(".md");
        if is_code(name) && !codes.contains(name) {
            let message = format!("no error code is called {name}; delete the page");
            findings.push(Finding::new(&format!("{PAGES}{file}"), 0, message));
        }
    }
    findings
}

fn is_code(word: &str) -> bool {
    let letters =
        word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    letters
        && word.len() > 3
        && word.starts_with(|first: char| first.is_ascii_uppercase())
        && !word.starts_with("DAYTONA_")
        && word != "README"
}

fn wire_form(variant: &str) -> String {
    let mut out = String::new();
    for letter in variant.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_uppercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARED: &str = "/// Codes.\npub enum Code {\n    /// Doc.\n    InvalidFilePath,\n    /// Doc, too.\n    Gone,\n}\n";

    #[test]
    fn variants_are_read_in_their_wire_form() {
        let found: Vec<String> = of_enum("Code", DECLARED).into_iter().collect();
        assert_eq!(found, ["GONE", "INVALID_FILE_PATH"]);
    }

    #[test]
    fn literals_are_found_and_tests_are_not_read() {
        let text = "match k { A => \"NOT_FOUND\", B => \"DAYTONA_API\", C => \"Text\" }\n#[cfg(test)] \"TEST_ONLY\"";
        let found: Vec<String> = in_literals(text).into_iter().collect();
        assert_eq!(found, ["NOT_FOUND"]);
    }

    #[test]
    fn a_new_code_needs_its_page_and_an_old_page_goes() {
        let codes = of_enum("Code", DECLARED);
        let files = ["docs/errors/GONE.md", "docs/errors/OLD_ONE.md", "docs/errors/README.md"]
            .map(str::to_owned);
        let findings = pages(&codes, &files);
        let places: Vec<&str> = findings.iter().map(|finding| finding.path.as_str()).collect();
        assert_eq!(places, ["docs/errors/INVALID_FILE_PATH.md", "docs/errors/OLD_ONE.md"]);
    }
}
