//! The graph for Graphviz and Mermaid: callers → services → backends' services.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::view::View;
use crate::output::{rate, share};

/// An arrow of the graph.
struct Arrow {
    from: String,
    to: String,
    label: String,
}

fn arrows(view: &View) -> Vec<Arrow> {
    let mut arrows = Vec::new();
    for service in &view.services {
        let name = service.name.to_string();
        for caller in &service.callers {
            arrows.push(Arrow {
                from: format!("workload {}", caller.workload),
                to: name.clone(),
                label: format!("{}/s", rate(caller.way.counts.per_second(view.seconds))),
            });
        }
        for rule in &service.rules {
            for backend in &rule.backends {
                arrows.push(Arrow {
                    from: name.clone(),
                    to: backend.service.to_string(),
                    label: format!("{} {}", backend.name, share(backend.weight, backend.total)),
                });
            }
        }
    }
    arrows
}

/// Every node once, in order.
fn nodes(view: &View, arrows: &[Arrow]) -> Vec<String> {
    let services = view.services.iter().map(|service| service.name.to_string());
    let ends = arrows
        .iter()
        .flat_map(|arrow| [arrow.from.clone(), arrow.to.clone()]);
    services
        .chain(ends)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// For Graphviz: `meshctl routes -o dot | dot -Tsvg`.
pub(super) fn dot(view: &View) -> String {
    let arrows = arrows(view);
    let mut out = String::from("digraph mesh {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n");
    for node in nodes(view, &arrows) {
        // Names are DNS labels: nothing in them needs escaping. Writing to a String can't fail.
        let _ = writeln!(out, "  \"{node}\";");
    }
    for Arrow { from, to, label } in &arrows {
        let _ = writeln!(out, "  \"{from}\" -> \"{to}\" [label=\"{label}\"];");
    }
    out.push_str("}\n");
    out
}

/// For Mermaid, as Markdown pages show it.
pub(super) fn mermaid(view: &View) -> String {
    let arrows = arrows(view);
    let nodes = nodes(view, &arrows);
    let id = |node: &String| nodes.iter().position(|other| other == node).unwrap_or_default();
    let mut out = String::from("flowchart LR\n");
    for (index, node) in nodes.iter().enumerate() {
        let _ = match node.strip_prefix("workload ") {
            Some(workload) => writeln!(out, "  n{index}([\"{workload}\"])"),
            None => writeln!(out, "  n{index}[\"{node}\"]"),
        };
    }
    for Arrow { from, to, label } in &arrows {
        let _ = writeln!(out, "  n{} -->|\"{label}\"| n{}", id(from), id(to));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::testing::{documents, traffic};

    #[test]
    fn graphs_have_every_arrow() {
        let view = View::of(&documents(), Vec::new(), &traffic());
        insta::assert_snapshot!("dot", dot(&view));
        insta::assert_snapshot!("mermaid", mermaid(&view));
    }
}
