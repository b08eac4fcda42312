//! llama-server from Debian: the newest packages, unpacked beside the system and run with the loader and the libraries
//! that they were built for. Works on any Debian, as any user, and changes nothing outside the demo's folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::Problem;
use super::layout::Layout;
use super::run::{in_path, make_folder, remove_folder, run, write};

/// The package, and the release that has it.
pub(super) const PACKAGE: &str = "llama.cpp-tools";
pub(super) const RELEASE: &str = "sid";

/// Signs the releases: its file has either name, by the age of the system.
const KEYRINGS: &[&str] = &[
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
];

/// An unpacked llama-server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Llama {
    /// The dynamic loader that it is started with.
    pub(super) loader: PathBuf,
    /// Where the loader finds libraries.
    pub(super) library_path: String,
    /// llama-server itself.
    pub(super) program: PathBuf,
    /// The plain CPU code, which runs on every machine; a model this small gains nothing from faster ones.
    pub(super) backend: PathBuf,
}

/// Why llama-server cannot be had here: a clause to put after "because".
pub(super) type Reason = String;

/// Downloads and unpacks llama-server.
pub(super) fn install(layout: &Layout) -> Result<Llama, Reason> {
    let source = source()?;
    let (folder, partial) = (layout.llama(), layout.llama().with_extension("partial"));
    let clear = |folder| remove_folder(folder).map_err(|problem| problem.to_string());
    clear(&partial)?;
    download(&source, &partial, &layout.log()).map_err(|problem| problem.to_string())?;
    clear(&folder)?;
    fs::rename(partial.join("root"), &folder)
        .map_err(|error| format!("it could not be put in place: {error}"))?;
    clear(&partial)?;
    let llama = look(&folder).ok_or("its packages are laid out in a way that is not known")?;
    let mut version = llama.command();
    run(version.arg("--version"), "starting llama-server", &layout.log())
        .map_err(|problem| problem.to_string())?;
    Ok(llama)
}

impl Llama {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.loader);
        command
            .arg("--library-path")
            .arg(&self.library_path)
            .arg(&self.program);
        command
    }
}

/// Where this system gets Debian's packages from, as a line for sources.list.
fn source() -> Result<String, Reason> {
    if let Some(missing) = ["apt-get", "apt-config", "dpkg-deb"]
        .iter()
        .find(|tool| in_path(tool).is_none())
    {
        return Err(format!(
            "it is installed from Debian's packages and there is no {missing}"
        ));
    }
    let ask = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"];
    let listing = Command::new("apt-get")
        .args(ask)
        .output()
        .map_err(|error| format!("apt-get does not run: {error}"))?;
    let mirror = debian_mirror(&String::from_utf8_lossy(&listing.stdout))
        .ok_or("apt has no source of Debian's packages")?
        .to_owned();
    let keyring = KEYRINGS
        .iter()
        .find(|keyring| Path::new(keyring).is_file())
        .ok_or("Debian's keyring is missing (package debian-archive-keyring)")?;
    Ok(format!("deb [signed-by={keyring}] {mirror} {RELEASE} main\n"))
}

/// Of the sources that apt has, the one of Debian itself.
fn debian_mirror(listing: &str) -> Option<&str> {
    listing
        .lines()
        .map(str::trim)
        .find(|uri| uri.trim_end_matches('/').ends_with("/debian"))
}

/// Downloads the package and all that it needs into a folder, and unpacks it to `root` there.
fn download(source: &str, folder: &Path, log: &Path) -> Result<(), Problem> {
    for needed in [
        "etc/preferences.d",
        "state/lists/partial",
        "cache/archives/partial",
        "log",
        "root",
    ] {
        make_folder(&folder.join(needed))?;
    }
    let settings = run(
        Command::new("apt-config").arg("dump"),
        "reading apt's configuration",
        log,
    )?;
    let config = folder.join("apt.conf");
    write(&config, apt_config(&settings, folder).as_bytes())?;
    write(&folder.join("etc/sources.list"), source.as_bytes())?;
    write(&folder.join("state/status"), b"")?;

    let apt = |arguments: &[&str], what| {
        run(
            Command::new("apt-get").env("APT_CONFIG", &config).args(arguments),
            what,
            log,
        )
    };
    apt(&["update"], "listing Debian's packages")?;
    apt(
        &["install", "--download-only", "--assume-yes", PACKAGE],
        "downloading llama-server",
    )?;

    let (archives, root) = (folder.join("cache/archives"), folder.join("root"));
    for entry in fs::read_dir(&archives).map_err(Problem::file("list", &archives))? {
        let file = entry.map_err(Problem::file("list", &archives))?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            run(
                Command::new("dpkg-deb").arg("-x").args([&file, &root]),
                "unpacking llama-server",
                log,
            )?;
        }
    }
    ["etc", "var", "usr/share"]
        .iter()
        .try_for_each(|unused| remove_folder(&root.join(unused)))
}

/// A configuration for an apt of our own: nothing installed, all its folders in ours, but the system's proxies,
/// certificates and checks. The rest of the system's configuration is left out: its hooks act on the system.
fn apt_config(settings: &str, folder: &Path) -> String {
    let unwanted = [
        "IndexTargets",
        "Languages",
        "Changelogs",
        "cdrom",
        "CompressionTypes",
    ];
    let of_system = settings.lines().filter(|line| {
        line.strip_prefix("Acquire::")
            .is_some_and(|rest| !unwanted.iter().any(|name| rest.starts_with(name)))
    });
    let folder = folder.display();
    let of_ours = [
        format!("Dir::Etc \"{folder}/etc\";"),
        format!("Dir::State \"{folder}/state\";"),
        format!("Dir::State::status \"{folder}/state/status\";"),
        format!("Dir::Cache \"{folder}/cache\";"),
        format!("Dir::Log \"{folder}/log\";"),
        "Dir::Etc::main \"/dev/null\";".into(),
        "Dir::Etc::parts \"/dev/null\";".into(),
        "Dir::Etc::netrc \"/etc/apt/auth.conf\";".into(),
        "Dir::Etc::netrcparts \"/etc/apt/auth.conf.d\";".into(),
        "Dir::Cache::pkgcache \"\";".into(),
        "Dir::Cache::srcpkgcache \"\";".into(),
        "APT::Install-Recommends \"0\";".into(),
        // apt would fetch as a user of its own, who may not enter the demo's folder.
        "APT::Sandbox::User \"\";".into(),
        "Acquire::Languages \"none\";".into(),
        "Acquire::Retries \"1\";".into(),
        "Acquire::http::Timeout \"20\";".into(),
        "Acquire::https::Timeout \"20\";".into(),
    ];
    of_system
        .map(str::to_owned)
        .chain(of_ours)
        .map(|line| line + "\n")
        .collect()
}

/// Finds what is needed in an unpacked folder, whatever the machine's architecture.
fn look(folder: &Path) -> Option<Llama> {
    let libraries = entries(&folder.join("usr/lib"))
        .into_iter()
        .find(|path| path.join("llama").is_dir())?;
    let named = |start: &'static str| {
        move |path: &PathBuf| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(start))
        }
    };
    let loader = entries(&libraries).into_iter().find(named("ld-linux-"))?;
    let backends = entries(&libraries.join("ggml/backends0"));
    let plain = ["libggml-cpu-x64", "libggml-cpu-armv8.0", "libggml-cpu"];
    let backend = plain
        .iter()
        .find_map(|start| backends.iter().find(|path| named(start)(path)))?
        .clone();
    let program = Some(folder.join("usr/bin/llama-server")).filter(|program| program.is_file())?;
    let library_path = format!("{0}:{0}/llama", libraries.display());
    Some(Llama {
        loader,
        library_path,
        program,
        backend,
    })
}

/// A folder's entries in order; none if it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_itself_is_told_from_other_sources() {
        let cases = [
            ("", None),
            ("http://archive.example/ubuntu/\n", None),
            (
                "http://mirror.example/debian-security/\nhttp://mirror.example/debian/\n",
                Some("http://mirror.example/debian/"),
            ),
            (
                "mirror+file:/etc/apt/mirrors/debian\n",
                Some("mirror+file:/etc/apt/mirrors/debian"),
            ),
        ];
        for (listing, expected) in cases {
            assert_eq!(debian_mirror(listing), expected, "{listing:?}");
        }
    }

    #[test]
    fn apt_of_our_own_takes_over_how_to_fetch_but_not_what_to_run() {
        let settings = "APT::Update::Post-Invoke:: \"rm -f /var/cache/apt/archives/*.deb\";\nAcquire::http::Proxy \"http://p:1\";\n\
                        Acquire::IndexTargets::deb \"\";\nDir \"/\";\n";
        let config = apt_config(settings, Path::new("/d"));
        assert!(
            config.contains("Acquire::http::Proxy \"http://p:1\";\n"),
            "{config}"
        );
        assert!(
            config.contains("Dir::State::status \"/d/state/status\";\n"),
            "{config}"
        );
        for unwanted in ["Post-Invoke", "IndexTargets", "Dir \"/\""] {
            assert!(!config.contains(unwanted), "{config}");
        }
    }

    #[test]
    fn the_parts_are_found_on_either_architecture() {
        for (triplet, loader, backend) in [
            ("x86_64-linux-gnu", "ld-linux-x86-64.so.2", "libggml-cpu-x64.so"),
            (
                "aarch64-linux-gnu",
                "ld-linux-aarch64.so.1",
                "libggml-cpu-armv8.0_1.so",
            ),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let libraries = folder.path().join("usr/lib").join(triplet);
            assert_eq!(look(folder.path()), None);
            let backends = libraries.join("ggml/backends0");
            for file in [
                folder.path().join("usr/bin/llama-server"),
                libraries.join(loader),
                libraries.join("llama/libllama-common.so.0"),
                backends.join("libggml-cpu-armv8.2_1.so"),
                backends.join("libggml-cpu-haswell.so"),
                backends.join(backend),
            ] {
                write(&file, b"").expect("written");
            }
            let llama = look(folder.path()).expect("all is there");
            assert_eq!(llama.loader, libraries.join(loader));
            assert_eq!(llama.backend, backends.join(backend));
        }
    }
}
