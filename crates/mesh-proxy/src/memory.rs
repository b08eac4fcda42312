//! How much memory this process holds: whether it is as much as it may, which one thread asks the kernel now and then and
//! all others read; and giving back what is free.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::observe::process;

/// How much memory peers can fill at most, in bytes per second: the kernel copies what they send to pages that it makes
/// empty before. The kernel is asked again before the room there is can be gone.
const FILLED: u64 = 2 << 30;
/// How often the kernel is asked at most, and at least.
const OFTEN: Duration = Duration::from_millis(10);
const SELDOM: Duration = Duration::from_secs(1);
/// From which part of the limit on, in hundredths, it is over again.
const RELIEF: u64 = 90;

/// Gives memory that this thread has freed back to the system, where the allocator would keep it for a next time.
pub fn give_back() {
    // SAFETY: it takes no pointer, and may be called by any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Whether load is to be shed.
#[derive(Debug, Default)]
pub struct Memory(Arc<AtomicBool>);

impl Memory {
    /// Whether load is to be shed.
    pub fn pressed(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// The same, for whoever asks very often.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Takes a reading in, with the limit it is held against. Returns whether that changed anything.
    pub fn read(&self, resident: u64, limit: u64) -> bool {
        let before = self.pressed();
        let pressed = if before {
            resident > limit / 100 * RELIEF
        } else {
            resident > limit
        };
        self.0.store(pressed, Relaxed);
        pressed != before
    }

    /// Asks for as long as the proxy runs.
    pub async fn watch(&self, limit: u64) {
        let Some(memory) = process::Resident::open() else {
            return tracing::warn!("memory: there is no /proc/self/statm: --memory-limit is not kept");
        };
        loop {
            let resident = memory.bytes().unwrap_or_default();
            if self.read(resident, limit) {
                if self.pressed() {
                    tracing::warn!(resident, limit, "memory: shedding load (--memory-limit)");
                } else {
                    tracing::info!(resident, limit, "memory: there is room again");
                }
            }
            tokio::time::sleep(pause(resident, limit)).await;
        }
    }
}

/// How long nothing needs to be asked.
fn pause(resident: u64, limit: u64) -> Duration {
    let room = limit.saturating_sub(resident);
    Duration::from_secs_f64(room as f64 / FILLED as f64).clamp(OFTEN, SELDOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked_before_the_room_is_gone() {
        for (resident, limit, expected) in [
            (14 << 20, 16 << 30, 1_000),
            (14 << 20, u64::MAX, 1_000),
            (14 << 20, 270 << 20, 125),
            (206 << 20, 270 << 20, 31),
            (260 << 20, 270 << 20, 10),
            (300 << 20, 270 << 20, 10),
        ] {
            assert_eq!(
                pause(resident, limit).as_millis(),
                expected,
                "{resident} of {limit}"
            );
        }
    }

    #[test]
    fn load_is_shed_until_there_is_room() {
        let memory = Memory::default();
        for (resident, pressed) in [
            (99, false),
            (100, false),
            (101, true),
            (95, true),
            (91, true),
            (90, false),
            (100, false),
        ] {
            memory.read(resident * 1_000, 100_000);
            assert_eq!(memory.pressed(), pressed, "{resident}");
        }
    }
}
