//! Buckets as a phase uses them: each call lets the build be stopped meanwhile.

use std::fs::File;
use std::path::Path;

use store::objects::Objects;

use super::Build;
use crate::clock;
use crate::objects::{Parcel, Place, To, unnamed_file};
use crate::plan::Elsewhere;
use crate::session::Halt;
use crate::transfer::{self, Answer, Failure, Listed, Request, Transfers};

/// Some of a bucket's objects.
pub(super) struct Page {
    pub(super) objects: Vec<Listed>,
    pub(super) next: Option<String>,
}

/// Some objects' bytes: the files they are in, and for each object where.
type Contents = (Vec<File>, Vec<Piece>);

/// Where an object's bytes are: in which of some files, from where on, how many.
pub(super) struct Piece {
    pub(super) file: usize,
    pub(super) offset: u64,
    pub(super) size: u64,
}

type Result<T, E = Halt> = std::result::Result<T, E>;

impl<'a> Build<'a> {
    /// The objects below `root` that are this build's account's.
    fn objects(&self, root: &Path) -> Result<Objects, Failure> {
        let objects = Objects::open(root)?;
        Ok(match &self.plan.objects_owner {
            Some(owner) => objects.of(owner.clone()),
            None => objects,
        })
    }

    /// COMPAT: SA-006 the service role reads.
    fn may_read(&self, at: (&str, &str), version: Option<&str>) -> Result<(), Failure> {
        let Some(role) = &self.plan.role else { return Ok(()) };
        let action = if version.is_some() { "GetObjectVersion" } else { "GetObject" };
        Ok(role.at(clock::now_ms()).may(action, at)?)
    }

    fn elsewhere(&self, bucket: &str) -> Option<&'a Elsewhere> {
        self.plan.elsewhere.as_ref().filter(|elsewhere| elsewhere.has(bucket))
    }

    /// The content of an object: of its latest version, or of this one. Good until the next one is asked for.
    pub(super) fn get_object(
        &mut self,
        root: &Path,
        (bucket, key): (&str, &str),
        version: Option<&str>,
    ) -> Result<Result<(File, Option<String>), Failure>> {
        if let Err(refused) = self.may_read((bucket, key), version) {
            return Ok(Err(refused));
        }
        let Some(elsewhere) = self.elsewhere(bucket) else {
            let found = self.objects(root).and_then(|objects| {
                let (file, info) = objects.get_version(bucket, key, version)?;
                Ok((file, info.version))
            });
            return Ok(found);
        };
        let (bucket, key, version) = (bucket.to_owned(), key.to_owned(), version.map(str::to_owned));
        let answer = self.asked(elsewhere, &Request::Get { bucket, key, version })?;
        let content = self.transfers.as_mut().map(Transfers::content);
        Ok(match (answer, content) {
            (Answer::Object { version }, Some(content)) => Ok((content?, version)),
            (answer, _) => Err(failure(answer)),
        })
    }

    /// The contents of some objects: good until others are asked for.
    pub(super) fn get_objects(
        &mut self,
        root: &Path,
        bucket: &str,
        objects: &[Listed],
    ) -> Result<Result<Contents, Failure>> {
        let refused = objects.iter().find_map(|object| self.may_read((bucket, &object.key), None).err());
        if let Some(refused) = refused {
            return Ok(Err(refused));
        }
        let Some(elsewhere) = self.elsewhere(bucket) else {
            return Ok(self.objects(root).and_then(|here| {
                let (mut files, mut pieces) = (Vec::new(), Vec::new());
                for object in objects {
                    let (file, info) = here.get(bucket, &object.key)?;
                    pieces.push(Piece { file: files.len(), offset: 0, size: info.size });
                    files.push(file);
                }
                Ok((files, pieces))
            }));
        };
        let wanted = objects.iter().map(|object| (object.key.clone(), object.size)).collect();
        let answer =
            self.asked(elsewhere, &Request::GetAll { bucket: bucket.to_owned(), objects: wanted })?;
        let content = self.transfers.as_mut().map(Transfers::content);
        let (Answer::Done, Some(content)) = (&answer, content) else { return Ok(Err(failure(answer))) };
        let mut end = 0;
        let piece = |object: &Listed| {
            end += object.size;
            Piece { file: 0, offset: end - object.size, size: object.size }
        };
        Ok(Ok((vec![content?], objects.iter().map(piece).collect())))
    }

    pub(super) fn has_object(
        &mut self,
        root: &Path,
        (bucket, key): (&str, &str),
    ) -> Result<Result<bool, Failure>> {
        if let Err(refused) = self.may_read((bucket, key), None) {
            return Ok(Err(refused));
        }
        let found = match self.elsewhere(bucket) {
            None => self.objects(root).and_then(|objects| Ok(objects.head(bucket, key).map(drop)?)),
            Some(elsewhere) => {
                let request = Request::Head { bucket: bucket.to_owned(), key: key.to_owned() };
                match self.asked(elsewhere, &request)? {
                    Answer::Object { .. } => Ok(()),
                    answer => Err(failure(answer)),
                }
            }
        };
        Ok(match found {
            Ok(()) => Ok(true),
            Err(Failure::Missing(_)) => Ok(false),
            Err(failure) => Err(failure),
        })
    }

    /// The keys that begin with `prefix` and come behind `after`.
    pub(super) fn list_objects(
        &mut self,
        root: &Path,
        (bucket, prefix): (&str, &str),
        after: Option<String>,
    ) -> Result<Result<Page, Failure>> {
        let Some(elsewhere) = self.elsewhere(bucket) else {
            return Ok(self.objects(root).and_then(|objects| {
                let page = objects.list(bucket, prefix, None, after.as_deref(), 1000)?;
                let modified = |at: std::time::SystemTime| {
                    at.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
                };
                let object = |info: store::objects::ObjectInfo| Listed {
                    key: info.key,
                    size: info.size,
                    modified: format!("{:030}", modified(info.modified)),
                };
                Ok(Page {
                    objects: page.objects.into_iter().map(object).collect(),
                    next: page.next.filter(|_| page.truncated),
                })
            }));
        };
        let request = Request::List { bucket: bucket.to_owned(), prefix: prefix.to_owned(), after };
        Ok(match self.asked(elsewhere, &request)? {
            Answer::List { objects, next } => Ok(Page { objects, next }),
            answer => Err(failure(answer)),
        })
    }

    /// Where objects of this bucket are written.
    pub(super) fn place(&self, root: &Path, bucket: &str) -> Result<Place, Failure> {
        let to = match self.elsewhere(bucket) {
            None => To::Here(self.objects(root)?),
            Some(_) => {
                let passing = self.passing().map_err(|error| Failure::Ours(format!("{error:?}")))?;
                To::Elsewhere(passing)
            }
        };
        Ok(Place { to, role: self.plan.role.clone() })
    }

    /// Puts what was gathered for a bucket elsewhere: all of it is there afterwards, or nothing.
    pub(super) fn deliver(&mut self, parcel: Parcel) -> Result<Result<(), Failure>> {
        let Some(first) = parcel.objects.first() else { return Ok(Ok(())) };
        let Some(elsewhere) = self.elsewhere(&first.bucket) else { return Ok(Ok(())) };
        let again = parcel.file.try_clone()?;
        let mut transfers = Transfers::start(&elsewhere.settings, parcel.file)?;
        let request = Request::Put(parcel.objects);
        let answer = transfers.ask(&request, self.session)?;
        if let (true, Request::Put(objects)) = (answer == transfer::ended(), request) {
            let mut others = Transfers::start(&elsewhere.settings, again)?;
            // As far as it goes: the build fails in any case.
            others.ask(&Request::TakeBack(objects), self.session)?;
        }
        Ok(match answer {
            Answer::Done => Ok(()),
            answer => Err(failure(answer)),
        })
    }

    fn asked(&mut self, elsewhere: &Elsewhere, request: &Request) -> Result<Answer> {
        let mut transfers = match self.transfers.take() {
            Some(transfers) => transfers,
            None => Transfers::start(&elsewhere.settings, self.passing()?)?,
        };
        let answer = transfers.ask(request, self.session)?;
        self.transfers = Some(transfers);
        Ok(answer)
    }

    /// On the disk of the build, as it may be large.
    pub(super) fn passing(&self) -> Result<File> {
        let home = self.environment.as_ref().ok_or_else(|| Halt::Fault("there is no place".into()))?;
        // A container whose environment is kept has its layers elsewhere.
        std::fs::create_dir_all(&home.scratch)?;
        Ok(unnamed_file(&home.scratch)?)
    }
}

fn failure(answer: Answer) -> Failure {
    match answer {
        Answer::Failed(failure) => failure,
        answer => Failure::Ours(format!("an answer to another question: {answer:?}")),
    }
}
