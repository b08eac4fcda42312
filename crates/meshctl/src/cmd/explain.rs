//! `meshctl explain`: which backend answers a request, and why, with the code that proxies run.

use std::io::Read as _;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mesh_api::document::Document;
use mesh_api::explain::{Decision, Explanation, How, Place, Possible, Question, explain};
use mesh_api::identity::{Identity, TrustDomain};
use mesh_api::name::{Name, ObjectName};
use mesh_api::route::Route;

use super::Context;
use crate::documents::{self, meant, parse, read_files};
use crate::error::{Failure, Outcome};
use crate::output::{Style, Text};
use crate::words;

/// Flags of `meshctl explain`.
#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The documents: files or folders, and no mesh needs to run; default: the running mesh
    #[arg(short, long = "filename", value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// The Service that the request is sent to, as name or namespace/name
    #[arg(long)]
    service: String,
    /// The Service's port, by name; default: its first
    #[arg(long)]
    port: Option<Name>,
    /// The method; default: POST with a body, else GET; POST for gRPC
    #[arg(long, value_parser = method)]
    method: Option<Method>,
    /// The path, with its query
    #[arg(long, required_unless_present = "grpc", value_parser = path)]
    path: Option<String>,
    /// A gRPC method instead, such as inference.GRPCInferenceService/ModelInfer
    #[arg(long, value_name = "SERVICE/METHOD", conflicts_with_all = ["path", "method"])]
    grpc: Option<String>,
    /// A header; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// A file with the body as it goes over the wire, or - for standard input
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// The calling Workload's identity
    #[arg(long, value_name = "NAMESPACE/ACCOUNT", value_parser = caller)]
    caller: Option<(Name, Name)>,
}

fn method(text: &str) -> Result<Method, String> {
    Method::from_str(text).map_err(|_| format!("{text:?} is not a method"))
}

fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} must begin with /"))
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| format!("{text:?} is not NAME: VALUE"))?;
    let name = HeaderName::from_str(name.trim()).map_err(|_| format!("{name:?} is not a header name"))?;
    let value =
        HeaderValue::from_str(value.trim()).map_err(|_| format!("{value:?} is not a header value"))?;
    Ok((name, value))
}

fn caller(text: &str) -> Result<(Name, Name), String> {
    let (namespace, account) = text
        .split_once('/')
        .ok_or_else(|| format!("{text:?} is not NAMESPACE/ACCOUNT"))?;
    let name = |text: &str| text.parse::<Name>().map_err(|error| error.to_string());
    Ok((name(namespace)?, name(account)?))
}

impl Explain {
    /// Asks, and tells why.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let (documents, routes) = self.in_force(context).await?;
        let names = documents.iter().filter_map(|document| match document {
            Document::Service(object) => Some(object.metadata.object_name()),
            _ => None,
        });
        let names: Vec<(ObjectName, ObjectName)> = names.map(|name| (name.clone(), name)).collect();
        let service = meant("Service", &self.service, context.namespace(), names)?;
        let domain = documents.iter().find_map(|document| match document {
            Document::MeshConfig(object) => object.spec.trust_domain.clone(),
            _ => None,
        });
        let explanation = self.explain(&documents, routes, &service, domain.unwrap_or_default())?;
        match context.machine() {
            Some(format) => context.printer.machine(format, &explanation),
            None => context.printer.data(&for_people(&explanation)),
        }
    }

    /// The documents, and the routes that not they alone say.
    async fn in_force(&self, context: &Context) -> Outcome<(Vec<Document>, Vec<Route>)> {
        if self.filename.is_empty() {
            let mut admin = context
                .admin()
                .await
                .map_err(|failure| failure.hint("`meshctl explain -f DIR` needs no mesh"))?;
            let listed = documents::list(&mut admin, None, None, None).await?;
            let routes = documents::routes(&mut admin).await?;
            return Ok((listed.into_iter().map(|it| it.document).collect(), routes));
        }
        let mut documents = Vec::new();
        for parsed in parse(&read_files(&self.filename)?) {
            match parsed {
                Ok((document, _)) => documents.push(document),
                Err(error) => context.printer.warn(&format!("left out: {error}")),
            }
        }
        Ok((documents, Vec::new()))
    }

    fn explain(
        &self,
        documents: &[Document],
        routes: Vec<Route>,
        service: &ObjectName,
        domain: TrustDomain,
    ) -> Outcome<Explanation> {
        let body = self.body()?;
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        let (method, target) = match (&self.grpc, &self.path) {
            (Some(call), _) => {
                headers
                    .entry(http::header::CONTENT_TYPE)
                    .or_insert(HeaderValue::from_static("application/grpc"));
                (Method::POST, format!("/{}", call.trim_start_matches('/')))
            }
            (None, path) => {
                let default = if self.body.is_some() {
                    Method::POST
                } else {
                    Method::GET
                };
                (
                    self.method.clone().unwrap_or(default),
                    path.clone().unwrap_or_else(|| "/".into()),
                )
            }
        };
        let caller = self
            .caller
            .as_ref()
            .map(|(namespace, account)| Identity::new(domain, namespace.clone(), account.clone()));
        let question = Question {
            service,
            port: self.port.as_ref(),
            method: &method,
            target: &target,
            headers: &headers,
            body: &body,
            caller: caller.as_ref(),
        };
        explain(documents, routes, &question).map_err(|error| Failure::new(error.to_string()))
    }

    fn body(&self) -> Outcome<Vec<u8>> {
        let mut bytes = Vec::new();
        match &self.body {
            None => {}
            Some(file) if file.as_os_str() == "-" => {
                let mut stdin = std::io::stdin();
                stdin
                    .read_to_end(&mut bytes)
                    .context("cannot read standard input")?;
            }
            Some(file) => {
                bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            }
        }
        Ok(bytes)
    }
}

fn for_people(explanation: &Explanation) -> String {
    let mut lines = vec![fact(
        "service",
        format!(
            "{} port {} ({})",
            explanation.service, explanation.port, explanation.protocol
        ),
    )];
    if explanation.model.is_some() || !matches!(explanation.decision, Decision::Refused { .. }) {
        lines.push(fact("request", request(explanation)));
    }
    if let Some(route) = &explanation.route {
        lines.push(fact("route", route.to_string()));
    }
    for considered in &explanation.rules {
        let origin = words::foreign(&considered.origin).map(|it| format!(" of {it}"));
        let rule = format!("{}{}", considered.rule, origin.unwrap_or_default());
        let line = if considered.takes {
            Text::styled(Style::Good, "  ✓ ").plain(format!("{rule} takes it"))
        } else {
            let why: Vec<&str> = considered
                .mismatches
                .iter()
                .map(|it| it.unwrap_or("nothing"))
                .collect();
            Text::styled(Style::Faint, "  ✗ ")
                .plain(format!("{rule} asks for another {}", why.join(", and another ")))
        };
        lines.push(line);
    }
    lines.extend(decision(&explanation.decision));
    lines.iter().map(|line| format!("{}\n", line.ansi())).collect()
}

fn fact(name: &str, says: String) -> Text {
    Text::styled(Style::Strong, format!("{name:<9} ")).plain(says)
}

fn request(explanation: &Explanation) -> String {
    let Some(model) = &explanation.model else {
        return "not a model request".into();
    };
    let name = model
        .model
        .as_deref()
        .map_or("no model named".into(), |name| format!("model {name}"));
    let version = model
        .version
        .as_deref()
        .map(|it| format!(" version {it}"))
        .unwrap_or_default();
    let note = model
        .note
        .as_deref()
        .map(|it| format!(" ({it})"))
        .unwrap_or_default();
    format!("{name}{version}, {}{note}", model.operation)
}

fn decision(decision: &Decision) -> Vec<Text> {
    match decision {
        Decision::Refused {
            status,
            reason,
            detail,
        } => {
            vec![
                fact("answer", String::new())
                    .and(Style::Bad, format!("{status} mesh-error: {reason}"))
                    .plain(format!(" ({detail})")),
            ]
        }
        Decision::Redirect {
            rule,
            status,
            location,
        } => vec![fact("answer", format!("{status} to {location} (rule {rule})"))],
        Decision::Own { endpoints } if endpoints.is_empty() => {
            vec![fact(
                "answer",
                "no rule takes it, and the service has no endpoints".into(),
            )]
        }
        Decision::Own { endpoints } => {
            let mut lines = vec![fact("answer", "by the service's own endpoints".into())];
            lines.extend(endpoints.iter().map(place));
            lines
        }
        Decision::Split { how, backends, .. } => {
            let how = match how {
                How::Key { name, value } => format!("{name} {value:?} always goes to the same backend"),
                How::Draw { missing: Some(key) } => format!("drawn by weight, as the request has no {key}"),
                How::Draw { missing: None } => "drawn by weight".into(),
            };
            let mut lines = vec![fact("split", how)];
            lines.extend(backends.iter().flat_map(possible));
            lines
        }
    }
}

fn possible(backend: &Possible) -> Vec<Text> {
    let share = match backend.probability {
        p if p >= 1.0 => "100%".into(),
        p => format!("{:.1}%", p * 100.0),
    };
    let mut lines = vec![
        Text::styled(Style::Strong, format!("  {share:>6} {}", backend.name))
            .and(Style::Faint, " → ")
            .plain(backend.service.to_string()),
    ];
    let asked = [("model", &backend.model), ("version", &backend.version)];
    let asked: Vec<String> = asked
        .iter()
        .filter_map(|(field, it)| Some(format!("{field} {}", it.as_ref()?)))
        .collect();
    if !asked.is_empty() {
        let target = backend
            .target
            .as_deref()
            .map(|it| format!(" at {it}"))
            .unwrap_or_default();
        lines.push(
            Text::styled(Style::Faint, "         asks for ").plain(format!("{}{target}", asked.join(", "))),
        );
    }
    let changes = backend.changes.iter();
    lines.extend(changes.map(|change| Text::styled(Style::Faint, format!("         {change}"))));
    if let Some(failure) = &backend.failure {
        lines.push(Text::styled(Style::Bad, format!("         fails: {failure}")));
    }
    lines.extend(backend.endpoints.iter().map(place));
    lines
}

fn place(place: &Place) -> Text {
    let who = place
        .workload
        .as_ref()
        .map_or("without a sidecar".into(), ToString::to_string);
    Text::styled(Style::Faint, "         at ")
        .plain(format!("{} ", place.address))
        .and(Style::Faint, who)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::cmd::testing::{documents, http_route, plain};
    use clap::Parser as _;

    fn explained(line: &str) -> String {
        explained_with(line, Vec::new())
    }

    fn explained_with(line: &str, routes: Vec<Route>) -> String {
        let line = format!("meshctl explain {line}");
        let Command::Explain(explain) = Cli::parse_from(line.split(' ')).command else {
            panic!()
        };
        let documents: Vec<Document> = documents().into_iter().map(|it| it.document).collect();
        let service = explain.service.parse().unwrap();
        plain(&for_people(
            &explain
                .explain(&documents, routes, &service, TrustDomain::default())
                .unwrap(),
        ))
    }

    #[test]
    fn answers_are_explained() {
        let infer = "--service ml/fraud --method POST --path /v2/models/fraud/infer";
        insta::assert_snapshot!("sticky", explained(&format!("{infer} -H x-user-id:user-7")));
        insta::assert_snapshot!("drawn", explained(infer));
        insta::assert_snapshot!("no_rule", explained("--service ml/fraud --path /v2/models/fraud"));
        insta::assert_snapshot!(
            "refused",
            explained("--service ml/fraud --path /v2/models/a//b/infer")
        );
        let iris =
            |path: &str| explained_with(&format!("--service ml/iris --path {path}"), vec![http_route()]);
        insta::assert_snapshot!(
            "http_route",
            format!("{}\n{}", iris("/old/x?y=z"), iris("/v2/health/ready"))
        );
        insta::assert_snapshot!("external", explained("--service ml/iris --path /v2/health/ready"));
    }
}
