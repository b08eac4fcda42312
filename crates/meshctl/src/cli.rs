//! The command line: commands, flags and their help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueHint};
use mesh_api::document::Kind;
use mesh_api::name::Name;

use crate::cmd;
use crate::output::Format;

/// A service mesh for model serving: sees models, splits versions, encrypts everything.
#[derive(Debug, Parser)]
#[command(
    name = "meshctl",
    version,
    max_term_width = 100,
    disable_help_subcommand = false,
    after_help = "Start with `meshctl demo`, with `meshctl up DIR` on documents of your own, or on Kubernetes with `meshctl \
                  install`."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Args, Clone, Debug)]
pub(crate) struct Globals {
    /// The mesh to talk to; default: the one started last
    #[arg(
        long,
        global = true,
        env = "MESH",
        hide_env_values = true,
        value_name = "NAME"
    )]
    pub(crate) mesh: Option<Name>,
    /// The mesh on a Kubernetes cluster; default: when none runs on this machine and there is a kubeconfig
    #[arg(long, global = true)]
    pub(crate) kube: bool,
    /// The kubeconfig; default: $KUBECONFIG, or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; default: its current one
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The namespace of the control plane on Kubernetes
    #[arg(
        long,
        global = true,
        env = "MESH_NAMESPACE",
        hide_env_values = true,
        default_value = "mesh-system",
        value_name = "NAME"
    )]
    pub(crate) mesh_namespace: Name,
    /// The namespace; default: where the name is found, if it is found in one alone
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAME",
        conflicts_with = "all_namespaces"
    )]
    pub(crate) namespace: Option<Name>,
    /// All namespaces; lists show them all unless --namespace is given
    #[arg(short = 'A', long, global = true)]
    pub(crate) all_namespaces: bool,
    /// The form of what is printed
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub(crate) output: Format,
    /// Whether to use colours; they never carry meaning alone
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub(crate) color: Color,
}

impl Globals {
    /// Whether a flag says that the mesh is on Kubernetes.
    pub(crate) fn mean_kubernetes(&self) -> bool {
        self.kube || self.kubeconfig.is_some() || self.context.is_some()
    }
}

/// Whether to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    /// Makes it so for all that is printed.
    pub(crate) fn write_global(self) {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::AlwaysAnsi,
            Self::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the mesh on real model servers: installs them, runs a canary from 0 to 100 %
    Demo(cmd::demo::Demo),
    /// Run a mesh from a folder of documents on this machine
    Up(cmd::up::Up),
    /// Stop a mesh that `up --detach` left running
    Down,
    /// Install the mesh on a Kubernetes cluster
    Install(cmd::install::Install),
    /// Bring the mesh on a Kubernetes cluster to this release
    Upgrade(cmd::install::Upgrade),
    /// Remove the mesh from a Kubernetes cluster
    Uninstall(cmd::uninstall::Uninstall),
    /// Replace the root of trust of the mesh on a Kubernetes cluster
    Rotate,
    /// Find what is wrong with the mesh, and how to mend it
    Check(cmd::check::Check),
    /// Show who calls what, how it is split, and how each way does
    Routes(cmd::routes::Routes),
    /// Show or change how a route's requests are split over backends
    Split(cmd::split::Split),
    /// Show success, rate and latency by service and workload
    Stat(cmd::stat::Stat),
    /// Show the proxies: version, age, certificate, refusals
    #[command(visible_alias = "proxies")]
    Proxy(cmd::proxy::Proxy),
    /// Say which backend answers a request, and why
    Explain(cmd::explain::Explain),
    /// Show documents
    Get(cmd::get::Get),
    /// Apply documents from a file, a folder or standard input
    Apply(cmd::apply::Apply),
    /// Delete a document
    Delete(cmd::delete::Delete),
    /// Check documents without a mesh
    Validate(cmd::validate::Validate),
    /// Add the sidecar to the pods in Kubernetes documents, comments and order kept
    Inject(cmd::inject::Inject),
    /// Take the sidecar out of the pods in Kubernetes documents
    Uninject(cmd::inject::Uninject),
    /// Print a script that completes commands in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Show the versions of meshctl and of the control plane
    Version,
    /// Write the reference documentation from the types
    #[command(hide = true)]
    Reference(cmd::reference::Reference),
    /// End the process groups named on standard input when it closes
    #[command(hide = true)]
    Guard,
}

/// Files and folders of documents.
#[derive(Args, Debug)]
pub(crate) struct Files {
    /// A file, a folder of .yaml and .yml files, or - for standard input; may be given several times
    #[arg(short, long = "filename", required = true, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub(crate) filename: Vec<PathBuf>,
}

/// Reads a kind as people type it: in any case, in the plural, or by its initials.
pub(crate) fn kind(text: &str) -> Result<Kind, String> {
    Ok(match text {
        "mc" => Kind::MeshConfig,
        "wl" => Kind::Workload,
        "svc" => Kind::Service,
        "tp" => Kind::TrafficPolicy,
        "mr" => Kind::ModelRoute,
        _ => return text.parse::<Kind>().map_err(|error| error.to_string()),
    })
}

/// Reads a span of time.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    text.parse::<mesh_api::duration::Duration>()
        .map(mesh_api::duration::Duration::get)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn what_can_be_written() {
        for line in [
            "meshctl demo --once",
            "meshctl up examples/fraud --name shop",
            "meshctl check -o json",
            "meshctl check --pre --context staging",
            "meshctl install --ha --set images.registry=registry.example.com/mesh --dry-run",
            "meshctl install -o yaml --values values.yaml",
            "meshctl upgrade --kubeconfig admin.conf",
            "meshctl uninstall --yes --crds",
            "meshctl routes fraud --watch",
            "meshctl routes -o mermaid",
            "meshctl -n ml split fraud",
            "meshctl split fraud stable=90 canary=10 --dry-run",
            "meshctl split ml/fraud undo --timeout 5s",
            "meshctl get modelroutes -A",
            "meshctl get mr fraud -o yaml",
            "meshctl apply -f - --dry-run",
            "meshctl delete ModelRoute fraud",
            "meshctl validate examples a.yaml",
            "meshctl inject - --image mesh-proxy:1 --image-pull-policy Never --skip-inbound-ports 22,9000-9010",
            "meshctl -n ml inject a.yaml b --settings s.yaml --native-sidecar false --rewrite-probes=false",
            "meshctl uninject -",
            "meshctl proxy ml/client",
            "meshctl stat services -o wide",
            "meshctl explain --service fraud --path /v2/models/fraud/infer -H x-user-id:7",
            "meshctl completions bash",
            "meshctl --color never version --mesh shop",
        ] {
            if let Err(error) = parse(line) {
                assert_eq!(line, "", "{error}");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for (line, kind) in [
            ("meshctl", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("meshctl dance", ErrorKind::InvalidSubcommand),
            ("meshctl up", ErrorKind::MissingRequiredArgument),
            ("meshctl install --set ha", ErrorKind::ValueValidation),
            ("meshctl check --wat", ErrorKind::UnknownArgument),
            ("meshctl routes -o xml", ErrorKind::InvalidValue),
            ("meshctl --color sometimes version", ErrorKind::InvalidValue),
            ("meshctl -n Ml routes", ErrorKind::ValueValidation),
            ("meshctl --mesh a/b check", ErrorKind::ValueValidation),
            ("meshctl get -n ml -A", ErrorKind::ArgumentConflict),
            ("meshctl get VirtualService", ErrorKind::ValueValidation),
            ("meshctl split", ErrorKind::MissingRequiredArgument),
            ("meshctl split fraud stable", ErrorKind::ValueValidation),
            ("meshctl split fraud stable=-1", ErrorKind::ValueValidation),
            ("meshctl split fraud stable=1000001", ErrorKind::ValueValidation),
            ("meshctl split fraud Stable=1", ErrorKind::ValueValidation),
            (
                "meshctl split fraud stable=1 --timeout 10",
                ErrorKind::ValueValidation,
            ),
            ("meshctl apply", ErrorKind::MissingRequiredArgument),
            ("meshctl delete ModelRoute", ErrorKind::MissingRequiredArgument),
            ("meshctl validate", ErrorKind::MissingRequiredArgument),
            ("meshctl inject", ErrorKind::MissingRequiredArgument),
            (
                "meshctl inject - --skip-cidrs 10.1.2.3/8",
                ErrorKind::ValueValidation,
            ),
            (
                "meshctl inject - --image-pull-policy never",
                ErrorKind::ValueValidation,
            ),
            (
                "meshctl explain --service fraud",
                ErrorKind::MissingRequiredArgument,
            ),
            (
                "meshctl explain --service fraud --path /x -H nocolon",
                ErrorKind::ValueValidation,
            ),
            (
                "meshctl explain --service fraud --path /x --caller a",
                ErrorKind::ValueValidation,
            ),
            (
                "meshctl explain --service fraud --path /x --method G(T",
                ErrorKind::ValueValidation,
            ),
            ("meshctl completions klingon", ErrorKind::InvalidValue),
        ] {
            match parse(line) {
                Ok(cli) => assert_eq!(line, "", "{cli:?}"),
                Err(error) => {
                    assert_eq!(error.kind(), kind, "{line}");
                    assert_eq!(error.exit_code(), 2, "{line}");
                }
            }
        }
    }
}
