//! CodeBuild's curated images: which names there are, and what they mean on this server. Pure.

use std::borrow::Cow;

use api::codebuild::{
    EnvironmentImage, EnvironmentLanguage, EnvironmentPlatform, EnvironmentType, LanguageType, PlatformType,
};

use crate::config::Config;

/// COMPAT: EN-020 by platform and architecture, the newest last.
const UBUNTU: [&str; 4] = [
    "aws/codebuild/standard:5.0",
    "aws/codebuild/standard:6.0",
    "aws/codebuild/standard:7.0",
    "aws/codebuild/standard:8.0",
];
const AMAZON_LINUX: [&str; 3] = [
    "aws/codebuild/amazonlinux-x86_64-standard:4.0",
    "aws/codebuild/amazonlinux-x86_64-standard:5.0",
    "aws/codebuild/amazonlinux-x86_64-standard:6.0",
];
const AMAZON_LINUX_ARM: [&str; 3] = [
    "aws/codebuild/amazonlinux-aarch64-standard:2.0",
    "aws/codebuild/amazonlinux-aarch64-standard:3.0",
    "aws/codebuild/amazonlinux-aarch64-standard:4.0",
];

const CURATED: &str = "aws/codebuild/";

/// Whether the name is one of CodeBuild's own images, which nobody else can have.
pub fn is_curated(image: &str) -> bool {
    image.starts_with(CURATED)
}

/// The one of an operator's `names` that means this image, if one does; a `*` at a name's end stands for anything. The whole
/// name comes before a curated image's other names, and a longer beginning before a shorter one.
pub fn meant<'a, S: AsRef<str> + 'a>(image: &str, names: impl IntoIterator<Item = &'a S>) -> Option<&'a S> {
    let plain = plain(image);
    let closeness = |name: &&'a S| {
        let name = name.as_ref();
        match name.strip_suffix('*') {
            _ if name == image => Some(usize::MAX),
            None if self::plain(name) == plain => Some(usize::MAX - 1),
            Some(beginning) if image.starts_with(beginning) => Some(beginning.len()),
            Some(beginning) if plain.starts_with(&*modern(beginning)) => Some(beginning.len()),
            _ => None,
        }
    };
    names.into_iter().filter(|name| closeness(name).is_some()).max_by_key(closeness)
}

/// A curated image's name without what does not matter. COMPAT: EN-021 Amazon Linux images have an old and a new name;
/// EN-022 a version may be followed by its edition, as in `:5.0-1.0.0`.
fn plain(image: &str) -> Cow<'_, str> {
    let edition = is_curated(image).then(|| image.rsplit_once(':')).flatten();
    let without = edition.and_then(|(name, version)| {
        let (version, edition) = version.split_once('-')?;
        // Those of Windows have a hyphen in the version itself: `2019-1.0`.
        (version.contains('.') && !edition.is_empty()).then_some(name.len() + 1 + version.len())
    });
    modern(&image[..without.unwrap_or(image.len())])
}

fn modern(image: &str) -> Cow<'_, str> {
    match image.strip_prefix(CURATED).and_then(|name| name.strip_prefix("amazonlinux2-")) {
        Some(rest) => Cow::Owned(format!("{CURATED}amazonlinux-{rest}")),
        None => Cow::Borrowed(image),
    }
}

/// Those of CodeBuild's images that builds can have here, and what each is.
pub(crate) fn platforms(config: &Config) -> Vec<EnvironmentPlatform> {
    let has = |kind| config.environment_types.contains(&kind);
    let (x86, arm) = (has(EnvironmentType::LinuxContainer), has(EnvironmentType::ArmContainer));
    let ubuntu = UBUNTU.iter().filter(|_| x86);
    let amazon_linux = AMAZON_LINUX.iter().filter(|_| x86).chain(AMAZON_LINUX_ARM.iter().filter(|_| arm));
    let all = [
        (PlatformType::AmazonLinux, amazon_linux.filter_map(|name| image(name, config)).collect::<Vec<_>>()),
        (PlatformType::Ubuntu, ubuntu.filter_map(|name| image(name, config)).collect()),
    ];
    let there = all.into_iter().filter(|(_, images)| !images.is_empty());
    there.map(|(platform, images)| in_base(platform, images)).collect()
}

fn in_base(platform: PlatformType, images: Vec<EnvironmentImage>) -> EnvironmentPlatform {
    let language = EnvironmentLanguage { language: Some(LanguageType::Base), images: Some(images) };
    EnvironmentPlatform { platform: Some(platform), languages: Some(vec![language]) }
}

fn image(name: &str, config: &Config) -> Option<EnvironmentImage> {
    let description = if config.is_mapped_image(name) {
        "An image of the operator's choice"
    } else if config.is_host_image(name) {
        "The host's own system"
    } else {
        return None;
    };
    Some(EnvironmentImage {
        name: Some(name.to_string()),
        description: Some(description.to_string()),
        versions: Some(vec![name.to_string()]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // EN-021, EN-022
    #[test]
    fn a_curated_image_is_found_by_each_of_its_names_and_the_closest_counts() {
        let check = |image: &str, names: &[&str], expect: Option<&str>| {
            assert_eq!(meant(image, names).copied(), expect, "{image} among {names:?}");
        };
        let (old, new) = (
            "aws/codebuild/amazonlinux2-x86_64-standard:5.0",
            "aws/codebuild/amazonlinux-x86_64-standard:5.0",
        );
        for (one, other) in [(old, new), (new, old)] {
            check(one, &[other], Some(other));
            check(one, &[other, one], Some(one));
            check(&format!("{one}-24.01.17"), &[other], Some(other));
            check(one, &["aws/codebuild/*", &other[..other.len() - 3]], Some("aws/codebuild/*"));
        }
        check(old, &["aws/*", "aws/codebuild/amazonlinux-*"], Some("aws/codebuild/amazonlinux-*"));
        check(new, &["aws/codebuild/amazonlinux2-*"], Some("aws/codebuild/amazonlinux2-*"));
        check(
            "aws/codebuild/standard:5.0",
            &["aws/codebuild/standard:5.0-1.0.0"],
            Some("aws/codebuild/standard:5.0-1.0.0"),
        );
        check("aws/codebuild/standard:7.0", &["aws/codebuild/standard:5.0", "host"], None);
        check("aws/codebuild/windows-base:2019-1.0", &["aws/codebuild/windows-base:2019-3.0"], None);
        check("registry.example/a:5.0-1.0.0", &["registry.example/a:5.0"], None);
        check("amazonlinux2-x:5.0", &["amazonlinux-x:5.0"], None);
    }
}
