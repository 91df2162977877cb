//! Pulling: from Debian's registry, and from a small one of our own that misbehaves as real ones do.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use image::{Credentials, Digest, Error, Images, Limits, Login, Pace, Progress, Reach};

use crate::world::{Layer, Tar, World, has, names, root, run, tree, unpackings, world_layers};

/// Debian's docker-registry, on a port of its own choosing.
struct DebianRegistry {
    process: Child,
    address: String,
}

impl DebianRegistry {
    fn start(world: &World, auth: &str) -> DebianRegistry {
        let data = world.path("registry");
        let config = world.path("registry.yml");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n{auth}",
            data.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        let mut process =
            command.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the registry ended before it listened");
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split('"').next().unwrap().to_owned();
            }
        };
        // Its log must be read, lest it block.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        DebianRegistry { process, address }
    }

    /// Pushes an image with skopeo, and gives the digest of the manifest it makes of it.
    fn push(&self, layout: &str, name: &str, extra: &[&str]) -> Digest {
        let digest = tempfile::NamedTempFile::new().unwrap();
        let target = format!("docker://{}/{name}", self.address);
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--dest-tls-verify=false"]).args(extra);
        run(command.arg("--digestfile").arg(digest.path()).arg(format!("oci:{layout}")).arg(target));
        fs::read_to_string(digest.path()).unwrap().trim().parse().unwrap()
    }
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn an_image_is_pulled_by_tag_and_by_digest_from_debians_registry() {
    if !has("skopeo") || !has("docker-registry") {
        return;
    }
    let world = World::new();
    let mut layout = world.layout();
    layout.image("1.0", &world_layers());
    let local = World::new();
    let expect = tree(&root(&layout.resolve(&local.images, "").unwrap()));
    let registry = DebianRegistry::start(&world, "");
    let digest = registry.push(&format!("{}:1.0", layout.reference()), "team/app:1.0", &[]);
    let name = format!("{}/team/app", registry.address);
    let mut progress = Vec::new();
    let image = world.images.resolve(&format!("{name}:1.0"), &mut |p| progress.push(p)).unwrap();
    assert_eq!((image.digest, tree(&root(&image))), (digest, expect));
    assert_eq!(unpackings(&progress), 4);
    let fetched = |p: &Progress| matches!(p, Progress::Fetching { bytes, total, .. } if bytes == total);
    assert_eq!(progress.iter().filter(|p| fetched(p)).count(), 4);
    assert!(names(&world.path("images/scratch")).is_empty());

    let missing = world.images.resolve(&format!("{name}:2.0"), &mut |_| ()).unwrap_err();
    assert!(matches!(missing, Error::NotFound(_)), "{missing:?}");
    drop(registry);
    let pinned = world.images.resolve(&format!("{name}@{digest}"), &mut |_| ()).unwrap();
    assert_eq!(pinned, image, "a digest that is here needs no registry");
    assert_eq!(world.images.known(&format!("{name}:1.0")), Some(image));
    let dead = world.images.resolve(&format!("{name}:1.0"), &mut |_| ()).unwrap_err();
    assert!(matches!(&dead, Error::Registry { reason, .. } if reason.contains("refused")), "{dead:?}");
}

#[test]
fn a_registry_with_a_password_opens_only_with_it() {
    if !has("skopeo") || !has("docker-registry") {
        return;
    }
    let world = World::new();
    let users = world.path("users");
    fs::write(&users, "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n").unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display());
    let registry = DebianRegistry::start(&world, &auth);
    let mut layout = world.layout();
    layout.image("1.0", &[Tar::new().file("a", "").layer()]);
    let digest =
        registry.push(&format!("{}:1.0", layout.reference()), "app:1.0", &["--dest-creds", "user:secret"]);
    let reference = format!("{}/app:1.0", registry.address);
    let resolve = |images: &Images, login: Option<&Login>| images.resolve_as(&reference, login, &mut |_| ());

    let login = |password: &str| Login::Password { username: "user".into(), password: password.into() };
    let none = resolve(&world.images, None).unwrap_err();
    assert!(matches!(none, Error::Denied { .. }), "{none:?}");
    let wrong = resolve(&world.images, Some(&login("wrong"))).unwrap_err();
    assert!(matches!(wrong, Error::Denied { .. }), "{wrong:?}");
    assert_eq!(resolve(&world.images, Some(&login("secret"))).unwrap().digest, digest);
    // That it is here now opens it to nobody else, by whichever name.
    let pinned = format!("{}/app@{digest}", registry.address);
    for (login, opens) in [(None, false), (Some(login("wrong")), false), (Some(login("secret")), true)] {
        let found = world.images.resolve_as(&pinned, login.as_ref(), &mut |_| ());
        assert_eq!(found.is_ok(), opens, "{found:?}");
    }

    let config = world.path("config.json");
    let auths = format!(r#"{{"auths": {{"{}": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}"#, registry.address);
    fs::write(&config, auths).unwrap();
    let other = Images::open(&world.path("other")).unwrap();
    let other = other.with_credentials(Credentials::read_docker_config(&config).unwrap());
    assert_eq!(resolve(&other, None).unwrap().digest, digest);
}

/// A registry in a thread, that answers as told and remembers what it was asked.
struct OwnRegistry {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Path and headers in, everything from the status line on out.
type Answer = Box<dyn Fn(&str, &HashMap<String, String>) -> Vec<u8> + Send>;

impl OwnRegistry {
    fn start(answer: impl FnOnce(&str) -> Answer) -> OwnRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (answer(&address), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &answer, &log);
            }
        });
        OwnRegistry { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, answer: &Answer, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let headers = lines.take_while(|line| !line.is_empty());
    let headers: HashMap<_, _> = headers
        .filter_map(|line| line.split_once(": ").map(|(k, v)| (k.to_lowercase(), v.to_owned())))
        .collect();
    log.lock().unwrap().push(path.clone());
    // The client hangs up on what it does not want to hear to its end.
    let _ = (&stream).write_all(&answer(&path, &headers));
}

fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Bodies by path.
type Served = HashMap<String, Vec<u8>>;

/// A layout's image, by the paths a registry serves it under.
fn served(layers: &[Layer]) -> (Digest, Served) {
    let world = World::new();
    let mut layout = world.layout();
    let digest = layout.image("latest", layers);
    let mut paths = HashMap::new();
    for name in names(&layout.folder.join("blobs/sha256")) {
        let bytes = fs::read(layout.folder.join("blobs/sha256").join(&name)).unwrap();
        let kind = if name == digest.hex() { "manifests" } else { "blobs" };
        paths.insert(format!("/v2/app/{kind}/sha256:{name}"), bytes);
    }
    let manifest = paths[&format!("/v2/app/manifests/{digest}")].clone();
    paths.insert("/v2/app/manifests/latest".into(), manifest);
    (digest, paths)
}

fn big_layer() -> Layer {
    let noise: Vec<u8> = (0..600_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let tar = Tar::new().entry(tar::EntryType::Regular, b"noise", b"", 0o644, 0, &noise);
    tar.layer()
}

#[test]
fn a_download_that_breaks_off_is_taken_up_where_it_was() {
    for ranges in [true, false] {
        let (digest, paths) = served(&[big_layer()]);
        let layer = format!("/v2/app/blobs/{}", big_layer().diff_id);
        let broken = Mutex::new(false);
        let wanted = layer.clone();
        let registry = OwnRegistry::start(|_| {
            Box::new(move |path, headers| {
                let body = &paths[path];
                if path == layer && !std::mem::replace(&mut *broken.lock().unwrap(), true) {
                    let whole = response("200 OK", "", body);
                    return whole[..whole.len() / 2].to_vec();
                }
                match headers.get("range").filter(|_| ranges) {
                    None => response("200 OK", "", body),
                    Some(range) => {
                        let from: usize =
                            range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
                        response("206 Partial Content", "", &body[from..])
                    }
                }
            })
        });
        let world = World::new();
        let image = world.images.resolve(&format!("{}/app", registry.address), &mut |_| ()).unwrap();
        assert_eq!(image.digest, digest);
        assert_eq!(root(&image).join("noise").metadata().unwrap().len(), 600_000);
        assert_eq!(registry.asked().iter().filter(|path| **path == wanted).count(), 2);
    }
}

#[test]
fn a_registry_that_is_too_slow_is_given_up() {
    let (_, paths) = served(&[big_layer()]);
    let layer = format!("/v2/app/blobs/{}", big_layer().diff_id);
    let registry = OwnRegistry::start(|_| Box::new(move |path, _| response("200 OK", "", &paths[path])));
    let world = World::new();
    // Every answer is slower than this.
    let limits = Limits { slowest: Pace { bytes: u64::MAX, seconds: 0 }, ..Limits::default() };
    let images = world.images.clone().with_limits(limits);
    let error = images.resolve(&format!("{}/app", registry.address), &mut |_| ()).unwrap_err();
    assert!(
        matches!(&error, Error::Registry { reason, .. } if reason.contains("sends less than")),
        "{error:?}"
    );
    assert!(!registry.asked().contains(&layer));
}

#[test]
fn of_an_image_that_did_not_come_only_what_can_be_used_again_is_kept() {
    let lies = Layer { diff_id: Digest::of(b"another"), ..big_layer().gzip() };
    let left = |layers: &[Layer], lost: Option<Digest>, quota: Option<u64>| {
        let (_, mut paths) = served(layers);
        if let Some(lost) = lost {
            paths.remove(&format!("/v2/app/blobs/{lost}")).unwrap();
        }
        let registry = OwnRegistry::start(|_| {
            Box::new(move |path, _| match paths.get(path) {
                Some(body) => response("200 OK", "", body),
                None => response("503 Service Unavailable", "", b""),
            })
        });
        let world = World::new();
        let images = world.images.clone().with_quota(quota);
        let error = images.resolve(&format!("{}/app", registry.address), &mut |_| ()).unwrap_err();
        let left = world.layers_folder().len();
        let blobs = registry.asked().iter().filter(|path| path.contains("/blobs/")).count();
        (error, world.images.unfinished().unwrap(), (left, blobs))
    };
    let (error, unfinished, _) = left(&[lies], None, None);
    assert!(matches!(error, Error::Mismatch { .. }) && unfinished.is_empty(), "{error:?} {unfinished:?}");

    // A layer that is complete, or the blobs where layers are not kept by themselves.
    let second = Tar::new().file("a", "").layer();
    let (error, unfinished, _) = left(&[big_layer(), second.clone()], Some(second.diff_id), None);
    assert!(matches!(error, Error::Registry { .. }), "{error:?}");
    assert!(matches!(&unfinished[..], [one] if one.bytes > 600_000 && !one.under_way), "{unfinished:?}");

    let (error, unfinished, kept) = left(&[big_layer()], None, Some(500_000));
    assert!(matches!(error, Error::Quota { bytes, quota: 500_000, .. } if bytes > 600_000), "{error:?}");
    assert!(unfinished.is_empty() && kept == (0, 0));
}

/// Two images over one base.
fn cousins() -> [Vec<Layer>; 2] {
    let base = [big_layer(), Tar::new().folder("etc/").file("etc/base", "base").layer().gzip()];
    ["one", "two"].map(|name| {
        let own = Tar::new().file("etc/name", name).hardlink("etc/link", "etc/base").file("etc/.wh.base", "");
        [&base[..], &[own.layer().gzip()]].concat()
    })
}

#[test]
fn layers_that_are_here_are_not_fetched_again() {
    let [one, two] = cousins();
    let (first, mut paths) = served(&one);
    let (second, others) = served(&two);
    paths.extend(others);
    let registry = OwnRegistry::start(|_| Box::new(move |path, _| response("200 OK", "", &paths[path])));
    let world = World::new();
    let pull = |digest: Digest| {
        world.images.resolve(&format!("{}/app@{digest}", registry.address), &mut |_| ()).unwrap()
    };
    let (first, second) = (pull(first), pull(second));
    let blobs: Vec<String> = registry.asked().into_iter().filter(|path| path.contains("/blobs/")).collect();
    let times = |layer: &Layer| {
        let wanted = format!("/v2/app/blobs/{}", Digest::of(&layer.bytes));
        blobs.iter().filter(|path| **path == wanted).count()
    };
    assert_eq!([&one[0], &one[1], &one[2], &two[2]].map(times), [1; 4]);
    assert_eq!(first.rootfs[1..], second.rootfs[1..]);
    let read = |image, name: &str| fs::read_to_string(root(image).join(name)).unwrap();
    assert_eq!((read(&first, "etc/name"), read(&second, "etc/name")), ("one".into(), "two".into()));
    assert_eq!(read(&second, "etc/link"), "base");
    assert!(!root(&first).join("etc/base").exists());
}

#[test]
fn a_pull_that_broke_off_between_layers_goes_on_there() {
    let [one, _] = cousins();
    let (digest, paths) = served(&one);
    let last = format!("/v2/app/blobs/{}", Digest::of(&one[2].bytes));
    let away = Arc::new(Mutex::new(true));
    let is_away = Arc::clone(&away);
    let registry = OwnRegistry::start(|_| {
        Box::new(move |path, _| match path == last && *is_away.lock().unwrap() {
            true => response("503 Service Unavailable", "", b""),
            false => response("200 OK", "", &paths[path]),
        })
    });
    let world = World::new();
    let pull = || world.images.resolve(&format!("{}/app@{digest}", registry.address), &mut |_| ());
    let error = pull().unwrap_err();
    assert!(matches!(error, Error::Registry { .. }), "{error:?}");
    assert!(world.images.list().unwrap().is_empty(), "it is not complete");
    *away.lock().unwrap() = false;
    let image = pull().unwrap();
    let big = format!("/v2/app/blobs/{}", one[0].diff_id);
    assert_eq!(registry.asked().iter().filter(|path| **path == big).count(), 1);
    assert_eq!(fs::read_to_string(root(&image).join("etc/link")).unwrap(), "base");
    assert!(world.images.unfinished().unwrap().is_empty());
}

#[test]
fn an_address_out_of_reach_is_never_connected_to_by_whichever_way() {
    let (_, paths) = served(&[big_layer()]);
    let elsewhere = TcpListener::bind("127.0.0.2:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let away = format!("http://{}/layer", elsewhere.local_addr().unwrap());
    let layer = format!("/v2/app/blobs/{}", big_layer().diff_id);
    let location = format!("Location: {away}\r\n");
    let challenge = format!("WWW-Authenticate: Bearer realm=\"{away}\"\r\n");
    let registry = OwnRegistry::start(|_| {
        Box::new(move |path, _| match path {
            _ if path == layer => response("307 Temporary Redirect", &location, b""),
            "/v2/locked/manifests/latest" => response("401 Unauthorized", &challenge, b""),
            _ => response("200 OK", "", &paths[path]),
        })
    });
    let port = registry.address.rsplit_once(':').unwrap().1;
    let world = World::new();
    let only = |allowed: &'static str| {
        let reach = Reach::only(move |address| address.to_string() == allowed);
        let images = world.images.clone().with_reach(reach);
        move |reference: &str| match images.resolve(reference, &mut |_| ()) {
            Err(Error::Address { host, address }) => (host, address.to_string()),
            other => panic!("{reference}: {other:?}"),
        }
    };
    let refused = |host: &str, address: &str| (host.to_owned(), address.to_owned());
    let nowhere = only("nothing");
    assert_eq!(nowhere(&format!("{}/app", registry.address)), refused("127.0.0.1", "127.0.0.1"));
    assert_eq!(nowhere(&format!("[::1]:{port}/app")), refused("[::1]", "::1"));
    assert_eq!(nowhere(&format!("localhost:{port}/app")).0, "localhost");
    assert!(registry.asked().is_empty(), "nothing was sent");
    let here = only("127.0.0.1");
    assert_eq!(here(&format!("{}/app", registry.address)), refused("127.0.0.2", "127.0.0.2"));
    assert_eq!(here(&format!("{}/locked", registry.address)), refused("127.0.0.2", "127.0.0.2"));
    let connected = elsewhere.accept().unwrap_err();
    assert_eq!(connected.kind(), std::io::ErrorKind::WouldBlock, "nobody connected there");
}

#[test]
fn many_builds_that_want_an_image_at_once_fetch_each_blob_once() {
    let layers = [big_layer(), Tar::new().file("a", "").layer().gzip()];
    let (digest, paths) = served(&layers);
    let wanted: Vec<String> = paths.keys().filter(|path| path.contains("/blobs/")).cloned().collect();
    let registry = OwnRegistry::start(|_| Box::new(move |path, _| response("200 OK", "", &paths[path])));
    let (world, reference) = (World::new(), format!("{}/app", registry.address));
    let start = std::sync::Barrier::new(8);
    let resolve = || {
        let images = Images::open(&world.path("images")).unwrap();
        let (mut fetched, mut unpacked) = (0, 0);
        start.wait();
        let image = images.resolve(&reference, &mut |progress| match progress {
            Progress::Fetching { bytes, total, .. } if bytes == total => fetched += 1,
            Progress::Unpacking { .. } => unpacked += 1,
            _ => {}
        });
        assert_eq!(image.unwrap().digest, digest);
        (fetched, unpacked)
    };
    let counts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(resolve)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(counts.iter().filter(|counts| **counts == (2, 2)).count(), 1, "{counts:?}");
    assert_eq!(counts.iter().filter(|counts| **counts == (0, 0)).count(), 7, "{counts:?}");
    for path in wanted {
        assert_eq!(registry.asked().iter().filter(|asked| **asked == path).count(), 1, "{path}");
    }
}

#[test]
fn a_token_is_fetched_with_the_login_and_sent_to_the_registry_only() {
    let (digest, mut paths) = served(&[big_layer()]);
    let layer = format!("/v2/app/blobs/{}", big_layer().diff_id);
    let body = paths.remove(&layer).unwrap();
    let elsewhere = OwnRegistry::start(|_| {
        Box::new(move |_, headers| match headers.get("authorization") {
            None => response("200 OK", "", &body),
            Some(_) => response("400 Bad Request", "", b"a token that was not meant for me"),
        })
    });
    let location = format!("Location: http://{}/layer\r\n", elsewhere.address);
    let registry = OwnRegistry::start(|address| {
        let challenge =
            format!("WWW-Authenticate: Bearer realm=\"http://{address}/token\",service=\"here\"\r\n");
        Box::new(move |path, headers| {
            let authorization = headers.get("authorization").map(String::as_str);
            if path == "/token?scope=repository%3Aapp%3Apull&service=here" {
                assert_eq!(authorization, Some("Basic dXNlcjpzZWNyZXQ="));
                return response("200 OK", "", br#"{"access_token": "ticket"}"#);
            }
            match authorization {
                Some("Bearer ticket") if path == layer => response("307 Temporary Redirect", &location, b""),
                Some("Bearer ticket") => response("200 OK", "", &paths[path]),
                _ => response("401 Unauthorized", &challenge, b""),
            }
        })
    });
    let world = World::new();
    let mut credentials = Credentials::default();
    credentials
        .add(&registry.address, Login::Password { username: "user".into(), password: "secret".into() });
    let images = world.images.clone().with_credentials(credentials);
    assert_eq!(images.resolve(&format!("{}/app", registry.address), &mut |_| ()).unwrap().digest, digest);
    assert_eq!(elsewhere.asked(), ["/layer"]);
}

#[test]
fn a_registry_that_lies_or_never_ends_is_not_believed() {
    let layers = [Tar::new().file("a", "content").layer()];
    let attack = |change: &dyn Fn(&str, &mut Served)| {
        let (digest, mut paths) = served(&layers);
        change(&digest.to_string(), &mut paths);
        let registry = OwnRegistry::start(|_| Box::new(move |path, _| response("200 OK", "", &paths[path])));
        let world = World::new();
        let limits = Limits { document_bytes: 10_000, ..Limits::default() };
        let images = world.images.clone().with_limits(limits);
        let error = images.resolve(&format!("{}/app@{digest}", registry.address), &mut |_| ()).unwrap_err();
        assert!(world.layers_folder().is_empty());
        error
    };
    let other_manifest = attack(&|digest, paths| {
        let manifest = paths.get_mut(&format!("/v2/app/manifests/{digest}")).unwrap();
        manifest.push(b' ');
    });
    assert!(matches!(other_manifest, Error::Mismatch { .. }), "{other_manifest:?}");
    let endless = attack(&|digest, paths| {
        paths.insert(format!("/v2/app/manifests/{digest}"), vec![b' '; 20_000_000]);
    });
    assert!(matches!(endless, Error::Limit { name: "document_bytes", .. }), "{endless:?}");
    let other_layer = attack(&|_, paths| {
        let layer = paths.get_mut(&format!("/v2/app/blobs/{}", layers[0].diff_id)).unwrap();
        layer[600] ^= 1;
    });
    assert!(matches!(other_layer, Error::Mismatch { .. }), "{other_layer:?}");
}

#[test]
fn nothing_listening_is_said_as_such() {
    // A port that is not given to whoever asks for any.
    let error = World::new().images.resolve("127.0.0.1:1/app", &mut |_| ()).unwrap_err();
    assert!(matches!(&error, Error::Registry { reason, .. } if reason.contains("refused")), "{error:?}");
}
