//! The databases that tests of records run on: SQLite in a folder, and a schema of its own in a PostgreSQL server that
//! all tests share while any of them runs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use store::records::{Address, Records};
use tempfile::TempDir;

/// A place for records, and a folder beside it. Both are gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) folder: TempDir,
    /// The URL, if it is PostgreSQL.
    pub(crate) url: Option<String>,
    /// What to remove in the shared server, and its URL.
    schema: Option<(String, String)>,
}

impl Home {
    pub(crate) fn sqlite() -> Home {
        Home { folder: tempfile::tempdir().unwrap(), url: None, schema: None }
    }

    pub(crate) fn postgres() -> Home {
        let folder = tempfile::tempdir().unwrap();
        let server = shared_server();
        let schema = format!("test_{}_{}", std::process::id(), folder.path().display());
        let schema: String = schema.chars().filter(char::is_ascii_alphanumeric).collect();
        run_sql(&server, &format!("CREATE SCHEMA \"{schema}\""));
        let url = format!("{server}&options=-csearch_path%3D%22{schema}%22");
        Home { folder, url: Some(url), schema: Some((server, schema)) }
    }

    /// In a server that is the test's own.
    pub(crate) fn of(server: &Server) -> Home {
        Home { folder: tempfile::tempdir().unwrap(), url: Some(server.url.clone()), schema: None }
    }

    pub(crate) fn open(&self) -> store::Result<Records> {
        open(self.folder.path(), self.url.as_deref())
    }

    /// Statements of somebody else, while nobody is at home.
    pub(crate) fn run_sql(&self, text: &str) {
        match &self.url {
            Some(url) => run_sql(url, text),
            None => {
                let file = self.folder.path().join("records.sqlite");
                rusqlite::Connection::open(file).unwrap().execute_batch(text).unwrap();
            }
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some((server, schema)) = &self.schema {
            run_sql(server, &format!("DROP SCHEMA \"{schema}\" CASCADE"));
        }
    }
}

/// Opens records in a folder, or at a URL.
pub(crate) fn open(folder: &Path, url: Option<&str>) -> store::Result<Records> {
    match url {
        Some(url) => Records::connect(&url.parse::<Address>()?, folder),
        None => Records::open(folder),
    }
}

/// Runs a test on SQLite, and then on PostgreSQL.
pub(crate) fn on_each_database(test: impl AsyncFn(Home)) {
    for home in [Home::sqlite, Home::postgres] {
        let home = home();
        // Shown with a failure only.
        println!("on {}", if home.url.is_some() { "PostgreSQL" } else { "SQLite" });
        block_on(test(home));
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// A PostgreSQL server for one test that wants to kill it.
#[derive(Debug)]
pub(crate) struct Server {
    folder: TempDir,
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start() -> Server {
        let folder = tempfile::tempdir_in(memory()).unwrap();
        let url = script("start", folder.path());
        Server { folder, url }
    }

    pub(crate) fn start_again(&self) {
        script("start", self.folder.path());
    }

    pub(crate) fn kill(&self) {
        script("kill", self.folder.path());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.folder.path().join("data/postmaster.pid").exists() {
            script("kill", self.folder.path());
        }
    }
}

/// The server that tests share. This process counts as a user of it until its end.
fn shared_server() -> String {
    static USING: OnceLock<(File, String)> = OnceLock::new();
    let (_, url) = USING.get_or_init(|| {
        let folder = memory().join(format!("buildyard-tests-{}", rustix::process::geteuid().as_raw()));
        std::fs::create_dir_all(&folder).unwrap();
        let users = File::options().append(true).create(true).open(folder.join("users")).unwrap();
        rustix::fs::flock(&users, rustix::fs::FlockOperation::LockShared).unwrap();
        let url = script("lend", &folder);
        (users, url)
    });
    url.clone()
}

/// Where a commit is cheap.
fn memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

/// Runs `tests/postgres`; gives what it prints.
fn script(command: &str, folder: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/postgres");
    let output = Command::new(script).arg(command).arg(folder).stderr(Stdio::inherit()).output().unwrap();
    assert!(
        output.status.success(),
        "tests/postgres {command} failed; is Debian's package postgresql installed?"
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn run_sql(url: &str, text: &str) {
    let (url, text) = (url.to_owned(), text.to_owned());
    // Tests may be on a runtime's thread, where another could not be entered.
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            let connection = tokio::spawn(connection);
            client.batch_execute(&text).await.unwrap();
            drop(client);
            connection.await.unwrap().unwrap();
        });
    };
    std::thread::spawn(run).join().unwrap();
}
