//! The commands, one file each, and what they all begin with.

pub(crate) mod apply;
pub(crate) mod check;
mod completions;
pub(crate) mod delete;
pub(crate) mod demo;
mod down;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod inject;
pub(crate) mod install;
pub(crate) mod proxy;
pub(crate) mod reference;
mod rotate;
pub(crate) mod routes;
pub(crate) mod split;
pub(crate) mod stat;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod uninstall;
pub(crate) mod up;
mod upgrade;
pub(crate) mod validate;
mod version;

use mesh_api::name::{Name, ObjectName};

use crate::cli::{Cli, Command, Globals};
use crate::client::{self, Admin};
use crate::error::{Failure, Outcome};
use crate::kubernetes::{self, Cluster};
use crate::mesh_home::{Mesh, MeshHome};
use crate::output::{Format, Printer};

/// Does what the command line says.
pub(crate) async fn run(cli: Cli) -> Outcome {
    let context = Context {
        globals: cli.globals,
        printer: Printer,
    };
    let graph = matches!(context.globals.output, Format::Dot | Format::Mermaid);
    if graph && !matches!(cli.command, Command::Routes(_)) {
        return Err(Failure::Usage(
            "-o dot and -o mermaid are forms of `meshctl routes` alone".into(),
        ));
    }
    match cli.command {
        Command::Demo(args) => args.run(&context).await,
        Command::Up(args) => args.run(&context).await,
        Command::Down => down::run(&context).await,
        Command::Check(args) => args.run(&context).await,
        Command::Install(args) => args.run(&context).await,
        Command::Upgrade(args) => args.run(&context).await,
        Command::Uninstall(args) => args.run(&context).await,
        Command::Rotate => rotate::run(&context).await,
        Command::Routes(args) => args.run(&context).await,
        Command::Split(args) => args.run(&context).await,
        Command::Stat(args) => args.run(&context).await,
        Command::Proxy(args) => args.run(&context).await,
        Command::Explain(args) => args.run(&context).await,
        Command::Get(args) => args.run(&context).await,
        Command::Apply(args) => args.run(&context).await,
        Command::Delete(args) => args.run(&context).await,
        Command::Validate(args) => args.run(&context),
        Command::Inject(args) => args.run(&context),
        Command::Uninject(args) => args.run(&context),
        Command::Completions { shell } => completions::run(&context, shell),
        Command::Version => version::run(&context).await,
        Command::Reference(args) => args.run(&context),
        Command::Guard => crate::up::guard(),
    }
}

/// Where a mesh is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// On this machine.
    Machine(Mesh),
    /// On Kubernetes.
    Kubernetes(Cluster),
}

impl Place {
    /// The Admin service of the mesh there.
    pub(crate) async fn admin(&self) -> Outcome<Admin> {
        match self {
            Self::Machine(mesh) => client::connect(mesh).await,
            Self::Kubernetes(cluster) => kubernetes::admin(cluster).await,
        }
    }
}

/// What commands share: flags and the way out.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The flags of every command.
    pub(crate) globals: Globals,
    /// Where everything that is printed goes through.
    pub(crate) printer: Printer,
}

impl Context {
    /// The mesh on this machine that is meant.
    pub(crate) fn mesh(&self) -> Outcome<Mesh> {
        MeshHome::find()?.meant(self.globals.mesh.as_ref())
    }

    /// The Kubernetes cluster that is meant.
    pub(crate) async fn cluster(&self) -> Outcome<Cluster> {
        Cluster::find(&self.globals).await
    }

    /// Where the mesh is that is meant: on Kubernetes when flags say so, or when none runs on this machine and there is
    /// a kubeconfig.
    pub(crate) async fn place(&self) -> Outcome<Place> {
        if self.globals.mean_kubernetes() {
            return Ok(Place::Kubernetes(self.cluster().await?));
        }
        let mesh = self.mesh();
        if self.globals.mesh.is_some() || !kubernetes::has_kubeconfig() {
            return Ok(Place::Machine(mesh?));
        }
        match mesh {
            Ok(mesh) if client::connect(&mesh).await.is_ok() => Ok(Place::Machine(mesh)),
            _ => Ok(Place::Kubernetes(self.cluster().await?)),
        }
    }

    /// The Admin service of the mesh that is meant.
    pub(crate) async fn admin(&self) -> Outcome<Admin> {
        self.place().await?.admin().await
    }

    /// The namespace given, if one is.
    pub(crate) fn namespace(&self) -> Option<&Name> {
        self.globals.namespace.as_ref()
    }

    /// Whether lists show what is in this namespace.
    pub(crate) fn shows(&self, name: &ObjectName) -> bool {
        self.namespace()
            .is_none_or(|namespace| name.namespace == *namespace)
    }

    /// The form of what is printed, when it is one for machines.
    pub(crate) fn machine(&self) -> Option<Format> {
        match self.globals.output {
            format @ (Format::Json | Format::Yaml) => Some(format),
            Format::Table | Format::Wide | Format::Dot | Format::Mermaid => None,
        }
    }

    /// Whether more columns are wanted.
    pub(crate) fn wide(&self) -> bool {
        self.globals.output == Format::Wide
    }
}
