//! Containers that stand on what ended ones wrote.

use super::*;

/// Ended containers and the one that comes next, over a source folder of the host.
struct Stack {
    place: Place,
    ended: Vec<PathBuf>,
    rootfs: Rootfs,
}

impl Stack {
    fn new() -> Stack {
        let place = Place::new();
        let source = place.folder.join("source");
        fs::create_dir_all(source.join("folder")).unwrap();
        fs::write(source.join("file"), "of the source\n").unwrap();
        fs::write(source.join("folder/old"), "of the source\n").unwrap();
        Stack { place, ended: Vec::new(), rootfs: Rootfs::Host { visible: default_visible_paths() } }
    }

    /// The next container's tester; its own place is only for its output.
    fn next(&self, name: &str) -> Tester {
        let scratch = self.place.folder.join(name);
        fs::create_dir(&scratch).unwrap();
        let (mut spec, output) = self.place.spec();
        spec.rootfs = self.rootfs.clone();
        spec.scratch = scratch;
        spec.may_lie_beneath = true;
        spec.beneath = self.ended.clone();
        spec.name = format!("{}-{name}", spec.name);
        spec.folders = vec!["/codebuild/output".into()];
        spec.mounts = vec![Mount::Overlay {
            lower: self.place.folder.join("source"),
            inside: "/codebuild/source".into(),
            upper: "source".into(),
        }];
        let container = Container::create(spec).unwrap();
        let read = output.metadata().unwrap().len();
        let place = Place { folder: self.place.folder.clone(), name: self.place.name.clone() };
        Tester { container, output, read, place }
    }

    /// Runs a script in the next container and ends that.
    fn run(&mut self, name: &str, script: &str) -> String {
        let mut tester = self.next(name);
        let output = tester.says(script);
        end_and_keep(tester);
        self.ended.push(self.place.folder.join(name));
        output
    }

    fn clear(self) {
        for scratch in &self.ended {
            container::sweep("nobody", scratch).unwrap();
        }
    }
}

fn end_and_keep(tester: Tester) {
    let Tester { container, place, .. } = tester;
    container.end().unwrap();
    std::mem::forget(place);
}

const WRITE: &str =
    "cd /codebuild/source && echo one >new && echo changed >file && rm -r folder && mkdir folder &&
    echo fresh >folder/new && ln -s file link && chmod 640 new && mkfifo pipe &&
    echo one >/tmp/kept && echo one >/etc/buildyard-one && rm /etc/hostname &&
    echo one >/root/dot && chmod 700 /codebuild/output && touch -d @1000000000 new";

const READ: &str =
    "cd /codebuild/source && cat new file folder/* link && ls -R . && stat -c '%a %U %n' new folder pipe &&
    stat -c %Y new && cat /tmp/kept /etc/buildyard-one /root/dot && ! test -e /etc/hostname &&
    stat -c %a /codebuild/output /tmp /root /codebuild/source / /etc";

pub(super) fn what_ended_containers_wrote_shows_in_the_next() {
    let mut stack = Stack::new();
    // An ordinary user's container may not write to the host's /usr.
    let (write, read) = match is_root() {
        true => (
            " && rm -rf /usr/share/doc && mkdir /usr/local/one",
            " && ls -d /usr/local/one && ! test -e /usr/share/doc",
        ),
        false => ("", ""),
    };
    let read = format!("{READ}{read}");
    let same = stack.run("one", &format!("{WRITE}{write} && {read}"));
    assert_eq!(stack.run("two", &read), same);
    // What is empty, replaced and taken away again in a later one.
    let two = "cd /codebuild/source && echo two >>new && rm file && rm -r folder && echo two >folder && rm /etc/buildyard-one";
    stack.run("three", two);
    let look =
        "cd /codebuild/source && cat new folder && ls && ! test -e /etc/buildyard-one && cat /tmp/kept";
    assert_eq!(stack.run("four", look), "one\ntwo\ntwo\nfolder\nlink\nnew\npipe\none");
    // Whoever stands on the first alone sees nothing of that.
    stack.ended.truncate(1);
    assert_eq!(stack.run("five", &read), same);
    for name in ["two", "three", "four"] {
        stack.ended.push(stack.place.folder.join(name));
    }
    stack.clear();
}

pub(super) fn what_the_host_has_changed_meanwhile_shows_but_where_a_container_wrote() {
    let mut stack = Stack::new();
    stack.run("one", "cd /codebuild/source && echo mine >file");
    let source = stack.place.folder.join("source");
    fs::write(source.join("file"), "theirs").unwrap();
    fs::write(source.join("folder/old"), "edited").unwrap();
    fs::write(source.join("added"), "added").unwrap();
    assert_eq!(stack.run("two", "cd /codebuild/source && cat file folder/old added"), "mine\neditedadded");
    stack.clear();
}

pub(super) fn an_image_lies_beneath_what_was_written() {
    let mut stack = Stack::new();
    stack.rootfs = Rootfs::Folders(vec![busybox_image(&stack.place.folder.join("image"))]);
    stack.run("one", "echo one >/etc/one; rm /etc/passwd; echo two >/two");
    assert_eq!(
        stack.run("two", "cat /etc/one /two; ls /etc/passwd 2>/dev/null || echo gone"),
        "one\ntwo\ngone"
    );
    stack.clear();
}

pub(super) fn containers_of_other_ids_own_what_they_stand_on() {
    let mut stack = Stack::new();
    let own = "stat -c '%u %g %U' /codebuild/source/a /codebuild/source/b";
    let make = "cd /codebuild/source && touch a b && chown 33:7 b";
    assert_eq!(stack.run("one", &format!("{make} && {own}")), "0 0 root\n33 7 www-data");
    // Whoever lives now has the ids of the first one.
    let mut first = stack.next("two");
    let mut other = stack.next("three");
    assert_ne!(
        fs::metadata(stack.place.folder.join("two")).unwrap().uid(),
        fs::metadata(stack.place.folder.join("three")).unwrap().uid()
    );
    let write = format!("{own} && cd /codebuild/source && echo x >>b && chown 0:0 a && {own}");
    for tester in [&mut first, &mut other] {
        let said = tester.says(&write);
        assert!(said.ends_with("0 0 root\n33 7 www-data\n0 0 root\n33 7 www-data"), "{said}");
    }
    for (tester, name) in [(first, "two"), (other, "three")] {
        end_and_keep(tester);
        stack.ended.push(stack.place.folder.join(name));
    }
    // One on containers of different ids.
    assert_eq!(stack.run("four", own), "0 0 root\n33 7 www-data");
    stack.clear();
}

pub(super) fn what_cannot_lie_beneath_is_refused() {
    let place = Place::new();
    let (mut spec, _) = place.spec();
    spec.beneath = vec![place.folder.join("missing")];
    assert!(matches!(Container::create(spec), Err(Error::Invalid(_))));
    let (mut spec, _) = place.spec();
    spec.beneath = vec![place.scratch(); container::MOST_BENEATH + 1];
    assert!(matches!(Container::create(spec), Err(Error::Invalid(_))));
}

pub(super) fn a_spec_tells_whether_what_it_writes_can_lie_beneath() {
    let place = Place::new();
    let spec = |change: &dyn Fn(&mut Spec)| {
        let (mut spec, _) = place.spec();
        spec.may_lie_beneath = true;
        change(&mut spec);
        container::can_lie_beneath(&spec)
    };
    let shows = |lower: PathBuf| Mount::Overlay { lower, inside: "/a".into(), upper: "a".into() };
    assert!(spec(&|_| {}));
    assert!(!spec(&|spec| spec.may_lie_beneath = false));
    assert!(!spec(&|spec| spec.mounts = vec![shows(place.folder.clone())]));
    assert!(spec(&|spec| spec.mounts = vec![shows(place.folder.join("output"))]));
}

pub(super) fn as_many_as_allowed_can_lie_beneath() {
    let mut stack = Stack::new();
    for number in 0..container::MOST_BENEATH {
        stack.run(&format!("layer-{number}"), &format!("echo {number} >>/codebuild/source/all"));
    }
    assert_eq!(stack.run("last", "wc -l </codebuild/source/all"), container::MOST_BENEATH.to_string());
    stack.clear();
}

/// What is written in `inside`, with what `ended` containers wrote there beneath, the latest last.
fn show(tester: &mut Tester, place: &Place, inside: &str, ended: &[&str]) {
    let lowers = ended.iter().rev().map(|name| place.folder.join(name).join("kept")).collect();
    tester.container.show(&LateOverlay { inside: inside.into(), lowers, upper: "kept".into() }).unwrap();
}

pub(super) fn kept_files_show_late_and_stay_as_they_are() {
    let stack = Stack::new();
    // Absolute, missing at first; and a folder of the source, whose own files lie beneath.
    for inside in ["/root/.kept/deep", "/codebuild/source/folder"] {
        let name = |text: &str| format!("{text}-{}", inside.len());
        let (one, two, three) = (name("one"), name("two"), name("three"));
        let mut tester = stack.next(&one);
        show(&mut tester, &stack.place, inside, &[]);
        let said = tester
            .says(&format!("cd {inside} && echo one >a && echo one >b && chmod 750 a && mkdir d && ls"));
        assert!(said.ends_with("a\nb\nd") || said.ends_with("a\nb\nd\nold"), "{said}");
        end_and_keep(tester);

        let mut tester = stack.next(&two);
        show(&mut tester, &stack.place, inside, &[&one]);
        let said = tester
            .says(&format!("cd {inside} && cat a && stat -c '%a %U' a && echo two >a && rm b && rmdir d"));
        assert_eq!(said, "one\n750 root");
        // Two at once on the same files, with ids of their own.
        let mut other = stack.next(&three);
        show(&mut other, &stack.place, inside, &[&one]);
        assert_eq!(
            other.says(&format!("cd {inside} && cat a b && stat -c %U a b && echo x >a")),
            "one\none\nroot\nroot"
        );
        end_and_keep(tester);
        end_and_keep(other);

        let four = name("four");
        let mut tester = stack.next(&four);
        show(&mut tester, &stack.place, inside, &[&one, &two]);
        let said = tester.says(&format!("cd {inside} && cat a && ls"));
        assert!(said == "two\na" || said == "two\na\nold", "{said}");
        end_and_keep(tester);
        for name in [one, two, three, four] {
            container::sweep("nobody", &stack.place.folder.join(name)).unwrap();
        }
    }
}

pub(super) fn what_shows_late_stays_within_the_container() {
    let stack = Stack::new();
    let mut tester = stack.next("one");
    // Links lead to places of the container, whatever the host has there.
    tester.says("mkdir /codebuild/real && ln -s /codebuild/real /codebuild/link && ln -s /proc/1/root/tmp /codebuild/magic");
    show(&mut tester, &stack.place, "/codebuild/link", &[]);
    assert_eq!(tester.says("touch /codebuild/link/a && ls /codebuild/real"), "a");
    for (inside, upper) in
        [("relative", "kept"), ("/a/../b", "kept"), ("/", "kept"), ("/a", "container"), ("/a", "x/y")]
    {
        let overlay = LateOverlay { inside: inside.into(), lowers: Vec::new(), upper: upper.into() };
        assert!(matches!(tester.container.show(&overlay), Err(Error::Invalid(_))), "{inside} {upper}");
    }
    let missing =
        LateOverlay { inside: "/a".into(), lowers: vec!["/nowhere/x".into()], upper: "other".into() };
    assert!(tester.container.show(&missing).is_err());
    // The container is none the worse for it.
    assert_eq!(tester.says("test ! -e /a/x && echo fine"), "fine");
    end_and_keep(tester);
    container::sweep("nobody", &stack.place.folder.join("one")).unwrap();
}
