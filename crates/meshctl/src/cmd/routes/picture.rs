//! The tree that people read.

use super::view::{Model, Otherwise, Rule, Service, View, Way, Weighted};
use crate::output::{Columns, Node, Style, Text, latency, render_tree, share};

const COLUMNS: Columns = &[("RPS", 5), ("SUCCESS", 7), ("P50", 6), ("P99", 6), ("FIRST", 6)];
const WIDE: Columns = &[
    ("RPS", 5),
    ("SUCCESS", 7),
    ("P50", 6),
    ("P95", 6),
    ("P99", 6),
    ("FIRST", 6),
    ("FLYING", 6),
    ("RETRIES", 7),
];

/// Draws the tree, at most `width` columns wide.
pub(super) fn draw(view: &View, width: usize, wide: bool) -> String {
    let pen = Pen {
        seconds: view.seconds,
        wide,
    };
    let shown: Vec<Node> = view
        .services
        .iter()
        .filter(|service| !service.only_backend)
        .map(|it| pen.service(it))
        .collect();
    if shown.is_empty() {
        return "no services\n".into();
    }
    render_tree(&shown, if wide { WIDE } else { COLUMNS }, width)
}

struct Pen {
    seconds: f64,
    wide: bool,
}

impl Pen {
    fn service(&self, service: &Service) -> Node {
        let label = Text::styled(Style::Strong, service.name.to_string())
            .and(Style::Faint, format!("  {}", service.protocols.join(", ")));
        let mut node = Node::new(label).cells(self.cells(&service.way));
        if !service.callers.is_empty() {
            let callers = service.callers.iter();
            let callers: Vec<String> = callers
                .map(|caller| {
                    let rate = crate::output::rate(caller.way.counts.per_second(self.seconds));
                    format!("{} {rate}/s", caller.workload)
                })
                .collect();
            let label = Text::styled(Style::Faint, "called by ").plain(callers.join(", "));
            node.children.push(Node::new(label));
        }
        node.children.extend(service.rules.iter().map(|it| self.rule(it)));
        if let Some(otherwise) = &service.otherwise {
            node.children
                .push(self.otherwise(otherwise, !service.rules.is_empty()));
        }
        node
    }

    fn rule(&self, rule: &Rule) -> Node {
        let by = rule.by.as_ref().map(|by| format!(" · {by}")).unwrap_or_default();
        let origin = rule.origin.as_ref().map(|it| format!(" of {it}"));
        let label = Text::from(rule.name.clone())
            .and(Style::Faint, origin.unwrap_or_default())
            .and(Style::Faint, ": ")
            .plain(rule.takes.clone())
            .and(Style::Faint, by);
        let mut node = Node::new(label);
        if let Some(answer) = &rule.answer {
            node.children.push(Node::new(Text::from(answer.clone())));
            return node;
        }
        node.children = rule.backends.iter().map(|it| self.backend(it)).collect();
        node
    }

    fn backend(&self, backend: &Weighted) -> Node {
        let share = share(backend.weight, backend.total);
        let idle = backend.weight == 0;
        let rewrite = backend
            .rewrite
            .as_ref()
            .map(|it| format!(" {it}"))
            .unwrap_or_default();
        let mut label = Text::styled(
            if idle { Style::Faint } else { Style::Strong },
            format!("{share:>4}"),
        )
        .and(
            if idle { Style::Faint } else { Style::Plain },
            format!(" {}", backend.name),
        )
        .and(Style::Faint, " → ")
        .plain(backend.service.name.to_string())
        .and(Style::Faint, rewrite);
        if backend.endpoints == 0 {
            label = label.and(Style::Bad, " (no endpoints)");
        }
        let mut node = Node::new(label).cells(self.cells(&backend.way));
        node.children = backend.models.iter().map(|it| self.model(it)).collect();
        node
    }

    fn otherwise(&self, otherwise: &Otherwise, has_rules: bool) -> Node {
        let endpoints = match otherwise.endpoints {
            0 => Text::styled(Style::Bad, "no endpoints"),
            1 => Text::from("1 endpoint of its own"),
            count => Text::from(format!("{count} endpoints of its own")),
        };
        let label = match (has_rules, otherwise.endpoints) {
            (true, _) => Text::styled(Style::Faint, "otherwise → "),
            (false, _) => Text::styled(Style::Faint, "→ "),
        };
        let mut node = Node::new(label.join(endpoints)).cells(self.cells(&otherwise.way));
        node.children = otherwise.models.iter().map(|it| self.model(it)).collect();
        node
    }

    fn model(&self, model: &Model) -> Node {
        let mut label = match model.model.as_str() {
            "" => Text::styled(Style::Faint, "no model"),
            name => Text::from(name.to_owned()),
        };
        if !model.version.is_empty() {
            label = label.plain(format!(" version {}", model.version));
        }
        if !model.operation.is_empty() {
            label = label.and(Style::Faint, format!(" {}", model.operation));
        }
        Node::new(label).cells(self.cells(&model.way))
    }

    fn cells(&self, way: &Way) -> Vec<Text> {
        let counts = &way.counts;
        let time = |part| Text::from(latency(counts.latency(part)));
        let mut cells = vec![counts.rate_cell(self.seconds), counts.success_cell(), time(0.5)];
        if self.wide {
            cells.push(time(0.95));
        }
        cells.extend([time(0.99), latency(counts.first_byte()).into()]);
        if self.wide {
            cells.extend([
                counts.in_flight.to_string().into(),
                counts.retries.to_string().into(),
            ]);
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::testing::{documents, http_route, plain, traffic};

    #[test]
    fn the_tree_shows_who_calls_what_and_how_it_does() {
        let view = View::of(&documents(), Vec::new(), &traffic());
        let picture = plain(&draw(&view, 100, false));
        assert!(
            picture.lines().all(|line| line.chars().count() <= 100),
            "{picture}"
        );
        insta::assert_snapshot!(picture);
    }

    #[test]
    fn without_traffic_the_tree_shows_what_would_be() {
        let view = View::of(&documents(), Vec::new(), &Default::default());
        insta::assert_snapshot!(plain(&draw(&view, 100, true)));
        assert_eq!(
            draw(&View::of(&[], Vec::new(), &Default::default()), 100, false),
            "no services\n"
        );
    }

    #[test]
    fn routes_of_other_kinds_are_drawn_and_named() {
        let view = View::of(&documents(), vec![http_route()], &traffic());
        let picture = plain(&draw(&view, 100, false));
        let iris = picture.split("ml/iris").nth(1).unwrap();
        insta::assert_snapshot!(format!("ml/iris{iris}"));
    }

    #[test]
    fn machines_get_the_same() {
        let view = View::of(&documents(), Vec::new(), &traffic());
        let value = serde_json::to_value(&view).unwrap();
        let canary = &value["services"][0]["rules"][0]["backends"][1];
        assert_eq!(canary["name"], "canary");
        assert_eq!(canary["traffic"]["requests"], 20);
        assert_eq!(canary["models"][0]["version"], "2");
    }
}
