//! What processes print: into a file each, and on the terminal by name, in lines of bounded length.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

use crate::output::{Printer, Style, Text};

/// The longest line that is kept, in bytes; what is beyond is left out.
const LINE_BYTES: usize = 16 << 10;
/// The longest line that is shown, in columns.
const LINE_COLUMNS: usize = 1_000;
/// The size at which a log begins anew; the one before is kept as `.log.1`.
const FILE_BYTES: u64 = 64 << 20;

/// Where logs go.
#[derive(Debug)]
pub(super) struct Logs {
    printer: Printer,
    echo: AtomicBool,
}

/// The log of one process.
#[derive(Debug)]
pub(super) struct Log {
    name: String,
    style: Style,
    path: PathBuf,
    file: Mutex<Option<(File, u64)>>,
    logs: Arc<Logs>,
}

impl Logs {
    /// Logs in files, and on standard output too if `echo`.
    pub(super) fn new(printer: Printer, echo: bool) -> Arc<Self> {
        Arc::new(Self {
            printer,
            echo: AtomicBool::new(echo),
        })
    }

    /// The log of a process, in a file that is begun anew.
    pub(super) fn open(self: &Arc<Self>, name: &str, path: PathBuf) -> Arc<Log> {
        // Equal names have equal colours in every run.
        let style = name
            .bytes()
            .fold(7_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let file = begin(&path).ok().map(|file| (file, 0));
        Arc::new(Log {
            name: name.to_owned(),
            style: Style::Name(style % 6),
            path,
            file: Mutex::new(file),
            logs: self.clone(),
        })
    }
}

impl Log {
    /// Takes all that comes from a stream until it ends.
    pub(super) async fn take(self: Arc<Self>, stream: impl AsyncRead + Unpin) {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while let Ok(true) = next_line(&mut reader, &mut line).await {
            self.line(&line);
        }
    }

    /// Its last lines.
    pub(super) fn tail(&self, lines: usize) -> Vec<String> {
        tail(&self.path, lines)
    }

    fn line(&self, line: &[u8]) {
        self.write(line);
        if !self.logs.echo.load(Ordering::Relaxed) {
            return;
        }
        let text = shown(line);
        let text = Text::styled(self.style, format!("{:<24}", self.name))
            .and(Style::Faint, " │ ")
            .plain(text)
            .cut(LINE_COLUMNS);
        if self.logs.printer.data(&format!("{}\n", text.ansi())).is_err() {
            self.logs.echo.store(false, Ordering::Relaxed);
        }
    }

    fn write(&self, line: &[u8]) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((open, written)) = file.as_mut() else {
            return;
        };
        // A full disk must not end a mesh: what can't be kept is not kept.
        let _ = open.write_all(line).and_then(|()| open.write_all(b"\n"));
        *written += line.len() as u64 + 1;
        if *written > FILE_BYTES {
            let _ = std::fs::rename(&self.path, self.path.with_extension("log.1"));
            *file = begin(&self.path).ok().map(|file| (file, 0));
        }
    }
}

fn begin(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// A line for people: no colours or control characters of its own, tabs as spaces.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    anstream::adapter::strip_str(&text)
        .to_string()
        .replace('\t', "    ")
}

/// The next line without its end, cut at [`LINE_BYTES`]. False: there is none.
async fn next_line(reader: &mut BufReader<impl AsyncRead + Unpin>, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(chunk.len());
        let room = LINE_BYTES.saturating_sub(line.len());
        line.extend_from_slice(&chunk[..taken.min(room)]);
        reader.consume(taken + usize::from(end.is_some()));
        if end.is_some() {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(true);
        }
    }
}

/// The last lines of a file, of its last 64 KiB.
pub(crate) fn tail(path: &Path, lines: usize) -> Vec<String> {
    let read = || {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(io::SeekFrom::Start(size.saturating_sub(64 << 10)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        io::Result::Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let all: Vec<&[u8]> = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .collect();
    let last = &all[all.len().saturating_sub(lines)..];
    last.iter().map(|line| shown(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_kept_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let log = Logs::new(Printer, false).open("ml/a", path.clone());
        let long = "x".repeat(LINE_BYTES * 3);
        let text = format!("one\r\n\u{1b}[31mtwo\u{1b}[0m\tthree\n{long}\nlast");
        log.clone().take(text.as_bytes()).await;
        let kept = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = kept.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[2].len()), (4, "one", LINE_BYTES));
        let tail = log.tail(3);
        assert_eq!((tail[0].as_str(), tail[2].as_str()), ("two    three", "last"));
        assert!(tail_of_nothing());
    }

    fn tail_of_nothing() -> bool {
        tail(Path::new("/no/such/file"), 5).is_empty()
    }
}
