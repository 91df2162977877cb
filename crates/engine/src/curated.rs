//! CodeBuild's curated images: which names there are, and what they mean on this server. Pure.

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

/// Whether the name is one of CodeBuild's own images, which nobody else can have.
pub(crate) fn is_curated(image: &str) -> bool {
    image.starts_with("aws/codebuild/")
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
    let description = if config.mapped_images.contains(name) {
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
