//! docs/benchmarks.md: the numbers beside their budgets and baselines.

use std::fmt::Write;

use super::artifacts::{self, Zipped};
use super::cache::{self, Pair, Restored};
use super::history::{self, Amount, Answers};
use super::measure::{Containers, First, Log, Running, Throughput};
use super::served::Memory;
use super::statistics::Sample;

#[derive(Debug)]
pub(super) struct Results {
    pub(super) host: String,
    /// Right after the start, before anything ran.
    pub(super) idle: Memory,
    pub(super) first: First,
    /// From StartBuild's answer to the first command, in an unpacked image of [`rootfs::IMAGE_BYTES`](super::rootfs::IMAGE_BYTES).
    pub(super) in_image: Sample,
    pub(super) bubblewrap: Option<Sample>,
    pub(super) docker: Option<Sample>,
    pub(super) running: Running,
    pub(super) throughput: Throughput,
    pub(super) log: Log,
    pub(super) containers: Containers,
    pub(super) history: Amount,
    pub(super) answers: Vec<Answers>,
    pub(super) caches: cache::Amount,
    pub(super) restored: Restored,
    pub(super) artifacts: artifacts::Amount,
    /// Ours first.
    pub(super) zipped: Vec<Zipped>,
}

/// One thing that has a budget.
struct Line {
    what: String,
    measured: String,
    budget: &'static str,
    held: bool,
}

pub(super) fn text(results: &Results) -> String {
    let mut text = String::from(
        "# Benchmarks\n\nWritten by `cargo xtask bench`: every number and its baseline come from one run on one host. \
         Do not edit.\n\n",
    );
    let _ = write!(text, "Host: {}.\n\n", results.host);
    budgets(&mut text, &budget_lines(results));
    first(&mut text, results);
    containers(&mut text, &results.containers);
    log(&mut text, &results.log);
    memory(&mut text, results);
    text.push_str(&history(results.history, &results.answers));
    text.push_str(&caches(results.caches, &results.restored));
    text.push_str(&artifacts(results.artifacts, &results.zipped));
    text
}

fn budget_lines(results: &Results) -> Vec<Line> {
    let first = &results.first.after_answer;
    let log = &results.log;
    let rate = log.bytes as f64 / 1e3 / log.build.median();
    let ratio = log.build.median() / log.file.median();
    let throughput = &results.throughput;
    let per_second = throughput.succeeded as f64 / throughput.seconds;
    let lost = throughput.builds - throughput.succeeded;
    let build = per_build(&results.running, |memory| memory.server + memory.beside_shared);
    let mut lines = vec![
        Line {
            what: "StartBuild answered → first command, p50".into(),
            measured: format!("{:.1} ms", first.median()),
            budget: "≤ 10 ms",
            held: first.median() <= 10.0,
        },
        Line {
            what: "the same in an unpacked image of 1 GB, p50".into(),
            measured: format!("{:.1} ms", results.in_image.median()),
            budget: "≤ 10 ms",
            held: results.in_image.median() <= 10.0,
        },
        Line {
            what: "StartBuild answered → first command, p99".into(),
            measured: format!("{:.1} ms", first.percentile(99)),
            budget: "≤ 40 ms",
            held: first.percentile(99) <= 40.0,
        },
        Line {
            what: "no-op builds, StartBuild to SUCCEEDED, 2 clients".into(),
            measured: format!("{per_second:.0} a second, {lost} lost of {}", throughput.builds),
            budget: "≥ 50 a second, none lost",
            held: per_second >= 50.0 && lost == 0,
        },
        Line {
            what: "output of 80-byte lines to the durable log".into(),
            measured: format!("{rate:.0} MB/s"),
            budget: "≥ 200 MB/s",
            held: rate >= 200.0,
        },
        Line {
            what: "the same against `sh -c … > file`".into(),
            measured: format!("{ratio:.2} ×"),
            budget: "≤ 1.5 ×",
            held: ratio <= 1.5,
        },
        Line {
            what: "memory of the idle server".into(),
            measured: mib(results.idle.server),
            budget: "≤ 20 MiB",
            held: results.idle.server <= 20 << 10,
        },
        Line {
            what: "memory for each running build, outside its own processes".into(),
            measured: mib(build),
            budget: "≤ 4 MiB",
            held: build <= 4 << 10,
        },
    ];
    lines.extend(restore_lines(results.caches, &results.restored));
    lines.extend(zip_line(results.artifacts, &results.zipped));
    lines.extend(results.answers.iter().map(|answers| history_line(results.history, answers)));
    lines
}

/// Milliseconds that an answer may take, p99.
const ANSWER: f64 = 5.0;
/// Answers are as quick over many builds as over few, but for what the measurement itself varies by, and for a fifth of [`ANSWER`]:
/// an index of few builds lies in a database's own cache as a whole.
const GROWTH: f64 = 1.5;
const GROWTH_MS: f64 = 1.0;

fn history_line(amount: Amount, answers: &Answers) -> Line {
    let (p99, growth) = (answers.many.server.percentile(99), growth(answers));
    let grown_by = answers.among_many.server.median() - answers.few.server.median();
    Line {
        what: format!(
            "{} over {} builds, {}, p99 in the server, and against {}",
            answers.what, amount.many, answers.database, amount.few
        ),
        measured: format!("{p99:.1} ms, {growth:.2} × ({grown_by:+.1} ms)"),
        budget: "≤ 5 ms, ≤ 1.5 × or 1 ms",
        held: p99 <= ANSWER && (growth <= GROWTH || grown_by <= GROWTH_MS),
    }
}

/// Only what is mounted is restored in a time that does not depend on how much it is.
fn restore_lines(amount: cache::Amount, restored: &Restored) -> Vec<Line> {
    let Restored { layers, archives, tar } = restored;
    let local = Line {
        what: format!("restore of an unchanged local cache of {} files, against {}", amount.many, amount.few),
        measured: format!("{:.1} ms, {:.2} ×", layers.many.median(), layers.growth()),
        budget: "≤ 1.5 ×",
        held: layers.growth() <= GROWTH,
    };
    let archived = |tar: &Pair| {
        let ratio = archives.many.median() / tar.many.median();
        Line {
            what: format!("restore of an S3 cache of {} files, against `tar --zstd -x`", amount.many),
            measured: format!("{:.0} ms, {ratio:.2} ×", archives.many.median()),
            budget: "≤ 1 ×",
            held: ratio <= 1.0,
        }
    };
    [Some(local), tar.as_ref().map(archived)].into_iter().flatten().collect()
}

impl Pair {
    fn growth(&self) -> f64 {
        self.many.median() / self.few.median()
    }
}

/// The section about caches.
pub(super) fn caches(amount: cache::Amount, restored: &Restored) -> String {
    let mut text = format!(
        "\n## Restoring a cache\n\nDOWNLOAD_SOURCE of builds with NO_SOURCE that find {} or {} files of 100 bytes. A local cache \
         is mounted, {} times each, one in S3 unpacked, a sixth as often; tar unpacks the same archives into a new folder of the same \
         disk, an ext4 with a journal in a file.\n\n| | {} files: p50 | p99 | {} files: p50 | p99 | growth |\n|---|---|---|---|---|---|\n",
        amount.few, amount.many, amount.restores, amount.few, amount.many
    );
    let Restored { layers, archives, tar } = restored;
    let all =
        [("LOCAL_CUSTOM_CACHE", Some(layers)), ("S3", Some(archives)), ("`tar --zstd -x`", tar.as_ref())];
    for (what, pair) in all {
        let Some(pair) = pair else {
            let _ = writeln!(text, "| {what} | not here | | | | |");
            continue;
        };
        let _ = writeln!(
            text,
            "| {what} | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} ms | {:.2} × |",
            pair.few.median(),
            pair.few.percentile(99),
            pair.many.median(),
            pair.many.percentile(99),
            pair.growth()
        );
    }
    text
}

/// Ours beside `zip -1`, if it is here.
fn zip_line(amount: artifacts::Amount, zipped: &[Zipped]) -> Option<Line> {
    let [ours, zip, ..] = zipped else { return None };
    let (ours, zip) = (ours.sample.as_ref()?.0.median(), zip.sample.as_ref()?.0.median());
    Some(Line {
        what: format!("ZIP artifact of {} files, against `zip -1`", amount.files),
        measured: format!("{ours:.0} ms, {:.2} ×", ours / zip),
        budget: "≤ 1 ×",
        held: ours <= zip,
    })
}

/// The section about artifacts.
pub(super) fn artifacts(amount: artifacts::Amount, zipped: &[Zipped]) -> String {
    let mut text = format!(
        "\n## A ZIP artifact\n\n{} files of some 2 KB of text, {} times: a build's UPLOAD_ARTIFACTS, to the stored object with its digests, and \
         what other programs take for the same tree.\n\n| | median | best | bytes | against ours |\n|---|---|---|---|---|\n",
        amount.files, amount.uploads
    );
    let ours = zipped.first().and_then(|ours| ours.sample.as_ref());
    let ours = ours.map_or(f64::NAN, |(sample, _)| sample.median());
    for Zipped { what, sample } in zipped {
        let _ = match sample {
            Some((sample, bytes)) => writeln!(
                text,
                "| {what} | {:.0} ms | {:.0} ms | {bytes} | {:.2} × |",
                sample.median(),
                sample.least(),
                sample.median() / ours
            ),
            None => writeln!(text, "| {what} | not installed here | | | |"),
        };
    }
    text
}

fn growth(answers: &Answers) -> f64 {
    answers.among_many.server.median() / answers.few.server.median()
}

/// The section about answers over much history.
pub(super) fn history(amount: Amount, answers: &[Answers]) -> String {
    let mut text = format!(
        "\n## Answers over much history\n\n{} requests of each kind, one after the other on one connection, over {} and over {} \
         stored builds of 10 projects; milliseconds, in the server from a request's head to the beginning of its answer, and for the client \
         from the signing of the request to the last byte of the answer. The growth is that of requests for {} builds, once all there are, once spread \
         over {}, so caches hold as much of them; the two servers are asked in turn, {} times each, as a host is faster at one time than at another.\n\n",
        amount.requests,
        amount.few,
        amount.many,
        amount.few,
        amount.many,
        history::TURN
    );
    let _ = writeln!(
        text,
        "| | {few} builds: p50 | p99 | {few} among {many}: p50 | growth | {many} builds: p50 | p99 | client: p50 | p99 |\n|---|---|---|---|---|---|---|---|---|",
        few = amount.few,
        many = amount.many
    );
    for answers in answers {
        let _ = writeln!(
            text,
            "| {}, {} | {:.2} | {:.2} | {:.2} | {:.2} × | {:.2} | {:.2} | {:.2} | {:.2} |",
            answers.database,
            answers.what,
            answers.few.server.median(),
            answers.few.server.percentile(99),
            answers.among_many.server.median(),
            growth(answers),
            answers.many.server.median(),
            answers.many.server.percentile(99),
            answers.many.client.median(),
            answers.many.client.percentile(99)
        );
    }
    if answers.iter().all(|answers| answers.database == "SQLite") {
        text.push_str("| PostgreSQL | not installed here | | | | | | | |\n");
    }
    text
}

fn budgets(text: &mut String, lines: &[Line]) {
    text.push_str("| What | Measured | Budget | Held |\n|---|---|---|---|\n");
    for Line { what, measured, budget, held } in lines {
        let held = if *held { "yes" } else { "**no**" };
        let _ = writeln!(text, "| {what} | {measured} | {budget} | {held} |");
    }
}

fn first(text: &mut String, results: &Results) {
    let first = &results.first;
    let _ = write!(
        text,
        "\n## From StartBuild to the first command\n\n{} builds, NO_SOURCE, `env.shell: bash`, each on an idle host: 0.2 s \
         after the one before. The \
         command is `echo $EPOCHREALTIME`, which reads the clock without starting anything. Baselines start the same \
         command and are timed from the moment their program is started.\n\n",
        first.after_answer.count()
    );
    text.push_str("| | p50 | p99 | against bubblewrap |\n|---|---|---|---|\n");
    let base = results.bubblewrap.as_ref().map(Sample::median);
    let mut row = |name: &str, sample: &Sample| {
        let ratio = base.map_or_else(|| "–".into(), |base| format!("{:.1} ×", sample.median() / base));
        let _ = writeln!(
            text,
            "| {name} | {:.1} ms | {:.1} ms | {ratio} |",
            sample.median(),
            sample.percentile(99)
        );
    };
    row("StartBuild answered → command", &first.after_answer);
    row("the same in an unpacked image of 1 GB and 10,000 files in 10 layers", &results.in_image);
    row("StartBuild sent → command", &first.after_request);
    row("StartBuild answered → command, builds without a rest between them", &first.without_rest);
    row("StartBuild's answer, durable before it is given", &first.answer);
    match &results.bubblewrap {
        Some(sample) => row("bubblewrap, no overlay, no cgroup", sample),
        None => text.push_str("| bubblewrap | not installed here | | |\n"),
    }
    match &results.docker {
        Some(sample) => {
            let ratio = base.map_or_else(|| "–".into(), |base| format!("{:.1} ×", sample.median() / base));
            let _ = writeln!(
                text,
                "| docker run | {:.1} ms | {:.1} ms | {ratio} |",
                sample.median(),
                sample.percentile(99)
            );
        }
        None => text.push_str("| docker run | no daemon answers here | | |\n"),
    }
    text.push_str("\nWhere the time goes (medians of each phase, so they do not add up exactly):\n\n");
    text.push_str("| Phase | ms |\n|---|---|\n");
    for (name, length) in &first.phases {
        let _ = writeln!(text, "| {name} | {length:.1} |");
    }
}

fn containers(text: &mut String, containers: &Containers) {
    text.push_str(
        "\n## The container alone\n\nCreate, run `/bin/true`, tear down: all namespaces, overlay, own /proc and /dev, seccomp, \
         cgroup limits. The `spawn` example of the `container` crate. What it prepares, cgroups, filter, ids and \
         namespaces, a waiting agent has before there is a build; it is counted here.\n\n| | p50 | p99 |\n|---|---|---|\n",
    );
    for (name, median, worst) in &containers.ours {
        let _ = writeln!(text, "| ours: {name} | {median:.1} ms | {worst:.1} ms |");
    }
    for (name, sample) in &containers.others {
        let _ = writeln!(text, "| {name} | {:.1} ms | {:.1} ms |", sample.median(), sample.percentile(99));
    }
}

fn log(text: &mut String, log: &Log) {
    let _ = write!(
        text,
        "\n## Output to log\n\n{} MB of 80-byte lines by `yes | head -c`, {} times.\n\n\
         | | median | best | rate |\n|---|---|---|---|\n",
        log.bytes / 1_000_000,
        log.build.count()
    );
    let lines = [
        ("a build's BUILD phase", &log.build),
        ("`> file`", &log.file),
        ("`> file`, then `sync`", &log.synced),
    ];
    for (name, sample) in lines {
        let rate = log.bytes as f64 / 1e3 / sample.median();
        let _ = writeln!(
            text,
            "| {name} | {:.0} ms | {:.0} ms | {rate:.0} MB/s |",
            sample.median(),
            sample.least()
        );
    }
}

fn memory(text: &mut String, results: &Results) {
    let running = &results.running;
    let _ = write!(
        text,
        "\n## Memory\n\nResident. \"Shared\" divides pages that several processes map among them; the agents run the \
         server's own binary, so most of their pages are the server's too.\n\n| | |\n|---|---|\n\
         | server, idle | {} |\n| server, after {} builds | {} |\n\
         | agents waiting for a build ({}) | {} ({} shared) |\n\
         | each running build: agent and init | {} ({} shared) |\n\
         | each running build: in the server | {} |\n",
        mib(results.idle.server),
        results.first.after_answer.count() + results.first.without_rest.count() + 5,
        mib(running.before.server),
        running.before.processes,
        mib(running.before.beside),
        mib(running.before.beside_shared),
        mib(per_build(running, |memory| memory.beside)),
        mib(per_build(running, |memory| memory.beside_shared)),
        mib(per_build(running, |memory| memory.server)),
    );
}

fn per_build(running: &Running, part: fn(&Memory) -> u64) -> u64 {
    part(&running.during).saturating_sub(part(&running.before)) / running.builds.max(1) as u64
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
