//! The images that clusters of the tests run: the mesh's own, of this build, and what stands beside them.
//!
//! The mesh's own are made for production by the `Dockerfile`s in `images/`; tests hold the two together.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::image::{Archive, Settings};
use super::layer::{Files, Layer};
use super::programs::{Program, cache};
use crate::process::binary;

/// The registry in the names of images that were made here and are nowhere else.
pub const REGISTRY: &str = "mesh.local";
/// The tag of the mesh's own images.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The environment variable that names the registry, with a path if need be, that another cluster pulls images from.
pub const REGISTRY_VARIABLE: &str = "MESH_E2E_IMAGES";
/// The image of every pod's sandbox.
pub(super) const PAUSE: &str = "mesh.local/pause:e2e";
/// The tag of everything but the mesh's own.
const TAG: &str = "e2e";
/// Who runs what need not be a particular user.
const NOBODY: &str = "65532:65532";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// The control plane.
    Control,
    /// The sidecar, and `nft` for `mesh-proxy init`.
    Proxy,
    /// A shell, BusyBox and curl.
    Client,
    /// A model server that does as it is told ([`crate::server`]), the load that the tests put on it, and a client of gRPC.
    Model,
    /// The cluster's DNS server.
    CoreDns,
    /// What holds a pod's namespaces.
    Pause,
}

impl Image {
    /// Those that scenarios use.
    pub const ALL: [Self; 4] = [Self::Control, Self::Proxy, Self::Client, Self::Model];

    /// Its repository and tag.
    pub fn name(self) -> String {
        match self {
            Self::Control => format!("mesh-control:{VERSION}"),
            Self::Proxy => format!("mesh-proxy:{VERSION}"),
            Self::Client => format!("client:{TAG}"),
            Self::Model => format!("model:{TAG}"),
            Self::CoreDns => format!("coredns:{TAG}"),
            Self::Pause => format!("pause:{TAG}"),
        }
    }

    fn user(self) -> Option<&'static str> {
        match self {
            Self::Proxy => Some("2102:2102"),
            Self::Control | Self::Client | Self::Model | Self::Pause => Some(NOBODY),
            // It gets the right to a low port from its manifest, which only root can use.
            Self::CoreDns => None,
        }
    }

    fn entrypoint(self) -> &'static [&'static str] {
        match self {
            Self::Control => &["/usr/local/bin/mesh-control"],
            Self::Proxy => &["/usr/local/bin/mesh-proxy"],
            Self::Client => &["/bin/sh", "-c"],
            Self::Model => &["/usr/local/bin/model-server"],
            Self::CoreDns => &["/coredns"],
            Self::Pause => &["/bin/busybox", "sleep", "2147483647"],
        }
    }

    fn files(self) -> Result<Files> {
        let own = |name: &str| -> Result<Files> {
            Files::new().program(format!("/usr/local/bin/{name}"), &stripped(name)?)
        };
        Ok(match self {
            Self::Control => own("mesh-control")?,
            Self::Proxy => own("mesh-proxy")?.program("/usr/sbin/nft", &Program::NFT.path()?)?,
            Self::Client => busybox()?.program("/usr/bin/curl", &Program::CURL.path()?)?,
            Self::Model => {
                let mut clients = ["model-client", "grpc-client"].into_iter();
                clients.try_fold(own("model-server")?, |files, name| {
                    files.program(format!("/usr/local/bin/{name}"), &stripped(name)?)
                })?
            }
            Self::CoreDns => Files::new().copy("/coredns", Program::COREDNS.path()?),
            Self::Pause => Files::new().copy("/bin/busybox", Program::BUSYBOX.path()?),
        })
    }
}

/// Makes an image's archive, under a name of this registry.
///
/// # Errors
/// When a program that it holds is not there.
pub fn build(image: Image, registry: &str) -> Result<Archive> {
    let name = image.name();
    let files = image.files().with_context(|| format!("make the image {name}"))?;
    let layer = files.pack(&name.replace(':', "_"))?;
    write(
        &format!("{registry}/{name}"),
        image.user(),
        image.entrypoint(),
        &[],
        &[layer],
    )
}

/// Makes the archive of an image of other layers.
///
/// # Errors
/// When a layer can't be read.
pub fn write(
    name: &str,
    user: Option<&str>,
    entrypoint: &[&str],
    env: &[String],
    layers: &[Layer],
) -> Result<Archive> {
    let env: Vec<_> = [PATH.to_owned()].iter().chain(env).cloned().collect();
    let settings = Settings {
        user,
        entrypoint,
        env: &env,
    };
    Archive::write(name, &settings, layers)
}

/// BusyBox with all its names.
fn busybox() -> Result<Files> {
    let busybox = Program::BUSYBOX.path()?;
    let output = Command::new(&busybox).arg("--list").output()?;
    let names = String::from_utf8(output.stdout)?;
    let files = Files::new().copy("/bin/busybox", busybox);
    Ok(names
        .lines()
        .filter(|name| *name != "busybox")
        .fold(files, |files, name| files.link(format!("/bin/{name}"), "busybox")))
}

/// A binary of this build without what debuggers need, which is most of it.
fn stripped(name: &str) -> Result<PathBuf> {
    let full = binary(name)?;
    let folder = cache().join("stripped");
    fs::create_dir_all(&folder)?;
    let small = folder.join(name);
    let stripped = Command::new("strip").arg("-o").arg(&small).arg(&full).status();
    Ok(match stripped {
        Ok(status) if status.success() => small,
        _ => full,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A `Dockerfile`'s instructions after its last `FROM`.
    fn instructions(name: &str) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images");
        let text = fs::read_to_string(root.join(format!("{name}.Dockerfile"))).unwrap();
        let last = text.rfind("\nFROM ").unwrap();
        text[last..].lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_archives_agree_with_the_dockerfiles() {
        for (image, name) in [(Image::Control, "mesh-control"), (Image::Proxy, "mesh-proxy")] {
            let said = instructions(name);
            let user = format!("USER {}", image.user().unwrap());
            let entrypoint = format!(
                "ENTRYPOINT {}",
                serde_json::to_string(image.entrypoint()).unwrap()
            );
            for expected in [user, entrypoint] {
                assert!(said.contains(&expected), "{name}: {expected} is not in {said:#?}");
            }
            let program = format!(" {}", image.entrypoint()[0]);
            let copied = said
                .iter()
                .any(|line| line.starts_with("COPY ") && line.ends_with(&program));
            assert!(copied, "{name}: nothing is copied to{program}: {said:#?}");
        }
        let said = instructions("mesh-proxy");
        assert!(
            said.iter()
                .any(|line| line.starts_with("COPY ") && line.ends_with("/usr/sbin/nft")),
            "{said:#?}"
        );
    }
}
