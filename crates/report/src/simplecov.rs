//! SimpleCov's `.resultset.json`: for each command, for each source file, how often each line was run. COMPAT: IN-109.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::coverage::{Coverage, Coverages, Ratio};
use crate::error::Result;

/// What the commands' results say together.
struct Commands(Coverages);

#[derive(Deserialize)]
struct Command {
    coverage: SourceFiles,
}

struct SourceFiles(Coverages);

/// Of one source file: a list of lines, or an object that has them.
struct SourceFile(Coverage);

struct Lines(Ratio);

/// How often a line was run: a number, `null` where nothing can be, or `"ignored"`.
struct Hits(Option<bool>);

/// Of each place with several ways, how often each was taken.
struct Branches(Ratio);
struct Ways(Ratio);

pub(crate) fn read(text: &str) -> Result<Coverages> {
    let mut json = serde_json::Deserializer::from_str(text);
    let Commands(coverages) = Commands::deserialize(&mut json)?;
    json.end()?;
    Ok(coverages)
}

/// A visitor of a list or an object that makes this of it.
struct Makes<T>(std::marker::PhantomData<T>);

macro_rules! made_of {
    ($made:ident, $expects:literal, $($visits:tt)*) => {
        impl<'de> Deserialize<'de> for $made {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$made, D::Error> {
                deserializer.deserialize_any(Makes(std::marker::PhantomData::<$made>))
            }
        }

        impl<'de> Visitor<'de> for Makes<$made> {
            type Value = $made;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($expects)
            }

            $($visits)*
        }
    };
}

made_of! { Commands, "results by command",
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Commands, A::Error> {
        let mut all = Coverages::default();
        while let Some((_, command)) = map.next_entry::<IgnoredAny, Command>()? {
            all.add(command.coverage.0).map_err(A::Error::custom)?;
        }
        Ok(Commands(all))
    }
}

made_of! { SourceFiles, "source files",
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SourceFiles, A::Error> {
        let mut all = Coverages::default();
        while let Some((path, file)) = map.next_entry::<String, SourceFile>()? {
            all.push(&path, file.0).map_err(A::Error::custom)?;
        }
        Ok(SourceFiles(all))
    }
}

made_of! { SourceFile, "a source file's lines",
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<SourceFile, A::Error> {
        Ok(SourceFile(Coverage { lines: lines(list)?, ..Coverage::default() }))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SourceFile, A::Error> {
        let mut coverage = Coverage::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "lines" => coverage.lines = map.next_value::<Lines>()?.0,
                "branches" => coverage.branches = map.next_value::<Branches>()?.0,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(SourceFile(coverage))
    }
}

made_of! { Lines, "a list of lines",
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Lines, A::Error> {
        lines(list).map(Lines)
    }
}

made_of! { Branches, "branches by place",
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Branches, A::Error> {
        let mut sum = Ratio::default();
        while let Some((_, ways)) = map.next_entry::<IgnoredAny, Ways>()? {
            sum.add(ways.0);
        }
        Ok(Branches(sum))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Branches, E> {
        Ok(Branches(Ratio::default()))
    }
}

made_of! { Ways, "how often each branch was taken",
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ways, A::Error> {
        let mut sum = Ratio::default();
        while let Some((_, Hits(hit))) = map.next_entry::<IgnoredAny, Hits>()? {
            hit.into_iter().for_each(|hit| sum.count(hit));
        }
        Ok(Ways(sum))
    }
}

made_of! { Hits, "a number, null or a text",
    fn visit_u64<E>(self, hits: u64) -> Result<Hits, E> {
        Ok(Hits(Some(hits > 0)))
    }

    fn visit_i64<E>(self, hits: i64) -> Result<Hits, E> {
        Ok(Hits(Some(hits > 0)))
    }

    fn visit_f64<E>(self, hits: f64) -> Result<Hits, E> {
        Ok(Hits(Some(hits > 0.0)))
    }

    fn visit_unit<E>(self) -> Result<Hits, E> {
        Ok(Hits(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<Hits, E> {
        Ok(Hits(None))
    }
}

fn lines<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Ratio, A::Error> {
    let mut sum = Ratio::default();
    while let Some(Hits(hit)) = list.next_element()? {
        hit.into_iter().for_each(|hit| sum.count(hit));
    }
    Ok(sum)
}
