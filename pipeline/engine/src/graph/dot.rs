//! A plan drawn for Graphviz.

use std::fmt::Write;

use super::plan::Plan;

/// Receivers left, exporters right, each pipeline a box with its processors in between.
pub(super) fn draw(plan: &Plan) -> String {
    let mut lines = vec![
        "digraph profpipe {".to_owned(),
        "  rankdir=LR;".to_owned(),
        "  node [shape=box, style=rounded, fontname=\"sans-serif\"];".to_owned(),
    ];
    for (at, pipeline) in plan.pipelines.iter().enumerate() {
        lines.push(format!("  subgraph cluster_{at} {{"));
        lines.push(format!("    label={};", quote(&pipeline.id)));
        let mut steps: Vec<String> =
            pipeline.processors.iter().map(|id| quote(&format!("{} {id}", pipeline.id))).collect();
        for (step, id) in steps.iter().zip(&pipeline.processors) {
            lines.push(format!("    {step} [label={}];", quote(id)));
        }
        if steps.is_empty() {
            let step = quote(&pipeline.id);
            lines.push(format!("    {step} [shape=point];"));
            steps.push(step);
        }
        lines.push("  }".to_owned());
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else { continue };
        for id in &pipeline.receivers {
            lines.push(format!("  {} -> {first};", quote(&format!("receivers {id}"))));
        }
        for pair in steps.windows(2) {
            lines.push(format!("  {};", pair.join(" -> ")));
        }
        for id in &pipeline.exporters {
            lines.push(format!("  {last} -> {};", quote(&format!("exporters {id}"))));
        }
    }
    let ends = plan.pipelines.iter().flat_map(|pipeline| {
        let receivers = pipeline.receivers.iter().map(|id| ("receivers", id));
        receivers.chain(pipeline.exporters.iter().map(|id| ("exporters", id)))
    });
    let mut declared: Vec<String> = ends
        .map(|(kind, id)| {
            let node = quote(&format!("{kind} {id}"));
            format!("  {node} [label={}, style=\"rounded,bold\"];", quote(id))
        })
        .collect();
    declared.sort();
    declared.dedup();
    lines.extend(declared);
    lines.push("}".to_owned());
    let mut text = String::new();
    for line in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
