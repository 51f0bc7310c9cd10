//! What the kernel knows of this process, by the names that Prometheus' own clients give it.

use std::fs;

use super::text::{Kind, Text};

/// Only what there is: elsewhere than on Linux, nothing.
pub(super) fn render(text: &mut Text) {
    let Some(stat) = Stat::read() else { return };
    text.family("process_cpu_seconds_total", Kind::Counter, "User and system time spent.");
    text.line(&[], stat.cpu);
    text.family("process_resident_memory_bytes", Kind::Gauge, "Memory in use.");
    text.line(&[], stat.resident);
    text.family(
        "process_virtual_memory_bytes",
        Kind::Gauge,
        "Address space in use; slots of instances reserve much of it.",
    );
    text.line(&[], stat.address_space);
    text.family("process_start_time_seconds", Kind::Gauge, "When the process began, since 1970.");
    text.line(&[], stat.began);
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        text.family("process_open_fds", Kind::Gauge, "Open files and sockets.");
        text.line(&[], open.count().saturating_sub(1));
    }
    if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        text.family("process_max_fds", Kind::Gauge, "How many it may have open.");
        text.line(&[], most);
    }
}

struct Stat {
    cpu: f64,
    resident: u64,
    address_space: u64,
    began: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the name, in parentheses, and may hold anything; what follows it begins with the third.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
        Some(Self {
            cpu: (field(14)? + field(15)?) as f64 / ticks,
            resident: field(24)? * rustix::param::page_size() as u64,
            address_space: field(23)?,
            began: boot + field(22)? as f64 / ticks,
        })
    }
}
