//! Which crate may import which, and that none goes round in a circle or without lints.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Finding;

/// A crate of the workspace and what of ours it may import.
struct Rule {
    name: &'static str,
    /// In the product.
    imports: &'static [&'static str],
    /// In tests and benches, besides these.
    tests: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule { name: "mayfly-core", imports: &[], tests: &[] },
    Rule { name: "mayfly-init", imports: &[], tests: &[] },
    Rule { name: "mayfly-files", imports: &[], tests: &[] },
    Rule { name: "mayfly-net", imports: &[], tests: &[] },
    Rule { name: "mayfly-store", imports: &["mayfly-core"], tests: &["mayfly-testkit"] },
    Rule { name: "mayfly-flow-macros", imports: &[], tests: &[] },
    Rule {
        name: "mayfly-flow",
        imports: &["mayfly-core", "mayfly-store", "mayfly-flow-macros"],
        tests: &["mayfly-testkit"],
    },
    Rule {
        name: "mayfly-runtime",
        imports: &["mayfly-core", "mayfly-init", "mayfly-files", "mayfly-net"],
        tests: &["mayfly-testkit"],
    },
    Rule { name: "mayfly-engine", imports: &["mayfly-core"], tests: &["mayfly-testkit"] },
    Rule {
        name: "mayfly",
        imports: &["mayfly-core", "mayfly-init", "mayfly-store", "mayfly-runtime", "mayfly-engine"],
        tests: &["mayfly-testkit"],
    },
    Rule { name: "mayfly-testkit", imports: &["mayfly-core"], tests: &[] },
    Rule { name: "xtask", imports: &[], tests: &[] },
];

/// Crates from elsewhere that a crate must not import in the product, with the reason.
const NOT_IN: &[(&str, &[&str], &str)] = &[
    (
        "mayfly-core",
        &["tokio", "serde_json", "rustix", "rusqlite", "axum", "hyper", "clap", "jiff"],
        "the core is pure",
    ),
    (
        "mayfly-engine",
        &["rustix", "rusqlite", "axum", "hyper", "clap", "figment", "libc"],
        "use cases reach the world through ports",
    ),
    (
        "mayfly-store",
        &["axum", "hyper", "clap", "rustix"],
        "a store knows neither HTTP nor the command line",
    ),
    (
        "mayfly-flow",
        &["axum", "hyper", "clap", "rustix"],
        "a library for any program knows neither HTTP nor the command line",
    ),
    (
        "mayfly-runtime",
        &["axum", "hyper", "clap", "rusqlite"],
        "a runtime knows neither HTTP nor SQL",
    ),
];

/// One import of one workspace crate by another, or of a foreign crate.
struct Edge<'a> {
    from: &'a str,
    to: &'a str,
    is_test: bool,
}

/// Imports that the tables do not allow.
pub(crate) fn directions(metadata: &Value) -> Vec<Finding> {
    let members = members(metadata);
    let mut findings = Vec::new();
    for name in members.keys() {
        if !RULES.iter().any(|rule| rule.name == *name) {
            findings.push(Finding::new(
                "Cargo.toml",
                0,
                format!("crate {name} has no rule in tidy's table of imports"),
            ));
        }
    }
    for edge in edges(&members) {
        let Some(rule) = RULES.iter().find(|rule| rule.name == edge.from) else { continue };
        let place = format!("{} -> {}", edge.from, edge.to);
        if members.contains_key(edge.to) {
            let allowed =
                rule.imports.contains(&edge.to) || (edge.is_test && rule.tests.contains(&edge.to));
            if !allowed {
                findings.push(Finding::new(
                    &place,
                    0,
                    "this import goes in a direction that is not allowed",
                ));
            }
        } else if let Some((_, _, reason)) = NOT_IN
            .iter()
            .find(|(from, to, _)| *from == edge.from && to.contains(&edge.to) && !edge.is_test)
        {
            findings.push(Finding::new(&place, 0, *reason));
        }
    }
    findings
}

/// Circles of imports, those of tests included.
pub(crate) fn cycles(metadata: &Value) -> Vec<Finding> {
    let members = members(metadata);
    let edges = edges(&members);
    let mut findings = Vec::new();
    for start in members.keys().copied() {
        let mut reached: Vec<&str> = vec![start];
        let mut at = 0;
        while at < reached.len() {
            let from = reached[at];
            for name in edges.iter().filter(|edge| edge.from == from).map(|edge| edge.to) {
                if name == start {
                    let message = format!("{from} imports {start} in a circle");
                    findings.push(Finding::new("Cargo.toml", 0, message));
                } else if members.contains_key(name) && !reached.contains(&name) {
                    reached.push(name);
                }
            }
            at += 1;
        }
    }
    findings
}

/// A crate whose manifest does not take the workspace's lints.
pub(crate) fn linted(path: &str, text: &str) -> Vec<Finding> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    if lines.windows(2).any(|pair| pair == ["[lints]", "workspace = true"]) {
        return Vec::new();
    }
    vec![Finding::new(path, 0, "needs `[lints]` with `workspace = true`")]
}

fn members(metadata: &Value) -> BTreeMap<&str, &Value> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ours = packages.iter().filter(|package| package["source"].is_null());
    ours.filter_map(|package| Some((package["name"].as_str()?, package))).collect()
}

fn edges<'a>(members: &BTreeMap<&'a str, &'a Value>) -> Vec<Edge<'a>> {
    let mut edges = Vec::new();
    for (from, package) in members {
        for dependency in package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default()
        {
            if let Some(to) = dependency["name"].as_str() {
                let is_test = dependency["kind"].as_str() == Some("dev");
                edges.push(Edge { from, to, is_test });
            }
        }
    }
    edges
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workspace(imports: &[(&str, &str, Option<&str>)]) -> Value {
        let names = ["mayfly-core", "mayfly-store", "mayfly-testkit", "mayfly-engine"];
        let packages = names.map(|name| {
            let of_this = imports.iter().filter(|(from, ..)| *from == name);
            let dependencies: Vec<Value> =
                of_this.map(|(_, to, kind)| json!({ "name": to, "kind": kind })).collect();
            json!({ "name": name, "source": null, "dependencies": dependencies })
        });
        json!({ "packages": packages })
    }

    fn texts(findings: Vec<Finding>) -> Vec<String> {
        findings.into_iter().map(|finding| finding.path).collect()
    }

    #[test]
    fn a_wrong_direction_is_named_by_its_edge() {
        let wrong = workspace(&[("mayfly-core", "mayfly-store", None)]);
        assert_eq!(texts(directions(&wrong)), ["mayfly-core -> mayfly-store"]);
        assert!(directions(&workspace(&[("mayfly-store", "mayfly-core", None)])).is_empty());
    }

    #[test]
    fn the_test_kit_is_for_tests() {
        let product = workspace(&[("mayfly-store", "mayfly-testkit", None)]);
        assert_eq!(texts(directions(&product)), ["mayfly-store -> mayfly-testkit"]);
        assert!(
            directions(&workspace(&[("mayfly-store", "mayfly-testkit", Some("dev"))])).is_empty()
        );
    }

    #[test]
    fn the_core_imports_no_runtime() {
        assert_eq!(
            texts(directions(&workspace(&[("mayfly-core", "tokio", None)]))),
            ["mayfly-core -> tokio"]
        );
    }

    #[test]
    fn a_circle_is_found() {
        let round = workspace(&[
            ("mayfly-store", "mayfly-engine", None),
            ("mayfly-engine", "mayfly-testkit", Some("dev")),
            ("mayfly-testkit", "mayfly-store", None),
        ]);
        assert_eq!(cycles(&round).len(), 3);
        assert!(cycles(&workspace(&[("mayfly-store", "mayfly-core", None)])).is_empty());
    }

    #[test]
    fn a_crate_takes_the_lints() {
        assert_eq!(linted("crates/a/Cargo.toml", "[package]\nname = \"a\"\n").len(), 1);
        assert!(linted("crates/a/Cargo.toml", "[package]\n[lints]\nworkspace = true\n").is_empty());
    }
}
