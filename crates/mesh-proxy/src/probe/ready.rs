//! `mesh-proxy ready`: asks the proxy beside it whether it is ready, and waits until it is. For what starts others after
//! it: a container's postStart hook, a script.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Parser;

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(2);
/// How soon it is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// Say whether the mesh-proxy of this machine or pod is ready: exit code 0 if it is, 1 and the reason if not.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "mesh-proxy ready", bin_name = "mesh-proxy ready", version)]
pub struct Ready {
    /// How long to wait until it is
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub wait: mesh_api::duration::Duration,

    /// The proxy's admin endpoint
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:15000",
        env = "MESH_ADMIN"
    )]
    pub admin: SocketAddr,
}

impl Ready {
    /// Asks, until it is ready or the time is over.
    ///
    /// # Errors
    /// When it is not ready, with the reason it gave last.
    pub fn run(&self) -> Result<()> {
        let until = Instant::now() + self.wait.get();
        loop {
            let Err(reason) = ask(self.admin) else {
                return Ok(());
            };
            if Instant::now() + PAUSE >= until {
                match self.wait.as_millis() {
                    0 => bail!("not ready: {reason}"),
                    _ => bail!("not ready after {}: {reason}", self.wait),
                }
            }
            sleep(PAUSE);
        }
    }
}

/// One question; an error is the reason why it is not ready.
fn ask(admin: SocketAddr) -> Result<(), String> {
    let answer = exchange(admin).map_err(|error| format!("{admin}: {error}"))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, _)) if head.starts_with("HTTP/1.1 200 ") => Ok(()),
        Some((_, reason)) => Err(reason.trim().to_owned()),
        None => Err(format!("{admin}: this is no mesh-proxy")),
    }
}

fn exchange(admin: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, QUESTION)?;
    stream.set_read_timeout(Some(QUESTION))?;
    stream.set_write_timeout(Some(QUESTION))?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: mesh-proxy\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(16 << 10).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A proxy that gives these answers, one after the other.
    fn proxy(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 512];
                let read = stream.read(&mut head).unwrap();
                assert!(head[..read].starts_with(b"GET /ready HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    fn run(admin: SocketAddr, wait: &str) -> Result<(), String> {
        let wait = format!("--wait={wait}");
        let ready = Ready::try_parse_from(["ready", &wait, &format!("--admin={admin}")]).unwrap();
        ready.run().map_err(|error| error.to_string())
    }

    const NOT: &str = "HTTP/1.1 503 Service Unavailable\r\n\r\nno configuration yet\n";
    const READY: &str = "HTTP/1.1 200 OK\r\n\r\nready\n";

    #[test]
    fn it_waits_until_the_proxy_is_ready() {
        assert_eq!(run(proxy(&[READY]), "0s"), Ok(()));
        assert_eq!(
            run(proxy(&[NOT]), "0s"),
            Err("not ready: no configuration yet".to_owned())
        );
        assert_eq!(run(proxy(&[NOT, NOT, READY]), "1h"), Ok(()));
        assert!(
            run(proxy(&["nonsense"]), "0s")
                .unwrap_err()
                .contains("no mesh-proxy")
        );
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(run(nobody, "60ms").unwrap_err().contains("not ready after 60ms"));
    }
}
