//! What a buildspec comes to, as text for people: what would run, in which order, with what around it. Values that look like
//! secrets are not shown.

use std::fmt::Write;

use crate::lint::secrets;
use crate::model::{
    Artifacts, Batch, BatchBuild, BatchBuilds, Buildspec, Cache, CacheAction, Env, Phase, PhaseName, Report,
    Shell, Variables,
};
use crate::secret::SecretReference;

/// What would run, section by section; what is absent is left out, but for phases, which run even if they are empty (BS-072).
pub fn plan(buildspec: &Buildspec) -> String {
    let mut page = Page::default();
    page.line(0, format!("buildspec {}", buildspec.version));
    page.maybe(0, "run-as", buildspec.run_as.as_deref());
    environment(&buildspec.env, &mut page);
    proxy(buildspec, &mut page);
    for name in PhaseName::ALL {
        match buildspec.phases.get(name) {
            Some(written) => phase(name, written, &mut page),
            None => page.line(0, format!("phase {name}: empty")),
        }
    }
    buildspec.reports.iter().for_each(|written| report(written, &mut page));
    if let Some(artifacts) = &buildspec.artifacts {
        artifact("artifacts", artifacts, &mut page);
        for (identifier, artifacts) in &artifacts.secondary {
            artifact(&format!("secondary artifacts {identifier}"), artifacts, &mut page);
        }
    }
    buildspec.cache.iter().for_each(|written| cache(written, &mut page));
    match &buildspec.batch {
        Some(Ok(written)) => batch(written, &mut page),
        Some(Err(error)) => page.line(0, format!("batch: refused, {error}")),
        None => {}
    }
    secrets::hidden(&page.text)
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// A line, or several for a text that has several; two spaces for each level.
    fn line(&mut self, level: usize, text: impl AsRef<str>) {
        for line in text.as_ref().trim_end().split('\n') {
            let shown: String =
                line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
            let _ = writeln!(self.text, "{}", format!("{}{shown}", "  ".repeat(level)).trim_end());
        }
    }

    fn maybe(&mut self, level: usize, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.line(level, format!("{name}: {value}"));
        }
    }

    fn switch(&mut self, level: usize, name: &str, on: bool) {
        if on {
            self.line(level, name);
        }
    }

    fn each(&mut self, level: usize, name: &str, values: &[String]) {
        for value in values {
            self.line(level, format!("{name}: {value}"));
        }
    }
}

fn environment(env: &Env, page: &mut Page) {
    page.maybe(0, "shell", env.shell.map(shell));
    variables(0, &env.variables, page);
    for (name, parameter) in &env.parameter_store {
        page.line(0, format!("parameter {name}: {parameter}"));
    }
    for (name, reference) in &env.secrets_manager {
        page.line(0, format!("secret {name}: {}", secret(reference)));
    }
    page.each(0, "export", &env.exported_variables);
    page.switch(0, "git-credential-helper", env.git_credential_helper);
}

fn variables(level: usize, variables: &Variables, page: &mut Page) {
    for (name, value) in variables {
        let value = if secrets::is_named(name, value) { "***" } else { value };
        page.line(level, format!("variable {name}={}", value.replace('\n', "\\n")));
    }
}

fn shell(shell: Shell) -> &'static str {
    match shell {
        Shell::Sh => "sh",
        Shell::Bash => "bash",
        Shell::PowerShell => "powershell.exe",
        Shell::Cmd => "cmd.exe",
    }
}

fn secret(reference: &SecretReference) -> String {
    let SecretReference { secret_id, json_key, version_stage, version_id } = reference;
    let part = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!(", {name} {value}"));
    let parts = [part("key", json_key), part("stage", version_stage), part("version", version_id)];
    format!("{secret_id}{}", parts.into_iter().flatten().collect::<String>())
}

fn proxy(buildspec: &Buildspec, page: &mut Page) {
    page.switch(0, "proxy for artifacts", buildspec.proxy.upload_artifacts);
    page.switch(0, "proxy for logs", buildspec.proxy.logs);
}

fn phase(name: PhaseName, phase: &Phase, page: &mut Page) {
    page.line(0, format!("phase {name}"));
    page.maybe(1, "run-as", phase.run_as.as_deref());
    page.maybe(1, "on-failure", phase.on_failure.as_ref().map(ToString::to_string).as_deref());
    for (runtime, version) in &phase.runtime_versions {
        page.line(1, format!("runtime {runtime} {version}"));
    }
    commands("command", &phase.commands, page);
    commands("finally", &phase.finally, page);
}

fn commands(kind: &str, commands: &[String], page: &mut Page) {
    for (index, command) in commands.iter().enumerate() {
        match command.trim_end().split_once('\n') {
            None => page.line(1, format!("{kind} {}: {command}", index + 1)),
            Some(_) => {
                page.line(1, format!("{kind} {}:", index + 1));
                page.line(2, command);
            }
        }
    }
}

fn report(report: &Report, page: &mut Page) {
    page.line(0, format!("report {}: {}", report.group, report.file_format));
    page.each(1, "file", &report.files);
    page.maybe(1, "below", report.base_directory.as_deref());
    page.switch(1, "discard-paths", report.discard_paths);
}

fn artifact(title: &str, artifacts: &Artifacts, page: &mut Page) {
    page.line(0, title);
    page.maybe(1, "name", artifacts.name.as_deref());
    page.maybe(1, "below", artifacts.base_directory.as_deref());
    page.each(1, "file", &artifacts.files);
    page.each(1, "without", &artifacts.exclude_paths);
    page.maybe(1, "s3-prefix", artifacts.s3_prefix.as_deref());
    page.switch(1, "discard-paths", artifacts.discard_paths);
    page.switch(1, "enable-symlinks", artifacts.enable_symlinks);
}

fn cache(cache: &Cache, page: &mut Page) {
    page.line(
        0,
        match cache.action {
            None => "cache",
            Some(CacheAction::Restore) => "cache, restored only",
            Some(CacheAction::Save) => "cache, saved only",
        },
    );
    page.maybe(1, "key", cache.key.as_deref());
    page.each(1, "fallback", &cache.fallback_keys);
    page.each(1, "file", &cache.paths);
}

fn batch(batch: &Batch, page: &mut Page) {
    let kind = match &batch.builds {
        BatchBuilds::List(_) => "list",
        BatchBuilds::Graph(_) => "graph",
        BatchBuilds::Matrix(_) => "matrix",
        BatchBuilds::Fanout { .. } => "fanout",
    };
    page.line(0, format!("batch {kind}{}", if batch.fast_fail { ", fast-fail" } else { "" }));
    batch.builds().iter().for_each(|build| batch_build(build, page));
}

fn batch_build(build: &BatchBuild, page: &mut Page) {
    page.line(1, format!("build {}", build.identifier));
    page.each(2, "after", &build.depend_on);
    page.maybe(2, "buildspec", build.buildspec.as_deref());
    page.maybe(2, "type", build.env.environment_type.as_deref());
    page.maybe(2, "compute-type", build.env.compute_type.as_deref());
    page.maybe(2, "fleet", build.env.fleet.as_deref());
    page.maybe(2, "image", build.env.image.as_deref());
    page.maybe(2, "privileged-mode", build.env.privileged_mode.map(|on| if on { "yes" } else { "no" }));
    variables(2, &build.env.variables, page);
    page.switch(2, "debug-session", build.debug_session);
    page.switch(2, "ignore-failure", build.ignore_failure);
}
