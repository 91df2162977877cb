//! Caches: builds that find what earlier ones have left, as archives among objects and as layers of this host.

use std::fs;
use std::path::{Path, PathBuf};

use agent::cache::layers;
use agent::cache::{Owner, Scope};
use agent::journal::Outcome;
use agent::plan::{Cache, Trust};
use store::objects::Objects;

use crate::world::{Build, Ended};

crate::cases![
    archives_bring_back_files_links_and_modes_wherever_they_were,
    an_archive_without_a_key_is_replaced_and_one_with_a_key_is_not,
    keys_are_made_by_the_shell_of_hashes_and_variables,
    sums_need_no_program_of_the_image,
    fallback_keys_find_the_newest_that_begins_with_them,
    the_same_key_with_other_paths_is_another_entry,
    restore_and_save_can_be_had_alone,
    only_builds_that_succeed_save,
    a_damaged_archive_is_told_and_fails_nothing,
    an_archive_cannot_write_out_of_the_container,
    a_bucket_that_is_not_there_fails_nothing,
    layers_bring_back_folders_of_the_source_and_elsewhere,
    layers_become_one_before_they_are_too_many,
    layers_stay_while_their_entries_cannot_be_read,
    layers_of_keys_never_change,
    builds_at_the_same_time_do_not_disturb_each_other,
    paths_that_are_no_folder_of_the_builds_are_skipped,
    a_link_in_the_source_cannot_lead_a_local_cache_out,
    what_could_not_be_shown_stays_as_it_was_kept,
    builds_that_are_not_trusted_find_and_do_not_save,
    a_cache_that_is_not_there_is_said,
    an_s3_cache_without_paths_holds_what_common_tools_have_downloaded,
    writes_of_other_domains_are_never_seen,
];

/// Builds of one project that share a cache.
struct World {
    place: tempfile::TempDir,
    scope: Scope,
    is_local: bool,
}

impl World {
    fn new(is_local: bool) -> World {
        let place = tempfile::tempdir().unwrap();
        Objects::open(&place.path().join("s3")).unwrap().create_bucket("caches").unwrap();
        let scope = Scope {
            account: "123456789012".into(),
            region: "us-east-1".into(),
            owner: Owner::Project("demo".into()),
            domain: "trusted".into(),
            generation: 0,
        };
        World { place, scope, is_local }
    }

    fn cache(&self, trust: Trust) -> Cache {
        match self.is_local {
            true => Cache::Layers { folder: self.caches(), scope: self.scope.clone(), trust },
            false => Cache::Objects {
                objects: self.place.path().join("s3"),
                bucket: "caches".into(),
                prefix: "of/builds".into(),
                scope: self.scope.clone(),
                trust,
            },
        }
    }

    fn caches(&self) -> PathBuf {
        self.place.path().join("caches")
    }

    /// A build with this `cache` section, whose BUILD runs `commands`.
    fn build(&self, cache: &str, commands: &[&str]) -> Build {
        let commands: String = commands.iter().map(|command| format!("      - {command}\n")).collect();
        let text = format!("version: 0.2\nphases:\n  build:\n    commands:\n{commands}cache:\n{cache}");
        let mut build = Build::new(&text);
        build.plan.cache = self.cache(Trust::Full);
        build
    }

    fn run(&self, cache: &str, commands: &[&str]) -> Ended {
        self.build(cache, commands).run().with(Outcome::Succeeded)
    }

    /// All archives, each with its content.
    fn archives(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        files(&self.place.path().join("s3/caches"), &mut found);
        found.sort();
        found.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => files(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

const PATHS: &str = "  paths: ['kept/**/*', '/root/.kept/**/*']\n";

fn archives_bring_back_files_links_and_modes_wherever_they_were() {
    // BS-150, SA-092, SA-094
    let world = World::new(false);
    let write = "mkdir -p kept/d /root/.kept && echo one >kept/d/a && echo two >/root/.kept/b && chmod 750 kept/d/a && ln -s d/a kept/l";
    let first = world.run(PATHS, &[write]);
    assert!(first.said("Found 3 file(s) to be cached") && first.said("Saved the cache"), "{}", first.log);
    let name = format!("caches/of/builds/{}", world.scope.id());
    assert!(first.said(&format!("No cache found at {name}")), "{}", first.log);
    let second = world.run(PATHS, &["cat kept/l /root/.kept/b && stat -c %a kept/d/a && readlink kept/l"]);
    assert_eq!(second.output(), ["one", "two", "750", "d/a"]);
    assert!(second.said(&format!("Restoring the cache from {name}")) && second.said("Restored the cache"));
    // Nothing of it reaches this host.
    assert!(!Path::new("/root/.kept").exists());
}

fn an_archive_without_a_key_is_replaced_and_one_with_a_key_is_not() {
    // BS-152, SA-092
    for (key, is_replaced) in [("", true), ("  key: constant\n", false)] {
        let world = World::new(false);
        let cache = format!("{key}{PATHS}");
        world.run(&cache, &["mkdir kept && echo one >kept/a"]);
        let before = world.archives();
        world.run(&cache, &["cat kept/a && echo two >kept/a"]);
        let after = world.archives();
        assert_eq!((before.len(), after.len()), (1, 1));
        assert_eq!(before[0].0, after[0].0);
        assert_eq!(before[0].1 != after[0].1, is_replaced, "{key}");
    }
}

fn keys_are_made_by_the_shell_of_hashes_and_variables() {
    // BS-152, BS-156, BS-190
    for is_local in [false, true] {
        let world = World::new(is_local);
        let cache = format!("  key: npm-$(codebuild-hash-files '*.lock')-$WHAT\n{PATHS}");
        let run = |lock: &str, what: &str, commands: &[&str]| {
            let build = world.build(&cache, commands).variable("WHAT", what);
            fs::write(build.folder.path().join("source/a.lock"), lock).unwrap();
            build.run().with(Outcome::Succeeded)
        };
        run("1", "x", &["mkdir -p kept && echo one >kept/a"]);
        assert_eq!(run("1", "x", &["cat kept/a"]).output(), ["one"]);
        for (lock, what) in [("2", "x"), ("1", "y")] {
            assert_eq!(run(lock, what, &["test ! -e kept/a && echo none"]).output(), ["none"], "{is_local}");
        }
    }
}

fn sums_need_no_program_of_the_image() {
    // BS-156
    let phases = "  build:\n    commands:\n      - codebuild-hash-files '*.lock'\n      \
                  - cd / && codebuild-hash-files 'deep/**/*.lock' ./a.lock\n      \
                  - \"codebuild-hash-files 'none*' || echo none=$?\"\n      \
                  - for i in 1 2 3 4 5; do codebuild-hash-files '**/*.lock' & done; wait\n";
    let run = |has_image: bool| {
        let build = Build::of(phases);
        let source = build.folder.path().join("source");
        fs::create_dir_all(source.join("deep/er")).unwrap();
        for name in ["a.lock", "deep/b.lock", "deep/er/.c.lock"] {
            fs::write(source.join(name), name).unwrap();
        }
        let build = if has_image { build.image(&[]) } else { build };
        build.run().with(Outcome::Succeeded)
    };
    let (host, image) = (run(false), run(true));
    assert_eq!(host.output(), image.output());
    assert_eq!(image.output().len(), 9, "{}", image.log);
}

fn fallback_keys_find_the_newest_that_begins_with_them() {
    // BS-153
    for is_local in [false, true] {
        let world = World::new(is_local);
        let cache = |key: &str| format!("  key: {key}\n  fallback-keys: [other-, npm-, n]\n{PATHS}");
        for key in ["npm-1", "npm-2", "nothing"] {
            world.run(&cache(key), &["rm -rf kept/*; mkdir -p kept", &format!("echo {key} >kept/a")]);
        }
        let ended = world.run(&cache("npm-3"), &["cat kept/a"]);
        assert_eq!(ended.output(), ["npm-2"], "{}", ended.log);
        // A fallback is no reason not to save, and the exact key counts from then on.
        world.run(&cache("npm-1"), &["test $(cat kept/a) = npm-1"]);
        world.run(&cache("npm-3"), &["test $(cat kept/a) = npm-2"]);
        // Without a key they mean nothing.
        let without = format!("  fallback-keys: [npm-]\n{PATHS}");
        world.run(&without, &["test ! -e kept/a"]);
    }
}

fn the_same_key_with_other_paths_is_another_entry() {
    // BS-155
    for is_local in [false, true] {
        let world = World::new(is_local);
        let cache = |paths: &str| format!("  key: k\n  paths: [{paths}]\n");
        world.run(&cache("'kept/**/*'"), &["mkdir -p kept && echo one >kept/a"]);
        world.run(
            &cache("'kept/**/*', 'more/**/*'"),
            &["test ! -e kept/a && mkdir -p kept && echo two >kept/a"],
        );
        world.run(&cache("'kept/**/*'"), &["test $(cat kept/a) = one"]);
    }
}

fn restore_and_save_can_be_had_alone() {
    // BS-154
    for is_local in [false, true] {
        let world = World::new(is_local);
        let cache = |action: &str| format!("  action: {action}\n{PATHS}");
        world.run(&cache("save"), &["mkdir -p kept && echo one >kept/a"]);
        world.run(&cache("restore"), &["test $(cat kept/a) = one && echo two >kept/a"]);
        world.run(&cache("save"), &["test ! -e kept/a && mkdir -p kept && echo three >kept/b"]);
        world.run(PATHS, &["test ! -e kept/a && test $(cat kept/b) = three"]);
    }
}

fn only_builds_that_succeed_save() {
    // SA-095
    for is_local in [false, true] {
        let world = World::new(is_local);
        let ended =
            world.build(PATHS, &["mkdir -p kept && echo bad >kept/a && false"]).run().with(Outcome::Failed);
        assert!(ended.said("Skip saving the cache due to: the build has not succeeded"), "{}", ended.log);
        world.run(PATHS, &["test ! -e kept/a"]);
    }
}

fn a_damaged_archive_is_told_and_fails_nothing() {
    // SA-095
    let world = World::new(false);
    world.run(PATHS, &["mkdir kept && seq 10000 >kept/a"]);
    let (path, bytes) = world.archives().remove(0);
    for damaged in [&bytes[..bytes.len() / 2], b"nonsense"] {
        fs::write(&path, damaged).unwrap();
        let ended = world.run(PATHS, &["test ! -e kept/a && mkdir kept && echo new >kept/a"]);
        let is_told = |line: &&str| line.starts_with("Unable to restore the cache: the archive is damaged");
        assert!(ended.service_lines().iter().any(is_told), "{}", ended.log);
        world.run(PATHS, &["test $(cat kept/a) = new"]);
    }
}

fn an_archive_cannot_write_out_of_the_container() {
    // SA-095: what a build packs may lead anywhere, and is the container's own when it is unpacked.
    let world = World::new(false);
    let outside = world.place.path().join("victim");
    fs::write(&outside, "whole").unwrap();
    let there = world.place.path().display();
    let make = format!(
        "mkdir -p kept && ln -s {there} kept/out && ln -s /etc kept/etc && ln -s /proc/1/root kept/root && echo a >kept/a"
    );
    world.run(PATHS, &[&make]);
    let ended = world
        .run(PATHS, &["ls kept && echo x >kept/out/victim || true", "echo x >kept/etc/of-a-build || true"]);
    assert_eq!(&ended.output()[..4], ["a", "etc", "out", "root"]);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "whole");
    assert!(!Path::new("/etc/of-a-build").exists());
}

fn a_bucket_that_is_not_there_fails_nothing() {
    // SA-095
    let world = World::new(false);
    fs::remove_dir_all(world.place.path().join("s3/caches")).unwrap();
    let ended = world.run(PATHS, &["mkdir kept && echo a >kept/a"]);
    for line in [
        "Unable to restore the cache: bucket caches does not exist",
        "Unable to save the cache: bucket caches does not exist",
    ] {
        assert!(ended.said(line), "{}", ended.log);
    }
}

fn layers_bring_back_folders_of_the_source_and_elsewhere() {
    // BS-151, SA-096, SA-098
    let world = World::new(true);
    let run = |commands: &[&str]| {
        let build = world.build(PATHS, commands);
        fs::create_dir(build.folder.path().join("source/kept")).unwrap();
        fs::write(build.folder.path().join("source/kept/of-source"), "source").unwrap();
        fs::write(build.folder.path().join("source/kept/both"), "source").unwrap();
        build.run().with(Outcome::Succeeded)
    };
    let first = run(&[
        "cat kept/both && echo cached >kept/both && mkdir kept/d && echo one >kept/d/a && chmod 750 kept/d/a && echo two >/root/.kept/b",
    ]);
    assert_eq!(first.output(), ["source"]);
    assert!(
        first.said("No cache found of /root/.kept") && first.said("Saving the cache of /root/.kept"),
        "{}",
        first.log
    );
    let second = run(&[
        "cat kept/of-source kept/both kept/d/a /root/.kept/b && stat -c %a kept/d/a && rm -r kept/d && mkdir kept/d && echo x >kept/d/new",
    ]);
    assert_eq!(second.output(), ["sourcecached", "one", "two", "750"]);
    assert!(second.said("Restoring the cache of /root/.kept"), "{}", second.log);
    assert_eq!(run(&["ls kept/d /root/.kept"]).output(), ["/root/.kept:", "b", "kept/d:", "new"]);
    assert!(!Path::new("/root/.kept").exists());
}

fn layers_become_one_before_they_are_too_many() {
    let world = World::new(true);
    let count = layers::LAYERS_MAX + 3;
    for number in 0..count {
        let last = number.saturating_sub(1);
        let check = format!("test {number} = 0 || test $(cat kept/{last}) = {last}");
        let remove = format!("rm -f kept/{} && mkdir -p kept", number.saturating_sub(2));
        world.run(PATHS, &[&check, &remove, &format!("echo {number} >kept/{number}")]);
    }
    let entry = &layers::list(&world.caches())[0].entry;
    assert!(entry.folders["kept"].len() <= layers::LAYERS_MAX);
    let (last, before) = (count - 1, count - 2);
    let ended = world.run(PATHS, &["ls kept"]);
    assert_eq!(ended.output(), [before.to_string(), last.to_string()]);
    // Nothing but what the entry names is left.
    let scope = world.caches().join(world.scope.id());
    let left = fs::read_dir(scope.join("layers")).unwrap().count();
    assert_eq!(left, layers::list(&world.caches())[0].entry.folders.values().flatten().count());
}

fn layers_stay_while_their_entries_cannot_be_read() {
    let world = World::new(true);
    world.run(PATHS, &["mkdir -p kept", "echo one >kept/a"]);
    let scope = world.caches().join(world.scope.id());
    let name = layers::list(&world.caches())[0].entry.folders["kept"][0].name.clone();
    let kept = scope.join("layers").join(name).join("files/a");
    fs::rename(scope.join("entries"), scope.join("aside")).unwrap();
    fs::write(scope.join("entries"), "no folder").unwrap();
    assert!(layers::sweep(&world.caches()).is_err());
    fs::remove_file(scope.join("entries")).unwrap();
    fs::rename(scope.join("aside"), scope.join("entries")).unwrap();
    layers::sweep(&world.caches()).unwrap();
    assert_eq!(fs::read_to_string(kept).unwrap(), "one\n");
}

fn layers_of_keys_never_change() {
    // BS-152
    let world = World::new(true);
    let cache = format!("  key: constant\n{PATHS}");
    world.run(&cache, &["echo one >kept/a"]);
    let ended = world.run(&cache, &["test $(cat kept/a) = one && echo two >kept/a"]);
    assert!(ended.said("Skip saving the cache due to: there is one of that key already"), "{}", ended.log);
    world.run(&cache, &["test $(cat kept/a) = one"]);
}

fn builds_at_the_same_time_do_not_disturb_each_other() {
    let world = World::new(true);
    world.run(PATHS, &["seq 1000 >kept/a"]);
    // The first may be over before another begins.
    let whole = "if test -e kept/a; then test $(tail -n 1 kept/a) = 1000; else test -s kept/b; fi";
    let (second, third) =
        (format!("{whole} && echo second >kept/b"), format!("{whole} && echo third >kept/b"));
    let commands: [&[&str]; 3] = [&["rm -f kept/a && echo first >kept/b"], &[&second], &[&third]];
    let builds = commands.map(|commands| world.build(PATHS, commands));
    let all = builds.map(|build| std::thread::spawn(|| build.run().with(Outcome::Succeeded)));
    all.into_iter().for_each(|build| drop(build.join().unwrap()));
    // One of them was the last, and is there whole.
    let ended = world
        .run(PATHS, &["case $(cat kept/b) in first) test ! -e kept/a;; second | third) ;; *) exit 1;; esac"]);
    assert!(ended.said("Saving the cache of /root/.kept"));
}

fn paths_that_are_no_folder_of_the_builds_are_skipped() {
    // BS-151
    let world = World::new(true);
    let ended = world.run("  paths: ['**/*', '/proc/**/*', '../x/**', 'kept/**/*']\n", &["echo one >kept/a"]);
    let skipped =
        ended.service_lines().iter().filter(|line| line.starts_with("Skipping invalid cache path")).count();
    assert_eq!(skipped, 3, "{}", ended.log);
    world.run("  paths: [kept]\n", &["cat kept/a"]);
}

fn a_link_in_the_source_cannot_lead_a_local_cache_out() {
    // SA-095
    let world = World::new(true);
    let outside = world.place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let build = world.build(PATHS, &["echo one >kept/a || echo nowhere"]);
    std::os::unix::fs::symlink(&outside, build.folder.path().join("source/kept")).unwrap();
    let ended = build.run().with(Outcome::Succeeded);
    let is_told = |line: &&str| line.starts_with("Unable to cache /codebuild/output/src123/src/kept: ");
    assert!(ended.service_lines().iter().any(is_told), "{}", ended.log);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    // One that leads to a place of the container caches that.
    for commands in [["echo one >/opt/buildyard-kept/a"], ["test $(cat kept/a) = one"]] {
        let build = world.build(PATHS, &commands).image(&[("opt/buildyard-kept/of-image", "x")]);
        std::os::unix::fs::symlink("/opt/buildyard-kept", build.folder.path().join("source/kept")).unwrap();
        build.run().with(Outcome::Succeeded);
    }
}

fn what_could_not_be_shown_stays_as_it_was_kept() {
    // SA-095
    let world = World::new(true);
    world.run(PATHS, &["echo one >kept/a && echo one >/root/.kept/b"]);
    let build = world.build(PATHS, &["echo two >/root/.kept/b"]);
    std::os::unix::fs::symlink("/nowhere/to/be/found", build.folder.path().join("source/kept")).unwrap();
    let ended = build.run().with(Outcome::Succeeded);
    assert!(ended.log.contains("Unable to cache /codebuild/output/src123/src/kept: "), "{}", ended.log);
    assert!(ended.said("Saving the cache of /root/.kept"), "{}", ended.log);
    assert!(!ended.said("Saving the cache of /codebuild/output/src123/src/kept"), "{}", ended.log);
    assert_eq!(world.run(PATHS, &["cat kept/a /root/.kept/b"]).output(), ["one", "two"]);
}

fn builds_that_are_not_trusted_find_and_do_not_save() {
    // SA-095
    for is_local in [false, true] {
        let world = World::new(is_local);
        world.run(PATHS, &["mkdir -p kept && echo trusted >kept/a"]);
        let mut build = world.build(PATHS, &["test $(cat kept/a) = trusted && echo poison >kept/a"]);
        build.plan.cache = world.cache(Trust::ReadOnly);
        let ended = build.run().with(Outcome::Succeeded);
        assert!(ended.said("Skip saving the cache due to: this build may only read it"), "{}", ended.log);
        world.run(PATHS, &["test $(cat kept/a) = trusted"]);
    }
}

fn a_cache_that_is_not_there_is_said() {
    // BS-150, LC-113
    let world = World::new(false);
    let mut build = world.build(PATHS, &["true"]);
    build.plan.cache = Cache::None;
    assert!(build.run().with(Outcome::Succeeded).said("Skip cache due to: the project has none"));
    let ended = World::new(true).run("  paths: []\n", &["true"]);
    assert!(ended.said("Cache is not defined in the buildspec"));
    assert!(ended.said("Skip cache due to: no paths specified to be cached"));
    let ended = world.run("  key: $NOTHING\n  paths: [a]\n", &["true"]);
    assert!(ended.said("Skip cache due to: the key $NOTHING cannot be used: it is empty"), "{}", ended.log);
}

fn an_s3_cache_without_paths_holds_what_common_tools_have_downloaded() {
    // BS-157
    let world = World::new(false);
    let fill = "mkdir -p node_modules/a /root/.m2/repository other && echo js >node_modules/a/b \
        && echo jar >/root/.m2/repository/c && echo no >other/d";
    let ended = world.run("  paths: []\n", &[fill]);
    assert!(ended.said("Cache is not defined in the buildspec"), "{}", ended.log);
    assert!(ended.said("Found 2 file(s) to be cached"), "{}", ended.log);
    let find =
        "test $(cat node_modules/a/b) = js && test $(cat /root/.m2/repository/c) = jar && test ! -e other";
    world.run("  paths: []\n", &[find]);
    world.run("  key: k\n", &["test ! -e node_modules"]);
}

/// T36: forty writes by builds that are of another domain, or may not write in this one, in the same place with the same names.
fn writes_of_other_domains_are_never_seen() {
    // SA-095
    const KEYS: &[&str] = &["", "  key: deps-1\n", "  key: deps-2\n", "  key: a/b\n", "  key: ../deps-1\n"];
    let mut attempts = 0;
    for is_local in [false, true] {
        let mut world = World::new(is_local);
        for key in KEYS {
            world.run(&format!("{key}{PATHS}"), &["mkdir -p kept && echo ours >kept/a"]);
        }
        for (domain, trust) in [("fork", Trust::Full), ("trusted", Trust::ReadOnly)] {
            for (key, action) in KEYS.iter().flat_map(|key| [(key, ""), (key, "  action: save\n")]) {
                world.scope.domain = domain.into();
                let mut build = world.build(
                    &format!("{key}{action}{PATHS}"),
                    &["mkdir -p kept && echo theirs >kept/a && rm -rf /root/.kept/*"],
                );
                build.plan.cache = world.cache(trust);
                build.run().with(Outcome::Succeeded);
                attempts += 1;
            }
        }
        world.scope.domain = "trusted".into();
        let fallback = "  key: deps-3\n  fallback-keys: [deps-]\n".to_owned();
        for key in KEYS.iter().map(ToString::to_string).chain([fallback]) {
            world.run(&format!("{key}  action: restore\n{PATHS}"), &["test $(cat kept/a) = ours"]);
        }
    }
    assert_eq!(attempts, 40);
}
