//! `mayfly doctor`: what this host offers, probed live and without a server.

use mayfly_core::ports::runtime::{Layer, LayerState};
use mayfly_core::{Error, Kind};
use serde_json::json;

use super::output::table;
use super::{Ended, Session};
use crate::exit_code;
use crate::wiring;

pub(super) async fn run(session: &Session<'_>) -> Ended {
    let config = session.config(None)?;
    let waiting = session.output.waiting("probing this host");
    let layers = wiring::doctor(config).await?;
    drop(waiting);
    let value = layers
        .iter()
        .map(|layer| {
            json!({
                "name": layer.name,
                "state": word(layer.state),
                "required": layer.required,
                "evidence": layer.evidence,
                "remedy": layer.remedy,
            })
        })
        .collect();
    session.output.show(&value, || text(&layers))?;
    let missing: Vec<&str> = layers
        .iter()
        .filter(|layer| layer.required && layer.state != LayerState::Holds)
        .map(|layer| layer.name.as_str())
        .collect();
    if missing.is_empty() {
        return Ok(exit_code::SUCCESS);
    }
    Err(Error::new(
        Kind::Unavailable,
        format!("sandboxes are refused on this host, it lacks: {}", missing.join(", ")),
    )
    .with_hint("the remedy stands below each layer; isolation.profile chooses what is required"))
}

fn text(layers: &[Layer]) -> String {
    let rows: Vec<Vec<String>> = layers
        .iter()
        .map(|layer| {
            let required = if layer.required { "yes" } else { "no" };
            vec![
                layer.name.clone(),
                word(layer.state).into(),
                required.into(),
                layer.evidence.clone(),
            ]
        })
        .collect();
    let mut text = table(&["LAYER", "STATE", "REQUIRED", "EVIDENCE"], &rows);
    for layer in layers.iter().filter(|layer| layer.state != LayerState::Holds) {
        if let Some(remedy) = &layer.remedy {
            text.extend(["\n", &layer.name, ": ", remedy, "\n"]);
        }
    }
    text
}

fn word(state: LayerState) -> &'static str {
    match state {
        LayerState::Holds => "holds",
        LayerState::Absent => "absent",
        LayerState::Weak => "weak",
    }
}
