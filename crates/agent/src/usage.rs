//! What a build uses, from one lap to the next: a lap ends with each command and each phase.
//!
//! The kernel counts. Only what it does not count in spans is looked at now and then, and of that no more is kept than the most, the sum and the
//! number: a build of a week takes no more room than one of a second.

use std::time::{Duration, Instant};

use container::{Container, Usage};

use crate::journal::{CommandUsed, PhaseUsed, Used};

/// How often memory is looked at, unless that takes long.
const EVERY: Duration = Duration::from_millis(250);
/// Looking takes at most this part of the time.
const PART: u32 = 50;
/// Commands of a phase that are told of one by one.
pub const MOST_COMMANDS: usize = 16;
/// Of a command's text, characters.
const MOST_TEXT: usize = 160;

/// Looks at one container.
#[derive(Debug)]
pub(crate) struct Meter {
    /// At the latest lap.
    before: Usage,
    samples: Samples,
    next: Instant,
    /// Whether the kernel counts the most memory by laps.
    by_laps: bool,
}

impl Meter {
    /// For a container that has only just been made: nothing is looked at yet.
    pub(crate) fn new() -> Meter {
        Meter {
            before: Usage::default(),
            samples: Samples::default(),
            next: Instant::now() + EVERY,
            by_laps: true,
        }
    }

    pub(crate) fn due(&self) -> Instant {
        self.next
    }

    pub(crate) fn sample(&mut self, container: &Container) {
        let begun = Instant::now();
        self.samples.take(container.memory_bytes());
        let now = Instant::now();
        self.next = now + EVERY.max((now - begun) * PART);
    }

    /// Ends a lap.
    pub(crate) fn lap(&mut self, container: &mut Container) -> Lap {
        let now = container.usage();
        let before = std::mem::replace(&mut self.before, now);
        let mut samples = std::mem::take(&mut self.samples);
        now.memory_bytes.into_iter().for_each(|bytes| samples.take(bytes));
        let memory_peak_bytes = match now.memory_peak_bytes {
            Some(peak) if self.by_laps => Some(peak),
            // A record that was broken was broken now.
            Some(peak) if Some(peak) > before.memory_peak_bytes => Some(peak),
            _ => samples.most(),
        };
        self.by_laps = container.restart_memory_peak();
        let since =
            |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before.unwrap_or_default()));
        Lap {
            cpu_millis: now.cpu_millis.saturating_sub(before.cpu_millis),
            memory_peak_bytes,
            samples,
            disk_read_bytes: since(now.disk.map(|d| d.read_bytes), before.disk.map(|d| d.read_bytes)),
            disk_written_bytes: since(
                now.disk.map(|d| d.written_bytes),
                before.disk.map(|d| d.written_bytes),
            ),
            received_bytes: since(
                now.network.map(|n| n.received_bytes),
                before.network.map(|n| n.received_bytes),
            ),
            sent_bytes: since(now.network.map(|n| n.sent_bytes), before.network.map(|n| n.sent_bytes)),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Samples {
    most: u64,
    sum: u128,
    number: u64,
}

impl Samples {
    fn take(&mut self, bytes: u64) {
        self.add(Samples { most: bytes, sum: bytes.into(), number: 1 });
    }

    fn add(&mut self, other: Samples) {
        self.most = self.most.max(other.most);
        self.sum += other.sum;
        self.number += other.number;
    }

    fn most(&self) -> Option<u64> {
        (self.number > 0).then_some(self.most)
    }

    fn mean(&self) -> Option<u64> {
        u64::try_from(self.sum.checked_div(self.number.into())?).ok()
    }
}

/// What was used in a lap, or in several.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lap {
    cpu_millis: u64,
    memory_peak_bytes: Option<u64>,
    samples: Samples,
    disk_read_bytes: Option<u64>,
    disk_written_bytes: Option<u64>,
    received_bytes: Option<u64>,
    sent_bytes: Option<u64>,
}

impl Lap {
    pub(crate) fn add(&mut self, next: Lap) {
        self.cpu_millis += next.cpu_millis;
        self.memory_peak_bytes = self.memory_peak_bytes.max(next.memory_peak_bytes);
        self.samples.add(next.samples);
        for (sum, more) in [
            (&mut self.disk_read_bytes, next.disk_read_bytes),
            (&mut self.disk_written_bytes, next.disk_written_bytes),
            (&mut self.received_bytes, next.received_bytes),
            (&mut self.sent_bytes, next.sent_bytes),
        ] {
            *sum = sum.map_or(more, |sum| Some(sum + more.unwrap_or_default()));
        }
    }

    fn used(&self) -> Used {
        Used {
            cpu_millis: self.cpu_millis,
            memory_peak_bytes: self.memory_peak_bytes,
            memory_mean_bytes: self.samples.mean(),
            disk_read_bytes: self.disk_read_bytes,
            disk_written_bytes: self.disk_written_bytes,
            network_received_bytes: self.received_bytes,
            network_sent_bytes: self.sent_bytes,
        }
    }
}

/// The account of a phase: all laps together, and its commands one by one.
#[derive(Debug, Default)]
pub(crate) struct Account {
    all: Lap,
    commands: Vec<CommandUsed>,
    more_commands: u32,
    /// A command that runs, and since when.
    running: Option<(String, Instant)>,
}

impl Account {
    /// A command begins; `text` may be shown.
    pub(crate) fn begin(&mut self, text: &str) {
        self.running = Some((text.chars().take(MOST_TEXT).collect(), Instant::now()));
    }

    /// A lap has ended, and with it the command that ran.
    pub(crate) fn add(&mut self, lap: Lap) {
        self.all.add(lap);
        let Some((command, begun)) = self.running.take() else { return };
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.commands.push(CommandUsed { command, took_ms, used: lap.used() });
        if self.commands.len() > MOST_COMMANDS {
            self.drop_shortest();
        }
    }

    fn drop_shortest(&mut self) {
        let shortest = self.commands.iter().enumerate().min_by_key(|(_, command)| command.took_ms);
        if let Some((at, _)) = shortest {
            self.commands.remove(at);
            self.more_commands += 1;
        }
    }

    pub(crate) fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    pub(crate) fn close(self, phase: crate::journal::Phase, disk_used_bytes: Option<u64>) -> PhaseUsed {
        let Account { all, commands, more_commands, .. } = self;
        PhaseUsed { phase, used: all.used(), disk_used_bytes, commands, more_commands }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Phase;

    fn lap(cpu_millis: u64, peak: u64) -> Lap {
        let mut samples = Samples::default();
        samples.take(peak / 2);
        Lap { cpu_millis, memory_peak_bytes: Some(peak), samples, disk_read_bytes: Some(5), ..Lap::default() }
    }

    #[test]
    fn a_phase_is_the_sum_of_its_laps_and_its_memory_the_most_of_them() {
        let mut account = Account::default();
        account.begin("make");
        account.add(lap(30, 200));
        account.add(lap(12, 100));
        let phase = account.close(Phase::Build, Some(7));
        assert_eq!((phase.used.cpu_millis, phase.used.memory_peak_bytes), (42, Some(200)));
        assert_eq!((phase.used.memory_mean_bytes, phase.used.disk_read_bytes), (Some(75), Some(10)));
        assert_eq!((phase.used.network_sent_bytes, phase.disk_used_bytes), (None, Some(7)));
        let [command] = &phase.commands[..] else { panic!("{phase:?}") };
        assert_eq!((command.command.as_str(), command.used.cpu_millis), ("make", 30));
    }

    #[test]
    fn of_very_many_commands_those_that_took_longest_are_kept_in_their_order() {
        let mut account = Account::default();
        for number in 0..1000 {
            account.begin(&format!("{number}{}", "x".repeat(1000)));
            let (_, begun) = account.running.as_mut().unwrap();
            // 10, 110 and so on take long, and are never the latest.
            *begun -= Duration::from_millis(if number % 100 == 10 { 5000 } else { number });
            account.add(lap(1, 1));
        }
        let phase = account.close(Phase::Build, None);
        assert_eq!(phase.used.cpu_millis, 1000);
        assert_eq!((phase.commands.len(), phase.more_commands), (MOST_COMMANDS, 1000 - MOST_COMMANDS as u32));
        let long = phase.commands.iter().filter(|command| command.took_ms >= 5000).count();
        assert_eq!(long, 10);
        assert!(phase.commands.iter().all(|command| command.command.len() == MOST_TEXT));
    }
}
