//! What the operating system knows about this process. Source: proc(5).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

/// A reading of `/proc/self`; what can't be read is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// User and system time.
    pub cpu: Duration,
}

impl Process {
    /// Reads now.
    pub fn read() -> Self {
        Self {
            resident_bytes: resident_bytes().unwrap_or_default(),
            open_fds: std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
            cpu: cpu().unwrap_or_default(),
        }
    }
}

/// Resident memory in bytes.
pub fn resident_bytes() -> Option<u64> {
    Resident::open()?.bytes()
}

/// Resident memory, to be read again and again: the file stays open.
pub struct Resident(File);

impl Resident {
    /// `None` where there is no `/proc`.
    pub fn open() -> Option<Self> {
        File::open("/proc/self/statm").ok().map(Self)
    }

    /// In bytes.
    pub fn bytes(&self) -> Option<u64> {
        let mut text = [0; 128];
        let read = self.0.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..read)?).ok()?;
        let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }
}

fn cpu() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in brackets, may itself hold brackets and spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
    ))
}

/// A time in seconds since 1970.
pub fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_files() {
        let process = Process::read();
        assert!(process.resident_bytes > 1 << 20);
        assert!(process.open_fds >= 3);
    }
}
