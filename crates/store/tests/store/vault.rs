//! The vault: what comes back, and what the files give away.

use std::path::{Path, PathBuf};

use store::Error;
use store::records::{
    AccessKey, NewParameter, NewSecret, Order, Scope, SecretValue, Selection, SourceCredential, Vault,
    VersionValue,
};

use crate::databases::{Home, block_on, on_each_database};
use crate::records::scope;

const NOW: i64 = 1000;
const VALUE: &str = "a-value-that-nobody-may-read";

struct Tester {
    home: Home,
    vault: Vault,
    scope: Scope,
}

fn key(folder: &Path) -> PathBuf {
    folder.join("secret.key")
}

async fn open(home: &Home) -> store::Result<Vault> {
    Vault::open(home.open()?, &key(home.folder.path())).await
}

fn new(value: &str) -> NewParameter {
    NewParameter { value: value.to_owned(), document: format!("{{\"of\":{}}}", value.len()), tags: None }
}

impl Tester {
    async fn new(home: Home) -> Tester {
        let vault = open(&home).await.unwrap();
        Tester { home, vault, scope: scope() }
    }

    async fn put(&self, name: &str, value: &str) -> i64 {
        let new = new(value);
        let put = self.vault.put_parameter(&self.scope, name, NOW, move |_| Ok::<_, ()>(new)).await;
        put.unwrap().unwrap()
    }

    async fn value(&self, id: &str, version: Option<i64>) -> Option<String> {
        self.vault.get_parameter(&self.scope, id, version).await.unwrap().map(|found| found.value)
    }

    async fn create(&self, name: &str, version: &str, value: SecretValue) {
        let new = NewSecret { name: name.into(), suffix: "AbCdEf".into(), document: "{}".into() };
        let version = version.to_owned();
        let made = self.vault.create_secret(&self.scope, new, NOW, move |draft, is_new| {
            assert!(is_new);
            draft.secret.stages.insert("AWSCURRENT".into(), version.clone());
            draft.add(version, value, NOW);
            Ok(Ok::<_, ()>(()))
        });
        made.await.unwrap().unwrap();
    }

    async fn secret(&self, id: &str, selection: Selection<'_>) -> Option<VersionValue> {
        self.vault
            .get_secret_value(&self.scope, id, selection, NOW)
            .await
            .unwrap()
            .and_then(|(_, found)| found)
    }

    /// Nobody is at home then.
    fn close(self) -> Home {
        drop(self.vault);
        self.home
    }
}

#[test]
fn a_parameter_has_versions_and_the_latest_is_the_one() {
    on_each_database(async |home| {
        let tester = Tester::new(home).await;
        assert_eq!((tester.put("/a/b", "one").await, tester.put("/a/b", "two").await), (1, 2));
        assert_eq!(tester.value("/a/b", None).await.as_deref(), Some("two"));
        assert_eq!(tester.value("/a/b", Some(1)).await.as_deref(), Some("one"));
        assert_eq!(tester.value("/a/b", Some(3)).await, None);
        let arn = "arn:aws:ssm:eu-west-1:123456789012:parameter/a/b";
        assert_eq!(tester.value(arn, None).await.as_deref(), Some("two"));
        for _ in 0..100 {
            tester.put("/a/b", "more").await;
        }
        assert_eq!(tester.value("/a/b", Some(2)).await, None);
        assert_eq!(tester.value("/a/b", Some(3)).await.as_deref(), Some("more"));
    });
}

#[test]
fn a_refused_change_changes_nothing() {
    on_each_database(async |home| {
        let tester = Tester::new(home).await;
        tester.put("a", "one").await;
        let refused = tester.vault.put_parameter(&tester.scope, "a", NOW, |before| {
            Err::<NewParameter, _>(Box::new(before.cloned()))
        });
        let before = refused.await.unwrap().unwrap_err().unwrap();
        assert_eq!(
            (before.version, before.value.as_str(), before.document.as_str()),
            (1, "one", "{\"of\":3}")
        );
        assert_eq!(tester.value("a", None).await.as_deref(), Some("one"));

        tester.create("s", "v1", SecretValue::Text("x".into())).await;
        let refused = tester.vault.change_secret(&tester.scope, "s", NOW, |draft| {
            draft.secret.document = "changed".into();
            draft.add("v2".into(), SecretValue::Text("y".into()), NOW);
            Ok(Err::<(), _>("no"))
        });
        assert_eq!(refused.await.unwrap(), Some(Err("no")));
        let secret = tester.vault.get_secret(&tester.scope, "s", NOW).await.unwrap().unwrap();
        assert_eq!((secret.document.as_str(), secret.versions.len()), ("{}", 1));
    });
}

#[test]
fn parameters_are_listed_by_prefix_in_pages_and_belong_to_their_account() {
    on_each_database(async |home| {
        let tester = Tester::new(home).await;
        for name in ["/a", "/a/1", "/a/2", "/a/3", "/b", "a"] {
            tester.put(name, name).await;
        }
        let list = |after: Option<String>| {
            let vault = tester.vault.clone();
            async move { vault.list_parameters(&scope(), "/a/", after.as_deref(), 2).await.unwrap() }
        };
        let first = list(None).await;
        let second = list(first.next).await;
        let names: Vec<_> =
            first.items.iter().chain(&second.items).map(|found| found.value.as_str()).collect();
        assert_eq!((names, second.next), (vec!["/a/1", "/a/2", "/a/3"], None));
        let elsewhere = Scope { account: "999999999999".into(), ..scope() };
        assert!(tester.vault.list_parameters(&elsewhere, "", None, 10).await.unwrap().items.is_empty());
        assert_eq!(tester.vault.get_parameter(&elsewhere, "/a", None).await.unwrap(), None);
        let asked: Vec<String> = ["/a", "nobody", "/b"].map(str::to_owned).into();
        assert_eq!(tester.vault.delete_parameters(&tester.scope, &asked).await.unwrap(), ["/a", "/b"]);
        assert_eq!(
            (tester.value("/a", None).await, tester.value("a", None).await.as_deref()),
            (None, Some("a"))
        );
    });
}

#[test]
fn a_secret_is_found_by_name_and_arn_and_read_by_stage_and_version() {
    on_each_database(async |home| {
        let tester = Tester::new(home).await;
        tester.create("prod/db", "v1", SecretValue::Text("one".into())).await;
        let changed = tester.vault.change_secret(&tester.scope, "prod/db", NOW, |draft| {
            assert_eq!(draft.value("v1")?, Some(SecretValue::Text("one".into())));
            draft.secret.stages.insert("AWSPREVIOUS".into(), "v1".into());
            draft.secret.stages.insert("AWSCURRENT".into(), "v2".into());
            draft.add("v2".into(), SecretValue::Binary(vec![0, 255]), NOW);
            Ok(Ok::<_, ()>(()))
        });
        changed.await.unwrap().unwrap().unwrap();
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db";
        for id in ["prod/db", arn, &format!("{arn}-AbCdEf")] {
            let found = tester.secret(id, Selection::default()).await.unwrap();
            assert_eq!(
                (found.version.as_str(), found.value),
                ("v2", SecretValue::Binary(vec![0, 255])),
                "{id}"
            );
        }
        for id in [format!("{arn}-aaaaaa"), "db".to_owned(), arn.replace("123456789012", "999999999999")] {
            assert!(tester.secret(&id, Selection::default()).await.is_none(), "{id}");
        }
        for (stage, version, expect) in [
            (Some("AWSPREVIOUS"), None, Some("v1")),
            (None, Some("v1"), Some("v1")),
            (Some("AWSCURRENT"), Some("v2"), Some("v2")),
            (Some("AWSCURRENT"), Some("v1"), None),
            (Some("nobody"), None, None),
            (None, Some("v3"), None),
        ] {
            let found = tester.secret("prod/db", Selection { stage, version }).await;
            assert_eq!(found.map(|found| found.version).as_deref(), expect, "{stage:?} {version:?}");
        }
    });
}

#[test]
fn a_secret_is_gone_when_its_time_has_come() {
    on_each_database(async |home| {
        let tester = Tester::new(home).await;
        tester.create("s", "v1", SecretValue::Text("one".into())).await;
        let doomed = tester.vault.change_secret(&tester.scope, "s", NOW, |draft| {
            draft.secret.deletion_ms = Some(NOW + 10);
            Ok(Ok::<_, ()>(()))
        });
        doomed.await.unwrap().unwrap().unwrap();
        assert!(tester.vault.get_secret(&tester.scope, "s", NOW + 9).await.unwrap().is_some());
        assert!(tester.vault.get_secret(&tester.scope, "s", NOW + 10).await.unwrap().is_none());
        let change = tester.vault.change_secret(&tester.scope, "s", NOW + 10, |_| Ok(Ok::<_, ()>(())));
        assert_eq!(change.await.unwrap(), None);
        assert!(
            tester
                .vault
                .list_secrets(&tester.scope, None, Order::Ascending, 10)
                .await
                .unwrap()
                .items
                .is_empty()
        );
    });
}

#[test]
fn no_file_but_the_key_gives_a_value_away() {
    block_on(async {
        let tester = Tester::new(Home::sqlite()).await;
        tester.put("a", VALUE).await;
        tester.create("s", "v1", SecretValue::Text(VALUE.into())).await;
        let kept = tester.vault.put_source_credential(&tester.scope, credential("GITHUB", VALUE), true).await;
        assert!(kept.unwrap());
        // While it is open there is a WAL; afterwards everything is in the database's file.
        let look = |folder: &Path| {
            let files: Vec<_> =
                std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(files.len() > 2);
            for path in files {
                let bytes = std::fs::read(&path).unwrap();
                let mut pieces = bytes.windows(VALUE.len()).map(<[u8]>::to_ascii_lowercase);
                assert!(!pieces.any(|piece| piece == VALUE.as_bytes()), "{}", path.display());
            }
        };
        look(tester.home.folder.path());
        let home = tester.close();
        look(home.folder.path());
        let vault = open(&home).await.unwrap();
        assert_eq!(vault.get_parameter(&scope(), "a", None).await.unwrap().unwrap().value, VALUE);
    });
}

#[test]
fn a_row_that_was_moved_does_not_open() {
    on_each_database(async |home| {
        let tester = Tester::new(home).await;
        tester.put("mine", VALUE).await;
        tester.put("yours", "x").await;
        let home = tester.close();
        let swap = "UPDATE parameter_versions SET sealed =
             (SELECT sealed FROM parameter_versions WHERE name = 'mine') WHERE name = 'yours'";
        home.run_sql(swap);
        let vault = open(&home).await.unwrap();
        assert!(vault.get_parameter(&scope(), "yours", None).await.is_err());
        assert_eq!(vault.get_parameter(&scope(), "mine", None).await.unwrap().unwrap().value, VALUE);
    });
}

#[test]
fn without_its_key_the_vault_does_not_open_and_says_which_file_is_missed() {
    on_each_database(async |home| {
        let tester = Tester::new(home).await;
        // Nothing was sealed yet: a new key is as good.
        std::fs::remove_file(key(tester.home.folder.path())).unwrap();
        let home = tester.close();
        let vault = open(&home).await.unwrap();
        let tester = Tester { home, vault, scope: scope() };
        tester.put("a", VALUE).await;
        let home = tester.close();
        let path = key(home.folder.path());
        let kept = std::fs::read(&path).unwrap();

        let refusal = |opened: store::Result<Vault>| match opened {
            Err(error @ Error::Key { .. }) => error.to_string(),
            other => panic!("it opened: {other:?}"),
        };
        std::fs::remove_file(&path).unwrap();
        let missing = refusal(open(&home).await);
        assert!(missing.contains("secret.key") && missing.contains("missing"), "{missing}");
        assert!(!path.exists(), "no key is made that would not open anything");
        std::fs::write(&path, format!("buildyard-key-1 {}\n", "ab".repeat(32))).unwrap();
        assert!(refusal(open(&home).await).contains("not the key"));
        std::fs::write(&path, kept).unwrap();
        assert!(open(&home).await.is_ok());
    });
}

fn credential(server_type: &str, token: &str) -> SourceCredential {
    SourceCredential { server_type: server_type.into(), token: token.into(), document: "{}".into() }
}

// SA-051
#[test]
fn there_is_one_source_credential_of_a_server_type_in_each_account() {
    on_each_database(async |home| {
        let tester = Tester::new(home).await;
        let (vault, scope) = (&tester.vault, &tester.scope);
        assert!(vault.put_source_credential(scope, credential("GITHUB", "one"), false).await.unwrap());
        assert!(!vault.put_source_credential(scope, credential("GITHUB", "two"), false).await.unwrap());
        assert_eq!(vault.source_credentials(scope).await.unwrap(), [credential("GITHUB", "one")]);
        assert!(vault.put_source_credential(scope, credential("GITHUB", "two"), true).await.unwrap());
        assert!(vault.put_source_credential(scope, credential("BITBUCKET", "three"), true).await.unwrap());
        let expect = [credential("BITBUCKET", "three"), credential("GITHUB", "two")];
        assert_eq!(vault.source_credentials(scope).await.unwrap(), expect);
        let elsewhere = Scope { account: "999999999999".into(), ..scope.clone() };
        assert_eq!(vault.source_credentials(&elsewhere).await.unwrap(), []);
        assert!(!vault.delete_source_credential(&elsewhere, "GITHUB").await.unwrap());
        assert!(vault.delete_source_credential(scope, "GITHUB").await.unwrap());
        assert!(!vault.delete_source_credential(scope, "GITHUB").await.unwrap());
    });
}

#[test]
fn access_keys_are_kept_with_sealed_secrets_until_they_are_deleted() {
    on_each_database(async |home| {
        let tester = Tester::new(home).await;
        let vault = &tester.vault;
        let key = |id: &str, created_ms| AccessKey {
            id: id.into(),
            secret: format!("secret of {id}"),
            account: "111122223333".into(),
            user: "ci".into(),
            policy: Some("{}".into()).filter(|_| id == "AKIAONE"),
            enabled: true,
            created_ms,
        };
        vault.insert_access_key(key("AKIATWO", 2)).await.unwrap();
        vault.insert_access_key(key("AKIAONE", 1)).await.unwrap();
        let again = vault.insert_access_key(key("AKIAONE", 3)).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
        assert_eq!(vault.access_keys().await.unwrap(), [key("AKIAONE", 1), key("AKIATWO", 2)]);
        assert!(!format!("{:?}", key("AKIAONE", 1)).contains("secret of"));
        assert!(vault.enable_access_key("AKIAONE", false).await.unwrap());
        assert!(!vault.enable_access_key("AKIATHREE", false).await.unwrap());
        let disabled = AccessKey { enabled: false, ..key("AKIAONE", 1) };
        assert_eq!(vault.access_keys().await.unwrap(), [disabled, key("AKIATWO", 2)]);
        assert!(vault.delete_access_key("AKIAONE").await.unwrap());
        assert!(!vault.delete_access_key("AKIAONE").await.unwrap());
        assert_eq!(vault.access_keys().await.unwrap(), [key("AKIATWO", 2)]);
    });
}
